//! Channels: those who tend them, those who follow, and the news that those who look are told.

use super::world::{World, body, ids, key, user};
use crate::ids::ShardId;
use crate::shard::message::{
    Card, ChannelTold, ConversationAsk, ConversationRequest, Hint, ToConversation, ToEdge,
    ToMailbox,
};
use roost_protocol::ids::{ConversationId, Sequence};
use roost_protocol::request::{GroupChange, HistoryFrom};
use roost_protocol::wire::{self, ErrorCode, server_frame};

fn channel(world: &mut World) -> ConversationId {
    let create = world.create(1, &["ann"], true);
    let id = create.conversation;
    assert_eq!(world.creates(create), Ok(1));
    id
}

fn told(world: &mut World, who: &str, id: ConversationId, joined: bool) -> (bool, u64) {
    let told = ChannelTold { conversation: id, user: key(who), number: 7, joined };
    world.take_told();
    world.owe(ToConversation::ChannelTold(told));
    let told = world.take_told();
    let [ToMailbox::ChannelConfirmed(confirmed)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((confirmed.user, confirmed.number), (key(who), 7));
    (confirmed.exists, confirmed.head.seq.0)
}

fn watch(world: &mut World, who: &str, id: ConversationId, stop: bool) -> usize {
    let (edge, request) = (world.edge_of(who), world.next_request());
    let what = ConversationRequest::WatchChannel { stop };
    let ask = ConversationAsk { edge, request, conversation: id, user: key(who), what };
    world.tell(ToConversation::Ask(Box::new(ask)));
    world.flush();
    let told = std::mem::take(&mut world.edges);
    told.iter().filter(|(_, what)| matches!(what, ToEdge::Watching { .. })).count()
}

fn description(world: &mut World, who: &str, id: ConversationId) -> wire::ConversationDescription {
    match world.ask(who, id, ConversationRequest::Describe) {
        Ok(server_frame::Body::ConversationDescription(description)) => description,
        other => panic!("{other:?}"),
    }
}

#[test]
fn those_who_tend_a_channel_write_and_those_who_follow_read() {
    let mut world = World::new();
    let id = channel(&mut world);
    let delivers = world.take_delivers();
    let [deliver] = delivers.as_slice() else { panic!("{delivers:?}") };
    assert_eq!(*deliver.card, Card::Channel);
    assert_eq!(deliver.memberships.len(), 1, "who begins it follows it");
    assert_eq!(world.say("ann", id, "news"), 2);
    assert!(world.take_delivers().is_empty(), "posts are pulled");
    // Whoever asks follows it: that is checked where it comes from.
    let page = world.history("zoe", id, HistoryFrom::Newest, 10).unwrap();
    assert_eq!((page.messages.len(), page.head), (2, 2));
    assert_eq!(world.write("zoe", id, body("me too")), Err(ErrorCode::ErrorForbidden));
    world.evict_all();
    assert_eq!(world.write("zoe", id, body("me too")), Err(ErrorCode::ErrorForbidden));
    let told = description(&mut world, "zoe", id);
    assert_eq!((told.kind(), told.head, told.own), (wire::ConversationKind::KindChannel, 2, None));
    let own = description(&mut world, "ann", id).own.unwrap();
    assert_eq!((own.member, own.role()), (1, wire::MemberRole::Owner));
}

#[test]
fn roles_of_a_channel() {
    let mut world = World::new();
    let id = channel(&mut world);
    let invalid = Err(ErrorCode::ErrorInvalidRequest);
    assert_eq!(world.change("ann", id, GroupChange::Add(ids(&["bob"]))), invalid);
    assert_eq!(world.change("ann", id, GroupChange::Remove(ids(&["bob"]))), invalid);
    world.take_told();
    // Anybody may be made one who tends it, and follows it then.
    assert_eq!(world.change("ann", id, GroupChange::Promote(ids(&["bob"]))), Ok(2));
    let delivers = world.take_delivers();
    let [deliver] = delivers.as_slice() else { panic!("{delivers:?}") };
    assert_eq!(deliver.recipients.as_slice(), [key("bob")]);
    assert_eq!((deliver.memberships.len(), deliver.memberships[0].left), (1, false));
    assert_eq!(world.write("bob", id, body("hello")), Ok(3));
    assert_eq!(world.change("bob", id, GroupChange::Promote(ids(&["cat"]))), Ok(4));
    let forbidden = Err(ErrorCode::ErrorForbidden);
    assert_eq!(world.change("bob", id, GroupChange::Demote(ids(&["cat"]))), forbidden);
    assert_eq!(world.change("bob", id, GroupChange::Dissolve), forbidden);
    world.take_told();
    assert_eq!(world.change("ann", id, GroupChange::Demote(ids(&["cat"]))), Ok(5));
    assert!(world.take_delivers().is_empty(), "who does not tend it any more still follows it");
    assert_eq!(world.write("cat", id, body("?")), forbidden);
    assert_eq!(world.change("ann", id, GroupChange::Transfer(user("bob").1)), Ok(6));
    assert_eq!(world.change("ann", id, GroupChange::Leave), Ok(7));
    let mut world = world.crash();
    assert_eq!(world.write("ann", id, body("?")), forbidden);
    assert_eq!(world.write("bob", id, body("mine now")), Ok(8));
    assert_eq!(world.change("bob", id, GroupChange::Dissolve), Ok(9));
    assert_eq!(told(&mut world, "zoe", id, true), (false, 9), "it is over: nobody comes");
    assert_eq!(world.readable("zoe", id).1, 9);
}

#[test]
fn a_channel_begins_alone() {
    let mut world = World::new();
    let create = world.create(1, &["ann", "bob"], true);
    assert_eq!(world.creates(create), Err(ErrorCode::ErrorInvalidRequest));
    assert_eq!(world.conversations.len(), 0);
}

#[test]
fn those_who_follow_are_counted() {
    let mut world = World::new();
    let id = channel(&mut world);
    assert_eq!(told(&mut world, "bob", id, true), (true, 1));
    assert_eq!(told(&mut world, "cat", id, true), (true, 1));
    assert_eq!(description(&mut world, "bob", id).member_count, 2);
    world.evict_all();
    assert_eq!(told(&mut world, "cat", id, false), (true, 1));
    assert_eq!(description(&mut world, "bob", id).member_count, 1);
    assert_eq!(world.confirmed, 3);
    let nowhere = ConversationId::group(key("ann"), [99; 16], true);
    assert_eq!(told(&mut world, "bob", nowhere, true), (false, 0));
    // No receipts.
    world.say("ann", id, "news");
    world.delivered("bob", id, 2);
    world.read("bob", id, 2);
    world.read("ann", id, 2);
    let what = ConversationRequest::ReceiptDetails { seq: Sequence(1), after_member: 0 };
    assert_eq!(world.ask("ann", id, what).unwrap_err(), ErrorCode::ErrorInvalidRequest);
    assert!(world.take_receipts().is_empty());
}

#[test]
fn news_is_told_to_shards_that_look_once_in_a_second() {
    let mut world = World::new();
    let id = channel(&mut world);
    let news = |world: &mut World| {
        let told = std::mem::take(&mut world.hints);
        let news = told.iter().filter(|(to, hint)| {
            *to == ShardId(0) && matches!(hint, Hint::News { channel, .. } if *channel == id)
        });
        news.count()
    };
    world.say("ann", id, "nobody looks");
    world.pass_ms(2_000);
    assert_eq!(news(&mut world), 0);
    assert_eq!(watch(&mut world, "bob", id, false), 1);
    let submit = world.draft("ann", id, body("at once"));
    world.tell(ToConversation::Submit(Box::new(submit)));
    assert_eq!(news(&mut world), 0, "not before the flush");
    world.flush();
    world.accepted("ann", id);
    assert_eq!(news(&mut world), 1);
    for n in 0..10 {
        world.say("ann", id, &format!("{n}"));
    }
    assert_eq!(news(&mut world), 0);
    world.pass_ms(1_000);
    assert_eq!(news(&mut world), 1);
    // Whoever does not look any more says so to their own shard; after five minutes it is over.
    assert_eq!(watch(&mut world, "bob", id, true), 1);
    world.pass_ms(300_000);
    world.say("ann", id, "five minutes later");
    assert_eq!(news(&mut world), 0);
    // A group is not looked at.
    let group = world.group(2, &["ann", "bob"]);
    assert_eq!(watch(&mut world, "bob", group, false), 0);
}
