//! What the person, or a script, is told of an event.

use super::json;
use super::state_entries::Seen;
use roost_client::Event;
use roost_protocol::error::name;
use roost_protocol::ids::UserId;
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
            json::unsendable(code, text)
        } else {
            format!("! not sent: {text} ({code})\n")
        };
        Rendered { text: rendered, is_stored: false, seen: None }
    }

    /// The lines for an event.
    pub(super) fn event(&mut self, event: &Event) -> Rendered {
        let text = if self.json { json::event(event, &self.me) } else { self.plain(event) };
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
        let seen = if let Event::Message { conversation, seq, own: false, .. } = event {
            Some(Seen { conversation: *conversation, seq: *seq })
        } else {
            None
        };
        Rendered { text, is_stored, seen }
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
                let reason = json::reason(reason);
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use expect_test::expect;
    use roost_client::DisconnectReason;
    use roost_protocol::ids::{ClientMessageId, ConversationId, MessageId, Sequence};
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
        // A line of JSON each; broken up here to fit the page.
        expect![[r#"
            {"event":"disconnected",
              "reason":"connect_failed",
              "retry_in_ms":200}
            {"event":"disconnected",
              "reason":"closed"}
            {"event":"sent",
              "conversation":"abababababababababababababababab",
              "seq":3,
              "client_message_id":"18446744073709551615",
              "message_id":"4194304000",
              "time_ms":1767225601000}
            {"event":"message",
              "conversation":"abababababababababababababababab",
              "seq":4,
              "message_id":"4194304000",
              "time_ms":1767225601000,
              "from":"bob",
              "own":false,
              "body":"hé\u001b[2J\nho"}
            {"event":"message",
              "conversation":"abababababababababababababababab",
              "seq":5,
              "client_message_id":"18446744073709551615",
              "message_id":"4194304000",
              "time_ms":1767225601000,
              "from":"alice",
              "own":true,
              "body":""}
            {"event":"message",
              "conversation":"abababababababababababababababab",
              "seq":6,
              "message_id":"4194304000",
              "time_ms":1767225601000,
              "from":"bob",
              "own":false,
              "body":"�\u0000",
              "body_base64":"/wA="}
            {"event":"delivered",
              "conversation":"abababababababababababababababab",
              "seq":3,
              "up_to":3}
            {"event":"read",
              "conversation":"abababababababababababababababab",
              "seq":3,
              "up_to":3}
            {"event":"error",
              "code":"too_large",
              "text":"too long",
              "fatal":false}
            {"event":"error",
              "code":"replaced",
              "text":"elsewhere",
              "fatal":true}
        "#]]
        .assert_eq(&all(true).replace(",\"", ",\n  \""));
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
        "#]]
        .assert_eq(&all(false));
    }

    #[test]
    fn only_what_others_wrote_counts_as_seen() {
        let mut renderer = Renderer::new(true, UserId::new("alice").unwrap());
        let seen: Vec<_> = events()
            .iter()
            .filter_map(|event| renderer.event(event).seen)
            .map(|s| s.seq.0)
            .collect();
        assert_eq!(seen, [4, 6]);
    }
}
