//! Sends on their way out: taken, numbered, persisted, sent, and repeated in order.

use crate::content;
use crate::event::{Event, RefusedAsk};
use crate::interface::{Peer, PersistId};
use crate::lane::{Lane, Unanswered};
use crate::limits;
use crate::prng;
use crate::record::Change;
use crate::requests::Asked;
use crate::session::{Effect, Session};
use prost::Message;
use roost_protocol::ids::{ClientMessageId, ConversationId};
use roost_protocol::wire::{self, ErrorCode, client_frame::Body, send::Content};

impl Session {
    /// Takes a write: it is named, numbered and written down.
    pub(crate) fn queue_write(&mut self, to: &Peer, said: wire::Send, tag: u64) {
        let peer = self.state.resolve(to);
        if let Some(RefusedAsk { code, text, .. }) = self.cannot_queue(&peer, &said) {
            let client_message_id = ClientMessageId::default();
            return self.tell_now(Event::Refused { tag, client_message_id, code, text });
        }
        let id = prng::message_name(
            self.config.seed,
            self.state.named,
            self.now.wall.ms,
            self.now.monotonic.ns,
        );
        let (seen, seen_uncounted) = self.seen(&peer);
        let number = self.state.lanes.get(&peer).map_or(1, |lane| lane.next);
        let persist = self.current_record();
        let refused = None;
        let send = Unanswered {
            id,
            number,
            tag,
            seen,
            seen_uncounted,
            said,
            persist,
            new: true,
            flying: false,
            stale: false,
            rounds: 0,
            refused,
        };
        self.change(Change::Queued { peer: peer.clone(), send });
        self.ready.insert(peer);
    }

    fn cannot_queue(&self, peer: &Peer, said: &wire::Send) -> Option<RefusedAsk> {
        let no = |code, text: &str| Some(RefusedAsk::new(code, text));
        if self.config.role == wire::Role::Extension {
            return no(ErrorCode::ErrorForbidden, "an extension sends no messages");
        }
        if let Some(refused) = self.cannot_say(peer, said) {
            return Some(refused);
        }
        let lane = self.state.lanes.get(peer).map_or(0, |lane| lane.sends.len());
        let bytes = self.state.queued_bytes.saturating_add(said.encoded_len());
        let full = lane >= limits::QUEUED_PER_CONVERSATION_MAX
            || self.state.queued >= limits::QUEUED_MAX
            || bytes > limits::QUEUED_MAX_BYTES;
        if full {
            return no(ErrorCode::ErrorTooManyInFlight, "too many messages of this device wait");
        }
        None
    }

    /// Why the server would not take this, whoever says it and wherever.
    pub(crate) fn cannot_say(&self, peer: &Peer, said: &wire::Send) -> Option<RefusedAsk> {
        if let Some(Content::Body(body)) = &said.content {
            let text = "the body is larger than a message may be";
            let large = body.len() > self.connection.body_max();
            return large.then(|| RefusedAsk::new(ErrorCode::ErrorTooLarge, text));
        }
        let (client_message_id, client_sequence) = (1, 1);
        let send = wire::Send { client_message_id, client_sequence, ..said.clone() };
        self.cannot_ask(Body::Send(address(peer, send)))
    }

    /// Why the server would not take a frame, for its form alone.
    pub(crate) fn cannot_ask(&self, body: Body) -> Option<RefusedAsk> {
        let frame = wire::ClientFrame { request_id: u32::MAX, body: Some(body) }.encode_to_vec();
        if frame.len() > self.connection.frame_max() {
            let text = "it is larger than a frame may be";
            return Some(RefusedAsk::new(ErrorCode::ErrorTooLarge, text));
        }
        let refusal = match roost_protocol::request::decode(&frame) {
            Ok(decoded) => decoded.body.err()?,
            Err(refusal) => refusal,
        };
        Some(RefusedAsk::new(refusal.code, refusal.text))
    }

    /// The newest record this device holds of a conversation without a hole below it.
    fn seen(&self, peer: &Peer) -> (u64, u64) {
        let Peer::Conversation(id) = peer else { return (0, 0) };
        let Some(conversation) = self.state.conversations.get(id) else { return (0, 0) };
        let seq = conversation.reach();
        (seq, conversation.steps.at(seq))
    }

    /// Sends what may leave, of every lane that changed.
    pub(crate) fn pump_lanes(&mut self) {
        if self.connection.leaving.is_some() {
            return;
        }
        while self.connection.room_for_write() {
            let Some(peer) = self.ready.pop_first() else { return };
            self.pump_lane(&peer);
        }
    }

