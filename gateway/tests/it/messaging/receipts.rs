//! Who received and read what in a group.

use super::{says, text, writes};
use crate::roost::{Server, Setup, looks, on_both_drivers};
use crate::support::Chat;
use serde_json::Value;

/// Somebody who reads only when told to.
fn shy(house: &Server, user: &str) -> Chat {
    let mut chat = house.chat_of(user).args(&["--device", "phone", "--no-read"]).typing();
    chat.hears("caught_up");
    chat
}

/// The next tick that goes so far.
#[track_caller]
fn tick(chat: &mut Chat, kind: &str, up_to: u64) {
    chat.next(kind, |event| event["event"] == kind && event["up_to"].as_u64() >= Some(up_to));
}

/// The receipts of a message, by user, but for its author.
#[track_caller]
fn receipts(chat: &mut Chat, seq: u64) -> Vec<(String, bool, bool)> {
    let answer = chat.asks(&format!("/receipts {seq}"), "receipts");
    assert_eq!(answer["more"], false);
    let row = |of: &Value| {
        let has = |what: &str, at: &str| {
            let is = of[what].as_u64() >= Some(seq);
            assert!(!is || of[at].as_u64() > Some(1_700_000_000_000), "{of}");
            is
        };
        let (delivered, read) = (has("delivered", "delivered_at_ms"), has("read", "read_at_ms"));
        (text(&of["user"]).to_owned(), delivered, read)
    };
    let rows = answer["receipts"].as_array().unwrap().iter();
    rows.filter(|of| of["user"] != "ann").map(row).collect()
}

/// Asks until the receipts of a message are these: no event tells of single members.
#[track_caller]
fn receipts_become(chat: &mut Chat, seq: u64, expected: &[(String, bool, bool)]) {
    let mut last = Vec::new();
    let are_so = looks(|| {
        last = receipts(chat, seq);
        last == expected
    });
    assert!(are_so, "they stay {last:?}");
}

fn row(user: &str, delivered: bool, read: bool) -> (String, bool, bool) {
    (user.to_owned(), delivered, read)
}

on_both_drivers! {
    fn a_tick_in_a_group_means_all_of_it(driver) {
        let house = Setup::new(driver).start();
        let mut ann = house.person("ann", "phone");
        let mut bob = shy(&house, "bob");
        let created = ann.asks("/group create Three bob carol", "group_created");
        let group = text(&created["conversation"]).to_owned();
        let seq = writes(&mut ann, "listen");
        says(&mut bob, "listen");
        bob.asks(&format!("/open {group}"), "done");
        receipts_become(&mut ann, seq, &[row("bob", true, false), row("carol", false, false)]);
        let mut carol = shy(&house, "carol");
        tick(&mut ann, "delivered", seq);
        bob.asks(&format!("/read {seq}"), "done");
        receipts_become(&mut ann, seq, &[row("bob", true, true), row("carol", true, false)]);
        carol.asks(&format!("/open {group}"), "done");
        carol.asks(&format!("/read {seq}"), "done");
        tick(&mut ann, "read", seq);
        assert_eq!(receipts(&mut ann, seq), [row("bob", true, true), row("carol", true, true)]);
        // A device that never saw who was added asks, and shows names.
        let mut tablet = house.person("ann", "tablet");
        tablet.asks(&format!("/open {group}"), "done");
        assert_eq!(receipts(&mut tablet, seq), [row("bob", true, true), row("carol", true, true)]);
        // Whoever does not tell is not waited for, and not told of.
        carol.asks("/privacy read-receipts off", "done");
        let private = writes(&mut ann, "and this");
        says(&mut bob, "and this");
        says(&mut carol, "and this");
        tick(&mut ann, "delivered", private);
        carol.asks(&format!("/read {private}"), "done");
        bob.asks(&format!("/read {private}"), "done");
        tick(&mut ann, "read", private);
        let rows = receipts(&mut ann, private);
        assert_eq!(rows, [row("bob", true, true), row("carol", true, false)]);
        // A tick is a watermark: it only rises.
        let events = ann.kill();
        for kind in ["delivered", "read"] {
            let ticks: Vec<u64> = events
                .iter()
                .filter(|event| event["event"] == kind)
                .map(|event| event["up_to"].as_u64().unwrap())
                .collect();
            assert!(ticks.is_sorted(), "{kind}: {ticks:?}");
        }
    }
}
