//! What is read back is what was: after each record, with and without snapshots, over crashes. And
//! what is told again.

use super::world::{World, body, device, direct, ids, key, user};
use crate::limits::Limits;
use crate::shard::context::Prng;
use crate::shard::message::{Point, Recipients, ToConversation, ToMailbox, VersionTold};
use roost_protocol::ids::{ConversationId, KeyKind, Sequence};
use roost_protocol::request::{Ciphertext, Content, DeviceVersion, GroupChange, HistoryFrom};

const NAMES: [&str; 6] = ["ann", "bob", "cat", "dan", "eve", "fay"];

/// Does something in a conversation; most of it is allowed.
fn act(world: &mut World, prng: &mut Prng, id: ConversationId, numbers: &mut u64) {
    let mut pick = |below: u64| prng.next() % below;
    let is_direct = id.kind() == KeyKind::Direct;
    let people = if is_direct { &NAMES[..2] } else { &NAMES[..] };
    let name = |n: u64| people[usize::try_from(n).unwrap() % people.len()];
    // Who may do most does most.
    let who = if pick(3) == 0 { name(pick(6)) } else { name(pick(2)) };
    let head = world.active(id).head.seq.0;
    let seq = Sequence(pick(head + 2));
    let content = match pick(20) {
        0 => Content::Edit { seq, body: "edited".into() },
        1 => Content::Delete { seq },
        2 => Content::Reaction { seq, reaction: "+".into() },
        3 => Content::Forward { conversation: id, seq, body: "passed on".into() },
        4 => Content::Group(GroupChange::Rename(format!("name {head}"))),
        5 => Content::Group(GroupChange::Picture(format!("picture {head}"))),
        6 | 7 => Content::Group(GroupChange::Add(ids(&[name(pick(6)), name(pick(6))]))),
        8 => Content::Group(GroupChange::Remove(ids(&[name(pick(6))]))),
        9 if pick(3) == 0 => Content::Group(GroupChange::Leave),
        10 => Content::Group(GroupChange::Promote(ids(&[name(pick(6))]))),
        11 => Content::Group(GroupChange::Demote(ids(&[name(pick(6))]))),
        12 => Content::Group(GroupChange::Transfer(user(name(pick(6))).1)),
        13 if is_direct => {
            let versions = ["ann", "bob"]
                .map(|name| DeviceVersion { user: user(name).1, version: 1 + pick(2) });
            let sealed = Ciphertext { user: user("bob").1, device: device(1), body: "x".into() };
            Content::ToDevices {
                ciphertexts: vec![sealed],
                key_message: pick(2) == 0,
                versions: versions.into(),
            }
        }
        14 | 15 => {
            let (seq, private) = (1 + pick(head + 1), pick(4) == 0);
            return world.read_as(who, id, seq, private);
        }
        16 if is_direct => {
            *numbers += 1;
            let other = if who == "ann" { "bob" } else { "ann" };
            return world.block(who, other, *numbers, pick(4) == 0);
        }
        17 if is_direct => {
            let told = VersionTold { conversation: id, user: key(who), version: 1 + pick(2) };
            return world.owe(ToConversation::VersionTold(told));
        }
        18 => return world.delivered(who, id, 1 + pick(head + 1)),
        _ => body("said"),
    };
    let mut submit = world.draft(who, id, content);
    submit.seen = Sequence(pick(head + 1));
    submit.seen_uncounted = submit.seen.0.min(pick(5));
    drop(world.submit(submit));
    if pick(5) == 0 {
        world.pass_ms(300);
    }
}

fn three(world: &mut World) -> [ConversationId; 3] {
    let pair = world.pair("ann", "bob");
    let group = world.group(1, &["ann", "bob", "cat", "dan"]);
    let channel = world.create(2, &["ann"], true);
    let id = channel.conversation;
    world.creates(channel).unwrap();
    [pair, group, id]
}

