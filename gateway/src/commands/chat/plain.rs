//! Records and pushes as a person reads them. Every line of a record begins with its `seq`, which
//! the commands take.

use super::render::printable;
use super::shown::{Eyes, Shown, What, change_text};
use roost_protocol::ids::ConversationId;
use roost_protocol::request::GroupChange;
use roost_protocol::wire::{self, MemberRole, group_change::Change};

/// The lines of a record; `current`: the conversation the person writes in.
pub(super) fn record(
    shown: &Shown<'_>,
    eyes: &Eyes<'_>,
    current: Option<ConversationId>,
) -> String {
    let seq = shown.seq;
    let place = place(shown.conversation, eyes, current);
    let who = who(shown);
    match &shown.what {
        What::Message { body, forwarded, encrypted } => {
            let reply = match shown.reply_to {
                0 => String::new(),
                to => format!("(to {to}) "),
            };
            let forwarded = if forwarded.is_some() { "(forwarded) " } else { "" };
            let encrypted = if *encrypted { "(encrypted) " } else { "" };
            format!("{seq} {place}{who}: {reply}{forwarded}{encrypted}{}\n", printable(body))
        }
        What::Edit { target, body } => {
            format!("{seq} {place}{who} edits {target}: {}\n", printable(body))
        }
        What::Delete { target } => format!("{seq} {place}{who} deletes {target}\n"),
        What::Reaction { target, reaction: "" } => {
            format!("{seq} {place}{who} takes back the reaction to {target}\n")
        }
        What::Reaction { target, reaction } => {
            format!("{seq} {place}{who} reacts to {target}: {}\n", printable(reaction.as_bytes()))
        }
        What::System(system) => {
            format!("{seq} {place}* {}\n", printable(change(system, &who).as_bytes()))
        }
        What::Unreadable => format!("{seq} {place}{who}: (not for this device)\n"),
    }
}

/// Where it was said, unless the person looks there.
pub(super) fn place(
    id: ConversationId,
    eyes: &Eyes<'_>,
    current: Option<ConversationId>,
) -> String {
    // A direct conversation is named by who writes in it.
    if current == Some(id) || id.kind() == roost_protocol::ids::KeyKind::Direct {
        return String::new();
    }
    format!("[{}] ", printable(eyes.names.title(id).as_bytes()))
}

fn who(shown: &Shown<'_>) -> String {
    let name = shown.from.as_ref().map(|name| printable(name.as_bytes()));
    match name {
        Some(name) if shown.own => format!("{name} (elsewhere)"),
        Some(name) => name,
        None if shown.member != 0 => format!("member {}", shown.member),
        None => "somebody".to_owned(),
    }
}

/// What happened to a group, as a sentence.
fn change(system: &wire::SystemMessage, who: &str) -> String {
    let people = || {
        // Whoever creates a group is its first member.
        let others = system.members.iter().filter(|of| !system.created || of.member != 1);
        others.map(|member| member.user.as_str()).collect::<Vec<_>>().join(", ")
    };
    let asked = system.change.as_ref().and_then(|change| change.change.as_ref());
    let text = change_text(system).unwrap_or_default();
    match asked {
        None if system.created => format!("{who} created this with {}", people()),
        None => format!("{who} changed something"),
        Some(Change::Rename(_)) => format!("{who} called this {text}"),
        Some(Change::Picture(_)) => format!("{who} changed the picture"),
        Some(Change::Add(_)) => format!("{who} added {}", people()),
        Some(Change::Remove(_)) => format!("{who} removed {}", people()),
        Some(Change::Leave(_)) => match new_owner(system) {
            Some(owner) => format!("{who} left; this is {owner}'s now"),
            None => format!("{who} left"),
        },
        Some(Change::Promote(_)) => format!("{who} made {} admin", people()),
        Some(Change::Demote(_)) => format!("{who} made {} member", people()),
        Some(Change::Transfer(_)) => {
            format!("{who} gave this to {}", new_owner(system).unwrap_or("somebody"))
        }
        Some(Change::Dissolve(_)) => format!("{who} dissolved this"),
    }
}

fn new_owner(system: &wire::SystemMessage) -> Option<&str> {
    let owns = |member: &&wire::Member| member.role() == MemberRole::Owner && member.left_seq == 0;
    system.members.iter().find(owns).map(|member| member.user.as_str())
}

/// What an own change of a group is called until it is done.
pub(super) fn own_change(change: &GroupChange) -> String {
    let names = |users: &[roost_protocol::ids::UserId]| {
        users.iter().map(|user| user.as_str()).collect::<Vec<_>>().join(", ")
    };
    match change {
        GroupChange::Rename(name) => format!("called {name}"),
        GroupChange::Picture(_) => "another picture".to_owned(),
        GroupChange::Add(users) => format!("added {}", names(users)),
        GroupChange::Remove(users) => format!("removed {}", names(users)),
        GroupChange::Leave => "left".to_owned(),
        GroupChange::Promote(users) => format!("promoted {}", names(users)),
        GroupChange::Demote(users) => format!("demoted {}", names(users)),
        GroupChange::Transfer(user) => format!("given to {user}"),
        GroupChange::Dissolve => "dissolved".to_owned(),
    }
}

/// Users who came or went.
pub(super) fn presences(presences: &[wire::Presence]) -> String {
    let line = |presence: &wire::Presence| {
        let user = printable(presence.user.as_bytes());
        match (presence.online, presence.last_seen_ms) {
            (true, _) => format!("* {user} is there\n"),
            (false, 0) => format!("* {user} is not there\n"),
            (false, seen) => format!("* {user} is not there, last seen at {}\n", time(seen)),
        }
    };
    presences.iter().map(line).collect()
}

/// A time of day, UTC, as people write it.
pub(super) fn time(ms: u64) -> String {
    let days = i64::try_from(ms / 86_400_000).unwrap_or(0);
    let (year, month, day) = date(days);
    let minutes = ms / 60_000 % 1440;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// The date so many days after 1970-01-01: years begin in March, so that the leap day is last.
const fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00 UTC");
        assert_eq!(time(1_767_225_600_000), "2026-01-01 00:00 UTC");
        assert_eq!(time(951_827_640_000), "2000-02-29 12:34 UTC");
        assert_eq!(time(1_709_251_199_999), "2024-02-29 23:59 UTC");
    }
}
