//! What the person, or a script, is told of an event.
//!
//! With `--json` each event is a line. Numbers that count (`seq`, `up_to`, times) are JSON
//! numbers; names of 64 bits (`client_message_id`, `message_id`) are decimal strings, since many
//! readers of JSON keep only 53 bits. A body is text; one that is not UTF-8 has U+FFFD for what
//! cannot be read and the bytes in `body_base64`.
//!
//! `delivered` and `read` are watermarks: everything of ours up to `seq` (and `up_to`, the same
//! number) is held, or was read, by the other side.

use super::state_entries::Seen;
use roost_client::{DisconnectReason, Event};
use roost_protocol::error::name;
use roost_protocol::ids::{ClientMessageId, ConversationId, UserId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// So much of an own line is shown with its tick.
const SNIPPET_CHARS: usize = 40;

/// An event as the person sees it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rendered {
    /// The lines, each with its end; empty when there is nothing to tell.
    pub(super) text: String,
    /// It tells of stored things, so it must be told once.
    pub(super) is_stored: bool,
    /// A message of somebody else.
    pub(super) seen: Option<Seen>,
}

/// Renders events.
#[derive(Debug)]
pub(super) struct Renderer {
    json: bool,
    me: UserId,
    /// The starts of own lines that have no tick yet, by tag. For people only.
    snippets: BTreeMap<u64, String>,
    /// Whether the person knows that there is no connection.
    down_told: bool,
}

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

impl Renderer {
    pub(super) const fn new(json: bool, me: UserId) -> Self {
        Self { json, me, snippets: BTreeMap::new(), down_told: false }
    }

    /// Remembers an own line for its tick.
    pub(super) fn said(&mut self, tag: u64, body: &[u8]) {
        if !self.json {
            let start: String = printable(body).chars().take(SNIPPET_CHARS).collect();
            self.snippets.insert(tag, start);
        }
    }

    /// A line that cannot be sent.
    pub(super) fn unsendable(&self, code: &str, text: &str) -> Rendered {
        let rendered = if self.json {
            let code = Some(code.to_owned());
            json(&Line { event: "error", code, text: Some(text), fatal: Some(false), ..Line::default() })
        } else {
            format!("! not sent: {text} ({code})\n")
        };
        Rendered { text: rendered, is_stored: false, seen: None }
    }

    /// The lines for an event.
    pub(super) fn event(&mut self, event: &Event) -> Rendered {
        let text = if self.json { self.json(event) } else { self.plain(event) };
        let is_stored = match event {
            Event::Accepted { .. }
            | Event::Refused { .. }
            | Event::Message { .. }
            | Event::Delivered { .. }
            | Event::Read { .. }
            | Event::Dropped { .. } => true,
            Event::Connected(_)
            | Event::Disconnected { .. }
            | Event::Fatal { .. }
            | Event::Record { .. }
            | Event::EntryChanged(_)
            | Event::Older { .. }
            | Event::CaughtUp => false,
        };
        let seen = match event {
            Event::Message { conversation, seq, own: false, .. } => {
                Some(Seen { conversation: *conversation, seq: *seq })
            }
            _ => None,
        };
        Rendered { text, is_stored, seen }
    }

    fn json(&self, event: &Event) -> String {
        let mut lossy = String::new();
        let line = match event {
            Event::Connected(welcomed) => Line {
                event: "connected",
                user: Some(&welcomed.user),
                server_time_ms: Some(welcomed.server_time.ms),
                ..Line::default()
            },
            Event::Disconnected { reason, retry_in } => Line {
                event: "disconnected",
                retry_in_ms: retry_in.map(|delay| delay.as_ms()),
                ..why(reason)
            },
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
            Event::Message { .. } => self.message(event, &mut lossy),
            Event::Delivered { conversation, up_to } => {
                watermark("delivered", *conversation, up_to.0)
            }
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
            Event::Record { .. }
            | Event::EntryChanged(_)
            | Event::Older { .. }
            | Event::CaughtUp => return String::new(),
        };
        json(&line)
    }

    fn message<'a>(&'a self, event: &'a Event, lossy: &'a mut String) -> Line<'a> {
        let Event::Message {
            conversation,
            peer,
            own,
            seq,
            message_id,
            client_message_id,
            body,
        } = event
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
            from: if *own { Some(&self.me) } else { peer.as_ref() }.map(UserId::as_str),
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

    fn plain(&mut self, event: &Event) -> String {
        match event {
            Event::Connected(welcomed) => {
                self.down_told = false;
                format!("* connected as {}\n", printable(welcomed.user.as_bytes()))
            }
            Event::Disconnected { reason, retry_in } => {
                if std::mem::replace(&mut self.down_told, true) {
                    return String::new();
                }
                let reason = why(reason).reason.unwrap_or_default();
                let again = if retry_in.is_some() { ", trying again" } else { "" };
                format!("* not connected: {reason}{again}\n")
            }
            Event::Accepted { tag, seq, .. } => match self.snippets.remove(tag) {
                Some(snippet) => format!("✓ {seq} {snippet}\n"),
                None => format!("✓ {seq}\n"),
            },
            Event::Refused { tag, code, text, .. } => {
                let snippet = self.snippets.remove(tag);
                let snippet = snippet.map(|snippet| format!(": {snippet}")).unwrap_or_default();
                let text = printable(text.as_bytes());
                format!("! not sent{snippet}: {text} ({})\n", name(*code))
            }
            Event::Message { peer, own, body, conversation, .. } => {
                let from = match (own, peer) {
                    (true, _) => format!("{} (elsewhere)", self.me.as_str()),
                    (false, Some(peer)) => peer.as_str().to_owned(),
                    (false, None) => conversation.to_string(),
                };
                format!("{from}: {}\n", printable(body))
            }
            Event::Delivered { up_to, .. } => format!("✓✓ {up_to}\n"),
            Event::Read { up_to, .. } => format!("✓✓ {up_to} read\n"),
            Event::Dropped { above, .. } => {
                format!("! the server was restored: what came after {above} is gone\n")
            }
            Event::Fatal { code, text } => {
                format!("! {} ({})\n", printable(text.as_bytes()), name(*code))
            }
            Event::Record { .. }
            | Event::EntryChanged(_)
            | Event::Older { .. }
            | Event::CaughtUp => String::new(),
        }
    }
}

