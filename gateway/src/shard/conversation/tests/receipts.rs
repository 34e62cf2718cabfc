//! Who is told how far others have got, and how often.

use super::world::{World, ids, key};
use crate::limits::Limits;
use crate::shard::message::ConversationRequest;
use roost_protocol::ids::{ConversationId, Sequence};
use roost_protocol::request::GroupChange;
use roost_protocol::wire::{self, ErrorCode, server_frame};

fn details(
    world: &mut World,
    who: &str,
    id: ConversationId,
    seq: u64,
) -> Result<Vec<wire::MemberReceipt>, ErrorCode> {
    let what = ConversationRequest::ReceiptDetails { seq: Sequence(seq), after_member: 0 };
    match world.ask(who, id, what)? {
        server_frame::Body::ReceiptDetails(reply) => Ok(reply.members),
        other => panic!("not receipts: {other:?}"),
    }
}

#[test]
fn of_two_the_first_news_is_told_at_once_and_the_rest_when_the_interval_is_over() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    for n in 2..=9 {
        world.say("ann", id, &format!("{n}"));
    }
    world.take_told();
    world.delivered("bob", id, 2);
    assert_eq!(world.take_receipts(), [(key("ann"), 2, 0)]);
    world.delivered("bob", id, 3);
    world.read("bob", id, 3);
    world.delivered("bob", id, 5);
    world.read("bob", id, 4);
    assert!(world.take_receipts().is_empty());
    world.pass_ms(900);
    assert!(world.take_receipts().is_empty());
    world.pass_ms(100);
    assert_eq!(world.take_receipts(), [(key("ann"), 5, 4)], "both in one");
    // The interval began anew.
    world.delivered("bob", id, 6);
    assert!(world.take_receipts().is_empty());
    world.pass_ms(1_000);
    assert_eq!(world.take_receipts(), [(key("ann"), 6, 0)]);
    world.pass_ms(5_000);
    assert!(world.take_receipts().is_empty());
    world.read("bob", id, 9);
    assert_eq!(world.take_receipts(), [(key("ann"), 0, 9)]);
}

#[test]
fn the_two_of_a_conversation_do_not_wait_for_each_other() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    world.say("bob", id, "two");
    world.take_told();
    world.delivered("bob", id, 1);
    world.delivered("ann", id, 2);
    assert_eq!(world.take_receipts(), [(key("ann"), 1, 0), (key("bob"), 2, 0)]);
}

#[test]
fn without_an_interval_each_mark_is_told_by_itself() {
    let mut world = World::with(1, Limits { receipt_interval_ms: 0, ..Limits::default() });
    let id = world.pair("ann", "bob");
    world.say("ann", id, "two");
    world.take_told();
    world.delivered("bob", id, 1);
    world.delivered("bob", id, 2);
    world.read("bob", id, 2);
    let told = [(key("ann"), 1, 0), (key("ann"), 2, 0), (key("ann"), 0, 2)];
    assert_eq!(world.take_receipts(), told);
    let group = world.group(1, &["ann", "bob", "cat"]);
    world.say("ann", group, "two");
    world.take_told();
    world.delivered("bob", group, 2);
    assert!(world.take_receipts().is_empty(), "not yet all");
    world.delivered("cat", group, 2);
    assert_eq!(world.take_receipts(), [(key("ann"), 2, 0)]);
}

#[test]
fn marks_only_move_forward() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    world.say("ann", id, "two");
    world.take_told();
    world.read("bob", id, 2);
    world.read("bob", id, 1);
    world.delivered("bob", id, 2);
    world.delivered("bob", id, 1);
    world.pass_ms(3_000);
    assert_eq!(world.take_receipts(), [(key("ann"), 0, 2), (key("ann"), 2, 0)]);
    assert_eq!(world.ctx.stats.reads_total, 1);
    // What was not said cannot have been read: the mark is at the head, and moves on from there.
    world.read("bob", id, u64::MAX);
    world.say("ann", id, "three");
    world.take_told();
    world.pass_ms(3_000);
    assert!(world.take_receipts().is_empty());
    world.read("bob", id, u64::MAX);
    assert_eq!(world.take_receipts(), [(key("ann"), 0, 3)]);
}

#[test]
fn who_reads_in_private_is_not_told_of() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    world.take_told();
    world.read_as("bob", id, 1, true);
    world.pass_ms(3_000);
    assert!(world.take_receipts().is_empty());
    let of_bob = |receipts: Vec<wire::MemberReceipt>, number: usize| receipts[number].read;
    let number = usize::from(world.active(id).members.find(key("bob")).unwrap().0);
    assert_eq!(of_bob(details(&mut world, "ann", id, 1).unwrap(), number), 0);
    let mut world = world.crash();
    assert!(world.take_receipts().is_empty(), "nor after a crash");
    // In a group, who reads in private does not hold up that all others have read.
    let group = world.group(1, &["ann", "bob", "cat"]);
    world.say("ann", group, "two");
    world.take_told();
    world.read_as("bob", group, 2, true);
    world.read("cat", group, 2);
    world.pass_ms(1_000);
    assert_eq!(world.take_receipts(), [(key("ann"), 2, 2)]);
}

