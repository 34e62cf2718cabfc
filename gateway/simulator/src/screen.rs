//! What a person sees on a device: each event is told in the story and held against the promises.

use crate::history::Ticks;
use crate::record::{Record, Seen};
use crate::simulation::{Event as Happening, MS, Simulation};
use crate::trace::Broken;
use roost_client::{DisconnectReason, Event, Form};
use roost_protocol::ids::{ConversationId, KeyKind};
use roost_protocol::wire;

impl Simulation {
    /// A conversation as a user would call it.
    pub(crate) fn in_words(&self, user: usize, conversation: ConversationId) -> String {
        match self.people.peer_in(user, conversation) {
            Some(peer) => format!("with {}", self.people.id(peer)),
            None => format!("in {conversation}"),
        }
    }

    pub(crate) fn shown(&mut self, index: usize, event: Event) -> Result<(), Broken> {
        let name = self.devices[index].name.clone();
        let own_user = self.devices[index].user;
        match event {
            Event::Accepted { tag, conversation, seq, message_id, .. } => {
                let with = self.in_words(own_user, conversation);
                self.tell(|| format!("{name} is told that #{tag} is {seq} {with}"));
                self.check_accepted(index, tag, conversation, seq.0, message_id.0)
            }
            Event::Refused { tag, code, text, .. } => {
                self.tell(|| format!("{name} is told that #{tag} is refused: {code:?} {text}"));
                self.check_refused(tag, code, &text)
            }
            Event::Message {
                conversation,
                sender,
                form,
                reply_to,
                seq,
                message_id,
                client_message_id,
                body,
                ..
            } => {
                if form == Form::Ciphertext {
                    self.check_ciphertext(index, &body)?;
                }
                let record = Record::of_event(sender, form, reply_to.0, &body);
                self.see(index, conversation, (seq.0, message_id.0, client_message_id.0), record)
            }
            Event::Record { conversation, record } => {
                let seen = Record::of_message(&record);
                let place = (record.seq, record.message_id, record.client_message_id);
                self.see(index, conversation, place, seen)
            }
            Event::Delivered { conversation, up_to } => {
                let with = self.in_words(own_user, conversation);
                self.tell(|| format!("{name} sees delivered up to {up_to} {with}"));
                let ticks = Ticks { delivered: up_to.0, read: 0 };
                self.check_ticks(index, conversation, ticks)
            }
            Event::Read { conversation, up_to } => {
                let with = self.in_words(own_user, conversation);
                self.tell(|| format!("{name} sees read up to {up_to} {with}"));
                let ticks = Ticks { delivered: 0, read: up_to.0 };
                self.check_ticks(index, conversation, ticks)
            }
            Event::Answer { tag, answer } => self.answered(index, tag, *answer),
            Event::EncryptAgain { tag, client_message_id, versions } => {
                self.tell(|| format!("{name} must encrypt #{tag} again: {versions:?}"));
                self.encrypt_again(index, tag, client_message_id)
            }
            Event::Typing { conversation, member, stopped } => {
                self.tell(|| format!("{name} sees that {member} types ({stopped})"));
                self.check_typing(index, conversation)
            }
            Event::Presence(presences) => {
                self.tell(|| format!("{name} sees {presences:?}"));
                self.check_presence_pushed(index, &presences)
            }
            event @ (Event::Connected(_)
            | Event::Disconnected { .. }
            | Event::EntryChanged(_)
            | Event::DevicesChanged { .. }
            | Event::Older { .. }
            | Event::Dropped { .. }
            | Event::CaughtUp
            | Event::Fatal { .. }) => self.shown_of_connection(index, &name, event),
        }
    }