#[test]
fn at_every_prefix_what_is_read_back_is_what_was() {
    for seed in 0..12 {
        let mut world = World::with(1, Limits { snapshot_every_records: 1_000_000, ..limits() });
        let all = three(&mut world);
        let mut prng = Prng::seeded(seed);
        let (mut numbers, mut written) = (0, 0);
        for id in all {
            let mut states = vec![(world.records(id).len(), world.digest(id))];
            for _ in 0..120 {
                act(&mut world, &mut prng, id, &mut numbers);
                states.push((world.records(id).len(), world.digest(id)));
            }
            let records = world.records(id);
            written += records.len();
            for (length, state) in states {
                let again = world.digest_of(id, &records[..length]).expect("it began");
                assert!(again == state, "seed {seed}: {id} after {length} records");
            }
            assert!(world.digest_of(id, &[]).is_none());
        }
        assert!(written > 60, "seed {seed}: hardly anything was allowed");
    }
}

#[test]
fn snapshots_evictions_and_crashes_take_nothing_away() {
    for seed in 100..112 {
        let mut world = World::with(1, Limits { snapshot_every_records: 4, ..limits() });
        let all = three(&mut world);
        let mut prng = Prng::seeded(seed);
        let mut numbers = 0;
        for step in 0..200 {
            let id = all[usize::try_from(prng.next() % 3).unwrap()];
            if world.conversations.active(id).is_none() {
                // Something brings it back.
                world.delivered("nobody", id, 1);
            }
            act(&mut world, &mut prng, id, &mut numbers);
            let records = world.records(id);
            let state = world.digest(id);
            assert!(world.digest_of(id, &records) == Some(state), "seed {seed}, step {step}");
            match prng.next() % 20 {
                0 => world.evict_all(),
                1 => {
                    for id in all {
                        world.delivered("nobody", id, 1);
                    }
                    let before = all.map(|id| world.digest(id));
                    world = world.crash();
                    for id in all {
                        world.delivered("nobody", id, 1);
                    }
                    assert!(all.map(|id| world.digest(id)) == before, "seed {seed}, step {step}");
                }
                _ => {}
            }
        }
    }
}

fn limits() -> Limits {
    Limits { receipt_interval_ms: 200, ..Limits::default() }
}

/// Whoever asks for a page brings the conversation into memory, and what was read for that may hold
/// the page.
#[test]
fn a_page_is_the_same_whether_the_conversation_is_in_memory_or_not() {
    for seed in 200..206 {
        let mut world = World::with(1, limits());
        let all = three(&mut world);
        let mut prng = Prng::seeded(seed);
        let mut numbers = 0;
        let (mut spared, mut read) = (0, 0);
        for step in 0..200 {
            let id = all[usize::try_from(prng.next() % 3).unwrap()];
            world.delivered("nobody", id, 1);
            if prng.next().is_multiple_of(8) {
                // With a snapshot.
                world.evict_all();
                world.delivered("nobody", id, 1);
            }
            act(&mut world, &mut prng, id, &mut numbers);
            let head = world.active(id).head.seq.0;
            let from = Sequence(prng.next() % (head + 2));
            let from = match prng.next() % 3 {
                0 => HistoryFrom::Newest,
                1 => HistoryFrom::Before(from),
                _ => HistoryFrom::After(from),
            };
            let who = NAMES[usize::try_from(prng.next() % 6).unwrap()];
            let limit = 1 + u32::try_from(prng.next() % 6).unwrap();
            let warm = world.history(who, id, from, limit);
            world.forget_all();
            let reads = world.ctx.store.stats().reads;
            let cold = world.history(who, id, from, limit);
            assert_eq!(cold, warm, "seed {seed}, step {step}: {who}, {from:?}, {limit}");
            match world.ctx.store.stats().reads - reads {
                1 => spared += 1,
                2 => read += 1,
                other => panic!("{other} reads for a page"),
            }
        }
        assert!(spared > 30 && read > 30, "seed {seed}: {spared} and {read}");
    }
}

