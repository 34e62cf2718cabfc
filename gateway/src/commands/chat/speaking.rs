//! What is typed: messages, and commands that are asked of the session or of the server.

use super::ask::{Asked, What};
use super::cipher;
use super::device::Device;
use super::json_answers::About;
use super::lines::Typed;
use super::plain;
use super::slash::{self, Line, Question, Slash};
use super::status::Ending;
use bytes::Bytes;
use roost_client::{Command, Peer};
use roost_event_loop::now;
use roost_protocol::error::name;
use roost_protocol::ids::{ClientMessageId, ConversationId, DeviceId, MessageId, Sequence, UserId};
use roost_protocol::limits::{BLOCKS_PAGE_MAX, BODY_MAX_BYTES, MEMBERS_PAGE_MAX};
use roost_protocol::request::{
    Ask, Content, ConversationSettings, CreateGroup, History, HistoryFrom, PresenceOf, Target,
};
use roost_protocol::wire::ErrorCode;
use std::sync::mpsc::TryRecvError;

/// Lines are taken while fewer sends than this are unanswered; the session takes 256.
const UNANSWERED_MAX: usize = 128;
/// Entries that `/list` shows.
const LIST_MAX: usize = 50;

/// Why a command was not even asked.
struct Unasked {
    code: &'static str,
    text: String,
}

type Done = Result<(), Unasked>;

impl Device {
    /// Takes lines as long as the session keeps up, and nothing that was asked must be known first.
    pub(super) fn take_lines(&mut self) {
        while self.awaited.is_none() && self.parts.session.unanswered() < UNANSWERED_MAX {
            let Some(typed) = &self.parts.typed else { return };
            let typed = match typed.try_recv() {
                Ok(typed) => typed,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => Typed::End,
            };
            self.status.active(now().monotonic);
            match typed {
                Typed::Line(line) if self.parts.takes_commands => self.line(slash::read(line)),
                Typed::Line(body) => self.line(Line::Message(body)),
                Typed::TooLong => {
                    let text = format!("a line has more than {BODY_MAX_BYTES} bytes");
                    self.fail(None, "too_large", &text);
                }
                Typed::End => {
                    if self.parts.is_interactive {
                        self.status.ending = Ending::WhenAnswered;
                    }
                    self.parts.typed = None;
                }
                Typed::Leave => {
                    self.status.ending = Ending::Now;
                    self.parts.typed = None;
                }
            }
        }
    }

    fn line(&mut self, line: Line) {
        match line {
            Line::Message(body) => {
                let content = Content::Body(Bytes::from(body));
                self.send(None, content, Sequence::default());
            }
            Line::Wrong(text) => self.fail(None, "unknown_command", &text),
            Line::Do(name, slash) => {
                if let Err(Unasked { code, text }) = self.obey(name, slash) {
                    self.fail(Some(name), code, &text);
                }
            }
        }
    }

    /// Says that a line was not done; the chat ends with an error.
    pub(super) fn fail(&mut self, command: Option<&str>, code: &str, text: &str) {
        let rendered = self.parts.renderer.failed(command, code, text);
        self.status.lines_refused = self.status.lines_refused.saturating_add(1);
        self.print(rendered);
    }

    fn send(&mut self, what: Option<&'static str>, content: Content, reply_to: Sequence) {
        match self.parts.to.clone() {
            Some(to) => self.write(to, what, content, reply_to),
            None => self.fail(what, "nobody", "say to whom: /open, or --to"),
        }
    }

    fn write(&mut self, to: Peer, what: Option<&'static str>, content: Content, reply: Sequence) {
        let tag = self.new_tag();
        let text = match &content {
            Content::Body(body) | Content::Edit { body, .. } | Content::Forward { body, .. } => {
                body.to_vec()
            }
            Content::Delete { seq } => format!("deletes {seq}").into_bytes(),
            Content::Reaction { reaction, .. } => reaction.clone().into_bytes(),
            Content::Group(change) => plain::own_change(change).into_bytes(),
            Content::ToDevices { .. } => b"for each device".to_vec(),
        };
        self.parts.renderer.said(tag, what, &text);
        self.feed_command(Command::Write { to, content, reply_to: reply, tag });
    }

