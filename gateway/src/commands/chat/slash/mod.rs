//! Lines that begin with a slash: what they are called, what they take, what they mean. A line that
//! begins with two is a message that begins with one.

mod table;
mod words;

use roost_client::Peer;
use roost_protocol::ids::{ConversationId, DeviceId, KeyKind, Sequence, UserId};
use roost_protocol::request::{GroupChange, SetPrivacy, SignOut};
use std::fmt::Write;
use table::COMMANDS;
use words::Words;

/// A line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// A message, as it stands.
    Message(Vec<u8>),
    /// Something to do; how it is called.
    Do(&'static str, Slash),
    /// Nothing that we know: what was wrong, and how to write it.
    Wrong(String),
}

/// Something to do. What names no conversation is about the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slash {
    Reply { seq: Sequence, text: String },
    Edit { seq: Sequence, text: String },
    Delete { seq: Sequence },
    React { seq: Sequence, reaction: String },
    Forward { seq: Sequence, to: Peer },
    Group(GroupChange),
    Create { name: String, members: Vec<UserId>, channel: bool },
    Open(Peer),
    History { limit: usize },
    Watch { users: Vec<UserId>, stop: bool },
    Read { seq: Sequence },
    Typing { stopped: bool },
    Join { channel: Option<ConversationId>, leave: bool },
    WatchChannel { stop: bool },
    Post { text: String },
    Cipher { text: String },
    Ask(Question),
    Help,
    Quit,
}

/// Something to ask: one question, one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    Members,
    Info,
    List,
    /// For so many seconds; `None`: for ever.
    Mute {
        seconds: Option<u64>,
    },
    Unmute,
    Pin {
        place: u32,
    },
    Archive {
        archived: bool,
    },
    Hide {
        seqs: Vec<Sequence>,
    },
    Block {
        user: UserId,
        unblock: bool,
    },
    Blocks,
    Accept,
    Presence {
        users: Vec<UserId>,
    },
    Receipts {
        seq: Sequence,
    },
    Devices,
    /// `None`: this one.
    RenameDevice {
        device: Option<DeviceId>,
        name: String,
    },
    SignOut(SignOut),
    Privacy(SetPrivacy),
}

/// What a line means.
pub(super) fn read(line: Vec<u8>) -> Line {
    match line.strip_prefix(b"/") {
        None => Line::Message(line),
        Some(message) if message.starts_with(b"/") => Line::Message(message.to_vec()),
        Some(_) => std::str::from_utf8(&line)
            .map_or_else(|_| Line::Wrong("a command is text; try /help".to_owned()), command),
    }
}

fn command(line: &str) -> Line {
    let mut words = Words::new(line);
    let first = words.word().unwrap_or_default();
    let mut second = words;
    let two = format!("{first} {}", second.word().unwrap_or_default());
    let found = COMMANDS.iter().find(|command| command.name == two).map(|known| (known, second));
    let found = found.or_else(|| {
        COMMANDS.iter().find(|command| command.name == first).map(|known| (known, words))
    });
    let Some((known, mut words)) = found else {
        return Line::Wrong(format!("there is no command {first}; try /help"));
    };
    match (known.parse)(&mut words) {
        Some(slash) if words.is_over() => Line::Do(known.name, slash),
        _ => Line::Wrong(format!("write {} {}", known.name, known.takes)),
    }
}

/// All commands, a line each.
pub(super) fn help() -> String {
    let mut text = String::new();
    for command in COMMANDS {
        let line = format!("{} {}", command.name, command.takes);
        writeln!(text, "{line:<36} {}", command.says).expect("a string takes it");
    }
    text
}

/// A user, or the id of a conversation: 32 hexadecimal digits that name one.
pub(crate) fn peer(text: &str) -> Option<Peer> {
    match conversation(text) {
        Some(id) => Some(Peer::Conversation(id)),
        None => UserId::new(text).ok().map(Peer::User),
    }
}

