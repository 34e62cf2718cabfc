//! Messages that arrive: held, written down, shown once.

use crate::config::Order;
use crate::event::{Event, Form};
use crate::interface::Peer;
use crate::lane::Lane;
use crate::record::Change;
use crate::session::{Effect, Session};
use bytes::Bytes;
use prost::Message;
use roost_protocol::ids::{ClientMessageId, ConversationId, MessageId, Sequence, UserId};
use roost_protocol::wire::{self, message::Content};

impl Session {
    /// A pushed message.
    pub(crate) fn pushed(&mut self, message: wire::Message) {
        let Some(id) = ConversationId::from_slice(&message.conversation) else { return };
        let seq = message.seq;
        let known = self.state.conversations.get(&id).is_some_and(|entry| entry.known);
        if known && self.checking.is_none() {
            self.arrive(id, message);
        }
        self.heard_of(id, seq);
    }

    /// A head without its body.
    pub(crate) fn news(&mut self, news: &wire::News) {
        let Some(id) = ConversationId::from_slice(&news.conversation) else { return };
        self.heard_of(id, news.head);
    }

    /// A conversation has this head. One that no Sync has named yet is synced first.
    pub(crate) fn heard_of(&mut self, id: ConversationId, head: u64) {
        self.sync.wanted |= self.state.conversations.get(&id).is_none_or(|entry| !entry.known);
        if head > self.wanted(id) {
            self.timeline.hint(id, head);
        }
        self.consider(id);
    }

    /// Takes a message in, wherever it came from. Nothing happens when it is held already.
    pub(crate) fn arrive(&mut self, id: ConversationId, message: wire::Message) {
        let seq = message.seq;
        let entry = self.state.conversations.get(&id);
        if seq == 0 || entry.is_some_and(|entry| entry.held.contains(seq)) {
            return;
        }
        let reach = entry.map_or(0, crate::state::Conversation::reach);
        if self.is_answer(id, message.client_message_id) {
            let stored =
                wire::SendReply { message_id: message.message_id, seq, ..Default::default() };
            let stored = wire::SendReply { uncounted: message.uncounted, ..stored };
            self.accepted(&Peer::Conversation(id), message.client_message_id, id, &stored);
            return self.own_stored(id, seq, message.uncounted);
        }
        if self.config.order == Order::InOrder && seq > reach.saturating_add(1) {
            return self.timeline.keep(id, message);
        }
        self.take(id, message);
        self.take_kept(id);
    }

    /// Whether a record is a send of this device that still waits for its answer.
    fn is_answer(&self, id: ConversationId, client_message_id: u64) -> bool {
        let lane = self.state.lanes.get(&Peer::Conversation(id));
        let named = |lane: &Lane| lane.sends.iter().any(|send| send.id == client_message_id);
        client_message_id != 0 && lane.is_some_and(named)
    }

    /// What this device wrote itself has a place now.
    pub(crate) fn own_stored(&mut self, id: ConversationId, seq: u64, uncounted: u64) {
        self.hold(id, seq, seq);
        self.observe(id, seq, uncounted);
        if seq > self.wanted(id) {
            self.timeline.hint(id, seq);
        }
        self.take_kept(id);
        self.consider(id);
    }

    /// Takes what was kept and comes next now.
    pub(crate) fn take_kept(&mut self, id: ConversationId) {
        while let Some(message) = self.timeline.next(id, self.reach(id).saturating_add(1)) {
            self.take(id, message);
        }
    }

    fn take(&mut self, id: ConversationId, message: wire::Message) {
        let seq = message.seq;
        self.hold(id, seq, seq);
        self.observe(id, seq, message.uncounted);
        if self.connection.moves_user(&message) {
            // What it makes of the own entry, Sync tells.
            self.sync.expect(id, seq);
        }
        if message.client_message_id != 0 {
            self.wrote_elsewhere(id, seq, message.uncounted);
        }
        let Some(entry) = self.state.conversations.get_mut(&id) else { return };
        if message.client_message_id == 0 {
            entry.foreign = entry.foreign.max(seq);
        }
        if entry.is_hidden(seq) {
            return;
        }
        let event = shown(id, entry.peer.clone(), message);
        self.timeline.wait(bytes(&event));
        self.tell(event);
    }