fn json(line: &Line<'_>) -> String {
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

fn why(reason: &DisconnectReason) -> Line<'_> {
    let (reason, code, text) = match reason {
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
    };
    Line { reason: Some(reason), code, text, ..Line::default() }
}

fn id(id: ClientMessageId) -> Option<String> {
    (id.0 != 0).then(|| id.to_string())
}

/// A text as a terminal may show it: nothing in it can move the cursor or change colours.
fn printable(text: &[u8]) -> String {
    let mut shown = String::new();
    for char in String::from_utf8_lossy(text).chars() {
        match char {
            '\t' => shown.push(char),
            '\n' => shown.push_str("\n  "),
            char if char.is_control() => {
                write!(shown, "{}", char.escape_default()).expect("a string takes it");
            }
            char => shown.push(char),
        }
    }
    shown
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
    use bytes::Bytes;
    use expect_test::expect;
    use roost_protocol::ids::{MessageId, Sequence};
    use roost_protocol::time::Duration;
    use roost_protocol::wire::ErrorCode;

    fn events() -> Vec<Event> {
        let conversation = ConversationId::from_bytes([0xab; 16]);
        let message = |seq, own, body: &'static [u8]| Event::Message {
            conversation,
            peer: UserId::new("bob").ok(),
            own,
            seq: Sequence(seq),
            message_id: MessageId(4_194_304_000),
            client_message_id: ClientMessageId(if own { u64::MAX } else { 0 }),
            body: Bytes::from_static(body),
        };
        vec![
            Event::Disconnected {
                reason: DisconnectReason::ConnectFailed,
                retry_in: Some(Duration::from_ms(200)),
            },
            Event::Disconnected { reason: DisconnectReason::Closed, retry_in: None },
            Event::Accepted {
                tag: 7,
                client_message_id: ClientMessageId(u64::MAX),
                conversation,
                seq: Sequence(3),
                message_id: MessageId(4_194_304_000),
            },
            message(4, false, "hé\u{1b}[2J\nho".as_bytes()),
            message(5, true, b""),
            message(6, false, b"\xff\x00"),
            Event::Delivered { conversation, up_to: Sequence(3) },
            Event::Read { conversation, up_to: Sequence(3) },
            Event::Refused {
                tag: 8,
                client_message_id: ClientMessageId(0),
                code: ErrorCode::ErrorTooLarge,
                text: "too long".to_owned(),
            },
            Event::CaughtUp,
            Event::Fatal { code: ErrorCode::ErrorReplaced, text: "elsewhere".to_owned() },
        ]
    }

    fn all(json: bool) -> String {
        let mut renderer = Renderer::new(json, UserId::new("alice").unwrap());
        renderer.said(7, b"hello");
        events().iter().map(|event| renderer.event(event).text).collect()
    }

    #[test]
    fn a_script_reads_json() {
        expect![[r#"
            {"event":"disconnected","reason":"connect_failed","retry_in_ms":200}
            {"event":"disconnected","reason":"closed"}
            {"event":"sent","conversation":"abababababababababababababababab","seq":3,"client_message_id":"18446744073709551615","message_id":"4194304000","time_ms":1767225601000}
            {"event":"message","conversation":"abababababababababababababababab","seq":4,"message_id":"4194304000","time_ms":1767225601000,"from":"bob","own":false,"body":"hé\u001b[2J\nho"}
            {"event":"message","conversation":"abababababababababababababababab","seq":5,"client_message_id":"18446744073709551615","message_id":"4194304000","time_ms":1767225601000,"from":"alice","own":true,"body":""}
            {"event":"message","conversation":"abababababababababababababababab","seq":6,"message_id":"4194304000","time_ms":1767225601000,"from":"bob","own":false,"body":"�\u0000","body_base64":"/wA="}
            {"event":"delivered","conversation":"abababababababababababababababab","seq":3,"up_to":3}
            {"event":"read","conversation":"abababababababababababababababab","seq":3,"up_to":3}
            {"event":"error","code":"too_large","text":"too long","fatal":false}
            {"event":"error","code":"replaced","text":"elsewhere","fatal":true}
        "#]].assert_eq(&all(true));
    }

    #[test]
    fn a_person_reads_text() {
        expect![[r#"
            * not connected: connect_failed, trying again
            ✓ 3 hello
            bob: hé\u{1b}[2J
              ho
            alice (elsewhere): 
            bob: �\u{0}
            ✓✓ 3
            ✓✓ 3 read
            ! not sent: too long (too_large)
            ! elsewhere (replaced)
        "#]].assert_eq(&all(false));
    }

    #[test]
    fn only_what_others_wrote_counts_as_seen() {
        let mut renderer = Renderer::new(true, UserId::new("alice").unwrap());
        let seen: Vec<_> =
            events().iter().filter_map(|event| renderer.event(event).seen).map(|s| s.seq.0).collect();
        assert_eq!(seen, [4, 6]);
    }

    #[test]
    fn bytes_have_a_text() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes()));
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
