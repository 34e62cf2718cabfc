//! Edits, deletions, reactions, replies, forwards: whoever comes late sees what the others see.

use super::{record, refused, says, text, writes};
use crate::roost::{Setup, on_both_drivers};
use crate::support::of;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a message looks like in the end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Looks {
    text: String,
    is_deleted: bool,
    reactions: BTreeMap<String, String>,
}

/// What somebody sees who was shown these records.
fn folded(events: &[Value]) -> BTreeMap<u64, Looks> {
    let mut all: BTreeMap<u64, Looks> = BTreeMap::new();
    for event in events {
        let seq = event["seq"].as_u64().unwrap_or(0);
        let target = event["target"].as_u64().unwrap_or(0);
        match text(&event["event"]) {
            "message" => {
                let text = text(&event["body"]).to_owned();
                all.insert(seq, Looks { text, ..Looks::default() });
            }
            "edited" => text(&event["body"]).clone_into(&mut all.get_mut(&target).unwrap().text),
            "deleted" => all.get_mut(&target).unwrap().is_deleted = true,
            "reacted" => {
                let (who, reaction) = (text(&event["from"]), text(&event["reaction"]));
                let reactions = &mut all.get_mut(&target).unwrap().reactions;
                reactions.insert(who.to_owned(), reaction.to_owned());
                reactions.retain(|_, reaction| !reaction.is_empty());
            }
            _ => {}
        }
    }
    all
}

on_both_drivers! {
    fn edits_deletions_and_reactions_converge_on_a_late_device(driver) {
        let house = Setup::new(driver).start();
        let mut ann = house.person("ann", "phone");
        let mut bob = house.person("bob", "phone");
        let mut carol = house.person("carol", "phone");
        ann.asks("/open bob", "done");
        bob.asks("/open ann", "done");
        for line in ["one", "two", "three", "//four"] {
            writes(&mut ann, line);
        }
        let first = says(&mut bob, "one");
        assert_eq!(text(&says(&mut bob, "/four")["from"]), "ann");
        let id = text(&first["conversation"]).to_owned();
        writes(&mut ann, "/edit 1 uno");
        writes(&mut ann, "/edit 1 eins");
        let edited = record(&mut bob, "edited", &id);
        assert_eq!(json!([edited["target"], edited["body"]]), json!([1, "uno"]));
        writes(&mut ann, "/delete 2");
        writes(&mut ann, "/delete 2");
        assert_eq!(record(&mut bob, "deleted", &id)["target"], 2);
        for line in ["/react 1 🐦", "/react 1 +", "/react 3 !", "/react 3", "/react 4 :)"] {
            writes(&mut bob, line);
        }
        assert_eq!(record(&mut ann, "reacted", &id)["reaction"], "🐦");
        let reply = writes(&mut bob, "/reply 1 I see");
        assert_eq!((says(&mut ann, "I see")["seq"].clone(), reply), (reply.into(), reply));
        // What one may not, and what is not there.
        assert_eq!(refused(&mut bob, "/edit 1 mine"), "forbidden");
        assert_eq!(refused(&mut bob, "/delete 1"), "forbidden");
        for line in ["/edit 5 x", "/react 6 x", "/delete 99", "/react 99 x"] {
            assert_eq!(refused(&mut ann, line), "not_found", "{line}");
        }
        assert_eq!(refused(&mut bob, "/reply 99 x"), "invalid_request");
        writes(&mut ann, "/forward 4 carol");
        let heard = says(&mut carol, "/four");
        assert_eq!(
            json!([heard["forwarded"]["seq"], heard["forwarded"]["conversation"]]),
            json!([4, id])
        );
        // Whoever comes after a crash is shown all of it, and comes to the same.
        let house = house.start_again();
        let late: Vec<Vec<Value>> = ["ann", "bob"]
            .map(|user| {
                // What is owed from before the crash may be told after it has caught up.
                let mut chat = house.chat_of(user).args(&["--device", "late"]).typing();
                says(&mut chat, "I see");
                chat.kill()
            })
            .into_iter()
            .collect();
        let expected = [
            (1, "eins", false, &[("bob", "+")][..]),
            (2, "two", true, &[]),
            (3, "three", false, &[]),
            (4, "/four", false, &[("bob", ":)")]),
            (reply, "I see", false, &[]),
        ];
        for events in &late {
            let events: Vec<Value> =
                events.iter().filter(|event| event["conversation"] == id).cloned().collect();
            let looks = folded(&events);
            for (seq, said, is_deleted, reactions) in &expected {
                let (text, own) = ((*said).to_owned(), |name: &str| name.to_owned());
                let reactions = reactions.iter().map(|(who, what)| (own(who), own(what)));
                let reactions = reactions.collect();
                let is_deleted = *is_deleted;
                assert_eq!(looks[seq], Looks { text, is_deleted, reactions }, "{seq}");
            }
            assert_eq!(looks.len(), expected.len());
            let replies: Vec<&Value> =
                of("message", &events).filter(|event| event["reply_to"] == 1).collect();
            assert_eq!(replies.len(), 1);
        }
    }
}
