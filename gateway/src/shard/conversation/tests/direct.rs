//! Two who talk: numbers, blocks, the versions of their devices.

use super::world::{World, body, device, direct, key, user};
use crate::shard::message::{
    DeliveredMark, Point, Recipients, Reply, ToConversation, ToMailbox, VersionTold,
};
use roost_protocol::ids::{ClientSequence, ConnectionNumber, ConversationId, Sequence};
use roost_protocol::request::{Ciphertext, Content, DeviceVersion, GroupChange, HistoryFrom};
use roost_protocol::wire::{ErrorClass, ErrorCode, message};

#[test]
fn nobody_is_shown_anything_before_the_flush() {
    let mut world = World::new();
    let submit = world.open_direct("ann", "bob", body("hello"));
    let request = submit.request;
    world.tell(ToConversation::Submit(Box::new(submit)));
    assert!(!world.is_answered(request));
    assert!(world.told.is_empty());
    world.flush();
    let Reply::Sent { point, conversation, .. } = world.answer(request) else { panic!("refused") };
    assert_eq!(point, Point { seq: Sequence(1), uncounted: 0 });
    assert_eq!(conversation, Some(direct("ann", "bob")));
    let delivers = world.take_delivers();
    let [deliver] = delivers.as_slice() else { panic!("once per shard: {delivers:?}") };
    let mut both = [key("ann"), key("bob")];
    both.sort();
    assert_eq!(deliver.recipients, Recipients::Two(both));
    assert_eq!(deliver.own_marks.as_slice(), [(key("ann"), point)]);
}

#[test]
fn a_duplicate_gets_the_originals_answer() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    let submit = world.draft("ann", id, body("once"));
    assert_eq!(world.submit(submit.clone()).unwrap(), 2);
    let again = crate::shard::message::Submit { request: world.next_request(), ..submit };
    world.take_told();
    assert_eq!(world.submit(again).unwrap(), 2);
    assert!(world.take_told().is_empty(), "nobody hears of it twice");
    assert_eq!(world.ctx.stats.duplicates_total, 1);
    // Also after it left memory and came back.
    let submit = world.draft("ann", id, body("twice"));
    assert_eq!(world.submit(submit.clone()).unwrap(), 3);
    world.evict_all();
    let again = crate::shard::message::Submit { request: world.next_request(), ..submit };
    assert_eq!(world.submit(again).unwrap(), 3);
}

#[test]
fn numbers_out_of_order_are_refused_and_change_nothing() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    let before = world.digest(id);
    let mut gap = world.draft("ann", id, body("too far"));
    gap.client_sequence = ClientSequence(7);
    let error = world.submit(gap).unwrap_err();
    assert_eq!((error.code(), error.expected_sequence), (ErrorCode::ErrorGap, 2));
    let mut used = world.draft("ann", id, body("used up"));
    used.client_sequence = ClientSequence(1);
    let error = world.submit(used).unwrap_err();
    let expected = (ErrorCode::ErrorSequenceConflict, 2, 1);
    assert_eq!((error.code(), error.expected_sequence, error.head), expected);
    let mut newer = world.draft("ann", id, body("by a newer connection"));
    newer.connection = ConnectionNumber(9);
    newer.client_sequence = ClientSequence(7);
    assert_eq!(world.submit(newer).unwrap_err().code(), ErrorCode::ErrorGap);
    let stale = world.draft("ann", id, body("by an old one"));
    assert_eq!(world.submit(stale).unwrap_err().code(), ErrorCode::ErrorStaleConnection);
    assert_eq!(world.digest(id), before);
}

#[test]
fn a_write_from_the_future_of_its_device_is_no_trouble() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    let mut submit = world.draft("ann", id, body("I have seen everything"));
    (submit.seen, submit.seen_uncounted) = (Sequence(u64::MAX), u64::MAX);
    assert_eq!(world.submit(submit).unwrap(), 2);
    let mark = world.active(id).members.list.iter().find(|m| m.user == key("ann")).unwrap();
    // It counts as what there was, of which at most all did not count.
    assert!(mark.own_mark.seq <= Sequence(1) && mark.own_mark.uncounted <= mark.own_mark.seq.0);
}

