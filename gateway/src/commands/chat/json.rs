//! One event, one line of JSON.
//!
//! Numbers that count (`seq`, `up_to`, times) are JSON
//! numbers; names of 64 bits (`client_message_id`, `message_id`) are decimal strings, since many
//! readers of JSON keep only 53 bits. A body is text; one that is not UTF-8 has U+FFFD for what
//! cannot be read and the bytes in `body_base64`.
//!
//! `delivered` and `read` are watermarks: everything of ours up to `seq` (and `up_to`, the same
//! number) is held, or was read, by the other side.

use roost_client::{DisconnectReason, Event};
use roost_protocol::error::name;
use roost_protocol::ids::{ClientMessageId, ConversationId, UserId};
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
    own: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
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
}

/// The line for something that is no message.
pub(super) fn unsendable(code: &str, text: &str) -> String {
    let code = Some(code.to_owned());
    line_of(&Line { event: "error", code, text: Some(text), fatal: Some(false), ..Line::default() })
}

/// The line for an event; empty when scripts are not told of it.
pub(super) fn event(event: &Event, me: &UserId) -> String {
    let mut lossy = String::new();
    let line = match event {
        Event::Connected(welcomed) => Line {
            event: "connected",
            user: Some(&welcomed.user),
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
            ..Line::default()
        },
        Event::Refused { client_message_id, code, text, .. } => Line {
            event: "error",
            client_message_id: id(*client_message_id),
            code: Some(name(*code)),
            text: Some(text),
            fatal: Some(false),
            ..Line::default()
        },
        Event::Message { .. } => message(event, me, &mut lossy),
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
        Event::Record { .. } | Event::EntryChanged(_) | Event::Older { .. } | Event::CaughtUp => {
            return String::new();
        }
    };
    line_of(&line)
}

fn message<'a>(event: &'a Event, me: &'a UserId, lossy: &'a mut String) -> Line<'a> {
    let Event::Message { conversation, peer, own, seq, message_id, client_message_id, body } =
        event
    else {
        return Line::default();
    };
    let mut line = Line {
        event: "message",
        conversation: Some(conversation.to_string()),
        seq: Some(seq.0),
        client_message_id: id(*client_message_id),
        message_id: Some(message_id.0.to_string()),
        time_ms: Some(message_id.wall_ms()),
        from: if *own { Some(me) } else { peer.as_ref() }.map(UserId::as_str),
        own: Some(*own),
        ..Line::default()
    };
    match std::str::from_utf8(body) {
        Ok(text) => line.body = Some(text),
        Err(_) => {
            *lossy = String::from_utf8_lossy(body).into_owned();
            line.body = Some(lossy);
            line.body_base64 = Some(base64(body));
        }
    }
    line
}

fn line_of(line: &Line<'_>) -> String {
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

fn id(id: ClientMessageId) -> Option<String> {
    (id.0 != 0).then(|| id.to_string())
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
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