    /// Holds a stretch; it is written down with this turn's record.
    pub(crate) fn hold(&mut self, id: ConversationId, from: u64, to: u64) {
        if from <= to {
            self.state.conversations.entry(id).or_default().hold(from, to);
            self.persist.touched.insert(id);
        }
    }

    pub(crate) fn observe(&mut self, id: ConversationId, seq: u64, uncounted: u64) {
        if let Some(entry) = self.state.conversations.get_mut(&id)
            && entry.steps.observe(seq, uncounted)
        {
            self.persist.touched.insert(id);
        }
    }

    /// Everything this turn brought, as changes of its record.
    pub(crate) fn write_holdings(&mut self) {
        for id in std::mem::take(&mut self.persist.touched) {
            let Some(entry) = self.state.conversations.get(&id) else { continue };
            let up_to = entry.reach();
            let tell = up_to > entry.persisted && entry.foreign > entry.persisted;
            let (floor, held, steps) = (entry.floor, entry.held.clone(), entry.steps.clone());
            self.change(Change::Held { conversation: id, floor, held, steps });
            self.persist.effects.push(Effect::Holds { conversation: id, up_to, tell });
        }
    }

    /// What is held is durable.
    pub(crate) fn holds(&mut self, id: ConversationId, up_to: u64, tell: bool) {
        let Some(entry) = self.state.conversations.get_mut(&id) else { return };
        entry.persisted = entry.persisted.max(up_to.min(entry.reach()));
        if tell && self.config.auto_delivered {
            self.notices.delivered_due(id);
        }
    }
}

/// What the app is told of a record.
fn shown(id: ConversationId, peer: Option<UserId>, message: wire::Message) -> Event {
    let (body, form): (Bytes, Form) = match &message.content {
        Some(Content::Body(body)) => (body.clone(), Form::Plain),
        Some(Content::Forward(forward)) => (forward.body.clone(), origin(forward)),
        Some(Content::Ciphertext(ciphertext)) => (ciphertext.body.clone(), Form::Ciphertext),
        Some(Content::Edit(_) | Content::Delete(_) | Content::Reaction(_) | Content::System(_))
        | None => return Event::Record { conversation: id, record: Box::new(message) },
    };
    Event::Message {
        conversation: id,
        peer,
        own: message.client_message_id != 0,
        sender: message.sender,
        form,
        reply_to: Sequence(message.reply_to),
        seq: Sequence(message.seq),
        message_id: MessageId(message.message_id),
        client_message_id: ClientMessageId(message.client_message_id),
        body,
    }
}

fn origin(forward: &wire::Forward) -> Form {
    let seq = Sequence(forward.seq);
    let conversation = ConversationId::from_slice(&forward.conversation);
    conversation.map_or(Form::Plain, |conversation| Form::Forwarded { conversation, seq })
}

/// What an event that waits for its record holds in memory, about.
pub(crate) fn bytes(event: &Event) -> usize {
    match event {
        Event::Message { body, .. } => body.len(),
        Event::Record { record, .. } => record.encoded_len(),
        Event::Connected(_)
        | Event::Disconnected { .. }
        | Event::Accepted { .. }
        | Event::Refused { .. }
        | Event::EncryptAgain { .. }
        | Event::Answer { .. }
        | Event::Delivered { .. }
        | Event::Read { .. }
        | Event::EntryChanged(_)
        | Event::Typing { .. }
        | Event::Presence(_)
        | Event::DevicesChanged { .. }
        | Event::Older { .. }
        | Event::Dropped { .. }
        | Event::CaughtUp
        | Event::Fatal { .. } => 0,
    }
}
