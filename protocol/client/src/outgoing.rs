//! Sends on their way out: taken, numbered, persisted, sent, and repeated in order.

use crate::event::Event;
use crate::interface::{Peer, PersistId};
use crate::lane::{Lane, Unanswered};
use crate::limits;
use crate::prng;
use crate::record::Change;
use crate::requests::Asked;
use crate::session::{Effect, Session, id_bytes};
use bytes::Bytes;
use roost_protocol::ids::{ClientMessageId, ConversationId};
use roost_protocol::wire::{self, ErrorCode, client_frame::Body};

impl Session {
    pub(crate) fn queue_send(&mut self, to: &Peer, body: Bytes, tag: u64) {
        let peer = self.state.resolve(to);
        if let Some((code, text)) = self.cannot_queue(&peer, body.len()) {
            let (client_message_id, text) = (ClientMessageId::default(), text.to_owned());
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
            body,
            persist,
            new: true,
            flying: false,
            refused,
        };
        self.change(Change::Queued { peer: peer.clone(), send });
        self.ready.insert(peer);
    }

    fn cannot_queue(&self, peer: &Peer, bytes: usize) -> Option<(ErrorCode, &'static str)> {
        let lane = self.state.lanes.get(peer).map_or(0, |lane| lane.sends.len());
        let full = lane >= limits::QUEUED_PER_CONVERSATION_MAX
            || self.state.queued >= limits::QUEUED_MAX
            || self.state.queued_bytes.saturating_add(bytes) > limits::QUEUED_MAX_BYTES;
        if self.config.role == wire::Role::Extension {
            Some((ErrorCode::ErrorForbidden, "an extension sends no messages"))
        } else if bytes > self.connection.body_max() {
            Some((ErrorCode::ErrorTooLarge, "the body is larger than a message may be"))
        } else if full {
            Some((ErrorCode::ErrorTooManyInFlight, "too many messages of this device wait"))
        } else {
            None
        }
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
        let Some(tag) =
            self.state.lanes.get_mut(&peer).and_then(|lane| lane.find(id)).map(|send| send.tag)
        else {
            return;
        };
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
    if send.persist > confirmed || send.refused.is_some() {
        return None;
    }
    send.flying = true;
    lane.in_flight = lane.in_flight.saturating_add(1);
    Some(wire::Send {
        client_message_id: send.id,
        client_sequence: send.number,
        seen: send.seen,
        seen_uncounted: send.seen_uncounted,
        content: Some(wire::send::Content::Body(send.body.clone())),
        ..wire::Send::default()
    })
}

fn address(peer: &Peer, send: wire::Send) -> wire::Send {
    match peer {
        Peer::User(user) => wire::Send { user: user.as_str().to_owned(), first: true, ..send },
        Peer::Conversation(id) => wire::Send { conversation: id_bytes(*id), ..send },
    }
}