    /// The current conversation, which must be there.
    fn here(&self) -> Result<ConversationId, Unasked> {
        let known = match &self.parts.to {
            None => None,
            Some(Peer::Conversation(id)) => Some(*id),
            Some(Peer::User(user)) => self.parts.session.conversation_with(user),
        };
        let text = || "there is no such conversation yet".to_owned();
        known.ok_or_else(|| Unasked { code: "unknown_conversation", text: text() })
    }

    /// Does what a command says.
    fn obey(&mut self, name: &'static str, slash: Slash) -> Done {
        let none = Sequence::default();
        match slash {
            Slash::Reply { seq, text } => self.send(None, body(text), seq),
            Slash::Post { text } => self.send(None, body(text), none),
            Slash::Edit { seq, text } => {
                self.send(Some("edit"), Content::Edit { seq, body: Bytes::from(text) }, none);
            }
            Slash::Delete { seq } => self.send(Some("delete"), Content::Delete { seq }, none),
            Slash::React { seq, reaction } => {
                self.send(Some("reaction"), Content::Reaction { seq, reaction }, none);
            }
            Slash::Group(change) => self.send(Some("group"), Content::Group(change), none),
            Slash::Forward { seq, to } => return self.forward(name, seq, to),
            Slash::Cipher { text } => return self.cipher(name, text),
            Slash::Create { name: called, members, channel } => {
                return self.create(name, called, members, channel);
            }
            Slash::Open(peer) => {
                self.open(peer);
                self.told(name);
            }
            Slash::History { limit } => return self.history(name, limit),
            Slash::Read { seq } => {
                let conversation = self.here()?;
                self.feed_command(Command::Read { conversation, seq });
                self.told(name);
            }
            Slash::Typing { stopped } => {
                let conversation = self.here()?;
                self.feed_command(Command::Typing { conversation, stopped });
                self.told(name);
            }
            Slash::Watch { users, stop } => {
                let of = PresenceOf { users, conversation: self.group_here() };
                self.feed_command(Command::WatchPresence { of, stop });
                self.told(name);
            }
            Slash::WatchChannel { stop } => {
                let conversation = self.here()?;
                self.feed_command(Command::WatchChannel { conversation, stop });
                self.told(name);
            }
            Slash::Help => {
                let rendered = self.parts.renderer.help(&slash::help());
                self.print(rendered);
            }
            Slash::Quit => {
                self.status.ending = Ending::WhenAnswered;
                self.parts.typed = None;
            }
            Slash::Join { channel, leave } => return self.join(name, channel, leave),
            Slash::Ask(question) => return self.ask_plainly(name, question),
        }
        Ok(())
    }

    /// Commands that are one question.
    fn ask_plainly(&mut self, name: &'static str, question: Question) -> Done {
        let set = |settings| move |conversation| Ask::SetConversation { conversation, settings };
        let none = ConversationSettings::default();
        let (about, ask) = match question {
            Question::Mute { seconds } => {
                let until = seconds.map_or(u64::MAX, |seconds| {
                    now().wall.ms.saturating_add(seconds.saturating_mul(1000))
                });
                let settings = ConversationSettings { muted_until_ms: Some(until), ..none };
                self.about_here(name, set(settings))?
            }
            Question::Unmute => {
                let settings = ConversationSettings { muted_until_ms: Some(0), ..none };
                self.about_here(name, set(settings))?
            }
            Question::Pin { place } => {
                self.about_here(name, set(ConversationSettings { pinned: Some(place), ..none }))?
            }
            Question::Archive { archived } => {
                let settings = ConversationSettings { archived: Some(archived), ..none };
                self.about_here(name, set(settings))?
            }
            Question::Hide { seqs } => {
                self.about_here(name, |conversation| Ask::DeleteForMe { conversation, seqs })?
            }
            Question::Accept => self.about_here(name, Ask::AcceptRequest)?,
            Question::Info => self.about_here(name, Ask::Describe)?,
            Question::Members => self.about_here(name, |id| members(id, 0))?,
            Question::Receipts { seq } => {
                let (about, ask) = self.about_here(name, |id| receipts(id, seq, 0))?;
                (About { seq: Some(seq), ..about }, ask)
            }
            Question::List => {
                let before = MessageId::default();
                (About::of(name), Ask::ListConversations { before, limit: LIST_MAX })
            }
            Question::Block { user, unblock } => (About::of(name), Ask::Block { user, unblock }),
            Question::Blocks => (About::of(name), blocks(None)),
            Question::Presence { users } => {
                let conversation = self.group_here();
                (About::of(name), Ask::QueryPresence(PresenceOf { users, conversation }))
            }
            Question::Devices => (About::of(name), Ask::ListDevices),
            Question::RenameDevice { device, name: called } => {
                let device = device.or(self.parts.renderer.device).ok_or_else(unknown_device)?;
                (About::of(name), Ask::RenameDevice { device, name: called })
            }
            Question::SignOut(which) => (About::of(name), Ask::SignOut(which)),
            Question::Privacy(privacy) => (About::of(name), Ask::SetPrivacy(privacy)),
        };
        self.ask(Asked { about, what: What::Plain }, ask);
        Ok(())
    }

