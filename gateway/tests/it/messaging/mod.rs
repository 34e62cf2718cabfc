//! Everything people expect of a chat, through the real binary on both drivers: what one person
//! does at a terminal, others see at theirs.

mod blocks;
mod devices;
mod extensions;
mod groups;
mod guesses;
mod presence;
mod receipts;
mod records;

use crate::support::Chat;
use serde_json::Value;

/// The next record of a conversation, of this kind.
#[track_caller]
fn record(chat: &mut Chat, kind: &str, conversation: &str) -> Value {
    let what = format!("{kind} in {conversation}");
    chat.next(&what, |event| event["event"] == kind && event["conversation"] == conversation)
}

/// The next change of a group.
#[track_caller]
fn change(chat: &mut Chat, what: &str, group: &str) -> Value {
    chat.next(what, |event| {
        event["event"] == "system" && event["change"] == what && event["conversation"] == group
    })
}

/// The next message that says this.
#[track_caller]
fn says(chat: &mut Chat, body: &str) -> Value {
    chat.next(body, |event| event["event"] == "message" && event["body"] == body)
}

/// Types a line that is written, and waits for its place.
#[track_caller]
fn writes(chat: &mut Chat, line: &str) -> u64 {
    let sent = chat.asks(line, "sent");
    sent["seq"].as_u64().unwrap_or_else(|| panic!("{line}: {sent}"))
}

/// Types a line that is refused; gives the code.
#[track_caller]
fn refused(chat: &mut Chat, line: &str) -> String {
    chat.types(line);
    let error = chat.next(line, |event| ["error", "sent", "done"].contains(&text(&event["event"])));
    text(&error["code"]).to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The names in a list of members, with their roles; those who have gone left out.
fn roles(members: &Value) -> Vec<(String, String)> {
    let all = members.as_array().unwrap().iter();
    let present = all.filter(|member| member["left_seq"] == 0);
    present.map(|of| (text(&of["user"]).to_owned(), text(&of["role"]).to_owned())).collect()
}

/// What somebody was shown of a conversation: the seq, and all that must be the same for everybody.
fn shown(events: &[Value], conversation: &str) -> Vec<(u64, String)> {
    let kinds = ["message", "edited", "deleted", "reacted", "system"];
    let records = events.iter().filter(|event| {
        kinds.contains(&text(&event["event"])) && event["conversation"] == conversation
    });
    let same = |event: &Value| {
        let mut same = event.clone();
        for own in ["own", "client_message_id", "from"] {
            same.as_object_mut().unwrap().remove(own);
        }
        (event["seq"].as_u64().unwrap(), same.to_string())
    };
    records.map(same).collect()
}
