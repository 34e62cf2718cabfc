//! One event, one line of JSON.
//!
//! Numbers that count (`seq`, `up_to`, times) are JSON
//! numbers; names of 64 bits (`client_message_id`, `message_id`) are decimal strings, since many
//! readers of JSON keep only 53 bits. A body is text; one that is not UTF-8 has U+FFFD for what
//! cannot be read and the bytes in `body_base64`.
//!
//! `delivered` and `read` are watermarks: everything of ours up to `seq` (and `up_to`, the same
//! number) is held, or was read, by the other side; in a group by all of it. `what` of `sent` says
//! what it is when it is no message. Records are in `json_records`, answers in `json_answers`.

use roost_client::{DisconnectReason, Event};
use roost_protocol::error::name;
use roost_protocol::ids::{ClientMessageId, ConversationId};
use serde::Serialize;

/// One line of JSON.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up_to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_time_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fatal: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

/// The line for something that was not done.
pub(super) fn failed(command: Option<&str>, code: &str, text: &str) -> String {
    line_of(&Line {
        event: "error",
        code: Some(code.to_owned()),
        text: Some(text),
        fatal: Some(false),
        command,
        ..Line::default()
    })
}

/// The line for a command that has no answer of its own.
pub(super) fn done(command: &str, conversation: Option<ConversationId>) -> String {
    let conversation = conversation.map(|id| id.to_string());
    line_of(&Line { event: "done", conversation, command: Some(command), ..Line::default() })
}

/// The line that holds the list of commands.
pub(super) fn help(text: &str) -> String {
    line_of(&Line { event: "help", text: Some(text), ..Line::default() })
}

/// The line for somebody who types.
pub(super) fn typing(id: ConversationId, from: Option<&str>, member: u32, stopped: bool) -> String {
    line_of(&Line {
        event: "typing",
        conversation: Some(id.to_string()),
        from,
        member: (member != 0).then_some(member),
        stopped: Some(stopped),
        ..Line::default()
    })
}

/// The line for an event that is about no record, no answer, no entry and nobody's presence; empty
/// when scripts are not told of it. `what` says what was written, when it is no message.
pub(super) fn event(event: &Event, what: Option<&str>) -> String {
    let line = match event {
        Event::Connected(welcomed) => Line {
            event: "connected",
            user: Some(&welcomed.user),
            device: welcomed.device.map(|device| format!("{device:?}")),
            server_time_ms: Some(welcomed.server_time.ms),
            ..Line::default()
        },
        Event::Disconnected { reason, retry_in } => {
            let (reason, code, text) = why(reason);
            Line {
                event: "disconnected",
                reason: Some(reason),
                retry_in_ms: retry_in.map(|delay| delay.as_ms()),
                code,
                text,
                ..Line::default()
            }
        }
        Event::Accepted { client_message_id, conversation, seq, message_id, .. } => Line {
            event: "sent",
            conversation: Some(conversation.to_string()),
            seq: Some(seq.0),
            client_message_id: Some(client_message_id.to_string()),
            message_id: Some(message_id.0.to_string()),
            time_ms: Some(message_id.wall_ms()),
            what,
            ..Line::default()
        },
        Event::Refused { client_message_id, code, text, .. } => Line {
            event: "error",
            client_message_id: id(*client_message_id),
            code: Some(name(*code)),
            text: Some(text),
            fatal: Some(false),
            what,
            ..Line::default()
        },
        Event::DevicesChanged { version } => {
            Line { event: "devices_changed", version: Some(*version), ..Line::default() }
        }
        Event::CaughtUp => Line { event: "caught_up", ..Line::default() },
        Event::Delivered { conversation, up_to } => watermark("delivered", *conversation, up_to.0),
        Event::Read { conversation, up_to } => watermark("read", *conversation, up_to.0),
        Event::Dropped { conversation, above } => Line {
            event: "error",
            conversation: Some(conversation.to_string()),
            seq: Some(above.0),
            code: Some("dropped".to_owned()),
            text: Some("the server was restored: what came after this does not exist any more"),
            fatal: Some(false),
            ..Line::default()
        },
        Event::Fatal { code, text } => Line {
            event: "error",
            code: Some(name(*code)),
            text: Some(text),
            fatal: Some(true),
            ..Line::default()
        },
        Event::Message { .. }
        | Event::Record { .. }
        | Event::EntryChanged(_)
        | Event::EncryptAgain { .. }
        | Event::Answer { .. }
        | Event::Typing { .. }
        | Event::Presence(_)
        | Event::Older { .. } => return String::new(),
    };
    line_of(&line)
}

/// One line.
pub(super) fn line_of(line: &impl Serialize) -> String {
    let mut text = serde_json::to_string(line).expect("texts and numbers are always JSON");
    text.push('\n');
    text
}

fn watermark(event: &str, conversation: ConversationId, up_to: u64) -> Line<'_> {
    Line {
        event,
        conversation: Some(conversation.to_string()),
        seq: Some(up_to),
        up_to: Some(up_to),
        ..Line::default()
    }
}

/// Why there is no connection, in a word.
pub(super) fn reason(reason: &DisconnectReason) -> &'static str {
    why(reason).0
}

/// The word, and what the server said.
fn why(reason: &DisconnectReason) -> (&'static str, Option<String>, Option<&str>) {
    match reason {
        DisconnectReason::ConnectFailed => ("connect_failed", None, None),
        DisconnectReason::Closed => ("closed", None, None),
        DisconnectReason::Silent => ("silent", None, None),
        DisconnectReason::Timeout => ("timeout", None, None),
        DisconnectReason::GoAway { .. } => ("go_away", None, None),
        DisconnectReason::Refused { code, text } => {
            ("refused", Some(name(*code)), Some(text.as_str()))
        }
        DisconnectReason::Protocol => ("protocol", None, None),
        DisconnectReason::Asked => ("asked", None, None),
    }
}

/// Nothing for none.
pub(super) fn id(id: ClientMessageId) -> Option<String> {
    (id.0 != 0).then(|| id.to_string())
}

/// RFC 4648, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = usize::try_from((bits >> shift) & 63).unwrap_or(0);
            let digit = DIGITS.get(digit).copied().unwrap_or(b'=');
            text.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_text() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes()));
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