#[test]
fn a_page_of_what_was_said_last_costs_a_cold_conversation_one_read() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    world.say("bob", id, "two");
    world.forget_all();
    let before = world.ctx.store.stats().reads;
    let page = world.history("ann", id, HistoryFrom::After(Sequence(1)), 100).unwrap();
    let seqs: Vec<_> = page.messages.iter().map(|message| message.seq).collect();
    assert_eq!((seqs, page.more, page.head), (vec![2], false, 2));
    assert_eq!(world.ctx.store.stats().reads - before, 1);
}

#[test]
fn what_a_crash_took_back_was_never_shown() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob"]);
    let submit = world.draft("ann", id, Content::Group(GroupChange::Add(ids(&["cat"]))));
    let request = submit.request;
    world.tell(ToConversation::Submit(Box::new(submit.clone())));
    // It holds at once for what comes behind it, and is shown to nobody.
    assert!(world.active(id).members.find(key("cat")).is_some());
    assert!(!world.is_answered(request));
    let page = world.draft("cat", id, body("x"));
    let request_of_cat = page.request;
    world.tell(ToConversation::Submit(Box::new(page)));
    assert!(!world.is_answered(request_of_cat));
    let mut world = world.crash();
    assert!(world.active(id).members.find(key("cat")).is_none());
    // The same write, sent again, is the next one.
    let again = crate::shard::message::Submit { request: world.next_request(), ..submit };
    assert_eq!(world.submit(again).unwrap(), 2);
}

#[test]
fn after_a_crash_everybody_is_told_where_they_stand() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat"]);
    world.say("ann", id, "two");
    world.change("ann", id, GroupChange::Remove(ids(&["cat"]))).unwrap();
    world.say("bob", id, "four");
    world.read("ann", id, 4);
    let mut world = world.crash();
    let told = world.take_told();
    let mut present = None;
    let mut former = None;
    let mut receipts = Vec::new();
    for told in told {
        match told {
            ToMailbox::Deliver(deliver) => match &deliver.recipients {
                Recipients::One(user) => former = Some((*user, deliver)),
                _ => present = Some(deliver),
            },
            ToMailbox::ReceiptTold(told) => receipts.push((told.to, told.delivered.0, told.read.0)),
            other => panic!("{other:?}"),
        }
    }
    let present = present.unwrap();
    assert_eq!(present.recipients.as_slice(), [key("ann"), key("bob")]);
    assert_eq!(present.head, Point { seq: Sequence(4), uncounted: 2 });
    assert!(present.fresh.is_none());
    let marks: Vec<_> = present.own_marks.iter().map(|(user, mark)| (*user, mark.seq.0)).collect();
    assert_eq!(marks, [(key("ann"), 3), (key("bob"), 4)]);
    let since: Vec<_> = present.memberships.iter().map(|m| (m.member, m.since, m.left)).collect();
    let began = Point { seq: Sequence(1), uncounted: 1 };
    assert_eq!(since, [(0, began, false), (1, began, false)]);
    // Whoever was removed is told so, and of nothing behind it.
    let (user, deliver) = former.unwrap();
    let removed = Point { seq: Sequence(3), uncounted: 2 };
    assert_eq!((user, deliver.head), (key("cat"), removed));
    let [left] = deliver.memberships.as_slice() else { panic!("{deliver:?}") };
    assert!(left.left && left.since == removed);
    // Both have read, by answering or by saying so, what the other wrote.
    receipts.sort();
    let mut expected = [(key("ann"), 4, 4), (key("bob"), 4, 4)];
    expected.sort();
    assert_eq!(receipts, expected);
}

#[test]
fn a_read_mark_that_waits_for_its_time_is_told_after_a_crash() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    world.say("ann", id, "two");
    world.read("bob", id, 1);
    world.take_told();
    world.read("bob", id, 2);
    assert!(world.take_told().is_empty(), "it waits for the end of the interval");
    let mut world = world.crash();
    assert_eq!(world.take_receipts(), [(key("ann"), 0, 2)]);
    assert_eq!(direct("ann", "bob"), id);
}