    /// A record, wherever it came from.
    fn see(
        &mut self,
        index: usize,
        id: ConversationId,
        place: (u64, u64, u64),
        record: Record,
    ) -> Result<(), Broken> {
        let user = self.devices[index].user;
        let (name, with) = (self.devices[index].name.clone(), self.in_words(user, id));
        self.tell(|| format!("{name} sees {} {with}: {record:?}", place.0));
        if let Seen::System(system) = &record.content {
            let own = self.people.id(user).as_str();
            if let Some(member) = system.members.iter().find(|member| member.user == own) {
                if member.left_seq == 0 {
                    self.devices[index].gone.remove(&id);
                } else {
                    self.devices[index].gone.insert(id, self.now_ns);
                }
            }
        }
        self.check_shown(index, id, place, record)
    }

    /// A ciphertext is for this device and no other.
    fn check_ciphertext(&self, index: usize, body: &[u8]) -> Result<(), Broken> {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let of = text.rsplit(':').next().and_then(|number| number.parse().ok());
        if of == Some(index) {
            return Ok(());
        }
        let name = &self.devices[index].name;
        Err(Broken::new(format!("{name} is given the ciphertext {text}, another's")))
    }

    fn shown_of_connection(
        &mut self,
        index: usize,
        name: &str,
        event: Event,
    ) -> Result<(), Broken> {
        match event {
            // A device that lost its connection number cannot tell a late Hello of its earlier life
            // from a newer one: the person opens the app again.
            Event::Fatal { code: wire::ErrorCode::ErrorReplaced, .. }
                if self.devices[index].forgot_in > 0 =>
            {
                self.tell(|| format!("{name} was replaced by its earlier life"));
                let life = self.devices[index].life;
                self.after(1_000 * MS, Happening::Reopen { device: index, life });
                Ok(())
            }
            Event::Dropped { .. } | Event::Fatal { .. } => {
                Err(Broken::new(format!("{name} is told {event:?}")))
            }
            Event::EntryChanged(entry) => {
                let id = ConversationId::from_slice(&entry.conversation);
                let of = id.map(|id| self.in_words(self.devices[index].user, id));
                let wire::Entry { head, read, peer_delivered, peer_read, left, .. } = *entry;
                self.tell(|| {
                    format!(
                        "{name}: entry {of:?}: head {head}, read {read}; there {peer_delivered} \
                         delivered, {peer_read} read; left {left}"
                    )
                });
                self.check_entry(index, id, &entry)
            }
            Event::Connected(_) => {
                self.tell(|| format!("{name} is connected"));
                self.devices[index].connected_ns = self.now_ns;
                self.devices[index].watched.retain(|_, stopped| !*stopped);
                Ok(())
            }
            Event::Disconnected { reason, retry_in } => {
                self.tell(|| format!("{name} is disconnected: {reason:?}, {retry_in:?}"));
                if let DisconnectReason::Refused { code, .. } = reason {
                    self.devices[index].signed_out |= code == wire::ErrorCode::ErrorSignedOut;
                }
                Ok(())
            }
            Event::Accepted { .. }
            | Event::Refused { .. }
            | Event::EncryptAgain { .. }
            | Event::Answer { .. }
            | Event::Message { .. }
            | Event::Record { .. }
            | Event::Delivered { .. }
            | Event::Read { .. }
            | Event::Typing { .. }
            | Event::Presence(_)
            | Event::DevicesChanged { .. }
            | Event::Older { .. }
            | Event::CaughtUp => {
                self.tell(|| format!("{name}: {event:?}"));
                Ok(())
            }
        }
    }

    /// Nobody's list names what its user never was in.
    fn check_entry(
        &self,
        index: usize,
        id: Option<ConversationId>,
        entry: &wire::Entry,
    ) -> Result<(), Broken> {
        let name = &self.devices[index].name;
        let id = id.ok_or_else(|| Broken::new("an entry of no conversation"))?;
        let known = match id.kind() {
            KeyKind::Direct => {
                let peer = self.people.peer_in(self.devices[index].user, id);
                peer.is_some_and(|peer| self.people.id(peer).as_str() == entry.peer)
            }
            KeyKind::Group | KeyKind::Channel => self.shadow.groups.contains_key(&id),
            KeyKind::User => false,
        };
        if known {
            return Ok(());
        }
        Err(Broken::new(format!("{name} is told of a conversation that is not there: {entry:?}")))
    }
}
