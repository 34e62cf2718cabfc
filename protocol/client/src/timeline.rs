//! What this device still lacks, and what came too early.

use crate::interface::Peer;
use crate::limits;
use crate::session::Session;
use prost::Message as _;
use roost_protocol::ids::ConversationId;
use roost_protocol::time::Instant;
use roost_protocol::wire;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What is missing. Of all this only the targets that came with the cursor are persisted; the
/// cursor has not passed the rest, so a Sync brings it again.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// Messages that arrived ahead of a gap ([`crate::Order::InOrder`]).
    ahead: BTreeMap<ConversationId, BTreeMap<u64, wire::Message>>,
    ahead_count: usize,
    ahead_bytes: usize,
    /// Bytes of bodies waiting for their record.
    waiting_bytes: usize,
    /// Heads heard of outside a Sync.
    hints: BTreeMap<ConversationId, u64>,
    /// Conversations with something missing and no pull on its way.
    pub(crate) wanting: BTreeSet<ConversationId>,
    /// Conversations with a pull on its way.
    pub(crate) pulling: BTreeSet<ConversationId>,
    /// What is missing there cannot be had.
    pub(crate) given_up: BTreeSet<ConversationId>,
    /// Lanes in conflict that wait for room for a pull.
    pub(crate) looking: BTreeSet<Peer>,
    /// The server asked for patience.
    pub(crate) paused_until: Option<Instant>,
}

impl Timeline {
    /// A head above what was known.
    pub(crate) fn hint(&mut self, id: ConversationId, head: u64) {
        if self.hints.len() >= limits::CONVERSATIONS_MAX && !self.hints.contains_key(&id) {
            return;
        }
        self.given_up.remove(&id);
        let hint = self.hints.entry(id).or_default();
        *hint = head.max(*hint);
    }

    pub(crate) fn forget_hint(&mut self, id: ConversationId) {
        self.hints.remove(&id);
    }

    /// Keeps a message for when the gap below it is closed, if there is room.
    pub(crate) fn keep(&mut self, id: ConversationId, message: wire::Message) {
        if self.ahead_count >= limits::AHEAD_MAX || self.ahead_bytes >= limits::AHEAD_MAX_BYTES {
            return;
        }
        let bytes = message.encoded_len();
        if let Entry::Vacant(place) = self.ahead.entry(id).or_default().entry(message.seq) {
            place.insert(message);
            self.ahead_count = self.ahead_count.saturating_add(1);
            self.ahead_bytes = self.ahead_bytes.saturating_add(bytes);
        }
    }

    /// The message that comes next, if it was kept; what lies below is dropped.
    pub(crate) fn next(&mut self, id: ConversationId, seq: u64) -> Option<wire::Message> {
        loop {
            let kept = self.ahead.get_mut(&id)?;
            let first = kept.first_key_value().map(|(first, _)| *first)?;
            if first > seq {
                return None;
            }
            let message = kept.remove(&first)?;
            if kept.is_empty() {
                self.ahead.remove(&id);
            }
            self.ahead_count = self.ahead_count.saturating_sub(1);
            self.ahead_bytes = self.ahead_bytes.saturating_sub(message.encoded_len());
            if first == seq {
                return Some(message);
            }
        }
    }

    /// Another store: what was heard outside a Sync may not be true there.
    pub(crate) fn forget_hearsay(&mut self) {
        self.ahead.clear();
        self.ahead_count = 0;
        self.ahead_bytes = 0;
        self.hints.clear();
    }

    pub(crate) const fn wait(&mut self, bytes: usize) {
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes);
    }

    pub(crate) const fn release(&mut self, bytes: usize) {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.waiting_bytes >= limits::WAITING_MAX_BYTES
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.wanting.is_empty() && self.pulling.is_empty()
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
    }
}

impl Session {
    /// The head this device wants to reach.
    pub(crate) fn wanted(&self, id: ConversationId) -> u64 {
        let target = self.state.conversations.get(&id).map_or(0, |entry| entry.target);
        self.timeline.hints.get(&id).map_or(target, |hint| target.max(*hint))
    }

    pub(crate) fn reach(&self, id: ConversationId) -> u64 {
        self.state.conversations.get(&id).map_or(0, |entry| entry.reach())
    }

    /// Looks whether something of a conversation is missing.
    pub(crate) fn consider(&mut self, id: ConversationId) {
        let missing = self.wanted(id) > self.reach(id);
        if !missing {
            self.timeline.hints.remove(&id);
        }
        let stuck = self.timeline.given_up.contains(&id) || self.timeline.pulling.contains(&id);
        if missing && !stuck {
            self.timeline.wanting.insert(id);
        } else {
            self.timeline.wanting.remove(&id);
        }
    }

    /// Pulls in flight are lost with the connection; what was refused may be tried again.
    pub(crate) fn disconnect_timeline(&mut self) {
        let pulling = std::mem::take(&mut self.timeline.pulling);
        let given_up = std::mem::take(&mut self.timeline.given_up);
        self.timeline.looking.clear();
        self.timeline.paused_until = None;
        for id in pulling.into_iter().chain(given_up) {
            self.consider(id);
        }
    }

    /// What a restored device has to do again.
    pub(crate) fn restore_wishes(&mut self) {
        for (id, entry) in &self.state.conversations {
            if entry.read_pending {
                self.notices.open_read(*id);
            }
            if entry.target > entry.reach() {
                self.timeline.wanting.insert(*id);
            }
        }
    }
}
