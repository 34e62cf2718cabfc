//! Groups: who comes and goes, who may do what, who is told and who may read.

use super::world::{World, body, ids, key, user};
use crate::ids::ShardId;
use crate::limits::Limits;
use crate::shard::conversation::members::{EVER_MAX, PRESENT_MAX};
use crate::shard::message::{
    Card, ConversationRequest, Deliver, Membership, Point, Recipients, ToConversation, ToMailbox,
};
use prost::Message;
use roost_protocol::ids::{ConversationId, Sequence, UserId};
use roost_protocol::limits::REPLY_MAX_BYTES;
use roost_protocol::request::{Content, GroupChange, HistoryFrom};
use roost_protocol::wire::{self, ErrorCode, group_change, message, server_frame};

fn add(names: &[&str]) -> GroupChange {
    GroupChange::Add(ids(names))
}

fn remove(names: &[&str]) -> GroupChange {
    GroupChange::Remove(ids(names))
}

/// Roles by name, those who are in only.
fn roles(world: &mut World, id: ConversationId) -> Vec<(String, i32)> {
    let members = world.active(id).members.iter_present();
    let named = members.map(|(_, member)| {
        (member.user_id.as_ref().unwrap().as_str().to_owned(), member.role.to_wire())
    });
    named.collect()
}

fn names(world: &mut World, id: ConversationId) -> Vec<String> {
    roles(world, id).into_iter().map(|(name, _)| name).collect()
}

/// The system message of the newest record.
fn newest(world: &mut World, who: &str, id: ConversationId) -> wire::SystemMessage {
    let page = world.history(who, id, HistoryFrom::Newest, 1).unwrap();
    match page.messages[0].content.clone() {
        Some(message::Content::System(message)) => message,
        other => panic!("not a system message: {other:?}"),
    }
}

/// Everybody a record was told to.
fn told_to(delivers: &[Deliver]) -> Vec<String> {
    let everybody = ["ann", "bob", "cat", "dan", "eve", "fay"];
    let told = |name: &&&str| {
        delivers.iter().any(|deliver| deliver.recipients.as_slice().contains(&key(name)))
    };
    everybody.iter().filter(told).map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_group_begins_with_a_system_message_that_names_everybody() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat", "ann", "bob"]);
    let delivers = world.take_delivers();
    let [deliver] = delivers.as_slice() else { panic!("once per shard: {delivers:?}") };
    assert_eq!(*deliver.card, Card::Group);
    let everybody: Vec<_> = ["ann", "bob", "cat"].map(key).into();
    assert_eq!(deliver.recipients, Recipients::Many(everybody.into()));
    let since = Point { seq: Sequence(1), uncounted: 1 };
    let of = |name: &str, member| {
        let (user, user_id) = user(name);
        Membership { user, user_id, member, since, left: false }
    };
    assert_eq!(deliver.memberships, [of("ann", 0), of("bob", 1), of("cat", 2)]);
    let created = newest(&mut world, "cat", id);
    assert!(created.created && created.change.is_none());
    let named: Vec<_> =
        created.members.iter().map(|m| (m.member, m.user.as_str(), m.role)).collect();
    assert_eq!(named, [(1, "ann", 2), (2, "bob", 0), (3, "cat", 0)]);
    let page = world.history("bob", id, HistoryFrom::Newest, 1).unwrap();
    assert_eq!((page.messages[0].sender, page.messages[0].uncounted), (1, 1));
}

#[test]
fn a_creation_repeated_after_a_lost_reply_changes_nothing() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob"]);
    world.say("bob", id, "hello");
    world.take_told();
    let mut again = world.create(1, &["ann", "cat", "dan"], false);
    again.name = "another name".to_owned();
    assert_eq!(world.creates(again), Ok(2));
    assert!(world.told.is_empty());
    assert_eq!(names(&mut world, id), ["ann", "bob"]);
    // The reply was lost with the process.
    let mut world = world.crash();
    let again = world.create(1, &["ann", "bob"], false);
    assert_eq!(world.creates(again), Ok(2));
    // Another nonce is another group, and so is a channel of the same.
    let (other, channel) = (world.create(2, &["ann"], false), world.create(1, &["ann"], true));
    assert_ne!(other.conversation, id);
    assert_ne!(channel.conversation, id);
}

