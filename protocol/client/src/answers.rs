//! What the server answers to a send.

use crate::connection::{class, code};
use crate::interface::Peer;
use crate::lane::{Hold, Lane};
use crate::record::Change;
use crate::session::Session;
use roost_protocol::ids::{ConversationId, UserId};
use roost_protocol::wire::{self, ErrorClass, ErrorCode};

impl Session {
    /// A send was answered: stored, now or earlier.
    pub(crate) fn send_answered(&mut self, peer: &Peer, id: u64, reply: &wire::SendReply) {
        self.landed(peer);
        let named = ConversationId::from_slice(&reply.conversation);
        if let (Peer::User(user), Some(conversation)) = (peer, named) {
            self.name_peer(user, conversation);
        }
        let key = self.state.resolve(peer);
        let Peer::Conversation(conversation) = key else {
            // The server owes the id to who named a user.
            return self.broken();
        };
        // The answer to a duplicate looks the same; but what cannot be one was accepted with a
        // number that fits, so the numbers behind it fit too.
        let lane = self.state.lane(&key);
        if lane.find(id).is_some_and(|send| send.new) {
            lane.solo = false;
        }
        self.accepted(&key, id, conversation, reply);
        self.own_stored(conversation, reply.seq, reply.uncounted);
    }

    /// A send was refused, for now or for good.
    pub(crate) fn send_refused(&mut self, peer: &Peer, id: u64, error: &wire::Error) {
        self.landed(peer);
        let key = self.state.resolve(peer);
        let code = code(error);
        if let Some(hold) = hold_for(code, error, self.state.lane(&key), id) {
            let lane = self.state.lane(&key);
            if !matches!(lane.hold, Some(Hold::Conflict { .. } | Hold::Refused)) {
                lane.solo |= matches!(hold, Hold::Conflict { .. });
                lane.hold = Some(hold);
            }
            return;
        }
        match class(error) {
            ErrorClass::ClassRetry => self.delay_lane(&key, error.retry_after_ms),
            ErrorClass::ClassNever => refuse(self.state.lane(&key), id, code, &error.text),
            ErrorClass::ClassReconnect | ErrorClass::ClassNewToken => self.refused(error),
        }
    }

    /// One request of a lane has its answer; the lane may have waited for the last one.
    fn landed(&mut self, peer: &Peer) {
        let peer = self.state.resolve(peer);
        if let Some(lane) = self.state.lanes.get_mut(&peer) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            self.ready.insert(peer);
        }
    }

    /// Goes back to the lowest not accepted, after a while.
    fn delay_lane(&mut self, peer: &Peer, asked_ms: u32) {
        let until = self.now.monotonic + self.backoff.retry(asked_ms);
        let lane = self.state.lane(peer);
        lane.delay_until = lane.delay_until.max(Some(until));
        lane.hold.get_or_insert(Hold::Repeat);
        self.delayed.insert(peer.clone());
    }

    /// The direct conversation with a user is known by its id from now on.
    pub(crate) fn name_peer(&mut self, user: &UserId, conversation: ConversationId) {
        let known = self.state.conversations.get(&conversation).is_some_and(|entry| entry.known);
        if known && self.state.users.get(user) == Some(&conversation) {
            return;
        }
        let (by_user, by_id) = (Peer::User(user.clone()), Peer::Conversation(conversation));
        let merged =
            self.state.lanes.contains_key(&by_user) && self.state.lanes.contains_key(&by_id);
        self.change(Change::PeerNamed { user: user.clone(), conversation });
        if merged {
            self.state.changed_by(&by_id, self.current_record());
        }
        self.ready.remove(&by_user);
        if self.delayed.remove(&by_user) {
            self.delayed.insert(by_id.clone());
        }
        self.ready.insert(by_id);
    }
}

/// What a refusal because of a number means for the lane.
fn hold_for(code: ErrorCode, error: &wire::Error, lane: &mut Lane, id: u64) -> Option<Hold> {
    let expected = error.expected_sequence.max(1);
    if code == ErrorCode::ErrorGap {
        return Some(Hold::Gap { expected });
    }
    if code != ErrorCode::ErrorSequenceConflict {
        return None;
    }
    // What is stored lies above what was seen when it was written.
    let looked = lane.sends.iter().map(|send| send.seen).min().unwrap_or(error.head);
    lane.find(id).map_or(Some(Hold::Repeat), |_| {
        Some(Hold::Conflict { expected, head: error.head, looked, looking: false })
    })
}

/// Marks a send as refused for good, unless numbers are in doubt: then it will be asked again.
fn refuse(lane: &mut Lane, id: u64, code: ErrorCode, text: &str) {
    if matches!(lane.hold, Some(Hold::Conflict { .. } | Hold::Gap { .. })) {
        return;
    }
    if let Some(send) = lane.find(id) {
        send.refused = Some((code, text.to_owned()));
        lane.hold = Some(Hold::Refused);
    }
}