#[test]
fn only_a_first_write_opens_a_conversation() {
    let mut world = World::new();
    let id = direct("ann", "bob");
    assert_eq!(world.write("ann", id, body("hello")), Err(ErrorCode::ErrorUnknownConversation));
    // Its users must be those of the id.
    let mut wrong = world.open_direct("ann", "bob", body("hello"));
    wrong.peer_key = Some(key("cat"));
    assert_eq!(world.submit(wrong).unwrap_err().code(), ErrorCode::ErrorUnknownConversation);
    let mut late = world.open_direct("ann", "bob", body("the second"));
    late.client_sequence = ClientSequence(2);
    let error = world.submit(late).unwrap_err();
    assert_eq!((error.code(), error.expected_sequence), (ErrorCode::ErrorGap, 1));
    assert_eq!(world.conversations.len(), 0);
    assert_eq!(world.pair("ann", "bob"), id);
}

#[test]
fn what_is_only_for_groups_is_refused() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    let refused = Err(ErrorCode::ErrorInvalidRequest);
    assert_eq!(world.change("ann", id, GroupChange::Leave), refused);
    assert_eq!(world.change("bob", id, GroupChange::Rename("us".into())), refused);
    let mut reply = world.draft("bob", id, body("to what?"));
    reply.reply_to = Sequence(2);
    assert_eq!(world.submit(reply).unwrap_err().code(), ErrorCode::ErrorInvalidRequest);
    assert_eq!(world.write("bob", id, body("a refusal takes no number")), Ok(2));
}

// ---- blocks ----