#[test]
fn a_creation_is_shown_when_it_is_durable() {
    let mut world = World::new();
    let create = world.create(1, &["ann", "bob"], false);
    let request = create.request;
    world.tell(ToConversation::Create(Box::new(create)));
    let again = world.create(1, &["ann", "bob"], false);
    let request_again = again.request;
    world.tell(ToConversation::Create(Box::new(again)));
    assert!(!world.is_answered(request) && !world.is_answered(request_again));
    assert!(world.told.is_empty());
    world.flush();
    assert!(world.is_answered(request) && world.is_answered(request_again));
}

#[test]
fn what_the_roles_allow() {
    let people = ["own", "adm", "ad2", "mem", "me2"];
    let changes: Vec<(&str, GroupChange, [bool; 3])> = vec![
        ("rename", GroupChange::Rename("n".into()), [false, true, true]),
        ("picture", GroupChange::Picture("p".into()), [false, true, true]),
        ("add", add(&["new"]), [false, true, true]),
        ("remove a member", remove(&["me2"]), [false, true, true]),
        ("remove an admin", remove(&["ad2"]), [false, false, true]),
        ("remove the owner", remove(&["own"]), [false, false, false]),
        ("promote", GroupChange::Promote(ids(&["me2"])), [false, true, true]),
        ("demote", GroupChange::Demote(ids(&["ad2"])), [false, false, true]),
        ("demote the owner", GroupChange::Demote(ids(&["own"])), [false, false, false]),
        ("transfer", GroupChange::Transfer(user("me2").1), [false, false, true]),
        ("dissolve", GroupChange::Dissolve, [false, false, true]),
        ("leave", GroupChange::Leave, [true, true, true]),
    ];
    for (nonce, (what, change, allowed)) in (0..).zip(changes) {
        for (by, may) in ["mem", "adm", "own"].into_iter().zip(allowed) {
            let mut world = World::new();
            let id = world.group(nonce, &people);
            let promote = GroupChange::Promote(ids(&["adm", "ad2"]));
            assert_eq!(world.change("own", id, promote), Ok(2));
            let before = world.digest(id);
            let answer = world.change(by, id, change.clone());
            if may {
                assert_eq!(answer, Ok(3), "{by}: {what}");
            } else {
                assert_eq!(answer, Err(ErrorCode::ErrorForbidden), "{by}: {what}");
                assert_eq!(world.digest(id), before, "{by}: {what}");
            }
            // Whoever is in may write still.
            let gone = may && ["leave", "dissolve"].contains(&what);
            assert_eq!(world.write(by, id, body("x")).is_ok(), !gone, "{by}: {what}");
        }
    }
}

#[test]
fn a_change_is_all_or_nothing() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat", "dan"]);
    world.change("ann", id, GroupChange::Promote(ids(&["bob", "cat"]))).unwrap();
    let before = world.digest(id);
    let forbidden = Err(ErrorCode::ErrorForbidden);
    assert_eq!(world.change("bob", id, remove(&["dan", "cat"])), forbidden);
    let unknown = Err(ErrorCode::ErrorNotFound);
    assert_eq!(world.change("ann", id, remove(&["dan", "zoe"])), unknown);
    assert_eq!(world.change("ann", id, GroupChange::Promote(ids(&["dan", "zoe"]))), unknown);
    assert_eq!(world.change("ann", id, GroupChange::Demote(ids(&["zoe"]))), unknown);
    assert_eq!(world.change("ann", id, GroupChange::Transfer(user("zoe").1)), unknown);
    assert_eq!(world.digest(id), before);
}

#[test]
fn people_of_whom_nothing_would_change_are_left_out() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat"]);
    let nothing = Err(ErrorCode::ErrorInvalidRequest);
    assert_eq!(world.change("ann", id, add(&["bob", "cat"])), nothing);
    assert_eq!(world.change("ann", id, GroupChange::Demote(ids(&["bob"]))), nothing);
    assert_eq!(world.change("ann", id, GroupChange::Promote(ids(&["ann"]))), nothing);
    assert_eq!(world.change("ann", id, GroupChange::Transfer(user("ann").1)), nothing);
    assert_eq!(world.change("ann", id, GroupChange::Rename("the group".into())), nothing);
    assert_eq!(world.change("ann", id, GroupChange::Picture(String::new())), nothing);
    assert_eq!(world.change("ann", id, add(&["bob", "dan"])), Ok(2));
    let message = newest(&mut world, "ann", id);
    let users = ["dan".to_owned()].to_vec();
    let change = group_change::Change::Add(wire::MemberChange { users });
    assert_eq!(message.change.unwrap().change, Some(change));
    assert_eq!(message.members.len(), 1);
    assert_eq!(world.change("ann", id, remove(&["bob"])), Ok(3));
    assert_eq!(world.change("ann", id, remove(&["bob"])), nothing);
    // Who was in and is not cannot be given a role.
    let former = Err(ErrorCode::ErrorNotFound);
    assert_eq!(world.change("ann", id, GroupChange::Promote(ids(&["bob"]))), former);
    assert_eq!(world.change("ann", id, GroupChange::Transfer(user("bob").1)), former);
}

