//! Edits, deletions, reactions, replies, forwards; old records that must be looked up; history by
//! time.

use super::world::{World, body, ids, key};
use crate::shard::conversation::authors::AUTHORS_MAX;
use crate::shard::message::{Reply, ToConversation};
use roost_protocol::ids::{ConversationId, Sequence};
use roost_protocol::request::{Content, GroupChange, HistoryFrom};
use roost_protocol::wire::{self, ErrorCode, message};

fn edit(seq: u64, text: &str) -> Content {
    Content::Edit { seq: Sequence(seq), body: text.to_owned().into() }
}

fn delete(seq: u64) -> Content {
    Content::Delete { seq: Sequence(seq) }
}

fn reaction(seq: u64, reaction: &str) -> Content {
    Content::Reaction { seq: Sequence(seq), reaction: reaction.to_owned() }
}

fn forward(from: ConversationId, seq: u64, text: &str) -> Content {
    Content::Forward { conversation: from, seq: Sequence(seq), body: text.to_owned().into() }
}

fn newest(world: &mut World, who: &str, id: ConversationId) -> wire::Message {
    world.history(who, id, HistoryFrom::Newest, 1).unwrap().messages.remove(0)
}

#[test]
fn what_points_at_a_message_is_a_record_that_does_not_count() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    assert_eq!(world.write("ann", id, edit(1, "hallo")), Ok(2));
    let message = newest(&mut world, "bob", id);
    let edited = wire::Edit { seq: 1, body: "hallo".into() };
    assert_eq!(message.content, Some(message::Content::Edit(edited)));
    assert_eq!(message.uncounted, 1);
    assert_eq!(world.write("bob", id, reaction(1, "+")), Ok(3));
    let reacted = wire::Reaction { seq: 1, reaction: "+".to_owned() };
    let content = newest(&mut world, "ann", id).content;
    assert_eq!(content, Some(message::Content::Reaction(reacted)));
    assert_eq!(world.write("ann", id, delete(1)), Ok(4));
    assert_eq!(world.write("ann", id, delete(1)), Ok(5), "deleting twice is accepted again");
    let content = newest(&mut world, "ann", id).content;
    assert_eq!(content, Some(message::Content::Delete(wire::Delete { seq: 1 })));
    // A forward counts, wherever it comes from.
    let elsewhere = ConversationId::from_u128(77);
    assert_eq!(world.write("bob", id, forward(elsewhere, 9, "she said")), Ok(6));
    let message = newest(&mut world, "ann", id);
    assert_eq!(message.uncounted, 4);
    let Some(message::Content::Forward(forward)) = message.content else { panic!("what else") };
    assert_eq!(forward.conversation.as_ref(), elsewhere.to_bytes());
    assert_eq!((forward.seq, forward.body.as_ref()), (9, &b"she said"[..]));
}

#[test]
fn only_its_author_edits_a_message_and_admins_delete_any() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat"]);
    world.change("ann", id, GroupChange::Promote(ids(&["bob"]))).unwrap();
    assert_eq!(world.say("cat", id, "three"), 3);
    assert_eq!(world.say("ann", id, "four"), 4);
    let forbidden = Err(ErrorCode::ErrorForbidden);
    assert_eq!(world.write("bob", id, edit(3, "not mine")), forbidden);
    assert_eq!(world.write("cat", id, delete(4)), forbidden);
    assert_eq!(world.write("cat", id, edit(3, "mine")), Ok(5));
    assert_eq!(world.write("bob", id, delete(3)), Ok(6));
    assert_eq!(world.write("bob", id, delete(4)), Ok(7), "also the owner's");
    // In a direct conversation nobody tends.
    let direct = world.pair("ann", "bob");
    assert_eq!(world.write("bob", direct, delete(1)), forbidden);
}

