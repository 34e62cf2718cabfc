//! A group from its beginning to its end.

use super::{change, record, refused, roles, says, shown, text, writes};
use crate::roost::{Setup, on_both_drivers};
use crate::support::Chat;
use serde_json::json;

on_both_drivers! {
    fn a_groups_life_with_four_people_and_a_crash(driver) {
        let mut house = Setup::new(driver).start();
        let [mut ann, mut bob, mut carol] =
            ["ann", "bob", "carol"].map(|user| house.person(user, "phone"));
        let created = ann.asks("/group create \"Bird watchers\" bob carol", "group_created");
        let group = text(&created["conversation"]).to_owned();
        for chat in [&mut bob, &mut carol] {
            let created = change(chat, "created", &group);
            assert_eq!(json!([created["seq"], created["from"]]), json!([1, "ann"]));
            assert_eq!(created["members"].as_array().unwrap().len(), 3);
        }
        assert_eq!(writes(&mut ann, "who is here?"), 2);
        for chat in [&mut bob, &mut carol] {
            let asked = says(chat, "who is here?");
            assert_eq!(json!([asked["from"], asked["own"]]), json!(["ann", false]));
            chat.asks(&format!("/open {group}"), "done");
        }
        writes(&mut bob, "me");
        assert_eq!(says(&mut carol, "me")["from"], "bob");
        // Dora is let in before anybody has seen her.
        writes(&mut ann, "/group add dora");
        let added = change(&mut bob, "added", &group);
        assert_eq!(added["members"][0]["user"], "dora");
        let joined = added["seq"].as_u64().unwrap();
        // The server dies; everybody comes back, and Dora comes.
        house.kill();
        for chat in [&mut ann, &mut bob, &mut carol] {
            chat.hears("disconnected");
        }
        house.restart();
        for chat in [&mut ann, &mut bob, &mut carol] {
            chat.hears("caught_up");
        }
        writes(&mut carol, "still here");
        says(&mut ann, "still here");
        says(&mut bob, "still here");
        let mut dora = house.person("dora", "phone");
        dora.asks(&format!("/open {group}"), "done");
        rights_are_kept(&group, &mut ann, &mut bob, &mut carol, &mut dora);
        let history = dora.asks("/history 100", "history");
        let seqs = history["messages"].as_array().unwrap().iter().map(|of| of["seq"].as_u64());
        assert_eq!(seqs.min().flatten(), Some(joined), "nothing from before she came");
        // Everybody was shown the same, each what was theirs to see, in order and once.
        let all = [ann, bob, carol, dora].map(|chat| shown(&chat.kill(), &group));
        for (at, one) in all.iter().enumerate() {
            assert!(one.is_sorted_by(|left, right| left.0 < right.0), "{one:?}");
            for (seq, said) in one {
                let others = all.iter().flatten().filter(|(other, _)| other == seq);
                assert!(others.clone().all(|(_, other)| other == said), "{at}: {seq}");
            }
        }
    }
}

/// Roles come and go, and each may what the table says.
fn rights_are_kept(group: &str, ann: &mut Chat, bob: &mut Chat, carol: &mut Chat, dora: &mut Chat) {
    assert_eq!(refused(bob, "/group remove carol"), "forbidden");
    assert_eq!(refused(bob, "/group transfer bob"), "forbidden");
    assert_eq!(refused(ann, "/group promote eve"), "not_found");
    assert_eq!(refused(ann, "/group add bob"), "invalid_request");
    writes(ann, "/group promote bob");
    change(dora, "promoted", group);
    writes(bob, "/group remove carol");
    let removed = change(carol, "removed", group);
    assert_eq!(json!([removed["from"], removed["members"][0]["user"]]), json!(["bob", "carol"]));
    assert_eq!(refused(carol, "let me in"), "forbidden");
    writes(ann, "/group transfer bob");
    change(bob, "transferred", group);
    writes(ann, "/group leave");
    assert_eq!(change(dora, "left", group)["from"], "ann");
    assert_eq!(refused(ann, "is anybody there?"), "forbidden");
    let renamed = writes(bob, "/group rename Bees");
    assert_eq!(change(dora, "renamed", group)["text"], "Bees");
    let members = bob.asks("/group members", "members");
    let present = [("bob", "owner"), ("dora", "member")];
    let present = present.map(|(user, role)| (user.to_owned(), role.to_owned()));
    assert_eq!(roles(&members["members"]), present);
    assert_eq!(members["members"].as_array().unwrap().len(), 4);
    // Carol comes again and misses what was said meanwhile.
    let again = writes(bob, "/group add carol");
    assert_eq!(change(carol, "added", group)["seq"], again);
    writes(bob, "welcome back");
    says(carol, "welcome back");
    let history = carol.asks("/history 100", "history");
    let seqs: Vec<u64> = history["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["seq"].as_u64().unwrap())
        .collect();
    assert!(seqs.contains(&again) && !seqs.contains(&renamed), "{seqs:?}");
    let info = carol.asks("/group info", "info");
    assert_eq!(json!([info["info"]["name"], info["info"]["member_count"]]), json!(["Bees", 3]));
    writes(bob, "/group dissolve");
    change(dora, "dissolved", group);
    assert_eq!(refused(dora, "but why"), "forbidden");
    assert_eq!(refused(bob, "because"), "forbidden");
    assert_eq!(record(carol, "system", group)["change"], "dissolved");
}
