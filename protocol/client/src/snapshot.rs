//! The whole state as few records, canonical: equal states give equal bytes.

use crate::limits::SNAPSHOT_RECORD_BYTES;
use crate::record::{self, Change};
use crate::state::{Conversation, State};
use roost_protocol::ids::ConversationId;

/// The state as records.
pub(crate) fn records(state: &State) -> Vec<Vec<u8>> {
    let mut records = Records { done: Vec::new(), current: vec![record::VERSION] };
    records.add(&Change::ConnectionNumber(state.connection_number));
    let (ticket, expires_ms) = (state.ticket.clone(), state.ticket_expires_ms);
    records.add(&Change::Ticket { ticket, expires_ms });
    records.add(&Change::Store(state.store));
    records.add(&Change::Run(state.run));
    // The untouched first, so that the order of touches is the same again. The cursor comes after
    // the heads it stands for.
    for id in state.recent().rev() {
        if let Some(conversation) = state.conversations.get(&id) {
            records.conversation(id, conversation, state);
        }
    }
    for (peer, lane) in &state.lanes {
        for send in &lane.sends {
            records.add(&Change::Queued { peer: peer.clone(), send: send.clone() });
        }
        if lane.next == 1 {
            // As good as no lane.
            continue;
        }
        records.add(&Change::Next { peer: peer.clone(), next: lane.next });
    }
    for (tag, group) in state.creating.values() {
        records.add(&Change::Creating { tag: *tag, group: group.clone() });
    }
    records.add(&Change::Named(state.named));
    records.add(&Change::Cursor(state.cursor));
    records.done.push(records.current);
    records.done
}

struct Records {
    done: Vec<Vec<u8>>,
    current: Vec<u8>,
}

impl Records {
    fn add(&mut self, change: &Change) {
        if self.current.len() > SNAPSHOT_RECORD_BYTES {
            let full = std::mem::replace(&mut self.current, vec![record::VERSION]);
            self.done.push(full);
        }
        record::encode(change, &mut self.current);
    }

    fn conversation(&mut self, id: ConversationId, entry: &Conversation, state: &State) {
        if let Some(user) = &entry.peer {
            self.add(&Change::PeerNamed { user: user.clone(), conversation: id });
            if state.users.get(user) != Some(&id) {
                self.add(&Change::PeerUnnamed { user: user.clone() });
            }
        }
        self.add(&Change::ReadMark {
            conversation: id,
            seq: entry.read,
            uncounted: entry.read_uncounted,
            pending: entry.read_pending,
        });
        self.add(&Change::Held {
            conversation: id,
            floor: entry.floor,
            held: entry.held.clone(),
            steps: entry.steps.clone(),
        });
        self.add(&Change::Entry {
            conversation: id,
            known: entry.known,
            target: entry.target,
            peer_delivered: entry.peer_delivered,
            peer_read: entry.peer_read,
        });
        if let Some(listed) = &entry.listed {
            let entry = (**listed).clone();
            self.add(&Change::Listed { conversation: id, entry });
        }
    }
}