fn conversation(text: &str) -> Option<ConversationId> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
    let id = ConversationId::from_u128(id);
    (id.kind() != KeyKind::User).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(line: &str) -> Line {
        read(line.as_bytes().to_vec())
    }

    fn done(line: &str) -> Slash {
        match meant(line) {
            Line::Do(_, slash) => slash,
            other @ (Line::Message(_) | Line::Wrong(_)) => panic!("{line}: {other:?}"),
        }
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn a_line_is_a_message_unless_it_begins_with_one_slash() {
        for (line, message) in [("", ""), (" /x", " /x"), ("//help", "/help"), ("///", "//")] {
            assert_eq!(meant(line), Line::Message(message.as_bytes().to_vec()));
        }
        assert_eq!(read(vec![0xff]), Line::Message(vec![0xff]));
        assert!(matches!(read(b"/\xff".to_vec()), Line::Wrong(_)));
        let Line::Wrong(said) = meant("/fly away") else { panic!("it flies") };
        assert_eq!(said, "there is no command /fly; try /help");
        let Line::Wrong(said) = meant("/edit x y") else { panic!("it edits") };
        assert_eq!(said, "write /edit SEQ TEXT");
        assert!(matches!(meant("/devices all"), Line::Wrong(_)), "too many words");
    }

    #[test]
    fn commands_take_what_help_says() {
        let seq = Sequence(7);
        let text = "so  it is".to_owned();
        assert_eq!(done("/reply 7 so  it is"), Slash::Reply { seq, text });
        assert_eq!(done("/react 7 🐦"), Slash::React { seq, reaction: "🐦".to_owned() });
        assert_eq!(done("/react 7"), Slash::React { seq, reaction: String::new() });
        let id = "00000000000000000000000000000002";
        let to = Peer::Conversation(ConversationId::from_u128(2));
        assert_eq!(done(&format!("/forward 7 {id}")), Slash::Forward { seq, to });
        assert_eq!(done("/open bob"), Slash::Open(Peer::User(user("bob"))));
        let members = vec![user("bob"), user("carol")];
        let name = "Bird watchers".to_owned();
        let create = Slash::Create { name, members: members.clone(), channel: false };
        assert_eq!(done("/group create \"Bird watchers\" bob carol"), create);
        assert_eq!(done("/group add bob carol"), Slash::Group(GroupChange::Add(members.clone())));
        assert_eq!(done("/group leave"), Slash::Group(GroupChange::Leave));
        let renamed = GroupChange::Rename("birds and bees".to_owned());
        assert_eq!(done("/group rename birds and bees"), Slash::Group(renamed));
        assert_eq!(done("/mute 2h"), Slash::Ask(Question::Mute { seconds: Some(7200) }));
        assert_eq!(done("/mute"), Slash::Ask(Question::Mute { seconds: None }));
        assert_eq!(done("/history"), Slash::History { limit: 20 });
        assert_eq!(
            done("/hide 1 2"),
            Slash::Ask(Question::Hide { seqs: vec![Sequence(1), Sequence(2)] })
        );
        assert_eq!(done("/sign-out others"), Slash::Ask(Question::SignOut(SignOut::AllOthers)));
        let privacy = SetPrivacy { read_receipts: Some(false), ..SetPrivacy::default() };
        assert_eq!(done("/privacy read-receipts off"), Slash::Ask(Question::Privacy(privacy)));
        assert_eq!(done("/watch bob carol"), Slash::Watch { users: members, stop: false });
        assert_eq!(done("/channel post hello"), Slash::Post { text: "hello".to_owned() });
        assert_eq!(done("/channel leave"), Slash::Join { channel: None, leave: true });
        for wrong in ["/group add", "/group", "/pin", "/pin x", "/hide", "/sign-out x", "/mute 1w"]
        {
            assert!(matches!(meant(wrong), Line::Wrong(_)), "{wrong}");
        }
    }

    #[test]
    fn help_lists_each_command_once() {
        let mut names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), help().lines().count()), (count, count));
        assert!(help().lines().all(|line| line.chars().count() <= 100), "{}", help());
    }
}