    fn about_here(
        &self,
        command: &'static str,
        ask: impl FnOnce(ConversationId) -> Ask,
    ) -> Result<(About, Ask), Unasked> {
        let id = self.here()?;
        Ok((About { conversation: Some(id), ..About::of(command) }, ask(id)))
    }

    fn group_here(&self) -> Option<ConversationId> {
        let here = self.here().ok()?;
        (here.kind() == roost_protocol::ids::KeyKind::Group).then_some(here)
    }

    fn told(&mut self, name: &str) {
        let conversation = self.here().ok();
        let rendered = self.parts.renderer.done(name, conversation);
        self.print(rendered);
    }

    /// Writes there from now on.
    pub(super) fn open(&mut self, peer: Peer) {
        self.parts.to = Some(peer);
        self.parts.renderer.current = self.here().ok();
    }

    // ---- what takes more than one question ----

    fn create(
        &mut self,
        command: &'static str,
        name: String,
        members: Vec<UserId>,
        channel: bool,
    ) -> Done {
        let mut nonce = [0; 16];
        if getrandom::fill(&mut nonce).is_err() {
            let text = "the system has no random numbers".to_owned();
            return Err(Unasked { code: "system", text });
        }
        let group =
            CreateGroup { nonce, name: name.clone(), picture: String::new(), members, channel };
        let about = About::of(command);
        self.ask(Asked { about, what: What::Create { name } }, Ask::CreateGroup(group));
        Ok(())
    }

    fn join(&mut self, name: &'static str, channel: Option<ConversationId>, leave: bool) -> Done {
        let conversation = channel.map_or_else(|| self.here(), Ok)?;
        let about = About { conversation: Some(conversation), ..About::of(name) };
        let what = if leave { What::Plain } else { What::Join };
        self.ask(Asked { about, what }, Ask::JoinChannel { conversation, leave });
        Ok(())
    }

    fn history(&mut self, name: &'static str, limit: usize) -> Done {
        let id = self.here()?;
        let target = Target::Conversation(id);
        let about = About { conversation: Some(id), ..About::of(name) };
        let history = History { target, from: HistoryFrom::Newest, limit };
        self.look_up(Asked { about, what: What::Look }, history);
        Ok(())
    }

    fn forward(&mut self, name: &'static str, seq: Sequence, to: Peer) -> Done {
        let id = self.here()?;
        let about = About { conversation: Some(id), seq: Some(seq), ..About::of(name) };
        let from = HistoryFrom::After(Sequence(seq.0.saturating_sub(1)));
        let history = History { target: Target::Conversation(id), from, limit: 1 };
        self.look_up(Asked { about, what: What::Forward { to } }, history);
        Ok(())
    }

    /// What was to be forwarded is here.
    pub(super) fn forwarded(&mut self, about: &About, to: Peer, found: Option<Bytes>) {
        match (about.conversation, about.seq, found) {
            (Some(conversation), Some(seq), Some(body)) => {
                let content = Content::Forward { conversation, seq, body };
                self.write(to, Some("forward"), content, Sequence::default());
            }
            (_, _, _) => self.fail(Some(about.command), "not_found", "there is no such message"),
        }
    }

