//! A record as it is shown, whether it was pushed, pulled, or looked up.

use super::cipher;
use super::names::Names;
use roost_client::{Event, Form};
use roost_protocol::ids::{ClientMessageId, ConversationId, DeviceId, MessageId, UserId};
use roost_protocol::wire::{self, message::Content};
use std::borrow::Cow;

/// A record of a conversation.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) conversation: ConversationId,
    pub(super) seq: u64,
    pub(super) message_id: MessageId,
    pub(super) client_message_id: ClientMessageId,
    pub(super) own: bool,
    /// In groups: the writer's number + 1.
    pub(super) member: u32,
    /// Who wrote it, as far as known.
    pub(super) from: Option<String>,
    pub(super) reply_to: u64,
    pub(super) what: What<'a>,
}

/// What it says.
#[derive(Debug)]
pub(super) enum What<'a> {
    Message {
        body: Cow<'a, [u8]>,
        forwarded: Option<(ConversationId, u64)>,
        encrypted: bool,
    },
    Edit {
        target: u64,
        body: &'a [u8],
    },
    Delete {
        target: u64,
    },
    Reaction {
        target: u64,
        reaction: &'a str,
    },
    System(&'a wire::SystemMessage),
    /// Not for this device, or from a newer app.
    Unreadable,
}

/// Who looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Eyes<'a> {
    pub(super) me: &'a UserId,
    pub(super) device: Option<DeviceId>,
    pub(super) names: &'a Names,
}

impl Eyes<'_> {
    /// The record of an event, if it is about one.
    pub(super) fn event<'e>(&self, event: &'e Event) -> Option<Shown<'e>> {
        match event {
            Event::Record { conversation, record } => Some(self.record(*conversation, record)),
            Event::Message {
                conversation,
                own,
                sender,
                form,
                reply_to,
                seq,
                message_id,
                client_message_id,
                body,
                ..
            } => Some(Shown {
                conversation: *conversation,
                seq: seq.0,
                message_id: *message_id,
                client_message_id: *client_message_id,
                own: *own,
                member: *sender,
                from: self.who(*conversation, *sender, *own),
                reply_to: reply_to.0,
                what: match form {
                    Form::Plain => plain(body),
                    Form::Forwarded { conversation, seq } => What::Message {
                        body: Cow::Borrowed(body),
                        forwarded: Some((*conversation, seq.0)),
                        encrypted: false,
                    },
                    Form::Ciphertext => self.ciphertext(body),
                },
            }),
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
            | Event::Fatal { .. } => None,
        }
    }

    /// A record as it came.
    pub(super) fn record<'r>(&self, id: ConversationId, record: &'r wire::Message) -> Shown<'r> {
        let own = record.client_message_id != 0;
        Shown {
            conversation: id,
            seq: record.seq,
            message_id: MessageId(record.message_id),
            client_message_id: ClientMessageId(record.client_message_id),
            own,
            member: record.sender,
            from: self.who(id, record.sender, own),
            reply_to: record.reply_to,
            what: match &record.content {
                Some(Content::Body(body)) => plain(body),
                Some(Content::Forward(forward)) => What::Message {
                    body: Cow::Borrowed(&forward.body),
                    forwarded: ConversationId::from_slice(&forward.conversation)
                        .map(|conversation| (conversation, forward.seq)),
                    encrypted: false,
                },
                Some(Content::Ciphertext(ciphertext)) => self.ciphertext(&ciphertext.body),
                Some(Content::Edit(edit)) => What::Edit { target: edit.seq, body: &edit.body },
                Some(Content::Delete(delete)) => What::Delete { target: delete.seq },
                Some(Content::Reaction(reaction)) => {
                    What::Reaction { target: reaction.seq, reaction: &reaction.reaction }
                }
                Some(Content::System(system)) => What::System(system),
                None => What::Unreadable,
            },
        }
    }

    /// Who wrote something.
    pub(super) fn who(&self, id: ConversationId, member: u32, own: bool) -> Option<String> {
        if own {
            return Some(self.me.as_str().to_owned());
        }
        self.names.member(id, member).map(str::to_owned)
    }

    fn ciphertext<'b>(&self, body: &'b [u8]) -> What<'b> {
        let opened = self.device.and_then(|device| cipher::open(body, device));
        let body = opened.map_or(Cow::Borrowed(body), Cow::Owned);
        What::Message { body, forwarded: None, encrypted: true }
    }
}

const fn plain(body: &[u8]) -> What<'_> {
    What::Message { body: Cow::Borrowed(body), forwarded: None, encrypted: false }
}

/// What a change of a group is called in JSON.
pub(super) const fn change_name(system: &wire::SystemMessage) -> &'static str {
    use wire::group_change::Change;
    let Some(wire::GroupChange { change: Some(change) }) = &system.change else {
        return if system.created { "created" } else { "changed" };
    };
    match change {
        Change::Rename(_) => "renamed",
        Change::Picture(_) => "picture",
        Change::Add(_) => "added",
        Change::Remove(_) => "removed",
        Change::Leave(_) => "left",
        Change::Promote(_) => "promoted",
        Change::Demote(_) => "demoted",
        Change::Transfer(_) => "transferred",
        Change::Dissolve(_) => "dissolved",
    }
}

/// What it says beside people: a name, or a picture.
pub(super) const fn change_text(system: &wire::SystemMessage) -> Option<&str> {
    use wire::group_change::Change;
    match &system.change {
        Some(wire::GroupChange { change: Some(Change::Rename(text) | Change::Picture(text)) }) => {
            Some(text.as_str())
        }
        _ => None,
    }
}