#[test]
fn adding_and_removing_at_once_is_one_after_the_other() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat"]);
    world.change("ann", id, GroupChange::Promote(ids(&["bob"]))).unwrap();
    let added = world.draft("ann", id, Content::Group(add(&["dan"])));
    let removed = world.draft("bob", id, Content::Group(remove(&["dan"])));
    let requests = (added.request, removed.request);
    world.tell(ToConversation::Submit(Box::new(added)));
    world.tell(ToConversation::Submit(Box::new(removed)));
    world.flush();
    assert!(world.is_answered(requests.0) && world.is_answered(requests.1));
    assert_eq!(names(&mut world, id), ["ann", "bob", "cat"]);
    world.accepted("ann", id);
    assert_eq!(world.readable("dan", id), (vec![3, 4], 4));
}

#[test]
fn recipients_are_those_who_are_in_at_the_record() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat"]);
    world.take_told();
    world.say("ann", id, "to all");
    let first = world.take_delivers();
    assert_eq!(told_to(&first), ["ann", "bob", "cat"]);
    world.say("bob", id, "and again");
    let second = world.take_delivers();
    let (Recipients::Many(one), Recipients::Many(other)) =
        (&first[0].recipients, &second[0].recipients)
    else {
        panic!("a group has many")
    };
    assert!(std::sync::Arc::ptr_eq(one, other), "the list is made once until somebody comes");
    world.change("ann", id, add(&["dan"])).unwrap();
    let delivers = world.take_delivers();
    assert_eq!(told_to(&delivers), ["ann", "bob", "cat", "dan"]);
    let came: Vec<_> = delivers[0].memberships.iter().map(|m| (m.user, m.member, m.left)).collect();
    assert_eq!(came, [(key("dan"), 3, false)]);
    // The one removed is told of it, and of nothing behind it.
    world.change("ann", id, remove(&["bob"])).unwrap();
    let delivers = world.take_delivers();
    assert_eq!(told_to(&delivers), ["ann", "bob", "cat", "dan"]);
    let went: Vec<_> =
        delivers[0].memberships.iter().map(|m| (m.user, m.since.seq.0, m.left)).collect();
    assert_eq!(went, [(key("bob"), 5, true)]);
    world.say("ann", id, "without bob");
    assert_eq!(told_to(&world.take_delivers()), ["ann", "cat", "dan"]);
    assert_eq!(world.readable("bob", id), (vec![1, 2, 3, 4, 5], 5));
    assert_eq!(world.write("bob", id, body("but")), Err(ErrorCode::ErrorForbidden));
}

#[test]
fn a_message_crosses_to_each_shard_once_and_is_encoded_once() {
    let mut world = World::with(4, Limits::default());
    let people: Vec<String> = (0..200).map(|n| format!("user {n}")).collect();
    // A group whose home is the shard under test.
    let everybody: Vec<&str> = people.iter().map(String::as_str).collect();
    let create = (0..).map(|nonce| world.create(nonce, &everybody, false));
    let create = create.into_iter().find(|c| c.conversation.partition() % 4 == 0).unwrap();
    let id = create.conversation;
    world.tell(ToConversation::Create(Box::new(create)));
    world.flush();
    let joined: usize = world.take_delivers().iter().map(|deliver| deliver.memberships.len()).sum();
    assert_eq!(joined, 200, "each shard hears of its own");
    world.say("user 3", id, "hello all");
    let told = std::mem::take(&mut world.told);
    let shards: Vec<ShardId> = told.iter().map(|(shard, _)| *shard).collect();
    assert_eq!(shards.len(), 4);
    let mut frames = Vec::new();
    let (mut recipients, mut marks) = (0, 0);
    for (shard, message) in &told {
        let ToMailbox::Deliver(deliver) = message else { panic!("what else") };
        recipients += deliver.recipients.as_slice().len();
        marks += deliver.own_marks.as_slice().len();
        for user in deliver.recipients.as_slice() {
            assert_eq!(world.ctx.home_of_user(*user), *shard);
        }
        frames.push(deliver.fresh.as_ref().unwrap().frame.as_ptr());
    }
    assert_eq!((recipients, marks), (200, 1));
    frames.dedup();
    assert_eq!(frames.len(), 1);
}

