//! Who may reach whom.

use super::{refused, says, text, writes};
use crate::roost::{Setup, on_both_drivers};
use serde_json::{Value, json};

on_both_drivers! {
    fn the_blocked_reach_nobody_and_see_nothing(driver) {
        let mut house = Setup::new(driver).config("limits.presence_debounce_ms = 0\n").start();
        let mut ann = house.person("ann", "phone");
        let mut bob = house.person("bob", "phone");
        ann.asks("/open bob", "done");
        bob.asks("/open ann", "done");
        writes(&mut ann, "hello");
        says(&mut bob, "hello");
        let there = bob.asks("/presence ann", "presence");
        assert_eq!(there["presences"][0]["online"], true);
        ann.asks("/block bob", "done");
        ann.asks("/block bob", "done");
        assert_eq!(refused(&mut bob, "why"), "forbidden");
        assert_eq!(refused(&mut ann, "because"), "forbidden");
        let hidden = bob.asks("/presence ann", "presence");
        assert_eq!(
            json!([hidden["presences"][0]["online"], hidden["presences"][0]["last_seen_ms"]]),
            json!([false, 0])
        );
        assert_eq!(ann.asks("/blocks", "blocks")["users"], json!(["bob"]));
        // A block outlives a crash.
        house.kill();
        house.restart();
        for chat in [&mut ann, &mut bob] {
            chat.hears("caught_up");
        }
        assert_eq!(refused(&mut bob, "still"), "forbidden");
        assert_eq!(bob.asks("/history", "history")["messages"].as_array().unwrap().len(), 1);
        // Somebody nobody has seen may be blocked, and finds it so.
        ann.asks("/block eve", "done");
        let mut eve = house.person("eve", "phone");
        eve.asks("/open ann", "done");
        assert_eq!(refused(&mut eve, "hello"), "forbidden");
        ann.asks("/unblock eve", "done");
        ann.asks("/unblock bob", "done");
        ann.asks("/unblock bob", "done");
        assert_eq!(ann.asks("/blocks", "blocks")["users"], json!([]));
        assert_eq!(writes(&mut bob, "at last"), 2);
        says(&mut ann, "at last");
        assert_eq!(refused(&mut ann, "/block ann"), "invalid_request");
    }

    fn strangers_ask_those_who_want_only_contacts(driver) {
        let house = Setup::new(driver).start();
        let mut ann = house.person("ann", "phone");
        ann.asks("/open bob", "done");
        writes(&mut ann, "hello bob");
        ann.asks("/privacy contacts-only on", "done");
        let mut bob = house.person("bob", "phone");
        bob.asks("/open ann", "done");
        writes(&mut bob, "hello ann");
        says(&mut ann, "hello ann");
        let mut eve = house.person("eve", "phone");
        eve.asks("/open ann", "done");
        writes(&mut eve, "you do not know me");
        // It is shown apart, and nothing of it is unread; the app may look at what was said.
        let is_request = |event: &Value| event["event"] == "entry" && event["title"] == "eve";
        let asks = ann.next("a request", is_request);
        assert_eq!(json!([asks["request"], asks["unread"]]), json!([true, 0]));
        says(&mut ann, "you do not know me");
        writes(&mut bob, "again");
        says(&mut ann, "again");
        let list = ann.asks("/list", "list");
        let entries = list["entries"].as_array().unwrap();
        let of = |title: &str| entries.iter().find(|entry| entry["title"] == title).unwrap();
        assert_eq!(json!([of("eve")["request"], of("eve")["unread"]]), json!([true, 0]));
        assert_eq!(of("bob")["request"], false);
        // Ann has read it and is accepted to say so; until then Eve hears nothing.
        writes(&mut eve, "hello?");
        ann.asks("/open eve", "done");
        ann.asks("/accept", "done");
        eve.next("read tick", |event| event["event"] == "read");
        writes(&mut eve, "thank you");
        says(&mut ann, "thank you");
        // Two messages without a tick, then the ticks, then the third.
        let kinds = ["sent", "delivered", "read"];
        let events = eve.kill();
        let heard = events.iter().map(|event| text(&event["event"]));
        let mut heard: Vec<&str> = heard.filter(|kind| kinds.contains(kind)).collect();
        heard.truncate(4);
        assert_eq!(heard, ["sent", "sent", "delivered", "read"]);
    }
}
