//! The server's store is another one (a backup, a repair): what this device holds above the
//! durable heads does not exist. Before anything else each head is asked for; what lies above is
//! dropped, the cursor begins anew, and sends are repeated one at a time.

use crate::connection::{class, code};
use crate::event::Event;
use crate::record::Change;
use crate::requests::Asked;
use crate::session::Session;
use roost_protocol::ids::{ConversationId, Sequence};
use roost_protocol::wire::{self, ErrorClass, ErrorCode, client_frame::Body};

/// The heads still to be asked for.
#[derive(Debug)]
pub(crate) struct Checking {
    store: u64,
    queue: Vec<ConversationId>,
    in_flight: usize,
}

impl Session {
    pub(crate) fn begin_checks(&mut self, store: u64) {
        let held = self.state.conversations.iter().filter(|(_, entry)| entry.held.top() > 0);
        let queue = held.map(|(id, _)| *id).collect();
        self.timeline.forget_hearsay();
        self.checking = Some(Checking { store, queue, in_flight: 0 });
    }

    pub(crate) fn pump_checks(&mut self) {
        if self.timeline.paused_until.is_some() {
            return;
        }
        while self.connection.room_for_pull() {
            let Some(checking) = &mut self.checking else { return };
            let Some(id) = checking.queue.pop() else { break };
            checking.in_flight = checking.in_flight.saturating_add(1);
            let top = self.state.conversations.get(&id).map_or(0, |entry| entry.held.top());
            let history = wire::History {
                conversation: id.to_wire(),
                after: Some(top),
                limit: Some(1),
                ..wire::History::default()
            };
            self.ask(Asked::Check { conversation: id }, Body::History(history));
        }
        if self.checking.as_ref().is_some_and(|left| left.queue.is_empty() && left.in_flight == 0) {
            self.end_checks();
        }
    }

    fn end_checks(&mut self) {
        let Some(checking) = self.checking.take() else { return };
        self.change(Change::Cursor(0));
        self.change(Change::Store(checking.store));
        for lane in self.state.lanes.values_mut() {
            lane.solo = true;
        }
        self.ready.extend(self.state.lanes.keys().cloned());
        self.sync.wanted = true;
        self.drop_changes();
    }

    /// The durable head of a conversation.
    pub(crate) fn checked(&mut self, id: ConversationId, head: u64) {
        self.check_landed();
        self.drop_above(id, head);
    }

    pub(crate) fn check_refused(&mut self, id: ConversationId, error: &wire::Error) {
        self.check_landed();
        if matches!(code(error), ErrorCode::ErrorUnknownConversation | ErrorCode::ErrorNotFound) {
            self.drop_above(id, 0);
            let peer = self.state.conversations.get(&id).and_then(|entry| entry.peer.clone());
            if let Some(user) = peer.filter(|user| self.state.users.get(user) == Some(&id)) {
                self.change(Change::PeerUnnamed { user });
            }
            return;
        }
        match class(error) {
            ErrorClass::ClassNever => {}
            ErrorClass::ClassRetry => {
                let until = self.now.monotonic + self.backoff.retry(error.retry_after_ms);
                self.timeline.paused_until = Some(until);
                if let Some(checking) = &mut self.checking {
                    checking.queue.push(id);
                }
            }
            ErrorClass::ClassReconnect | ErrorClass::ClassNewToken => self.refused(error),
        }
    }

    const fn check_landed(&mut self) {
        if let Some(checking) = &mut self.checking {
            checking.in_flight = checking.in_flight.saturating_sub(1);
        }
    }

    fn drop_above(&mut self, id: ConversationId, head: u64) {
        let Some(entry) = self.state.conversations.get_mut(&id) else { return };
        let dropped = entry.held.top() > head;
        entry.held.cut_above(head);
        entry.steps.cut_above(head);
        entry.floor = entry.floor.map(|floor| floor.min(head));
        entry.persisted = entry.persisted.min(head);
        entry.foreign = entry.foreign.min(head);
        let (read, uncounted) = (entry.read.min(head), entry.read_uncounted.min(head));
        let pending = entry.read_pending;
        let read_changed = read != entry.read;
        self.persist.touched.insert(id);
        self.change_entry(id, |entry| {
            entry.target = entry.target.min(head);
            entry.peer_delivered = entry.peer_delivered.min(head);
            entry.peer_read = entry.peer_read.min(head);
        });
        if read_changed {
            self.change(Change::ReadMark { conversation: id, seq: read, uncounted, pending });
        }
        self.consider(id);
        if dropped {
            self.tell(Event::Dropped { conversation: id, above: Sequence(head) });
        }
    }
}