#[test]
fn a_frame_says_who_wrote_it() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob"]);
    world.take_told();
    world.say("bob", id, "me");
    let delivers = world.take_delivers();
    let fresh = delivers[0].fresh.as_ref().unwrap();
    let mut frame = fresh.frame.clone();
    let frame = wire::ServerFrame::decode_length_delimited(&mut frame).unwrap();
    let Some(server_frame::Body::Message(pushed)) = frame.body else { panic!("not a message") };
    assert_eq!((pushed.sender, pushed.seq, pushed.client_message_id), (2, 2, 0));
    assert_eq!(pushed.content, Some(message::Content::Body("me".into())));
}

#[test]
fn history_is_what_was_said_while_one_was_in() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob"]);
    for n in 2..=5 {
        world.say("ann", id, &format!("without cat {n}"));
    }
    world.change("ann", id, add(&["cat"])).unwrap();
    world.say("ann", id, "hello cat");
    world.change("ann", id, remove(&["cat"])).unwrap();
    for _ in 9..=12 {
        world.say("bob", id, "behind her back");
    }
    world.change("ann", id, add(&["cat"])).unwrap();
    world.say("ann", id, "again");
    assert_eq!(world.readable("cat", id), (vec![6, 7, 8, 13, 14], 14));
    assert_eq!(world.readable("ann", id), ((1..=14).collect(), 14));
    // The other way round, each page in one stretch.
    let (mut seqs, mut from) = (Vec::new(), HistoryFrom::Newest);
    loop {
        let page = world.history("cat", id, from, 2).unwrap();
        seqs.extend(page.messages.iter().map(|message| message.seq));
        if !page.more {
            break;
        }
        from = HistoryFrom::Before(Sequence(page.next));
    }
    assert_eq!(seqs, [14, 13, 8, 7, 6]);
    // She keeps her number, and it is kept over a crash.
    let mut world = world.crash();
    assert_eq!(world.readable("cat", id), (vec![6, 7, 8, 13, 14], 14));
    let number = world.active(id).members.find(key("cat")).unwrap();
    assert_eq!(number.0, 2);
}

#[test]
fn an_owner_who_leaves_hands_over() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat", "dan"]);
    world.change("ann", id, GroupChange::Promote(ids(&["cat", "dan"]))).unwrap();
    assert_eq!(world.change("ann", id, GroupChange::Leave), Ok(3));
    let expected = [("bob", 0), ("cat", 2), ("dan", 1)].map(|(name, role)| (name.to_owned(), role));
    assert_eq!(roles(&mut world, id), expected, "the admin who came first");
    let message = newest(&mut world, "bob", id);
    let named: Vec<_> =
        message.members.iter().map(|m| (m.user.as_str(), m.role, m.left_seq)).collect();
    assert_eq!(named, [("ann", 0, 3), ("cat", 2, 0)]);
    world.change("dan", id, GroupChange::Leave).unwrap();
    world.change("cat", id, GroupChange::Leave).unwrap();
    assert_eq!(roles(&mut world, id), [("bob".to_owned(), 2)], "without admins, a member");
    world.change("bob", id, GroupChange::Leave).unwrap();
    assert_eq!(roles(&mut world, id), []);
    for name in ["ann", "bob", "cat", "dan"] {
        assert_eq!(world.write(name, id, body("?")), Err(ErrorCode::ErrorForbidden));
    }
    assert_eq!(world.readable("bob", id).1, 6, "it may still be read");
}

#[test]
fn the_owner_may_hand_over_and_dissolve() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat"]);
    assert_eq!(world.change("ann", id, GroupChange::Transfer(user("bob").1)), Ok(2));
    let expected = [("ann", 1), ("bob", 2), ("cat", 0)].map(|(name, role)| (name.to_owned(), role));
    assert_eq!(roles(&mut world, id), expected);
    assert_eq!(world.change("ann", id, GroupChange::Dissolve), Err(ErrorCode::ErrorForbidden));
    world.take_told();
    assert_eq!(world.change("bob", id, GroupChange::Dissolve), Ok(3));
    let delivers = world.take_delivers();
    assert_eq!(told_to(&delivers), ["ann", "bob", "cat"]);
    assert!(delivers[0].memberships.iter().all(|m| m.left) && delivers[0].memberships.len() == 3);
    assert_eq!(world.change("bob", id, add(&["ann"])), Err(ErrorCode::ErrorForbidden));
    assert_eq!(world.readable("cat", id), (vec![1, 2, 3], 3));
    let mut world = world.crash();
    assert_eq!(world.write("bob", id, body("?")), Err(ErrorCode::ErrorForbidden));
}

