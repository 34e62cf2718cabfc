//! What people write: messages, replies, forwards, edits, deletions, reactions, changes of groups,
//! and ciphertexts for single devices.

use crate::questions::Question;
use crate::shadow::{Said, Shadow};
use crate::simulation::Simulation;
use crate::trace::Broken;
use bytes::Bytes;
use roost_client::{Command, Input, Peer};
use roost_protocol::ids::{ClientMessageId, ConversationId, KeyKind, Sequence};
use roost_protocol::request::{Ask, Ciphertext, Content, DeviceVersion};
use roost_protocol::wire;

impl Simulation {
    /// Says something to a user.
    pub(crate) fn say(&mut self, index: usize, to: usize, text: &str) -> Result<u64, Broken> {
        let body = Shadow::body(self.shadow.next_tag(), text);
        let id = self.people.direct(self.devices[index].user, to);
        self.write(index, id, Content::Body(body), 0)
    }

    /// Writes to a conversation; to a direct one by the other's name, as it may not be there yet.
    pub(crate) fn write(
        &mut self,
        index: usize,
        to: ConversationId,
        content: Content,
        reply_to: u64,
    ) -> Result<u64, Broken> {
        let device = &self.devices[index];
        let Some(session) = &device.session else {
            return Err(Broken::new(format!("{}'s app is not running", device.name)));
        };
        let (user, life) = (device.user, device.life);
        let name = device.name.clone();
        let listed = session.entry_of(to).is_some();
        let peer = match self.people.peer_in(user, to) {
            Some(peer) => Peer::User(self.people.id(peer).clone()),
            None => Peer::Conversation(to),
        };
        let reply_to = Sequence(reply_to);
        let tag = self.shadow.say(Said {
            device: index,
            user,
            to,
            content: content.clone(),
            reply_to,
            accepted: None,
            refused: None,
            revived: false,
            life,
            listed,
            at_ns: self.now_ns,
        });
        let with = self.in_words(user, to);
        self.tell(|| format!("{name} writes #{tag} {with}: {content:?}, to {reply_to:?}"));
        let seen = self.history.top_of(index, to);
        self.shadow.note_seen(user, to, seen);
        let command = match content {
            Content::Body(body) if reply_to.0 == 0 => Command::Send { to: peer, body, tag },
            content @ (Content::Body(_)
            | Content::Edit { .. }
            | Content::Delete { .. }
            | Content::Reaction { .. }
            | Content::Forward { .. }
            | Content::Group(_)
            | Content::ToDevices { .. }) => Command::Write { to: peer, content, reply_to, tag },
        };
        self.feed(index, Input::Command(command))?;
        if let Some(session) = &self.devices[index].session {
            let named = session.unanswered_sends().find(|(of, _)| *of == tag);
            if let Some((_, ClientMessageId(id))) = named {
                self.shadow.names.insert(id, tag);
            }
        }
        Ok(tag)
    }

    /// Something to say, longer or shorter.
    pub(crate) fn some_body(&mut self) -> Bytes {
        let filler = self.workload.prng.below(self.plan.body_max_bytes + 1);
        let filler = "x".repeat(usize::try_from(filler).unwrap_or(0));
        Shadow::body(self.shadow.next_tag(), &filler)
    }

    /// A record that the device was shown, or sometimes any number.
    fn some_seq(&mut self, index: usize, id: ConversationId) -> u64 {
        let held = self.history.kept.get(&(index, id));
        let held: Vec<u64> = held.into_iter().flatten().copied().collect();
        if held.is_empty() || self.workload.prng.percent(10) {
            return self.workload.prng.range(1, self.history.head(id) + 2);
        }
        self.workload.prng.pick(&held)
    }

    // ---- messages ----

    pub(crate) fn act_say(&mut self, index: usize) -> Result<(), Broken> {
        let Some(id) = self.some_place(index) else { return Ok(()) };
        let body = self.some_body();
        self.write(index, id, Content::Body(body), 0).map(drop)
    }

    pub(crate) fn act_reply(&mut self, index: usize) -> Result<(), Broken> {
        let Some(id) = self.some_place(index) else { return Ok(()) };
        let (seq, body) = (self.some_seq(index, id), self.some_body());
        self.write(index, id, Content::Body(body), seq).map(drop)
    }

    pub(crate) fn act_forward(&mut self, index: usize) -> Result<(), Broken> {
        let from = self.some_place(index);
        let (Some(id), Some(conversation)) = (self.some_place(index), from) else { return Ok(()) };
        let (seq, body) = (Sequence(self.some_seq(index, conversation)), self.some_body());
        self.write(index, id, Content::Forward { conversation, seq, body }, 0).map(drop)
    }

