//! Questions on their way, and what is done with their answers.

use super::device::Device;
use super::json_answers::About;
use super::speaking::{blocks, members, receipts};
use bytes::Bytes;
use roost_client::{Answer, Command, Peer, RefusedAsk};
use roost_protocol::ids::{ClientMessageId, ConversationId, KeyKind, UserId};
use roost_protocol::request::{Ask, History};
use roost_protocol::wire::{self, message};

impl About {
    /// About nothing but the command.
    pub(super) const fn of(command: &'static str) -> Self {
        Self { command, conversation: None, seq: None }
    }
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) about: About,
    pub(super) what: What,
}

/// What its answer is for.
#[derive(Debug)]
pub(super) enum What {
    /// To be shown.
    Plain,
    /// To know names; not shown.
    Quiet,
    /// To know the names that an answer already here is to be shown with.
    Name { held: Box<Answer>, about: About },
    /// A group, which is then written to.
    Create { name: String },
    /// A channel, which is then written to.
    Join,
    /// A page, to be shown.
    Look,
    /// A message, to be said elsewhere.
    Forward { to: Peer },
    /// Device lists for a message.
    Cipher { text: String },
    /// The same for one that is encrypted again.
    Encrypt { text: String, client_message_id: ClientMessageId },
}

impl What {
    /// Whether lines typed after it wait for its answer: all in a script, for a script cannot see
    /// what happened; else those that decide what the next line means.
    const fn holds_lines(&self, is_interactive: bool) -> bool {
        match self {
            Self::Quiet | Self::Encrypt { .. } => false,
            Self::Plain | Self::Look | Self::Name { .. } => !is_interactive,
            Self::Create { .. } | Self::Join | Self::Forward { .. } | Self::Cipher { .. } => true,
        }
    }
}

impl Device {
    /// Asks the server.
    pub(super) fn ask(&mut self, asked: Asked, ask: Ask) {
        let tag = self.note(asked);
        self.feed_command(Command::Ask { ask, tag });
    }

    /// Asks for a page.
    pub(super) fn look_up(&mut self, asked: Asked, history: History) {
        let tag = self.note(asked);
        self.feed_command(Command::LookUp { history, tag });
    }

    fn note(&mut self, asked: Asked) -> u64 {
        let tag = self.new_tag();
        if asked.what.holds_lines(self.parts.is_interactive) {
            self.awaited = Some(tag);
        }
        self.asked.insert(tag, asked);
        tag
    }

    /// An answer is here. One to a question of an earlier run can only be that to a new group.
    pub(super) fn answered(&mut self, tag: u64, answer: &Result<Answer, RefusedAsk>) {
        if self.awaited == Some(tag) {
            self.awaited = None;
        }
        let about = About::of("/group create");
        let unknown = || Asked { about, what: What::Plain };
        let asked = self.asked.remove(&tag).unwrap_or_else(unknown);
        match answer {
            Ok(answer) => self.take_answer(asked, answer),
            Err(RefusedAsk { code, text, .. }) => self.refused(&asked, *code, text),
        }
    }

    fn take_answer(&mut self, asked: Asked, answer: &Answer) {
        let Asked { about, what } = asked;
        self.learn_names(&about, answer);
        match (what, answer) {
            (What::Quiet, _) => {
                if let Some(next) = next_page(&about, answer) {
                    self.ask(Asked { about, what: What::Quiet }, next);
                }
            }
            (What::Name { held, about: shown }, _) => match next_page(&about, answer) {
                Some(next) => {
                    self.ask(Asked { about, what: What::Name { held, about: shown } }, next)
                }
                None => self.show(shown, &held),
            },
            (What::Plain, Answer::Receipts(reply)) => {
                match self.group_of_strangers(&about, reply) {
                    Some(id) => {
                        let what = What::Name { held: Box::new(answer.clone()), about };
                        let about = About { conversation: Some(id), ..About::of("/group members") };
                        self.ask(Asked { about, what }, members(id, 0));
                    }
                    None => self.show(about, answer),
                }
            }
            (What::Forward { to }, Answer::History(page)) => {
                let wanted = about.seq.map_or(0, |seq| seq.0);
                let message = page.messages.iter().find(|message| message.seq == wanted);
                self.forwarded(&about, to, message.and_then(body_of));
            }
            (What::Cipher { text }, Answer::UserDevices(lists)) => {
                self.encrypt(&about, text, None, lists);
            }
            (What::Encrypt { text, client_message_id }, Answer::UserDevices(lists)) => {
                self.encrypt(&about, text, Some(client_message_id), lists);
            }
            (what, answer) => {
                if let (What::Create { name }, Answer::GroupCreated { conversation, .. }) =
                    (&what, answer)
                {
                    self.parts.renderer.names.learn_title(*conversation, name);
                    self.open(Peer::Conversation(*conversation));
                }
                if let (What::Join, Some(id)) = (&what, about.conversation) {
                    self.open(Peer::Conversation(id));
                }
                self.show(about, answer);
            }
        }
    }