fn confirmations(world: &mut World) -> Vec<u64> {
    let told = world.take_told().into_iter().filter_map(|told| match told {
        ToMailbox::BlockConfirmed(confirmed) => Some(confirmed.number),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_block_stops_both_until_it_is_taken_back() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    let told = world.draft("bob", id, body("before"));
    assert_eq!(world.submit(told.clone()).unwrap(), 2);
    world.block("ann", "bob", 4, true);
    assert_eq!((confirmations(&mut world), world.confirmed), (vec![4], 1));
    let forbidden = Err(ErrorCode::ErrorForbidden);
    assert_eq!(world.write("bob", id, body("may I?")), forbidden);
    assert_eq!(world.write("ann", id, body("unblock first")), forbidden);
    // A duplicate gets the original's answer all the same.
    let again = crate::shard::message::Submit { request: world.next_request(), ..told };
    assert_eq!(world.submit(again).unwrap(), 2);
    // An older record, told again, changes nothing and is confirmed.
    world.block("ann", "bob", 3, false);
    assert_eq!((confirmations(&mut world), world.confirmed), (vec![3], 2));
    assert_eq!(world.write("bob", id, body("still not")), forbidden);
    world.evict_all();
    assert_eq!(world.write("bob", id, body("nor now")), forbidden);
    world.block("ann", "bob", 5, false);
    assert_eq!(world.write("bob", id, body("thank you")), Ok(3));
}

#[test]
fn a_block_is_confirmed_when_it_is_durable() {
    let mut world = World::new();
    world.pair("ann", "bob");
    let mut users = [user("ann"), user("bob")];
    users.sort();
    let block = crate::shard::message::BlockTold {
        conversation: direct("ann", "bob"),
        users: Box::new(users),
        by: key("ann"),
        number: 1,
        blocked: true,
    };
    world.take_told();
    world.tell(ToConversation::BlockTold(block));
    assert!(confirmations(&mut world).is_empty());
    world.flush();
    assert_eq!(confirmations(&mut world), [1]);
}

#[test]
fn a_block_of_somebody_never_spoken_to_is_nobodys_business() {
    let mut world = World::new();
    let id = direct("ann", "bob");
    world.block("ann", "bob", 1, true);
    assert_eq!(confirmations(&mut world), [1]);
    let unknown = ErrorCode::ErrorUnknownConversation;
    assert_eq!(world.write("bob", id, body("hello?")), Err(unknown));
    assert_eq!(world.history("bob", id, HistoryFrom::Newest, 5).unwrap_err(), unknown);
    let first = world.open_direct("bob", "ann", body("hello"));
    assert_eq!(world.submit(first).unwrap_err().code(), ErrorCode::ErrorForbidden);
    // No entry is made of it, also not by telling it again.
    let mut world = world.crash();
    assert!(world.take_delivers().is_empty());
    world.block("ann", "bob", 2, false);
    let first = world.open_direct("bob", "ann", body("hello"));
    assert_eq!(world.submit(first).unwrap(), 1);
}

#[test]
fn taking_back_a_block_that_is_not_there_begins_nothing() {
    let mut world = World::new();
    world.block("ann", "bob", 1, false);
    assert_eq!((confirmations(&mut world), world.conversations.len()), (vec![1], 0));
    // A block that names others than its conversation is none.
    let mut users = [user("ann"), user("cat")];
    users.sort();
    world.owe(ToConversation::BlockTold(crate::shard::message::BlockTold {
        conversation: direct("ann", "bob"),
        users: Box::new(users),
        by: key("ann"),
        number: 2,
        blocked: true,
    }));
    assert_eq!((world.confirmed, world.conversations.len()), (2, 0));
}

#[test]
fn a_block_waits_for_room_on_the_disk() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    world.take_told();
    fill(&mut world, id);
    world.block("ann", "bob", 1, true);
    assert_eq!((confirmations(&mut world), world.confirmed), (vec![], 0));
    world.set_disk_full(false);
    for _ in 0..40 {
        world.pass_ms(100);
    }
    assert_eq!((confirmations(&mut world), world.confirmed), (vec![1], 1));
    assert_eq!(world.write("bob", id, body("?")), Err(ErrorCode::ErrorForbidden));
}

/// Writes until the disk takes no more.
fn fill(world: &mut World, id: ConversationId) {
    world.set_disk_full(true);
    let large = Content::Body(vec![0; 60_000].into());
    for _ in 0..3_000 {
        let submit = world.draft("ann", id, large.clone());
        world.tell(ToConversation::Submit(Box::new(submit.clone())));
        world.flush();
        if !world.is_answered(submit.request) {
            continue;
        }
        let answer = world.answer(submit.request);
        if let Reply::Error(error) = answer {
            assert_eq!(error.code(), ErrorCode::ErrorStorageFull);
            return;
        }
        world.accepted("ann", id);
    }
    panic!("the disk takes everything");
}

// ---- one ciphertext for each device ----

fn sealed(versions: &[(&str, u64)], to: &[(&str, u8, &str)]) -> Content {
    let ciphertexts = to.iter().map(|(name, number, text)| Ciphertext {
        user: user(name).1,
        device: device(*number),
        body: (*text).to_owned().into(),
    });
    let versions = versions
        .iter()
        .map(|(name, version)| DeviceVersion { user: user(name).1, version: *version });
    Content::ToDevices {
        ciphertexts: ciphertexts.collect(),
        key_message: false,
        versions: versions.collect(),
    }
}

fn version(world: &mut World, name: &str, version: u64) {
    let told = VersionTold { conversation: direct("ann", "bob"), user: key(name), version };
    world.owe(ToConversation::VersionTold(told));
}

#[test]
fn ciphertexts_must_be_for_the_devices_there_are() {
    let mut world = World::new();
    let first = world.open_direct("ann", "bob", sealed(&[("ann", 1), ("bob", 1)], &[]));
    let error = world.submit(first).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ErrorDevicesChanged);
    assert_eq!((error.class(), error.retry_after_ms), (ErrorClass::ClassRetry, 200));
    let versions: Vec<u64> = error.devices.iter().map(|known| known.version).collect();
    assert_eq!(versions, [0, 0]);
    let wanted: Vec<_> = world.take_told();
    assert!(matches!(
        wanted.as_slice(),
        [ToMailbox::VersionWanted(_), ToMailbox::VersionWanted(_)]
    ));
    version(&mut world, "ann", 3);
    version(&mut world, "bob", 1);
    version(&mut world, "bob", 2);
    assert_eq!(world.confirmed, 3);
    let stale = world.open_direct("ann", "bob", sealed(&[("ann", 3), ("bob", 1)], &[]));
    let error = world.submit(stale).unwrap_err();
    let known: Vec<_> = error.devices.iter().map(|v| (v.user.as_str(), v.version)).collect();
    let mut expected = [("ann", 3), ("bob", 2)];
    expected.sort_by_key(|(name, _)| key(name));
    assert_eq!((error.code(), known), (ErrorCode::ErrorDevicesChanged, expected.to_vec()));
    assert_eq!(error.retry_after_ms, 0, "they are known: nothing to wait for");
    // One of the two is not enough, nor is one twice.
    for versions in [&[("bob", 2)][..], &[("bob", 2), ("bob", 2)][..]] {
        let short = world.open_direct("ann", "bob", sealed(versions, &[]));
        assert_eq!(world.submit(short).unwrap_err().code(), ErrorCode::ErrorDevicesChanged);
    }
    let right = world.open_direct("ann", "bob", sealed(&[("ann", 3), ("bob", 2)], &[]));
    assert_eq!(world.submit(right).unwrap(), 1);
    // The versions are known after a crash, too.
    let mut world = world.crash();
    let right = world.draft("ann", direct("ann", "bob"), sealed(&[("bob", 2), ("ann", 3)], &[]));
    assert_eq!(world.submit(right).unwrap(), 2);
}

