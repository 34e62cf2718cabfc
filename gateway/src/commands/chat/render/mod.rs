//! What the person, or a script, is told.

#[cfg(test)]
mod tests;

use super::json;
use super::json_answers::{self, About};
use super::json_records;
use super::names::Names;
use super::plain;
use super::plain_answers;
use super::shown::Eyes;
use super::state_entries::Seen;
use roost_client::{Answer, Event};
use roost_protocol::error::name;
use roost_protocol::ids::{ConversationId, DeviceId, UserId};
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

/// What was written, for its tick.
#[derive(Debug)]
struct Said {
    /// What it is, when it is no message.
    what: Option<&'static str>,
    /// Its start, for people.
    snippet: String,
}

/// Renders events.
#[derive(Debug)]
pub(super) struct Renderer {
    json: bool,
    me: UserId,
    /// This device, as the server calls it.
    pub(super) device: Option<DeviceId>,
    pub(super) names: Names,
    /// Where the person writes.
    pub(super) current: Option<ConversationId>,
    /// Own writes that have no tick yet, by tag.
    said: BTreeMap<u64, Said>,
    /// Whether the person knows that there is no connection.
    down_told: bool,
}

impl Renderer {
    pub(super) const fn new(json: bool, me: UserId, names: Names) -> Self {
        Self {
            json,
            me,
            device: None,
            names,
            current: None,
            said: BTreeMap::new(),
            down_told: false,
        }
    }

    /// Remembers an own write for its tick.
    pub(super) fn said(&mut self, tag: u64, what: Option<&'static str>, text: &[u8]) {
        if self.json && what.is_none() {
            return;
        }
        let snippet = printable(text).chars().take(SNIPPET_CHARS).collect();
        self.said.insert(tag, Said { what, snippet });
    }

    /// Something was not done.
    pub(super) fn failed(&self, command: Option<&str>, code: &str, text: &str) -> Rendered {
        let text = if self.json {
            json::failed(command, code, text)
        } else {
            let what = command.unwrap_or("not sent");
            format!("! {what}: {} ({code})\n", printable(text.as_bytes()))
        };
        Rendered { text, ..Rendered::default() }
    }

    /// A command without an answer was done.
    pub(super) fn done(&self, command: &str, conversation: Option<ConversationId>) -> Rendered {
        let text = if self.json { json::done(command, conversation) } else { String::new() };
        Rendered { text, ..Rendered::default() }
    }

    /// The list of commands.
    pub(super) fn help(&self, text: &str) -> Rendered {
        let text = if self.json { json::help(text) } else { text.to_owned() };
        Rendered { text, ..Rendered::default() }
    }

    /// The lines for an answer.
    pub(super) fn answer(&self, about: &About, answer: &Answer) -> Rendered {
        let eyes = self.eyes();
        let text = if self.json {
            json_answers::answer(about, answer, &eyes)
        } else {
            plain_answers::answer(about, answer, &eyes)
        };
        // Nothing else tells who has just made a group what its id is.
        let is_stored = matches!(answer, Answer::GroupCreated { .. });
        Rendered { text, is_stored, seen: None }
    }

    /// The lines for an event; `unread` is that of the entry, when it is about one.
    pub(super) fn event(&mut self, event: &Event, unread: u64) -> Rendered {
        self.names.learn_from(event);
        let said = if let Event::Accepted { tag, .. } | Event::Refused { tag, .. } = event {
            self.said.remove(tag)
        } else {
            None
        };
        let text = if self.json {
            self.json(event, said.and_then(|said| said.what), unread)
        } else {
            self.plain(event, said.as_ref())
        };
        let is_stored = matches!(
            event,
            Event::Accepted { .. }
                | Event::Refused { .. }
                | Event::Message { .. }
                | Event::Record { .. }
                | Event::Delivered { .. }
                | Event::Read { .. }
                | Event::Dropped { .. }
        );
        let seen = if let Event::Message { conversation, seq, own: false, .. } = event {
            Some(Seen { conversation: *conversation, seq: *seq })
        } else {
            None
        };
        Rendered { text, is_stored, seen }
    }

    const fn eyes(&self) -> Eyes<'_> {
        Eyes { me: &self.me, device: self.device, names: &self.names }
    }

    fn json(&self, event: &Event, what: Option<&str>, unread: u64) -> String {
        let eyes = self.eyes();
        if let Some(shown) = eyes.event(event) {
            return json::line_of(&json_records::record(&shown));
        }
        if let Event::EntryChanged(entry) = event {
            return json_answers::entry(entry, unread, &eyes);
        }
        if let Event::Presence(presences) = event {
            return json_answers::presences(presences);
        }
        if let Event::Typing { conversation, member, stopped } = event {
            let from = eyes.names.member(*conversation, *member);
            return json::typing(*conversation, from, *member, *stopped);
        }
        json::event(event, what)
    }

    fn plain(&mut self, event: &Event, said: Option<&Said>) -> String {
        let snippet = said.map(|said| said.snippet.as_str()).filter(|snippet| !snippet.is_empty());
        let eyes = self.eyes();
        if let Some(shown) = eyes.event(event) {
            return plain::record(&shown, &eyes, self.current);
        }
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
            Event::Accepted { seq, .. } => match snippet {
                Some(snippet) => format!("✓ {seq} {snippet}\n"),
                None => format!("✓ {seq}\n"),
            },
            Event::Refused { code, text, .. } => {
                let snippet = snippet.map(|snippet| format!(": {snippet}")).unwrap_or_default();
                let text = printable(text.as_bytes());
                format!("! not sent{snippet}: {text} ({})\n", name(*code))
            }
            Event::Delivered { conversation, up_to } => {
                format!("✓✓ {}{up_to}\n", plain::place(*conversation, &eyes, self.current))
            }
            Event::Read { conversation, up_to } => {
                format!("✓✓ {}{up_to} read\n", plain::place(*conversation, &eyes, self.current))
            }
            Event::Dropped { above, .. } => {
                format!("! the server was restored: what came after {above} is gone\n")
            }
            Event::Fatal { code, text } => {
                format!("! {} ({})\n", printable(text.as_bytes()), name(*code))
            }
            Event::Typing { conversation, member, stopped: false } => {
                let who = eyes.names.member(*conversation, *member).unwrap_or("somebody");
                let place = plain::place(*conversation, &eyes, self.current);
                format!("{place}* {} types\n", printable(who.as_bytes()))
            }
            Event::Presence(presences) => plain::presences(presences),
            Event::DevicesChanged { .. } => "* my devices changed: /devices\n".to_owned(),
            Event::EntryChanged(entry) if entry.request => {
                let who = printable(entry.peer.as_bytes());
                format!("* {who}, a stranger, wrote: /open {who}, then /accept or /block\n")
            }
            Event::Message { .. }
            | Event::Record { .. }
            | Event::EntryChanged(_)
            | Event::EncryptAgain { .. }
            | Event::Answer { .. }
            | Event::Typing { .. }
            | Event::Older { .. }
            | Event::CaughtUp => String::new(),
        }
    }
}

/// A text as a terminal may show it: nothing in it can move the cursor or change colours.
pub(super) fn printable(text: &[u8]) -> String {
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