#[test]
fn a_group_has_room_for_so_many() {
    let mut world = World::new();
    let people: Vec<String> = (0..=PRESENT_MAX).map(|n| format!("user {n}")).collect();
    let all: Vec<&str> = people.iter().map(String::as_str).collect();
    let create = world.create(1, &all, false);
    let id = create.conversation;
    assert_eq!(world.creates(create), Err(ErrorCode::ErrorGroupFull));
    assert_eq!(world.ask("user 0", id, ConversationRequest::Describe).unwrap_err(), {
        ErrorCode::ErrorUnknownConversation
    });
    let create = world.create(1, &all[..PRESENT_MAX], false);
    assert_eq!(world.creates(create), Ok(1));
    assert_eq!(world.change("user 0", id, add(&["late"])), Err(ErrorCode::ErrorGroupFull));
    world.change("user 5", id, GroupChange::Leave).unwrap();
    assert_eq!(world.change("user 0", id, add(&["late"])), Ok(3));
    // The first record is as large as one may be, and a page holds it.
    let page = world.history("user 9", id, HistoryFrom::Newest, 100).unwrap();
    assert!(page.encoded_len() < REPLY_MAX_BYTES);
    assert_eq!(page.messages.len(), 3);
}

#[test]
fn numbers_run_out_and_those_who_were_in_come_back() {
    let mut world = World::new();
    let id = world.group(1, &["ann"]);
    let mut next = 0;
    while world.active(id).members.ever() + 512 < EVER_MAX {
        let crowd: Vec<String> = (next..next + 512).map(|n| format!("u{n}")).collect();
        let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
        next += 512;
        world.change("ann", id, add(&crowd)).unwrap();
        world.change("ann", id, remove(&crowd)).unwrap();
    }
    let left = EVER_MAX - world.active(id).members.ever();
    let crowd: Vec<String> = (0..=left).map(|n| format!("last {n}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    assert_eq!(world.change("ann", id, add(&crowd)), Err(ErrorCode::ErrorGroupFull));
    world.change("ann", id, add(&crowd[1..])).unwrap();
    assert_eq!(world.change("ann", id, add(&["new"])), Err(ErrorCode::ErrorGroupFull));
    assert!(world.change("ann", id, add(&["u7"])).is_ok(), "an old number is free to come back");
    let run = world.ctx.store.run();
    let size = crate::shard::conversation::snapshot::encode(world.active(id), run).bytes.len();
    assert!(size < 1 << 20, "a snapshot of everybody has {size} bytes");
}

#[test]
fn a_change_that_names_too_many_is_refused() {
    let mut world = World::new();
    let id = world.group(1, &["ann"]);
    let crowd: Vec<UserId> =
        (0..1_000).map(|n| UserId::new(&format!("{n:064}")).unwrap()).collect();
    assert_eq!(world.change("ann", id, GroupChange::Add(crowd)), Err(ErrorCode::ErrorTooLarge));
    // Keys that are not those of the users named are no trouble.
    let mut submit = world.draft("ann", id, Content::Group(add(&["bob"])));
    submit.people.clear();
    assert_eq!(world.submit(submit).unwrap_err().code(), ErrorCode::ErrorInvalidRequest);
    assert_eq!(names(&mut world, id), ["ann"]);
    // Nor is anybody who is named twice.
    assert_eq!(world.change("ann", id, add(&["bob", "bob", "cat"])), Ok(2));
    assert_eq!(world.change("ann", id, GroupChange::Promote(ids(&["bob", "bob"]))), Ok(3));
    assert_eq!(world.change("ann", id, remove(&["bob", "bob"])), Ok(4));
    assert_eq!(names(&mut world, id), ["ann", "cat"]);
}

#[test]
fn a_duplicate_from_somebody_removed_since_gets_the_originals_answer() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob"]);
    let submit = world.draft("bob", id, body("I was here"));
    assert_eq!(world.submit(submit.clone()).unwrap(), 2);
    world.change("ann", id, remove(&["bob"])).unwrap();
    let again = crate::shard::message::Submit { request: world.next_request(), ..submit };
    assert_eq!(world.submit(again).unwrap(), 2);
    assert_eq!(world.write("bob", id, body("and now")), Err(ErrorCode::ErrorForbidden));
    world.change("ann", id, add(&["bob"])).unwrap();
    assert_eq!(world.write("bob", id, body("a refusal took no number")), Ok(5));
}
