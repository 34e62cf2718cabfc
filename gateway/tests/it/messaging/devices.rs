//! Several devices of one user, and the list that all of them share.

use super::{refused, says, text, writes};
use crate::roost::{Setup, on_both_drivers, waits_until};
use crate::support::Chat;
use serde_json::{Value, json};

/// The next entry of a conversation that is so.
#[track_caller]
fn entry(chat: &mut Chat, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    chat.next("an entry", |event| {
        event["event"] == "entry" && event["conversation"] == id && is_so(event)
    })
}

/// Asks until the list is so long: what is owed from before a crash is told again, which may come
/// after the first question.
#[track_caller]
fn list_of(chat: &mut Chat, length: usize) -> Value {
    let mut list = Value::Null;
    waits_until("the list is whole", || {
        list = chat.asks("/list", "list");
        list["entries"].as_array().unwrap().len() == length
    });
    list
}

on_both_drivers! {
    fn own_messages_and_read_marks_cross_to_the_other_device(driver) {
        let house = Setup::new(driver).start();
        let mut bob = house.person("bob", "phone");
        bob.asks("/open ann", "done");
        let quiet = ["--device", "tablet", "--no-read"];
        let mut phone = house.chat_of("ann").args(&["--device", "phone", "--no-read"]).typing();
        let mut tablet = house.chat_of("ann").args(&quiet).typing();
        phone.hears("caught_up");
        tablet.hears("caught_up");
        writes(&mut bob, "one");
        writes(&mut bob, "two");
        let id = text(&says(&mut phone, "two")["conversation"]).to_owned();
        says(&mut tablet, "two");
        // Read here, so it is read there.
        phone.asks("/open bob", "done");
        phone.asks("/read 2", "done");
        let read = entry(&mut tablet, &id, |entry| entry["read"] == 2);
        assert_eq!(read["unread"], 0);
        bob.next("read tick", |event| event["event"] == "read" && event["up_to"] == 2);
        // Said here, so it is there, as one's own.
        let seq = writes(&mut phone, "three");
        let said = says(&mut tablet, "three");
        assert_eq!(json!([said["own"], said["from"], said["seq"]]), json!([true, "ann", seq]));
        writes(&mut bob, "four");
        says(&mut tablet, "four");
        says(&mut phone, "four");
        // A device that was away for that comes back to the same.
        let events = tablet.kill();
        assert!(events.iter().all(|event| event["event"] != "error"));
        phone.asks("/read 4", "done");
        let mut tablet = house.chat_of("ann").args(&quiet).typing();
        let back = entry(&mut tablet, &id, |entry| entry["read"] == 4);
        assert_eq!(back["unread"], 0);
    }

    fn the_list_and_its_settings_are_shared(driver) {
        let mut house = Setup::new(driver).start();
        let mut phone = house.person("ann", "phone");
        let mut tablet = house.person("ann", "tablet");
        let mut ids = Vec::new();
        for (user, line) in [("bob", "first"), ("carol", "second"), ("dora", "third")] {
            phone.asks(&format!("/open {user}"), "done");
            writes(&mut phone, line);
            ids.push(text(&says(&mut tablet, line)["conversation"]).to_owned());
        }
        // Newest first; something said brings a conversation up.
        phone.asks("/open bob", "done");
        writes(&mut phone, "again");
        // It is in the list when it was shown; the answer to its writer takes another way.
        says(&mut tablet, "again");
        let list = phone.asks("/list", "list");
        let titles: Vec<&str> =
            list["entries"].as_array().unwrap().iter().map(|of| text(&of["title"])).collect();
        assert_eq!(titles, ["bob", "dora", "carol"]);
        phone.asks("/mute 1h", "done");
        let muted = entry(&mut tablet, &ids[0], |entry| entry["muted_until_ms"] != 0);
        assert_eq!(json!([muted["archived"], muted["pinned"]]), json!([false, 0]));
        phone.asks("/pin 3", "done");
        entry(&mut tablet, &ids[0], |entry| entry["pinned"] == 3 && entry["muted_until_ms"] != 0);
        phone.asks("/open carol", "done");
        phone.asks("/archive", "done");
        entry(&mut tablet, &ids[1], |entry| entry["archived"] == true);
        phone.asks("/unarchive", "done");
        entry(&mut tablet, &ids[1], |entry| entry["archived"] == false);
        phone.asks("/archive", "done");
        phone.asks("/open bob", "done");
        phone.asks("/unmute", "done");
        entry(&mut tablet, &ids[0], |entry| entry["muted_until_ms"] == 0);
        phone.asks("/mute", "done");
        phone.asks("/hide 1", "done");
        entry(&mut tablet, &ids[0], |entry| entry["hidden"] == json!([1]));
        assert_eq!(refused(&mut phone, "/pin 1001"), "invalid_request");
        // What was answered outlives a crash, and a new device begins with it.
        house.kill();
        house.restart();
        phone.hears("caught_up");
        let mut late = house.chat_of("ann").args(&["--device", "late"]).typing();
        says(&mut late, "again");
        let list = list_of(&mut late, 3);
        let entries = list["entries"].as_array().unwrap();
        let of = |title: &str| entries.iter().find(|entry| entry["title"] == title).unwrap();
        assert_eq!(json!([of("bob")["muted_until_ms"], of("bob")["pinned"]]), json!([u64::MAX, 3]));
        assert_eq!(of("bob")["hidden"], json!([1]));
        assert_eq!(json!([of("carol")["archived"], of("dora")["archived"]]), json!([true, false]));
        let said = late.kill();
        let bodies = said.iter().map(|event| event["body"].clone());
        let bodies: Vec<Value> = bodies.filter(|body| !body.is_null()).collect();
        assert!(bodies.contains(&"again".into()) && !bodies.contains(&"first".into()));
    }
}
