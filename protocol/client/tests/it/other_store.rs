//! The server's store is another one.

use crate::hand::{Hand, bob, entry, messages, room, welcome};
use roost_client::{Event, Peer};
use roost_protocol::ids::Sequence;
use roost_protocol::wire::{self, ErrorCode};

fn other() -> wire::Welcome {
    wire::Welcome { store_incarnation: 12, server_run: 22, ..welcome() }
}

/// Holds 1 to 5 and has one send unanswered.
fn holding() -> Hand {
    let mut hand = Hand::new();
    hand.online(vec![entry(5)]);
    hand.page(messages(1..=5), 5);
    hand.say(&Peer::Conversation(room()), "x", 1);
    hand.take_send();
    hand
}

#[test]
fn what_lies_above_the_durable_head_is_dropped_and_all_begins_anew() {
    let mut hand = holding();
    hand.reconnect(other());
    assert!(hand.sent.iter().all(|(id, _)| *id != 0) && hand.sent.len() == 1, "{:?}", hand.sent);
    let asked = hand.page(vec![], 3);
    assert_eq!((asked.after, asked.limit), (Some(5), Some(1)));
    let dropped = Event::Dropped { conversation: room(), above: Sequence(3) };
    assert!(hand.events.contains(&dropped));
    let (_, send) = hand.take_send();
    assert_eq!(send.client_sequence, 1);
    let (id, sync) = hand.take_sync();
    assert_eq!(sync.cursor, 0);
    hand.events.clear();
    let reply = wire::SyncReply { entries: vec![entry(4)], cursor: 9, more: false };
    hand.answer(id, wire::server_frame::Body::Sync(reply));
    let asked = hand.page(messages(4..=4), 4);
    assert_eq!(asked.after, Some(3));
    assert_eq!(hand.texts(), ["m4"]);
    // It is not asked again.
    hand.reconnect(other());
    assert_eq!(hand.take_sync().1.cursor, 9);
}

#[test]
fn a_kill_in_between_asks_again() {
    let mut hand = holding();
    hand.reconnect(other());
    let mut restarted = hand.restarted();
    restarted.welcomed(other());
    let asked = restarted.page(vec![], 5);
    assert_eq!(asked.after, Some(5));
    assert_eq!(restarted.take_sync().1.cursor, 0);
    assert!(!restarted.events.iter().any(|event| matches!(event, Event::Dropped { .. })));
}

#[test]
fn a_conversation_that_is_gone_is_opened_again_by_user() {
    let mut hand = holding();
    hand.reconnect(other());
    let (id, _) = hand.take_history();
    hand.refuse(id, ErrorCode::ErrorUnknownConversation);
    let (_, send) = hand.take_send();
    assert_eq!((send.user.as_str(), send.first), ("bob", true));
    assert!(hand.events.contains(&Event::Dropped { conversation: room(), above: Sequence(0) }));
    hand.say(&bob(), "y", 2);
    assert_eq!(hand.session.unanswered(), 2);
}