    fn pump_lane(&mut self, peer: &Peer) {
        if self.state.lanes.get(peer).is_some_and(|lane| lane.hold.is_some()) {
            self.resolve_hold(peer);
        }
        let window = self.connection.window();
        let now = self.now.monotonic;
        while self.connection.room_for_write() {
            let Some(lane) = self.state.lanes.get_mut(peer) else { return };
            if lane.hold.is_some() || lane.delay_until.is_some_and(|until| until > now) {
                return;
            }
            lane.delay_until = None;
            let Some(send) = next_send(lane, window, self.persist.confirmed) else {
                if lane.sends.iter().any(|send| send.persist > self.persist.confirmed) {
                    self.unconfirmed.insert(peer.clone());
                }
                return;
            };
            self.ask(
                Asked::Send { peer: peer.clone(), id: send.client_message_id },
                Body::Send(address(peer, send)),
            );
        }
        self.ready.insert(peer.clone());
    }

    /// An answer's record is confirmed: it leaves the window.
    pub(crate) fn answer_confirmed(&mut self, peer: &Peer) {
        let peer = self.state.resolve(peer);
        if let Some(lane) = self.state.lanes.get_mut(&peer) {
            lane.confirming = lane.confirming.saturating_sub(1);
            self.ready.insert(peer);
        }
    }

    /// Lanes whose delay is over may go on.
    pub(crate) fn wake_lanes(&mut self) {
        let now = self.now.monotonic;
        for peer in std::mem::take(&mut self.delayed) {
            let Some(lane) = self.state.lanes.get_mut(&peer) else { continue };
            if lane.delay_until.is_some_and(|until| until > now) {
                self.delayed.insert(peer);
            } else {
                lane.delay_until = None;
                self.ready.insert(peer);
            }
        }
    }

    /// A send is stored: by its answer, or because it was found in the history.
    pub(crate) fn accepted(
        &mut self,
        peer: &Peer,
        id: u64,
        conversation: ConversationId,
        stored: &wire::SendReply,
    ) {
        let peer = self.state.resolve(peer);
        let lane = self.state.lanes.get_mut(&peer);
        let Some(send) = lane.and_then(|lane| lane.find(id)) else { return };
        let (tag, seen) = (send.tag, (send.seen, send.seen_uncounted));
        // Nothing is pushed to who wrote: what became of the own entry, Sync tells.
        let change = matches!(send.said.content, Some(Content::GroupChange(_)));
        if change || self.entry_of(conversation).is_none() {
            self.sync.expect(conversation, stored.seq);
        }
        self.wrote(conversation, (stored.seq, stored.uncounted), seen);
        self.change(Change::Answered { peer: peer.clone(), id });
        let lane = self.state.lane(&peer);
        lane.confirming = lane.confirming.saturating_add(1);
        self.persist.effects.push(Effect::Confirmed(peer.clone()));
        self.ready.insert(peer);
        self.tell(Event::Accepted {
            tag,
            client_message_id: ClientMessageId(id),
            conversation,
            seq: roost_protocol::ids::Sequence(stored.seq),
            message_id: roost_protocol::ids::MessageId(stored.message_id),
        });
    }
}

/// The next send of a lane that may leave; it counts as in flight from here on.
fn next_send(lane: &mut Lane, window: usize, confirmed: PersistId) -> Option<wire::Send> {
    let window = if lane.solo { 1 } else { window };
    if lane.in_flight.saturating_add(lane.confirming) >= window {
        return None;
    }
    let send = lane.sends.iter_mut().find(|send| !send.flying)?;
    if send.persist > confirmed || send.stale || send.refused.is_some() {
        return None;
    }
    send.flying = true;
    lane.in_flight = lane.in_flight.saturating_add(1);
    Some(wire::Send {
        client_message_id: send.id,
        client_sequence: send.number,
        seen: send.seen,
        seen_uncounted: send.seen_uncounted,
        ..send.said.clone()
    })
}

fn address(peer: &Peer, send: wire::Send) -> wire::Send {
    match peer {
        Peer::User(user) => {
            let first = content::is_message(&send);
            wire::Send { user: user.as_str().to_owned(), first, ..send }
        }
        Peer::Conversation(id) => wire::Send { conversation: id.to_wire(), ..send },
    }
}