#[test]
fn what_is_no_message_is_not_found() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob"]);
    world.say("bob", id, "two");
    world.write("bob", id, reaction(2, "+")).unwrap();
    let missing = Err(ErrorCode::ErrorNotFound);
    for seq in [0, 1, 3, 4, u64::MAX] {
        assert_eq!(world.write("bob", id, edit(seq, "x")), missing, "edit {seq}");
        assert_eq!(world.write("bob", id, delete(seq)), missing, "delete {seq}");
        assert_eq!(world.write("bob", id, reaction(seq, "x")), missing, "reaction {seq}");
    }
    // What was said before somebody came is not there for them.
    world.change("ann", id, GroupChange::Add(ids(&["cat"]))).unwrap();
    assert_eq!(world.write("cat", id, reaction(2, "+")), missing);
    let mut reply = world.draft("cat", id, body("to what was not said"));
    reply.reply_to = Sequence(9);
    assert_eq!(world.submit(reply).unwrap_err().code(), ErrorCode::ErrorInvalidRequest);
    let mut reply = world.draft("bob", id, body("to two"));
    reply.reply_to = Sequence(2);
    assert_eq!(world.submit(reply).unwrap(), 5);
    assert_eq!(newest(&mut world, "ann", id).reply_to, 2);
}

/// A group in which `bob` said seq 2, long ago.
fn long_ago() -> (World, ConversationId) {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat"]);
    world.say("bob", id, "long ago");
    for n in 0..AUTHORS_MAX {
        world.say("ann", id, &format!("{n}"));
    }
    (world, id)
}

#[test]
fn the_author_of_an_old_message_is_looked_up() {
    let (mut world, id) = long_ago();
    let reads = |world: &World| world.ctx.stats.author_reads_total;
    assert_eq!(world.write("cat", id, edit(2, "not hers")), Err(ErrorCode::ErrorForbidden));
    assert_eq!(reads(&world), 1);
    assert!(world.write("bob", id, edit(2, "his")).is_ok());
    assert_eq!(reads(&world), 2);
    assert_eq!(world.write("bob", id, delete(1)), Err(ErrorCode::ErrorNotFound), "not a message");
    assert_eq!(reads(&world), 3);
    let newest = world.active(id).head.seq.0;
    assert_eq!(world.write("bob", id, edit(newest + 1, "x")), Err(ErrorCode::ErrorNotFound));
    assert_eq!(reads(&world), 3, "what cannot be there is not looked for");
    // What is not in memory because the conversation was away is looked up, too.
    world.evict_all();
    assert!(world.write("bob", id, reaction(newest - 1, "+")).is_ok());
    assert_eq!(reads(&world), 4);
}

#[test]
fn what_comes_behind_a_look_up_waits_in_order() {
    let (mut world, id) = long_ago();
    let first = world.draft("bob", id, edit(2, "first"));
    world.accepted("bob", id);
    let second = world.draft("bob", id, body("second"));
    world.accepted("bob", id);
    let third = world.draft("bob", id, delete(2));
    let requests = [first.request, second.request, third.request];
    // All three are there before the record that the first needs was read.
    for submit in [first, second, third] {
        let message = ToConversation::Submit(Box::new(submit));
        world.ctx.links.tell(
            crate::ids::ShardId(0),
            message,
            crate::shard::links::Owed::Nothing,
            crate::shard::links::Cause::NONE,
        );
    }
    world.flush();
    let seqs = requests.map(|request| match world.answer(request) {
        Reply::Sent { point, .. } => point.seq.0,
        other => panic!("refused: {other:?}"),
    });
    assert_eq!(seqs, [259, 260, 261]);
    world.accepted("bob", id);
}

#[test]
fn behind_a_look_up_only_so_many_wait() {
    let (mut world, id) = long_ago();
    world.ctx.limits.loading_inputs_max = 3;
    let first = world.draft("bob", id, edit(2, "first"));
    let mut requests = vec![first.request];
    let mut all = vec![first];
    for name in ["ann", "cat", "bob", "ann", "cat"] {
        let submit = world.draft(name, id, reaction(2, "+"));
        requests.push(submit.request);
        all.push(submit);
    }
    for submit in all {
        world.ctx.links.tell(
            crate::ids::ShardId(0),
            ToConversation::Submit(Box::new(submit)),
            crate::shard::links::Owed::Nothing,
            crate::shard::links::Cause::NONE,
        );
    }
    world.flush();
    let busy = requests.into_iter().filter(|request| {
        matches!(world.answer(*request), Reply::Error(error) if {
            error.code() == ErrorCode::ErrorBusy && error.retry_after_ms > 0
        })
    });
    assert!(busy.count() >= 2);
}