#[test]
fn in_a_group_it_is_told_how_far_all_have_got() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat", "dan"]);
    assert_eq!(world.say("ann", id, "two"), 2);
    assert_eq!(world.say("bob", id, "three"), 3);
    world.take_told();
    world.delivered("bob", id, 3);
    world.delivered("cat", id, 2);
    assert!(world.take_receipts().is_empty());
    world.delivered("dan", id, 3);
    // With the last of them at once: all have ann's, and not yet bob's.
    assert_eq!(world.take_receipts(), [(key("ann"), 2, 0)]);
    world.delivered("cat", id, 3);
    world.delivered("ann", id, 3);
    assert!(world.take_receipts().is_empty(), "once in an interval");
    world.pass_ms(1_000);
    assert_eq!(world.take_receipts(), [(key("bob"), 3, 0)]);
    // Read is told likewise, and who has nothing to be ticked hears nothing.
    for name in ["bob", "cat", "dan", "ann"] {
        world.read(name, id, 3);
    }
    world.pass_ms(1_000);
    let mut told = world.take_receipts();
    told.sort();
    let mut expected = [(key("ann"), 0, 3), (key("bob"), 0, 3)];
    expected.sort();
    assert_eq!(told, expected);
    world.pass_ms(5_000);
    world.delivered("cat", id, 3);
    world.pass_ms(5_000);
    assert!(world.take_receipts().is_empty());
}

#[test]
fn who_answers_has_received_and_read_what_they_answer() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob"]);
    world.say("ann", id, "two");
    world.take_told();
    world.say("bob", id, "three, having seen two");
    world.pass_ms(1_000);
    assert_eq!(world.take_receipts(), [(key("ann"), 3, 3)]);
}

#[test]
fn who_came_later_or_left_does_not_hold_up_the_others() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat"]);
    world.say("ann", id, "two");
    world.change("ann", id, GroupChange::Add(ids(&["dan"]))).unwrap();
    world.take_told();
    world.delivered("bob", id, 2);
    world.pass_ms(2_000);
    assert!(world.take_receipts().is_empty(), "cat has it not");
    world.change("ann", id, GroupChange::Remove(ids(&["cat"]))).unwrap();
    world.pass_ms(1_000);
    assert_eq!(world.take_receipts(), [(key("ann"), 2, 0)]);
    // Marks of somebody who left move nothing.
    let before = world.digest(id);
    world.delivered("cat", id, 4);
    world.read("cat", id, 4);
    assert_eq!(world.digest(id), before);
}

#[test]
fn a_look_at_everybody_happens_once_in_an_interval() {
    let mut world = World::new();
    let people: Vec<String> = (0..300).map(|n| format!("user {n}")).collect();
    let all: Vec<&str> = people.iter().map(String::as_str).collect();
    let id = world.group(1, &all);
    let seq = world.say("user 0", id, "hello all");
    let rounds = world.ctx.stats.receipt_rounds_total;
    for name in &all[1..] {
        world.delivered(name, id, seq);
    }
    world.take_told();
    assert!(world.ctx.stats.receipt_rounds_total - rounds <= 2);
    world.pass_ms(1_000);
    assert!(world.ctx.stats.receipt_rounds_total - rounds <= 3);
}

#[test]
fn who_and_when_is_answered_a_page_at_a_time() {
    let mut world = World::new();
    let people: Vec<String> = (0..150).map(|n| format!("user {n}")).collect();
    let all: Vec<&str> = people.iter().map(String::as_str).collect();
    let id = world.group(1, &all);
    let seq = world.say("user 0", id, "hello all");
    world.pass_ms(700);
    let now_ms = world.ctx.now.wall.ms;
    world.delivered("user 7", id, seq);
    world.read("user 8", id, seq);
    world.change("user 0", id, GroupChange::Add(ids(&["late"]))).unwrap();
    let first = details(&mut world, "user 3", id, seq).unwrap();
    assert_eq!((first.len(), first[0].member, first[99].member), (100, 1, 100));
    let seven = wire::MemberReceipt {
        member: 8,
        delivered: seq,
        delivered_at_ms: now_ms,
        read: 1,
        read_at_ms: 0,
    };
    assert_eq!(first[7], seven);
    assert_eq!((first[8].read, first[8].read_at_ms), (seq, now_ms));
    let what = ConversationRequest::ReceiptDetails { seq: Sequence(seq), after_member: 100 };
    let Ok(server_frame::Body::ReceiptDetails(second)) = world.ask("user 3", id, what) else {
        panic!("refused")
    };
    assert_eq!((second.members.len(), second.more), (50, false), "who came later was not in");
    // What is not there, or not for the asker, is not found.
    for (who, seq, code) in [
        ("user 3", 0, ErrorCode::ErrorNotFound),
        ("user 3", 99, ErrorCode::ErrorNotFound),
        ("late", 2, ErrorCode::ErrorNotFound),
        ("zoe", 2, ErrorCode::ErrorUnknownConversation),
    ] {
        assert_eq!(details(&mut world, who, id, seq).unwrap_err(), code);
    }
}

#[test]
fn marks_outlive_eviction_and_what_waits_stays_in_memory() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    world.say("ann", id, "two");
    world.delivered("bob", id, 1);
    world.take_told();
    world.delivered("bob", id, 2);
    world.tick += 10;
    world.conversations.evict_some(&mut world.ctx, world.tick, 1, 10);
    world.flush();
    assert_eq!(world.conversations.len(), 1, "something is due");
    world.pass_ms(1_000);
    assert_eq!(world.take_receipts(), [(key("ann"), 2, 0)]);
    world.evict_all();
    // In the same run it was told; saying it again is not news.
    world.delivered("bob", id, 2);
    assert!(world.take_receipts().is_empty());
    // After a restart it may have been forgotten: it is told again when it is said again.
    let mut world = world.crash();
    world.take_told();
    world.delivered("bob", id, 2);
    assert_eq!(world.take_receipts(), [(key("ann"), 2, 0)]);
}
