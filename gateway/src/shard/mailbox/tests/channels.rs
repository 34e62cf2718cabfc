//! Following channels: the entry is the membership, and what a follower asks goes through it.

use super::*;
use crate::shard::message::{
    ChannelConfirmed, ChannelTold, ConversationAsk, ConversationRequest, Submit,
};
use roost_protocol::ids::ClientSequence;
use roost_protocol::request::Content;

fn join(n: u128, leave: bool) -> MailboxRequest {
    MailboxRequest::JoinChannel { conversation: channel(n), leave }
}

/// What channels were told since the last look.
fn told(world: &mut World) -> Vec<ChannelTold> {
    let mut found = Vec::new();
    for message in std::mem::take(&mut world.told) {
        let ToConversation::ChannelTold(told) = message else { panic!("{message:?}") };
        found.push(told);
    }
    found
}

fn confirm(world: &mut World, told: &ChannelTold, exists: bool, head: u64) {
    world.tell(ToMailbox::ChannelConfirmed(ChannelConfirmed {
        user: told.user,
        conversation: told.conversation,
        number: told.number,
        exists,
        head: at(head),
    }));
    world.run();
}

/// Joins or leaves, and the channel says so.
fn moved(world: &mut World, of: u8, n: u128, leave: bool, head: u64) {
    let id = world.ask(1, of, join(n, leave));
    world.run();
    for told in told(world) {
        assert_eq!(told.joined, !leave);
        confirm(world, &told, true, head);
    }
    let Some(Reply::Frame(body)) = world.answer(id) else { panic!("no answer") };
    assert!(matches!(*body, server_frame::Body::Done(_)), "{body:?}");
}

/// A question to a channel, as the edge passes it on.
fn describe(n: u128, id: u32) -> MailboxRequest {
    let request = RequestTag { id, ..RequestTag::default() };
    let (edge, user, what) = (edge(1, 1), user(1).0, ConversationRequest::Describe);
    let ask = ConversationAsk { edge, request, conversation: channel(n), user, what };
    MailboxRequest::ForChannel(Box::new(ToConversation::Ask(Box::new(ask))))
}

#[test]
fn joining_makes_an_entry_and_leaving_keeps_it() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.connect(1, 2);
    world.pushed();
    moved(&mut world, 1, 1, false, 40);
    let changed = world.changed();
    assert!(changed.iter().any(|(to, entry)| *to == edge(1, 2) && entry.head == 40));
    let entry = world.entry(1, 1, channel(1));
    assert_eq!(entry.kind(), wire::ConversationKind::KindChannel);
    assert_eq!((entry.head, entry.read, entry.left, entry.member), (40, 40, false, 0));
    assert!(entry.last_message_id > 0, "it has a time in the list");
    // Joining twice is done, and not told.
    world.done(1, 1, join(1, false));
    assert_eq!(told(&mut world).len(), 0);
    world.pushed();
    moved(&mut world, 1, 1, true, 50);
    let changed = world.changed();
    let [(to, entry)] = changed.as_slice() else { panic!("{changed:?}") };
    assert_eq!((*to, entry.left), (edge(1, 2), true));
    world.done(1, 1, join(1, true));
    assert_eq!(world.refused(1, 1, join(2, true)), ErrorCode::ErrorUnknownConversation);
    assert_eq!(told(&mut world).len(), 0);
    world.restart();
    world.told.clear();
    world.connect(1, 1);
    assert!(world.entry(1, 1, channel(1)).left);
    moved(&mut world, 1, 1, false, 60);
    let entry = world.entry(1, 1, channel(1));
    assert_eq!((entry.left, entry.head, entry.read), (false, 60, 60));
}

#[test]
fn there_is_no_such_channel() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    let id = world.ask(1, 1, join(3, false));
    world.run();
    let asked = told(&mut world).remove(0);
    confirm(&mut world, &asked, false, 0);
    let Some(Reply::Error(error)) = world.answer(id) else { panic!("not refused") };
    assert_eq!(error.code(), ErrorCode::ErrorUnknownConversation);
    assert!(world.entries(1, 1).is_empty());
    let join = MailboxRequest::JoinChannel { conversation: group(3), leave: false };
    assert_eq!(world.refused(1, 1, join), ErrorCode::ErrorUnknownConversation);
}