    pub(crate) fn act_edit(&mut self, index: usize) -> Result<(), Broken> {
        let Some(id) = self.some_known_place(index) else { return Ok(()) };
        let seq = Sequence(self.own_or_any(index, id));
        let body = self.some_body();
        self.write(index, id, Content::Edit { seq, body }, 0).map(drop)
    }

    pub(crate) fn act_delete(&mut self, index: usize) -> Result<(), Broken> {
        let Some(id) = self.some_known_place(index) else { return Ok(()) };
        let seq = Sequence(self.own_or_any(index, id));
        self.write(index, id, Content::Delete { seq }, 0).map(drop)
    }

    pub(crate) fn act_react(&mut self, index: usize) -> Result<(), Broken> {
        let Some(id) = self.some_known_place(index) else { return Ok(()) };
        let seq = Sequence(self.some_seq(index, id));
        let tag = self.shadow.next_tag();
        let taken_back = self.workload.prng.percent(20);
        let reaction = if taken_back { String::new() } else { format!("{tag}:+1") };
        self.write(index, id, Content::Reaction { seq, reaction }, 0).map(drop)
    }

    /// Mostly something of one's own.
    fn own_or_any(&mut self, index: usize, id: ConversationId) -> u64 {
        let user = self.devices[index].user;
        let own = self.shadow.said.iter().rev().filter(|said| said.user == user && said.to == id);
        let own: Vec<u64> =
            own.take(20).filter_map(|said| said.accepted.map(|(_, seq)| seq)).collect();
        if own.is_empty() || self.workload.prng.percent(30) {
            return self.some_seq(index, id);
        }
        self.workload.prng.pick(&own)
    }

    // ---- ciphertexts ----

    /// Asks for the device lists of a direct conversation, to write to each.
    pub(crate) fn act_encrypt(&mut self, index: usize) -> Result<(), Broken> {
        let Some(id) = self.some_known_place(index) else { return Ok(()) };
        if id.kind() != KeyKind::Direct {
            return Ok(());
        }
        self.ask_lists(index, id, None)
    }

    /// A message was encrypted for lists that are not current.
    pub(crate) fn encrypt_again(
        &mut self,
        index: usize,
        tag: u64,
        message: ClientMessageId,
    ) -> Result<(), Broken> {
        let said = self.shadow.find(tag);
        let said = said.ok_or_else(|| Broken::new(format!("#{tag} was never said")))?;
        let to = said.to;
        self.ask_lists(index, to, Some((tag, message)))
    }

    fn ask_lists(
        &mut self,
        index: usize,
        id: ConversationId,
        again: Option<(u64, ClientMessageId)>,
    ) -> Result<(), Broken> {
        let Some(pair) = self.people.pair(id) else { return Ok(()) };
        let users = pair.map(|user| self.people.id(user).clone()).to_vec();
        let ask = Ask::ListUserDevices { users, conversation: id };
        self.ask(index, ask, Question::Lists { conversation: id, again })
    }

    /// The lists came: each device but the own is written to.
    pub(crate) fn take_lists(
        &mut self,
        index: usize,
        id: ConversationId,
        again: Option<(u64, ClientMessageId)>,
        lists: Option<&wire::UserDevices>,
    ) -> Result<(), Broken> {
        let tag = again.map_or_else(|| self.shadow.next_tag(), |(tag, _)| tag);
        let content = lists.and_then(|lists| self.encrypted(index, tag, lists));
        match (again, content) {
            (None, None) => Ok(()),
            (None, Some(content)) => self.write(index, id, content, 0).map(drop),
            (Some((tag, client_message_id)), content) => {
                let name = self.devices[index].name.clone();
                self.tell(|| format!("{name} encrypts #{tag} again: {content:?}"));
                let command = Command::EncryptedAgain { client_message_id, content };
                self.feed(index, Input::Command(command))
            }
        }
    }

    fn encrypted(&self, index: usize, tag: u64, lists: &wire::UserDevices) -> Option<Content> {
        let (mut ciphertexts, mut versions) = (Vec::new(), Vec::new());
        for set in &lists.users {
            let user = self.people.id(self.people.find(&set.user)?).clone();
            versions.push(DeviceVersion { user: user.clone(), version: set.version });
            for device in &set.devices {
                let id: [u8; 16] = device.as_ref().try_into().ok()?;
                let of = self.devices.iter().position(|device| device.id.0 == id);
                if of == Some(index) {
                    continue;
                }
                let of = of.unwrap_or(usize::MAX);
                let body = Shadow::body(tag, &format!("for:{of}"));
                let device = roost_protocol::ids::DeviceId(id);
                ciphertexts.push(Ciphertext { user: user.clone(), device, body });
            }
        }
        let key_message = tag.is_multiple_of(3);
        let some = !ciphertexts.is_empty() && ciphertexts.len() <= 20;
        some.then_some(Content::ToDevices { ciphertexts, key_message, versions })
    }
}
