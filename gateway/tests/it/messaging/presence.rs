//! Who is there, and who types.

use super::{says, text, writes};
use crate::roost::{Setup, on_both_drivers};
use crate::support::Chat;
use serde_json::{Value, json};

/// The next push about a user who is watched.
#[track_caller]
fn comes_or_goes(chat: &mut Chat, user: &str, online: bool) -> Value {
    let event = chat.next("presence", |event| {
        let presence = &event["presences"][0];
        event["event"] == "presence" && presence["user"] == user && presence["online"] == online
    });
    event["presences"][0].clone()
}

fn asked(chat: &mut Chat, user: &str) -> (bool, bool) {
    chat.types(&format!("/presence {user}"));
    let answer = chat.next("an answer", |event| event["command"] == "/presence");
    let presence = &answer["presences"][0];
    assert_eq!(presence["user"], user);
    (presence["online"] == true, presence["last_seen_ms"] != 0)
}

on_both_drivers! {
    fn they_come_and_go(driver) {
        let house = Setup::new(driver).config("limits.presence_debounce_ms = 0\n").start();
        let mut ann = house.person("ann", "phone");
        ann.asks("/open bob", "done");
        writes(&mut ann, "hello");
        assert_eq!(asked(&mut ann, "bob"), (false, false));
        ann.asks("/watch bob", "done");
        comes_or_goes(&mut ann, "bob", false);
        let mut bob = house.person("bob", "phone");
        comes_or_goes(&mut ann, "bob", true);
        assert!(asked(&mut ann, "bob").0);
        // Another device of his changes nothing; the last one to go does.
        let tablet = house.person("bob", "tablet");
        drop(tablet);
        bob.types("/quit");
        let gone = comes_or_goes(&mut ann, "bob", false);
        assert!(gone["last_seen_ms"].as_u64() > Some(1_700_000_000_000), "{gone}");
        assert_eq!(asked(&mut ann, "bob"), (false, true));
        // His connection ends before his chat does, which gives its state to the next one.
        bob.finish();
        // A group they share serves as well, and who may not be seen looks like nobody.
        let mut bob = house.person("bob", "phone");
        comes_or_goes(&mut ann, "bob", true);
        bob.asks("/privacy presence nobody", "done");
        assert_eq!(asked(&mut ann, "bob"), (false, false));
        bob.asks("/privacy presence contacts", "done");
        assert!(asked(&mut ann, "bob").0);
        let mut eve = house.person("eve", "phone");
        assert_eq!(asked(&mut eve, "bob"), (false, false), "she is no contact");
        bob.asks("/privacy presence everyone", "done");
        assert!(asked(&mut eve, "bob").0);
        let created = bob.asks("/group create Us eve", "group_created");
        let group = text(&created["conversation"]).to_owned();
        bob.asks("/privacy presence contacts", "done");
        assert!(!asked(&mut eve, "bob").0);
        eve.asks(&format!("/open {group}"), "done");
        assert!(asked(&mut eve, "bob").0, "seen from the group");
        ann.asks("/unwatch bob", "done");
        assert_eq!(asked(&mut ann, "nobody-is-called-so"), (false, false));
    }

    fn they_type(driver) {
        let house = Setup::new(driver).start();
        let mut ann = house.person("ann", "phone");
        let mut tablet = house.person("ann", "tablet");
        let mut bob = house.person("bob", "phone");
        ann.asks("/open bob", "done");
        writes(&mut ann, "wait");
        says(&mut bob, "wait");
        ann.asks("/typing", "done");
        let types = bob.hears("typing");
        assert_eq!(json!([types["from"], types["stopped"]]), json!(["ann", false]));
        ann.asks("/typing stop", "done");
        assert_eq!(bob.hears("typing")["stopped"], true);
        let created = ann.asks("/group create Two bob", "group_created");
        let group = text(&created["conversation"]).to_owned();
        writes(&mut ann, "here");
        says(&mut bob, "here");
        ann.asks("/typing", "done");
        let types = bob.hears("typing");
        assert_eq!(
            json!([types["conversation"], types["from"], types["member"]]),
            json!([group, "ann", 1])
        );
        // Not to one's own devices, and not to who is blocked.
        bob.asks("/block ann", "done");
        says(&mut tablet, "here");
        let seen = tablet.kill();
        assert!(seen.iter().all(|event| event["event"] != "typing"), "{seen:?}");
    }
}
