//! Answers as a person reads them.

use super::json_answers::{About, audience, device_text, kind, unread};
use super::json_records::role;
use super::plain::{presences, record, time};
use super::render::printable;
use super::shown::Eyes;
use roost_client::Answer;
use roost_protocol::ids::ConversationId;
use roost_protocol::wire;
use std::fmt::Write;

/// The lines of an answer.
pub(super) fn answer(about: &About, answer: &Answer, eyes: &Eyes<'_>) -> String {
    match answer {
        Answer::Done => format!("* {}: done\n", about.command),
        Answer::Devices(list) => lines(&list.devices, false, |device| device_line(device, eyes)),
        Answer::Blocks(list) => blocks(list),
        Answer::Conversations(list) if list.entries.is_empty() => {
            "* there is no conversation\n".to_owned()
        }
        Answer::Conversations(list) => {
            lines(&list.entries, list.more, |entry| entry_line(entry, eyes))
        }
        Answer::GroupCreated { conversation, .. } => {
            format!("* {} is there: {conversation}\n", text(&eyes.names.title(*conversation)))
        }
        Answer::Description(description) => description_line(description),
        Answer::Members(list) => lines(&list.members, list.more, member_line),
        Answer::Receipts(reply) if reply.members.is_empty() => "* nobody else\n".to_owned(),
        Answer::Receipts(reply) => {
            lines(&reply.members, reply.more, |receipt| receipt_line(receipt, about, eyes))
        }
        Answer::Presence(reply) => presences(&reply.presences),
        Answer::History(page) => {
            let Some(id) = about.conversation else { return String::new() };
            let newest_first = page.messages.iter().rev();
            newest_first.map(|message| record(&eyes.record(id, message), eyes, Some(id))).collect()
        }
        Answer::UserDevices(_) => String::new(),
    }
}

/// Whom the user blocked, and with the last of them the settings.
fn blocks(list: &wire::BlockList) -> String {
    let mut shown = lines(&list.users, list.more, |user| format!("{} is blocked", text(user)));
    if list.users.is_empty() {
        shown.push_str("* nobody is blocked\n");
    }
    if let Some(privacy) = list.privacy.as_ref().filter(|_| !list.more) {
        let switch = |on| if on { "on" } else { "off" };
        let (contacts_only, read_receipts) = (privacy.contacts_only(), privacy.read_receipts());
        writeln!(
            shown,
            "* presence {}, contacts-only {}, read-receipts {}",
            audience(privacy.presence()),
            switch(contacts_only),
            switch(read_receipts)
        )
        .expect("a string takes it");
    }
    shown
}

/// A line for each, with a star.
fn lines<T>(all: &[T], more: bool, line: impl Fn(&T) -> String) -> String {
    let mut text = String::new();
    for one in all {
        writeln!(text, "* {}", line(one)).expect("a string takes it");
    }
    if more {
        text.push_str("* and more\n");
    }
    text
}

fn text(text: &str) -> String {
    printable(text.as_bytes())
}

fn device_line(device: &wire::Device, eyes: &Eyes<'_>) -> String {
    let this = eyes.device.is_some_and(|own| own.0[..] == device.device[..]);
    let state = match (this, device.connected) {
        (true, _) => "this one".to_owned(),
        (false, true) => "connected".to_owned(),
        (false, false) => format!("last seen at {}", time(device.last_seen_ms)),
    };
    let name = if device.name.is_empty() { &device.client } else { &device.name };
    format!("{} {}, {state}", device_text(&device.device), text(name))
}

fn entry_line(entry: &wire::Entry, eyes: &Eyes<'_>) -> String {
    let id = ConversationId::from_slice(&entry.conversation);
    let title = match id {
        Some(id) if entry.peer.is_empty() => eyes.names.title(id),
        Some(_) | None => entry.peer.clone(),
    };
    let mut line = format!("{} {}", kind(entry.kind()), text(&title));
    let mut add = |wanted: bool, what: &str| {
        if wanted {
            write!(line, ", {what}").expect("a string takes it");
        }
    };
    let unread = unread(entry);
    add(unread > 0, &format!("{unread} unread"));
    add(entry.pinned > 0, &format!("pinned at {}", entry.pinned));
    add(entry.muted_until_ms > 0, "muted");
    add(entry.archived, "archived");
    add(entry.request, "from a stranger");
    add(entry.left, "left");
    if entry.peer.is_empty()
        && let Some(id) = id
    {
        write!(line, " ({id})").expect("a string takes it");
    }
    line
}

fn description_line(description: &wire::ConversationDescription) -> String {
    let own = description.own.as_ref().map_or_else(String::new, |own| {
        let gone = if own.left_seq > 0 { " (gone)" } else { "" };
        format!("; I am {}{gone}", role(own.role()))
    });
    let kind = kind(description.kind());
    let count = description.member_count;
    format!("* {kind} {}, {count} members{own}\n", text(&description.name))
}

fn member_line(member: &wire::Member) -> String {
    let gone = if member.left_seq > 0 { ", gone" } else { "" };
    format!("{}, {}{gone}", text(&member.user), role(member.role()))
}

fn receipt_line(receipt: &wire::MemberReceipt, about: &About, eyes: &Eyes<'_>) -> String {
    let name = about.conversation.and_then(|id| eyes.names.member(id, receipt.member));
    let name = name.map_or_else(|| format!("member {}", receipt.member), text);
    let seq = about.seq.map_or(0, |seq| seq.0);
    let since = |at: u64| if at == 0 { String::new() } else { format!(" by {}", time(at)) };
    if receipt.read >= seq {
        format!("{name} read it{}", since(receipt.read_at_ms))
    } else if receipt.delivered >= seq {
        format!("{name} has it{}", since(receipt.delivered_at_ms))
    } else {
        format!("{name} has not received it")
    }
}
