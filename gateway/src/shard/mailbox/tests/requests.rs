//! Contacts only: what strangers begin is a request until the user wants it.

use super::*;
use crate::shard::message::Membership;
use roost_protocol::request::SetPrivacy;

const NONE: [u64; 0] = [];

fn contacts_only(on: bool) -> MailboxRequest {
    MailboxRequest::SetPrivacy(SetPrivacy {
        presence: None,
        contacts_only: Some(on),
        read_receipts: None,
    })
}

/// A message that only the other wrote.
fn from(n: u32, seq: u64) -> Deliver {
    Deliver { own_marks: OwnMarks::One((user(n).0, at(seq))), ..said(n, 1, seq) }
}

/// The user comes into a group by somebody.
fn added(number: u128, seq: u64, by: u32) -> Deliver {
    let (key, user_id) = user(1);
    let conversation = group(number);
    Deliver {
        conversation,
        card: Arc::new(Card::Group),
        recipients: Recipients::One(key),
        head: at(seq),
        message_id: MessageId(seq),
        own_marks: OwnMarks::None,
        memberships: vec![Membership {
            user: key,
            user_id,
            member: 7,
            since: at(seq),
            left: false,
        }],
        fresh: Some(fresh(conversation, seq, user(by).0)),
    }
}

fn messages(world: &mut World) -> Vec<u64> {
    let mut found = Vec::new();
    for (_, body) in world.pushed() {
        if let server_frame::Body::Message(message) = body {
            found.push(message.seq);
        }
    }
    found
}

fn world() -> World {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.deliver(from(2, 1));
    world.sync(1, 1, 0);
    world.done(1, 1, contacts_only(true));
    world.pushed();
    world
}

#[test]
fn a_stranger_asks_and_is_not_heard_until_accepted() {
    let mut world = world();
    let talk = direct(1, 3);
    world.deliver(from(3, 1));
    world.deliver(from(3, 2));
    assert_eq!(messages(&mut world), NONE);
    let entry = world.entry(1, 1, talk);
    assert_eq!((entry.request, entry.head), (true, 2));
    // What was there when it was switched on stays as it is.
    assert!(!world.entry(1, 1, direct(1, 2)).request);
    world.deliver(from(2, 2));
    assert_eq!(messages(&mut world), [2]);
    // It stays a request after the switch is off again, a crash and an eviction.
    world.checkpoint();
    world.restart();
    world.connect(1, 1);
    world.connect(1, 2);
    world.done(1, 1, contacts_only(false));
    world.evict_all();
    world.pushed();
    world.deliver(from(3, 3));
    world.run();
    assert_eq!(messages(&mut world), NONE, "nobody knew without the list");
    assert!(world.entry(1, 1, talk).request);
    world.done(1, 1, MailboxRequest::AcceptRequest(talk));
    let changed = world.changed();
    let [(to, entry)] = changed.as_slice() else { panic!("{changed:?}") };
    assert_eq!((*to, entry.request), (edge(1, 2), false));
    world.deliver(from(3, 4));
    assert_eq!(messages(&mut world), [4, 4]);
    // What is none is accepted all the same, and nobody is told.
    world.done(1, 1, MailboxRequest::AcceptRequest(talk));
    assert_eq!(world.changed(), []);
    let unknown = MailboxRequest::AcceptRequest(direct(1, 9));
    assert_eq!(world.refused(1, 1, unknown), ErrorCode::ErrorUnknownConversation);
    world.restart();
    world.connect(1, 1);
    assert!(!world.entry(1, 1, talk).request);
}

#[test]
fn writing_to_a_request_accepts_it() {
    let mut world = world();
    let talk = direct(1, 3);
    world.deliver(from(3, 1));
    world.pushed();
    world.deliver(said(1, 3, 2));
    let pushed = world.pushed();
    let is_changed = |body: &server_frame::Body| {
        let server_frame::Body::EntryChanged(changed) = body else { return false };
        !changed.entries[0].request
    };
    assert!(pushed.iter().any(|(_, body)| is_changed(body)), "{pushed:?}");
    assert!(!world.entry(1, 1, talk).request);
    world.deliver(from(3, 3));
    assert_eq!(messages(&mut world), [3]);
    // The same when the list is on disk.
    world.deliver(from(4, 1));
    world.evict_all();
    world.deliver(said(1, 4, 2));
    assert!(!world.entry(1, 1, direct(1, 4)).request);
}

#[test]
fn a_group_is_a_request_by_who_added_the_user() {
    let mut world = world();
    world.deliver(from(3, 1));
    world.pushed();
    world.deliver(added(1, 5, 2));
    assert_eq!(messages(&mut world), [5], "by a contact");
    world.deliver(added(2, 5, 9));
    world.deliver(added(3, 5, 3));
    assert_eq!(messages(&mut world), NONE, "by a stranger, and by one who only asks");
    let entries = world.entries(1, 1);
    let requests = [1, 2, 3].map(|n| entries[&group(n)].request);
    assert_eq!(requests, [false, true, true]);
    world.done(1, 1, MailboxRequest::AcceptRequest(group(2)));
    assert!(!world.entry(1, 1, group(2)).request);
}

#[test]
fn strangers_are_told_apart_also_when_the_list_is_on_disk() {
    let mut world = world();
    world.evict_all();
    world.deliver(from(5, 1));
    world.deliver(from(2, 2));
    assert_eq!(messages(&mut world), NONE, "it is not known yet");
    world.run();
    assert_eq!(messages(&mut world), [2]);
    assert!(world.entry(1, 1, direct(1, 5)).request);
    // Too many at once: the device is told to sync instead.
    world.evict_all();
    world.edges.clear();
    for seq in 3..=40 {
        world.deliver(from(2, seq));
    }
    world.run();
    assert_eq!(messages(&mut world).len(), 32);
    assert!(matches!(world.edges.as_slice(), [(_, ToEdge::Behind)]));
}

#[test]
fn nothing_that_strangers_do_shows_before_they_are_accepted() {
    let mut world = world();
    let talk = direct(1, 3);
    world.deliver(from(3, 1));
    world.edges.clear();
    let typing = Bytes::from_static(b"typing");
    let recipients = Recipients::One(user(1).0);
    world.boxes.typing_told(&mut world.ctx, talk, &recipients, &typing);
    world.collect();
    assert_eq!(world.edges.len(), 0);
    world.done(1, 1, MailboxRequest::AcceptRequest(talk));
    world.boxes.typing_told(&mut world.ctx, talk, &recipients, &typing);
    world.collect();
    assert_eq!(world.edges.len(), 1);
}

#[test]
fn a_request_is_shown_to_all_devices_when_it_comes() {
    for cold in [false, true] {
        let mut world = world();
        world.connect(1, 2);
        if cold {
            world.evict_all();
        }
        world.pushed();
        world.deliver(from(3, 1));
        world.run();
        let changed = world.changed();
        let edges: Vec<EdgeAddress> = changed.iter().map(|(to, _)| *to).collect();
        assert_eq!(edges, [edge(1, 1), edge(1, 2)], "cold: {cold}");
        assert!(changed.iter().all(|(_, entry)| entry.request && entry.head == 1));
        // What the stranger says then shows nothing.
        world.deliver(from(3, 2));
        world.deliver(from(2, 2));
        assert_eq!((world.changed(), world.entry(1, 1, direct(1, 3)).head), (vec![], 2));
    }
}
