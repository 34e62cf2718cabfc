//! Sync: what changed since the cursor. Only its answers move the cursor, and the cursor is
//! written down in one record with the heads that came with it.

use crate::connection::class;
use crate::event::Event;
use crate::limits::SYNC_INTERVAL;
use crate::record::Change;
use crate::requests::Asked;
use crate::session::Session;
use roost_protocol::ids::{ConversationId, Sequence, UserId};
use roost_protocol::time::Instant;
use roost_protocol::wire::{self, ConversationKind, ErrorClass, client_frame::Body};
use std::collections::BTreeMap;

/// Where syncing stands.
#[derive(Debug, Default)]
pub(crate) struct SyncRun {
    pub(crate) wanted: bool,
    running: bool,
    /// One is done, and [`Event::CaughtUp`] is owed.
    pub(crate) announce: bool,
    pub(crate) next_at: Instant,
    not_before: Option<Instant>,
    /// Entries that should be there, up to these heads, and how often they are asked for yet: the
    /// user's mailbox learns of a write behind its answer.
    awaited: BTreeMap<ConversationId, (u64, u32)>,
}

/// How often an entry is asked for, at most, and how long to wait in between.
const AWAITED_ROUNDS: u32 = 6;
const AWAITED_MS: u32 = 500;

impl SyncRun {
    pub(crate) const fn is_idle(&self) -> bool {
        !self.wanted && !self.running
    }

    pub(crate) const fn disconnected(&mut self) {
        self.running = false;
        self.announce = false;
        self.not_before = None;
    }

    pub(crate) fn due_at(&self) -> Instant {
        self.not_before.filter(|_| self.wanted).unwrap_or(self.next_at)
    }

    /// The entry of a conversation has changed, or will soon, and nobody pushes it.
    pub(crate) fn expect(&mut self, id: ConversationId, head: u64) {
        self.wanted = true;
        let (awaited, rounds) = self.awaited.entry(id).or_default();
        (*awaited, *rounds) = (head.max(*awaited), AWAITED_ROUNDS);
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        if self.not_before.is_some_and(|until| until <= now) {
            self.not_before = None;
        }
        if now >= self.next_at {
            self.wanted = true;
            self.next_at = now + SYNC_INTERVAL;
        }
    }
}

impl Session {
    pub(crate) fn pump_sync(&mut self) {
        let sync = &self.sync;
        let blocked = sync.running || sync.not_before.is_some();
        if sync.wanted && !blocked && self.connection.leaving.is_none() {
            self.sync.wanted = false;
            self.ask_sync();
        }
    }

    fn ask_sync(&mut self) {
        self.sync.running = true;
        // Its answer proves what was said before it.
        self.say_notices();
        let barrier = self.notices.begin_barrier();
        let sync = wire::Sync { cursor: self.state.cursor, limit: 0 };
        self.ask(Asked::Sync { barrier }, Body::Sync(sync));
    }

    pub(crate) fn synced(&mut self, barrier: u64, reply: wire::SyncReply) {
        self.settle_notices(barrier);
        let moved = reply.cursor != self.state.cursor;
        for entry in reply.entries {
            self.entry(entry);
        }
        // A notification extension never moves the cursor: it is the app's.
        let moves = moved && self.config.role == wire::Role::Main;
        if moves {
            self.change(Change::Cursor(reply.cursor));
        }
        if reply.more && moves && self.connection.leaving.is_none() {
            return self.ask_sync();
        }
        self.sync.running = false;
        self.sync.announce = true;
        self.expect_again();
        self.sync.next_at = self.now.monotonic + SYNC_INTERVAL;
    }

    /// What was expected and did not come is asked for again, some times.
    fn expect_again(&mut self) {
        let mut awaited = std::mem::take(&mut self.sync.awaited);
        awaited.retain(|id, (head, rounds)| {
            *rounds = rounds.saturating_sub(1);
            *rounds > 0 && self.entry_of(*id).is_none_or(|entry| entry.head < *head)
        });
        if !awaited.is_empty() && !self.sync.wanted {
            self.sync.wanted = true;
            let until = self.now.monotonic + self.backoff.retry(AWAITED_MS);
            self.sync.not_before = Some(until);
        }
        self.sync.awaited = awaited;
    }

    pub(crate) fn sync_refused(&mut self, error: &wire::Error) {
        match class(error) {
            ErrorClass::ClassRetry => {
                let until = self.now.monotonic + self.backoff.retry(error.retry_after_ms);
                self.sync.running = false;
                self.sync.wanted = true;
                self.sync.not_before = Some(until);
            }
            ErrorClass::ClassNever | ErrorClass::ClassReconnect | ErrorClass::ClassNewToken => {
                self.refused(error);
            }
        }
    }

    /// An entry of the list, from a Sync or pushed.
    pub(crate) fn entry(&mut self, entry: wire::Entry) {
        let Some(id) = ConversationId::from_slice(&entry.conversation) else { return };
        if entry.kind() == ConversationKind::KindDirect
            && let Ok(user) = UserId::new(&entry.peer)
        {
            self.name_peer(&user, id);
        }
        let held = self.state.conversations.get(&id);
        let (known, target) = held.map_or((false, 0), |held| (held.known, held.target));
        let head = entry.head;
        if !known || head > target {
            self.change_entry(id, |held| {
                held.known = true;
                held.target = held.target.max(head);
            });
        }
        self.observe(id, entry.head, entry.head_uncounted);
        self.list(id, &entry);
        self.watermarks(id, entry.peer_delivered, entry.peer_read);
        self.timeline.given_up.remove(&id);
        self.consider(id);
        self.tell(Event::EntryChanged(Box::new(entry)));
    }

    pub(crate) fn receipts(&mut self, receipts: wire::Receipts) {
        for receipt in receipts.receipts {
            // In a group only "by all" is a watermark; by whom is asked for.
            if let Some(id) = ConversationId::from_slice(&receipt.conversation)
                && receipt.member == 0
            {
                self.watermarks(id, receipt.delivered, receipt.read);
            }
        }
    }

    /// How far others have got. Read implies delivered, and neither goes back.
    fn watermarks(&mut self, id: ConversationId, delivered: u64, read: u64) {
        let held = self.state.conversations.get(&id);
        let before = held.map_or((0, 0), |held| (held.peer_delivered, held.peer_read));
        let after = (before.0.max(delivered).max(read), before.1.max(read));
        if after == before {
            return;
        }
        self.change_entry(id, |held| (held.peer_delivered, held.peer_read) = after);
        if after.0 > before.0 {
            self.tell(Event::Delivered { conversation: id, up_to: Sequence(after.0) });
        }
        if after.1 > before.1 {
            self.tell(Event::Read { conversation: id, up_to: Sequence(after.1) });
        }
    }
}
