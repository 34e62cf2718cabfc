//! A record of a conversation as anybody is shown it: what must be the same for all, and whether
//! it is what somebody wrote.

use crate::shadow::{Said, Shadow};
use bytes::Bytes;
use roost_client::Form;
use roost_protocol::request::{Content, GroupChange};
use roost_protocol::wire::{self, group_change::Change, message};

/// See the module's comment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// The writer's member number + 1; 0 in direct conversations.
    pub(crate) sender: u32,
    pub(crate) reply_to: u64,
    /// Not everybody is told it.
    pub(crate) uncounted: Option<u64>,
    pub(crate) content: Seen,
}

/// What it says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Body(Bytes),
    Forward(wire::Forward),
    Edit(wire::Edit),
    Delete(u64),
    Reaction(wire::Reaction),
    System(wire::SystemMessage),
    /// For single devices: each sees something else, or nothing.
    Sealed,
}

impl Record {
    /// From a push or a page.
    pub(crate) fn of_message(message: &wire::Message) -> Self {
        let content = match &message.content {
            Some(message::Content::Body(body)) => Seen::Body(body.clone()),
            Some(message::Content::Forward(forward)) => Seen::Forward(forward.clone()),
            Some(message::Content::Edit(edit)) => Seen::Edit(edit.clone()),
            Some(message::Content::Delete(delete)) => Seen::Delete(delete.seq),
            Some(message::Content::Reaction(reaction)) => Seen::Reaction(reaction.clone()),
            Some(message::Content::System(system)) => Seen::System(system.clone()),
            Some(message::Content::Ciphertext(_)) | None => Seen::Sealed,
        };
        let (sender, reply_to) = (message.sender, message.reply_to);
        Self { sender, reply_to, uncounted: Some(message.uncounted), content }
    }

    /// From what a session shows as a message.
    pub(crate) fn of_event(sender: u32, form: Form, reply_to: u64, body: &Bytes) -> Self {
        let content = match form {
            Form::Plain => Seen::Body(body.clone()),
            Form::Forwarded { conversation, seq } => Seen::Forward(wire::Forward {
                conversation: conversation.to_wire(),
                seq: seq.0,
                body: body.clone(),
            }),
            Form::Ciphertext => Seen::Sealed,
        };
        Self { sender, reply_to, uncounted: None, content }
    }

    /// Two views of one record, as one; `None` when they do not agree.
    pub(crate) fn joined(&self, other: &Self) -> Option<Self> {
        let uncounted = match (self.uncounted, other.uncounted) {
            (Some(one), Some(other)) if one != other => return None,
            (one, other) => one.or(other),
        };
        let same = self.sender == other.sender
            && self.reply_to == other.reply_to
            && self.content == other.content;
        same.then(|| Self { uncounted, ..self.clone() })
    }

    /// The tag in what it says.
    pub(crate) fn tag(&self) -> Option<u64> {
        match &self.content {
            Seen::Body(body) => Shadow::tag_of(body),
            Seen::Forward(forward) => Shadow::tag_of(&forward.body),
            Seen::Edit(edit) => Shadow::tag_of(&edit.body),
            Seen::Reaction(reaction) => Shadow::tag_of(reaction.reaction.as_bytes()),
            Seen::Delete(_) | Seen::System(_) | Seen::Sealed => None,
        }
    }

    /// Whether it is a message: what can be replied to, taken back, and counted.
    pub(crate) const fn is_message(&self) -> bool {
        matches!(self.content, Seen::Body(_) | Seen::Forward(_) | Seen::Sealed)
    }

    /// Whether it is what was said.
    pub(crate) fn is(&self, said: &Said) -> bool {
        let replies = self.reply_to == said.reply_to.0;
        match (&said.content, &self.content) {
            (Content::Body(said), Seen::Body(body)) => said == body && replies,
            (Content::Forward { conversation, seq, body }, Seen::Forward(forward)) => {
                forward.conversation[..] == conversation.to_bytes()
                    && forward.seq == seq.0
                    && forward.body == body
                    && replies
            }
            (Content::Edit { seq, body }, Seen::Edit(edit)) => {
                edit.seq == seq.0 && edit.body == body
            }
            (Content::Delete { seq }, Seen::Delete(deleted)) => *deleted == seq.0,
            (Content::Reaction { seq, reaction }, Seen::Reaction(seen)) => {
                seen.seq == seq.0 && seen.reaction == *reaction
            }
            (Content::Group(change), Seen::System(system)) => {
                let done = system.change.as_ref().and_then(|change| change.change.as_ref());
                done.is_some_and(|done| is_change(change, done))
            }
            (Content::ToDevices { .. }, Seen::Sealed) => replies,
            (_, _) => false,
        }
    }
}

/// Whether a change was done as asked: those for whom it changed nothing are left out.
fn is_change(asked: &GroupChange, done: &Change) -> bool {
    let within = |asked: &[roost_protocol::ids::UserId], done: &wire::MemberChange| {
        let named = |user: &String| asked.iter().any(|asked| asked.as_str() == user);
        !done.users.is_empty() && done.users.iter().all(named)
    };
    match (asked, done) {
        (GroupChange::Rename(name), Change::Rename(done)) => name == done,
        (GroupChange::Picture(picture), Change::Picture(done)) => picture == done,
        (GroupChange::Add(users), Change::Add(done))
        | (GroupChange::Remove(users), Change::Remove(done))
        | (GroupChange::Promote(users), Change::Promote(done))
        | (GroupChange::Demote(users), Change::Demote(done)) => within(users, done),
        (GroupChange::Transfer(user), Change::Transfer(done)) => {
            within(std::slice::from_ref(user), done)
        }
        (GroupChange::Leave, Change::Leave(_)) | (GroupChange::Dissolve, Change::Dissolve(_)) => {
            true
        }
        (_, _) => false,
    }
}