#[test]
fn a_conversation_with_a_look_up_does_not_leave_memory() {
    let (mut world, id) = long_ago();
    let submit = world.draft("bob", id, edit(2, "x"));
    let request = submit.request;
    let arrival = crate::shard::links::Arrival {
        message: ToConversation::Submit(Box::new(submit)),
        token: crate::shard::links::Token::NONE,
        taken: None,
    };
    world.conversations.handle(&mut world.ctx, arrival, 1);
    world.tick += 10;
    world.conversations.evict_some(&mut world.ctx, world.tick, 1, 10);
    assert_eq!(world.conversations.len(), 1);
    world.flush();
    assert!(matches!(world.answer(request), Reply::Sent { .. }));
}

// ---- by time ----

#[test]
fn history_begins_where_a_time_says() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    for n in 2..=50 {
        world.pass_ms(1_000);
        assert_eq!(world.say("ann", id, &format!("{n}")), n);
    }
    let page = world.history("bob", id, HistoryFrom::Newest, 50).unwrap();
    let time =
        |seq: u64| World::said_ms(page.messages.iter().find(|message| message.seq == seq).unwrap());
    let mut seqs = |from, limit| {
        let page = world.history("bob", id, from, limit).unwrap();
        page.messages.iter().map(|message| message.seq).collect::<Vec<_>>()
    };
    for seq in [2, 3, 17, 49, 50] {
        assert_eq!(seqs(HistoryFrom::AfterTime(time(seq)), 2)[0], seq);
        assert_eq!(seqs(HistoryFrom::BeforeTime(time(seq)), 2)[0], seq - 1);
        assert_eq!(seqs(HistoryFrom::AfterTime(time(seq) - 500), 1), [seq]);
    }
    assert_eq!(seqs(HistoryFrom::AfterTime(0), 3), [1, 2, 3]);
    assert_eq!(seqs(HistoryFrom::BeforeTime(u64::MAX), 2), [50, 49]);
    assert!(seqs(HistoryFrom::AfterTime(u64::MAX), 2).is_empty());
    assert!(seqs(HistoryFrom::BeforeTime(0), 2).is_empty());
    assert_eq!(world.active(id).members.find(key("bob")).map(|n| n.0 < 2), Some(true));
    world.evict_all();
}

#[test]
fn a_time_does_not_lead_out_of_ones_stretches() {
    let mut world = World::new();
    let id = world.group(1, &["ann"]);
    for _ in 2..=5 {
        world.pass_ms(1_000);
        world.say("ann", id, "alone");
    }
    world.change("ann", id, GroupChange::Add(ids(&["bob"]))).unwrap();
    world.change("ann", id, GroupChange::Remove(ids(&["bob"]))).unwrap();
    let seqs = |world: &mut World, from| {
        let page = world.history("bob", id, from, 10).unwrap();
        page.messages.iter().map(|message| message.seq).collect::<Vec<_>>()
    };
    world.say("ann", id, "alone again");
    assert_eq!(seqs(&mut world, HistoryFrom::AfterTime(1)), [6, 7]);
    assert_eq!(seqs(&mut world, HistoryFrom::BeforeTime(u64::MAX)), [7, 6]);
    let everything = world.history("ann", id, HistoryFrom::AfterTime(1), 10).unwrap();
    assert_eq!(everything.messages.len(), 8);
    let stranger = world.history("zoe", id, HistoryFrom::AfterTime(1), 10);
    assert_eq!(stranger.unwrap_err(), ErrorCode::ErrorUnknownConversation);
}