    fn cipher(&mut self, name: &'static str, text: String) -> Done {
        let id = self.here()?;
        self.ask_lists(name, id, What::Cipher { text })
    }

    fn ask_lists(&mut self, name: &'static str, id: ConversationId, what: What) -> Done {
        let peer = self.parts.session.entry_of(id).map(|entry| entry.peer.clone());
        let peer = peer.and_then(|peer| UserId::new(&peer).ok()).ok_or_else(|| Unasked {
            code: "invalid_request",
            text: "only direct conversations have a ciphertext for each device".to_owned(),
        })?;
        let about = About { conversation: Some(id), ..About::of(name) };
        let users = vec![self.parts.me.clone(), peer];
        self.ask(Asked { about, what }, Ask::ListUserDevices { users, conversation: id });
        Ok(())
    }

    /// The device lists are here.
    pub(super) fn encrypt(
        &mut self,
        about: &About,
        text: String,
        again: Option<ClientMessageId>,
        lists: &roost_protocol::wire::UserDevices,
    ) {
        let own = self.parts.renderer.device.unwrap_or(DeviceId([0; 16]));
        let content = cipher::seal(&text, lists, own);
        if let Some(client_message_id) = again {
            return self.feed_command(Command::EncryptedAgain { client_message_id, content });
        }
        let (Some(id), Some(content)) = (about.conversation, content) else {
            return self.fail(Some(about.command), "not_found", "there is no other device");
        };
        let tag = self.new_tag();
        self.parts.renderer.said(tag, Some("cipher"), text.as_bytes());
        self.ciphers.insert(tag, (id, text));
        let (to, reply_to) = (Peer::Conversation(id), Sequence::default());
        self.feed_command(Command::Write { to, content, reply_to, tag });
    }

    /// A message is to be encrypted again; one of an earlier run is given up, its text is gone.
    pub(super) fn encrypt_again(&mut self, tag: u64, client_message_id: ClientMessageId) {
        let known = self.ciphers.get(&tag).cloned();
        let asked = known.and_then(|(id, text)| {
            self.ask_lists("/cipher", id, What::Encrypt { text, client_message_id }).ok()
        });
        if asked.is_none() {
            let content = None;
            self.feed_command(Command::EncryptedAgain { client_message_id, content });
        }
    }

    /// A question was refused.
    pub(super) fn refused(&mut self, asked: &Asked, code: ErrorCode, text: &str) {
        match asked.what {
            What::Quiet => {}
            // Then with numbers in place of names.
            What::Name { ref held, about } => self.show(about, held),
            What::Encrypt { client_message_id, .. } => {
                let content = None;
                self.feed_command(Command::EncryptedAgain { client_message_id, content });
            }
            What::Plain
            | What::Create { .. }
            | What::Join
            | What::Look
            | What::Forward { .. }
            | What::Cipher { .. } => self.fail(Some(asked.about.command), &name(code), text),
        }
    }

    /// Asks who is in a group, for the names.
    pub(super) fn ask_names(&mut self, id: ConversationId) {
        let about = About { conversation: Some(id), ..About::of("/group members") };
        self.ask(Asked { about, what: What::Quiet }, Ask::Describe(id));
        self.ask(Asked { about, what: What::Quiet }, members(id, 0));
    }
}

fn body(text: String) -> Content {
    Content::Body(Bytes::from(text))
}

fn unknown_device() -> Unasked {
    let text = "not connected yet: name the device".to_owned();
    Unasked { code: "not_found", text }
}

/// A page of members.
pub(super) const fn members(conversation: ConversationId, after_member: u32) -> Ask {
    Ask::ListMembers { conversation, after_member, limit: MEMBERS_PAGE_MAX }
}

/// A page of who received and read.
pub(super) const fn receipts(conversation: ConversationId, seq: Sequence, after: u32) -> Ask {
    Ask::ReceiptDetails { conversation, seq, after_member: after }
}

/// A page of the blocked.
pub(super) const fn blocks(after: Option<UserId>) -> Ask {
    Ask::ListBlocks { after, limit: BLOCKS_PAGE_MAX }
}