#[test]
fn a_lost_confirmation_is_asked_for_again() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.ask(1, 1, join(1, false));
    world.run();
    let first = told(&mut world).remove(0);
    // Asked again: told again under the same number.
    let again = world.ask(1, 1, join(1, false));
    world.run();
    assert_eq!(told(&mut world)[0].number, first.number);
    world.restart();
    let retold = told(&mut world);
    assert_eq!((retold.len(), retold[0].number, retold[0].joined), (1, first.number, true));
    // The user is not there; the confirmation makes the entry all the same, once.
    confirm(&mut world, &retold[0], true, 7);
    confirm(&mut world, &retold[0], true, 9);
    world.connect(1, 1);
    assert_eq!(world.entry(1, 1, channel(1)).head, 7);
    assert!(world.answer(again).is_none());
    // An old confirmation after leaving does not bring the user back.
    moved(&mut world, 1, 1, true, 9);
    confirm(&mut world, &retold[0], true, 9);
    assert!(world.entry(1, 1, channel(1)).left);
}

/// A write to a channel, as the edge passes it on.
fn write(n: u128, id: u32) -> MailboxRequest {
    let request = RequestTag { id, ..RequestTag::default() };
    MailboxRequest::ForChannel(Box::new(ToConversation::Submit(Box::new(Submit {
        edge: edge(1, 1),
        request,
        conversation: channel(n),
        user: user(1).0,
        opening: None,
        peer_key: None,
        by_user: false,
        device: device(1),
        connection: ConnectionNumber(1),
        client_message_id: ClientMessageId(5),
        client_sequence: ClientSequence(1),
        seen: Sequence(0),
        seen_uncounted: 0,
        reply_to: Sequence(0),
        content: Content::Body(Bytes::from_static(b"me too")),
        people: Vec::new(),
    }))))
}

#[test]
fn a_write_goes_on_for_a_follower_and_nobody_else() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    let unknown = ErrorCode::ErrorUnknownConversation;
    assert_eq!(world.refused(1, 1, write(1, 0)), unknown, "a stranger who guessed the id");
    moved(&mut world, 1, 1, false, 3);
    // The channel says that only its staff may write.
    world.ask(1, 1, write(1, 70));
    world.run();
    let told = std::mem::take(&mut world.told);
    assert!(matches!(told.as_slice(), [ToConversation::Submit(submit)] if submit.request.id == 70));
    moved(&mut world, 1, 1, true, 3);
    assert_eq!(world.refused(1, 1, write(1, 71)), unknown, "who left is a stranger");
    // What is passed on must be for a channel at all.
    let ToConversation::Submit(mut elsewhere) = told.into_iter().next().unwrap() else {
        panic!("a write")
    };
    elsewhere.conversation = group(1);
    let elsewhere = MailboxRequest::ForChannel(Box::new(ToConversation::Submit(elsewhere)));
    assert_eq!(world.refused(1, 1, elsewhere), unknown);
}

#[test]
fn requests_go_on_only_for_those_who_follow() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    let unknown = ErrorCode::ErrorUnknownConversation;
    assert_eq!(world.refused(1, 1, describe(1, 0)), unknown, "a stranger who guessed the id");
    moved(&mut world, 1, 1, false, 3);
    let id = world.ask(1, 1, describe(1, 77));
    assert!(world.answer(id).is_none(), "the channel answers");
    assert!(matches!(world.told.as_slice(), [ToConversation::Ask(ask)] if ask.request.id == 77));
    world.told.clear();
    // The same after the list was on disk, and not any more after leaving.
    world.evict_all();
    world.ask(1, 1, describe(1, 78));
    world.run();
    assert_eq!(std::mem::take(&mut world.told).len(), 1);
    moved(&mut world, 1, 1, true, 3);
    assert_eq!(world.refused(1, 1, describe(1, 79)), unknown);
}
