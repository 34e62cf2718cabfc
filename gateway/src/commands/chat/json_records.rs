//! Records of a conversation as JSON: `message`, `edited`, `deleted`, `reacted`, `system`,
//! `unreadable`. `member` is the writer's number in a group plus 1; `from` is left out when nobody
//! knows who that is. `target` is the `seq` of the message that an edit, a deletion or a reaction
//! is about.

use super::json::{base64, id};
use super::shown::{Shown, What, change_name, change_text};
use roost_protocol::wire::{self, MemberRole};
use serde::Serialize;

/// One record.
#[derive(Debug, Default, Serialize)]
pub(super) struct RecordLine {
    event: &'static str,
    conversation: String,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_message_id: Option<String>,
    message_id: String,
    time_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<u32>,
    own: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reaction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded: Option<Origin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<MemberLine>>,
}

/// Where a forwarded message was said before.
#[derive(Debug, Serialize)]
struct Origin {
    conversation: String,
    seq: u64,
}

/// A member of a group.
#[derive(Debug, Serialize)]
pub(super) struct MemberLine {
    member: u32,
    user: String,
    role: &'static str,
    joined_seq: u64,
    left_seq: u64,
}

/// A member as it came.
pub(super) fn member(member: &wire::Member) -> MemberLine {
    MemberLine {
        member: member.member,
        user: member.user.clone(),
        role: role(member.role()),
        joined_seq: member.joined_seq,
        left_seq: member.left_seq,
    }
}

/// What a role is called.
pub(super) const fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Member => "member",
        MemberRole::Admin => "admin",
        MemberRole::Owner => "owner",
    }
}

/// The line of a record.
pub(super) fn record(shown: &Shown<'_>) -> RecordLine {
    let mut line = RecordLine {
        event: name(&shown.what),
        conversation: shown.conversation.to_string(),
        seq: shown.seq,
        client_message_id: id(shown.client_message_id),
        message_id: shown.message_id.0.to_string(),
        time_ms: shown.message_id.wall_ms(),
        from: shown.from.clone(),
        member: some(shown.member),
        own: shown.own,
        reply_to: (shown.reply_to != 0).then_some(shown.reply_to),
        ..RecordLine::default()
    };
    match &shown.what {
        What::Message { body, forwarded, encrypted } => {
            (line.body, line.body_base64) = text_and_bytes(body);
            line.encrypted = encrypted.then_some(true);
            line.forwarded = forwarded
                .map(|(conversation, seq)| Origin { conversation: conversation.to_string(), seq });
        }
        What::Edit { target, body } => {
            line.target = Some(*target);
            (line.body, line.body_base64) = text_and_bytes(body);
        }
        What::Delete { target } => line.target = Some(*target),
        What::Reaction { target, reaction } => {
            line.target = Some(*target);
            line.reaction = Some((*reaction).to_owned());
        }
        What::System(system) => {
            line.change = Some(change_name(system));
            line.text = change_text(system).map(str::to_owned);
            line.members = Some(system.members.iter().map(member).collect());
        }
        What::Unreadable => {}
    }
    line
}

const fn name(what: &What<'_>) -> &'static str {
    match what {
        What::Message { .. } => "message",
        What::Edit { .. } => "edited",
        What::Delete { .. } => "deleted",
        What::Reaction { .. } => "reacted",
        What::System(_) => "system",
        What::Unreadable => "unreadable",
    }
}

/// A body as text; its bytes too when it is none.
fn text_and_bytes(body: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(body) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (Some(String::from_utf8_lossy(body).into_owned()), Some(base64(body))),
    }
}

const fn some(member: u32) -> Option<u32> {
    if member == 0 { None } else { Some(member) }
}
