//! The commands, in the order in which help lists them.

use super::words::Words;
use super::{Question, Slash, conversation, peer};
use crate::args::parse_ttl_s;
use roost_protocol::ids::{DeviceId, Sequence, UserId};
use roost_protocol::request::{GroupChange, SetPrivacy, SignOut};
use roost_protocol::wire::Audience;

/// What `/history` shows when nothing is said.
const HISTORY_DEFAULT: usize = 20;
/// What it shows at most.
const HISTORY_MAX: usize = 100;

/// One command.
pub(super) struct Command {
    /// With its slash; one word or two.
    pub(super) name: &'static str,
    /// What follows it.
    pub(super) takes: &'static str,
    /// What it does, for help.
    pub(super) says: &'static str,
    /// Nothing, when the words are wrong.
    pub(super) parse: fn(&mut Words<'_>) -> Option<Slash>,
}

macro_rules! commands {
    ($($name:literal $takes:literal $says:literal $parse:expr;)+) => {
        /// All of them.
        pub(super) const COMMANDS: &[Command] = &[$(
            Command { name: $name, takes: $takes, says: $says, parse: $parse },
        )+];
    };
}

commands! {
    "/reply" "SEQ TEXT" "answer a message" |w| Some(Slash::Reply { seq: seq(w)?, text: text(w)? });
    "/edit" "SEQ TEXT" "let an own message say something else"
        |w| Some(Slash::Edit { seq: seq(w)?, text: text(w)? });
    "/delete" "SEQ" "delete a message for all" |w| Some(Slash::Delete { seq: seq(w)? });
    "/react" "SEQ [EMOJI]" "react to a message; without EMOJI: take it back"
        |w| Some(Slash::React { seq: seq(w)?, reaction: w.text().to_owned() });
    "/forward" "SEQ USER|CONVERSATION" "say a message again elsewhere"
        |w| Some(Slash::Forward { seq: seq(w)?, to: peer(w.word()?)? });
    "/hide" "SEQ..." "delete messages for me"
        |w| Some(Slash::Ask(Question::Hide { seqs: seqs(w)? }));
    "/history" "[N]" "show the newest messages again" history;
    "/read" "SEQ" "tell that I have read so far (printing does, without --no-read)"
        |w| Some(Slash::Read { seq: seq(w)? });
    "/receipts" "SEQ" "who received and read a message"
        |w| Some(Slash::Ask(Question::Receipts { seq: seq(w)? }));
    "/typing" "[stop]" "tell that I type" |w| Some(Slash::Typing { stopped: option(w, "stop")? });
    "/list" "" "my conversations" |_| Some(Slash::Ask(Question::List));
    "/open" "USER|CONVERSATION" "write here from now on" |w| Some(Slash::Open(peer(w.word()?)?));
    "/mute" "[TIME]" "no sound from here, for 90s, 15m, 24h, 7d, or for ever" mute;
    "/unmute" "" "sound again" |_| Some(Slash::Ask(Question::Unmute));
    "/pin" "N" "keep this at place N of the list; 0: not"
        |w| Some(Slash::Ask(Question::Pin { place: number(w)? }));
    "/archive" "" "put this out of the way"
        |_| Some(Slash::Ask(Question::Archive { archived: true }));
    "/unarchive" "" "and back" |_| Some(Slash::Ask(Question::Archive { archived: false }));
    "/accept" "" "take a stranger's conversation into the list"
        |_| Some(Slash::Ask(Question::Accept));
    "/group create" "NAME USER..." "a new group, and write there" |w| create(w, false);
    "/group add" "USER..." "let them in" |w| Some(Slash::Group(GroupChange::Add(users(w)?)));
    "/group remove" "USER..." "put them out" |w| Some(Slash::Group(GroupChange::Remove(users(w)?)));
    "/group promote" "USER..." "make them admins"
        |w| Some(Slash::Group(GroupChange::Promote(users(w)?)));
    "/group demote" "USER..." "make them members"
        |w| Some(Slash::Group(GroupChange::Demote(users(w)?)));
    "/group transfer" "USER" "give the group away"
        |w| Some(Slash::Group(GroupChange::Transfer(user(w)?)));
    "/group rename" "NAME" "call it something else"
        |w| Some(Slash::Group(GroupChange::Rename(text(w)?)));
    "/group picture" "[REFERENCE]" "another picture, or none"
        |w| Some(Slash::Group(GroupChange::Picture(w.text().to_owned())));
    "/group leave" "" "go" |_| Some(Slash::Group(GroupChange::Leave));
    "/group dissolve" "" "end the group" |_| Some(Slash::Group(GroupChange::Dissolve));
    "/group members" "" "who is in, and was" |_| Some(Slash::Ask(Question::Members));
    "/group info" "" "name, size, my role" |_| Some(Slash::Ask(Question::Info));
    "/channel create" "NAME" "a new channel, and write there" |w| create(w, true);
    "/channel join" "CONVERSATION" "into a channel, and write there" |w| join(w, false);
    "/channel leave" "[CONVERSATION]" "out of it" |w| join(w, true);
    "/channel watch" "" "fetch what is said in it from now on"
        |_| Some(Slash::WatchChannel { stop: false });
    "/channel unwatch" "" "do not" |_| Some(Slash::WatchChannel { stop: true });
    "/channel post" "TEXT" "say something in it" |w| Some(Slash::Post { text: text(w)? });
    "/block" "USER" "hear nothing of somebody" |w| block(w, false);
    "/unblock" "USER" "hear of them again" |w| block(w, true);
    "/blocks" "" "whom I blocked" |_| Some(Slash::Ask(Question::Blocks));
    "/privacy" "" "who may see what, and whom I blocked" |_| Some(Slash::Ask(Question::Blocks));
    "/presence" "USER..." "who is there"
        |w| Some(Slash::Ask(Question::Presence { users: users(w)? }));
    "/watch" "USER..." "tell when they come and go"
        |w| Some(Slash::Watch { users: users(w)?, stop: false });
    "/unwatch" "USER..." "do not" |w| Some(Slash::Watch { users: users(w)?, stop: true });
    "/devices" "" "my devices" |_| Some(Slash::Ask(Question::Devices));
    "/rename-device" "this|DEVICE NAME" "call a device of mine something else" rename_device;
    "/sign-out" "DEVICE|others" "end a device of mine, or all others" sign_out;
    "/privacy presence" "everyone|contacts|nobody" "who sees that I am there" presence;
    "/privacy contacts-only" "on|off" "messages of strangers are requests" contacts_only;
    "/privacy read-receipts" "on|off" "others are told what I read" read_receipts;
    "/cipher" "TEXT" "send a ciphertext to each device (to test; no secrecy)"
        |w| Some(Slash::Cipher { text: text(w)? });
    "/help" "" "this" |_| Some(Slash::Help);
    "/quit" "" "leave when everything is answered" |_| Some(Slash::Quit);
}

fn seq(words: &mut Words<'_>) -> Option<Sequence> {
    words.word()?.parse().ok().map(Sequence)
}

fn seqs(words: &mut Words<'_>) -> Option<Vec<Sequence>> {
    let mut seqs = vec![seq(words)?];
    while !words.is_over() {
        seqs.push(seq(words)?);
    }
    Some(seqs)
}

fn number(words: &mut Words<'_>) -> Option<u32> {
    words.word()?.parse().ok()
}

fn text(words: &mut Words<'_>) -> Option<String> {
    let text = words.text();
    (!text.is_empty()).then(|| text.to_owned())
}

fn user(words: &mut Words<'_>) -> Option<UserId> {
    UserId::new(words.word()?).ok()
}

fn users(words: &mut Words<'_>) -> Option<Vec<UserId>> {
    let mut users = vec![user(words)?];
    while !words.is_over() {
        users.push(user(words)?);
    }
    Some(users)
}

/// Whether this word is there; nothing for another one.
fn option(words: &mut Words<'_>, name: &str) -> Option<bool> {
    match words.word() {
        None => Some(false),
        Some(word) => (word == name).then_some(true),
    }
}

fn history(words: &mut Words<'_>) -> Option<Slash> {
    let limit = match words.word() {
        None => HISTORY_DEFAULT,
        Some(word) => word.parse().ok().filter(|limit| (1..=HISTORY_MAX).contains(limit))?,
    };
    Some(Slash::History { limit })
}

fn mute(words: &mut Words<'_>) -> Option<Slash> {
    let seconds = match words.word() {
        None => None,
        Some(word) => Some(parse_ttl_s(word).ok()?),
    };
    Some(Slash::Ask(Question::Mute { seconds }))
}

fn create(words: &mut Words<'_>, channel: bool) -> Option<Slash> {
    let name = words.word()?.to_owned();
    let members = if words.is_over() { Vec::new() } else { users(words)? };
    Some(Slash::Create { name, members, channel })
}

fn join(words: &mut Words<'_>, leave: bool) -> Option<Slash> {
    let channel = match words.word() {
        None if leave => None,
        word => Some(conversation(word?)?),
    };
    Some(Slash::Join { channel, leave })
}

fn block(words: &mut Words<'_>, unblock: bool) -> Option<Slash> {
    Some(Slash::Ask(Question::Block { user: user(words)?, unblock }))
}

fn device(text: &str) -> Option<DeviceId> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u128::from_str_radix(text, 16).ok().filter(|_| is_hex)?;
    Some(DeviceId(id.to_be_bytes()))
}

