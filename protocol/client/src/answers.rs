//! What the server answers to a send.

use crate::connection::{class, code};
use crate::content;
use crate::event::{Event, RefusedAsk};
use crate::interface::Peer;
use crate::lane::{Hold, Lane};
use crate::limits::ENCRYPT_ROUNDS_MAX;
use crate::record::Change;
use crate::session::Session;
use roost_protocol::ids::{ClientMessageId, ConversationId, Sequence, UserId};
use roost_protocol::request::Content;
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
        if code == ErrorCode::ErrorDevicesChanged && error.devices.iter().all(|of| of.version != 0)
        {
            return self.encrypt_again(&key, id, &error.devices);
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

    /// A write was encrypted for lists that are not current: it waits for the app. (Where a version
    /// is not known yet the server has just asked for it, and it is sent again after a while.)
    fn encrypt_again(&mut self, peer: &Peer, id: u64, now: &[wire::DeviceVersion]) {
        let lane = self.state.lane(peer);
        lane.hold.get_or_insert(Hold::Repeat);
        let Some(send) = lane.find(id) else { return };
        send.rounds = send.rounds.saturating_add(1);
        if send.rounds > ENCRYPT_ROUNDS_MAX {
            let text = "the device lists change faster than the message is encrypted";
            return refuse(lane, id, ErrorCode::ErrorDevicesChanged, text);
        }
        send.stale = true;
        let (tag, client_message_id) = (send.tag, ClientMessageId(id));
        let versions = content::versions(now);
        self.tell(Event::EncryptAgain { tag, client_message_id, versions });
    }

    /// The app has encrypted a write again, or gives it up.
    pub(crate) fn encrypted_again(&mut self, id: u64, content: Option<Content>) {
        let stale = |lane: &Lane| lane.sends.iter().any(|send| send.id == id && send.stale);
        let found = self.state.lanes.iter().find(|(_, lane)| stale(lane));
        let Some(peer) = found.map(|(peer, _)| peer.clone()) else { return };
        let said = content.map(|content| content::said(content, Sequence::default()));
        let refused = match &said {
            Some(said) => self.cannot_say(&peer, said),
            None => Some(RefusedAsk::new(ErrorCode::ErrorDevicesChanged, "it was given up")),
        };
        if let (Some(said), None) = (said, &refused) {
            self.change(Change::Rewritten { peer: peer.clone(), id, said });
        }
        let record = self.current_record();
        let lane = self.state.lane(&peer);
        if let Some(send) = lane.find(id) {
            (send.stale, send.persist) = (false, record);
        }
        if let Some(RefusedAsk { code, text, .. }) = refused {
            refuse(lane, id, code, &text);
        }
        self.ready.insert(peer);
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