    /// Shows an answer and asks for the next page, when there is one.
    pub(super) fn show(&mut self, about: About, answer: &Answer) {
        let rendered = self.parts.renderer.answer(&about, answer);
        self.print(rendered);
        if let Some(next) = next_page(&about, answer) {
            self.ask(Asked { about, what: What::Plain }, next);
        }
    }

    /// The group whose members must be asked for before these receipts can be shown by name: the
    /// record that names them may come after the receipts, for it takes another way. Whoever was
    /// not named then has no name for us.
    fn group_of_strangers(
        &mut self,
        about: &About,
        reply: &wire::ReceiptDetailsReply,
    ) -> Option<ConversationId> {
        let id = about.conversation.filter(|id| id.kind() != KeyKind::Direct)?;
        let names = &self.parts.renderer.names;
        let strangers = reply.members.iter().map(|of| of.member);
        let highest = strangers.filter(|member| names.member(id, *member).is_none()).max()?;
        let asked = self.strangers_asked.entry(id).or_default();
        (std::mem::replace(asked, highest.max(*asked)) < highest).then_some(id)
    }

    fn learn_names(&mut self, about: &About, answer: &Answer) {
        let names = &mut self.parts.renderer.names;
        match (about.conversation, answer) {
            (Some(id), Answer::Members(list)) => names.learn_members(id, &list.members),
            (Some(id), Answer::Description(description)) => {
                names.learn_title(id, &description.name);
                if let Some(own) = &description.own {
                    names.learn_members(id, std::slice::from_ref(own));
                }
            }
            (Some(id), Answer::History(page)) => {
                for record in &page.messages {
                    names.learn_from_record(id, record);
                }
            }
            (_, _) => {}
        }
    }

    /// Somebody was met whom we do not know: asks who is in, once a run and group.
    pub(super) fn meet(&mut self) {
        let Some(id) = self.parts.renderer.names.take_strange() else { return };
        let is_asked = id.kind() == KeyKind::Direct || !self.names_asked.insert(id);
        if !is_asked {
            self.ask_names(id);
        }
    }
}

/// What to ask for the next page, when there is one.
fn next_page(about: &About, answer: &Answer) -> Option<Ask> {
    let id: Option<ConversationId> = about.conversation;
    if let Answer::Members(list) = answer
        && list.more
    {
        return Some(members(id?, list.members.last()?.member));
    }
    if let Answer::Receipts(reply) = answer
        && reply.more
    {
        return Some(receipts(id?, about.seq?, reply.members.last()?.member));
    }
    if let Answer::Blocks(list) = answer
        && list.more
    {
        return Some(blocks(UserId::new(list.users.last()?).ok()));
    }
    None
}

/// The body of a message that can be said again.
fn body_of(message: &wire::Message) -> Option<Bytes> {
    match message.content.as_ref()? {
        message::Content::Body(body) => Some(body.clone()),
        message::Content::Forward(forward) => Some(forward.body.clone()),
        message::Content::Edit(_)
        | message::Content::Delete(_)
        | message::Content::Reaction(_)
        | message::Content::System(_)
        | message::Content::Ciphertext(_) => None,
    }
}