#[test]
fn a_version_that_does_not_come_is_asked_for_again_but_not_each_time() {
    let mut world = World::new();
    let asked = |world: &mut World| {
        let submit = world.open_direct("ann", "bob", sealed(&[("ann", 1), ("bob", 1)], &[]));
        assert_eq!(world.submit(submit).unwrap_err().code(), ErrorCode::ErrorDevicesChanged);
        world.take_told().len()
    };
    assert_eq!((asked(&mut world), asked(&mut world)), (2, 0));
    world.pass_ms(2_000);
    version(&mut world, "ann", 1);
    assert_eq!((asked(&mut world), asked(&mut world)), (1, 0));
}

#[test]
fn each_device_gets_its_own_ciphertext() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    version(&mut world, "ann", 1);
    version(&mut world, "bob", 1);
    world.take_told();
    let content = sealed(
        &[("ann", 1), ("bob", 1)],
        &[("bob", 1, "for one"), ("bob", 2, "for two"), ("ann", 2, "for her own")],
    );
    assert_eq!(world.write("ann", id, content), Ok(2));
    let delivers = world.take_delivers();
    let fresh = delivers[0].fresh.as_ref().unwrap();
    let pushed: Vec<_> =
        fresh.ciphertexts.iter().map(|(user, to, body)| (*user, *to, body)).collect();
    assert_eq!(pushed[1], (key("bob"), device(2), &"for two".into()));
    let mut ciphertext = |who: &str, on| {
        let page = world.history_on(who, on, id, HistoryFrom::Newest, 1).unwrap();
        match page.messages[0].content.clone() {
            Some(message::Content::Ciphertext(own)) => Some(own.body),
            None => None,
            other => panic!("not a ciphertext: {other:?}"),
        }
    };
    assert_eq!(ciphertext("bob", 2), Some("for two".into()));
    assert_eq!(ciphertext("ann", 2), Some("for her own".into()));
    assert_eq!(ciphertext("ann", 1), None, "the place is there, without content");
    assert_eq!(ciphertext("bob", 9), None);
}

#[test]
fn ciphertexts_are_for_the_two_and_keys_do_not_count() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    version(&mut world, "ann", 1);
    version(&mut world, "bob", 1);
    let versions = [("ann", 1), ("bob", 1)];
    let third = sealed(&versions, &[("cat", 1, "psst")]);
    assert_eq!(world.write("ann", id, third), Err(ErrorCode::ErrorInvalidRequest));
    let Content::ToDevices { ciphertexts, versions, .. } = sealed(&versions, &[("bob", 1, "key")])
    else {
        panic!("what else")
    };
    let keys = Content::ToDevices { ciphertexts, key_message: true, versions };
    assert_eq!(world.write("ann", id, keys), Ok(2));
    assert_eq!(world.active(id).head, Point { seq: Sequence(2), uncounted: 1 });
    let group = world.group(1, &["ann", "bob"]);
    let sealed = sealed(&[("ann", 1), ("bob", 1)], &[("bob", 1, "psst")]);
    assert_eq!(world.write("ann", group, sealed), Err(ErrorCode::ErrorInvalidRequest));
}

#[test]
fn marks_of_strangers_and_of_what_was_never_said_say_nothing() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    world.take_told();
    let before = world.digest(id);
    world.delivered("cat", id, 1);
    world.delivered("bob", id, 2);
    world.delivered("bob", id, u64::MAX);
    world.read("cat", id, 1);
    let nowhere = ConversationId::from_u128(key("ann").as_u128() | 1);
    world.tell(ToConversation::Delivered(DeliveredMark {
        conversation: nowhere,
        user: key("ann"),
        seq: Sequence(1),
    }));
    world.read("ann", nowhere, 1);
    assert!(world.take_told().is_empty());
    assert_eq!(world.confirmed, 2, "what is owed is confirmed all the same");
    assert_eq!(world.digest(id), before);
}