fn rename_device(words: &mut Words<'_>) -> Option<Slash> {
    let device = match words.word()? {
        "this" => None,
        id => Some(device(id)?),
    };
    Some(Slash::Ask(Question::RenameDevice { device, name: words.text().to_owned() }))
}

fn sign_out(words: &mut Words<'_>) -> Option<Slash> {
    Some(Slash::Ask(Question::SignOut(match words.word()? {
        "others" => SignOut::AllOthers,
        id => SignOut::Device(device(id)?),
    })))
}

fn presence(words: &mut Words<'_>) -> Option<Slash> {
    let audience = match words.word()? {
        "everyone" => Audience::Everyone,
        "contacts" => Audience::Contacts,
        "nobody" => Audience::Nobody,
        _ => return None,
    };
    Some(Slash::Ask(Question::Privacy(SetPrivacy {
        presence: Some(audience),
        ..SetPrivacy::default()
    })))
}

fn switch(words: &mut Words<'_>) -> Option<bool> {
    match words.word()? {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn contacts_only(words: &mut Words<'_>) -> Option<Slash> {
    let contacts_only = Some(switch(words)?);
    Some(Slash::Ask(Question::Privacy(SetPrivacy { contacts_only, ..SetPrivacy::default() })))
}

fn read_receipts(words: &mut Words<'_>) -> Option<Slash> {
    let read_receipts = Some(switch(words)?);
    Some(Slash::Ask(Question::Privacy(SetPrivacy { read_receipts, ..SetPrivacy::default() })))
}
