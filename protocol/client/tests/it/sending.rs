//! Sends: persisted first, dense numbers, repeated in order, never twice.

use crate::hand::{Hand, bob, entry, id_bytes, message, message_id, room, welcome};
use roost_client::{Event, Input, Peer};
use roost_protocol::wire::{self, ErrorCode, client_frame::Body, server_frame};

fn here() -> Peer {
    Peer::Conversation(room())
}

/// Online, with one send accepted as new, so that the window is open.
fn warm() -> Hand {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    hand.say(&here(), "first", 100);
    let (id, _) = hand.take_send();
    hand.accept(id, 1);
    hand.events.clear();
    hand
}

fn numbers(hand: &mut Hand) -> Vec<u64> {
    let mut numbers = Vec::new();
    while hand.sent.iter().any(|(_, body)| matches!(body, Body::Send(_))) {
        numbers.push(hand.take_send().1.client_sequence);
    }
    numbers
}

fn number_error(code: ErrorCode, expected_sequence: u64, head: u64) -> wire::Error {
    wire::Error { code: code.into(), expected_sequence, head, ..wire::Error::default() }
}

#[test]
fn a_send_leaves_only_after_it_was_persisted() {
    let mut hand = warm();
    hand.durable = false;
    hand.say(&here(), "a", 1);
    assert!(hand.sent.is_empty());
    hand.confirm();
    assert_eq!(numbers(&mut hand), [2]);
}

#[test]
fn a_first_contact_is_by_user_and_all_else_by_the_conversations_id() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.say(&bob(), "a", 1);
    hand.say(&bob(), "b", 2);
    let (id, send) = hand.take_send();
    assert_eq!((send.user.as_str(), send.first, send.client_sequence), ("bob", true, 1));
    assert!(hand.sent.is_empty(), "one at a time until the first was accepted as new");
    let conversation = id_bytes(room());
    let reply =
        wire::SendReply { message_id: message_id(1), seq: 1, conversation, ..Default::default() };
    hand.answer(id, server_frame::Body::Send(reply));
    let (_, send) = hand.take_send();
    assert_eq!((&send.conversation[..], send.first), (&room().to_bytes()[..], false));
    assert_eq!((send.client_sequence, send.seen), (2, 0));
    let mut restarted = hand.restarted();
    restarted.online(vec![]);
    let (_, again) = restarted.take_send();
    assert_eq!(again, send);
    restarted.say(&bob(), "c", 3);
    assert!(numbers(&mut restarted).is_empty());
}

#[test]
fn at_most_thirty_two_are_unanswered_and_an_answer_counts_once_persisted() {
    let mut hand = warm();
    for tag in 0..40 {
        hand.say(&here(), "x", tag);
    }
    let ids: Vec<u32> = hand.sent.drain(..).map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 32);
    hand.durable = false;
    hand.accept(ids[0], 2);
    assert!(hand.sent.is_empty() && hand.accepted().is_empty());
    hand.durable = true;
    hand.confirm();
    assert_eq!(hand.accepted(), [(0, 2)]);
    assert_eq!(numbers(&mut hand), [34]);
}

#[test]
fn what_is_unanswered_is_repeated_in_order_with_the_same_names() {
    let mut hand = warm();
    for tag in 1..=3 {
        hand.say(&here(), "x", tag);
    }
    let first: Vec<wire::Send> = (0..3).map(|_| hand.take_send().1).collect();
    hand.reconnect(welcome());
    let again: Vec<wire::Send> = (0..3).map(|_| hand.take_send().1).collect();
    assert_eq!(first, again);
    // After a restart one at a time, and an old answer does not end that.
    let mut restarted = hand.restarted();
    let later = wire::Welcome { server_time_ms: crate::hand::WALL + 1000, ..welcome() };
    restarted.welcomed(later);
    let (id, send) = restarted.take_send();
    assert_eq!(send, first[0]);
    assert!(numbers(&mut restarted).is_empty());
    restarted.accept(id, 2);
    let (id, _) = restarted.take_send();
    assert!(numbers(&mut restarted).is_empty(), "the answer was to a duplicate");
    restarted.accept(id, 2000);
    assert_eq!(numbers(&mut restarted), [4]);
    assert_eq!(restarted.accepted(), [(1, 2), (2, 2000)]);
}

#[test]
fn after_a_conflict_the_history_tells_which_sends_were_stored() {
    let mut hand = warm();
    for tag in 1..=3 {
        hand.say(&here(), "x", tag);
    }
    let sends: Vec<(u32, wire::Send)> = (0..3).map(|_| hand.take_send()).collect();
    for (id, _) in &sends {
        hand.error(*id, number_error(ErrorCode::ErrorSequenceConflict, 9, 3));
    }
    let found =
        wire::Message { client_message_id: sends[1].1.client_message_id, ..message(2, "x") };
    let asked = hand.page(vec![found, message(3, "bob's")], 3);
    assert_eq!(asked.after, Some(1));
    assert_eq!(hand.accepted(), [(2, 2)]);
    assert_eq!(hand.texts(), ["bob's"]);
    let (id, send) = hand.take_send();
    assert_eq!((send.client_message_id, send.client_sequence), (sends[0].1.client_message_id, 9));
    assert!(numbers(&mut hand).is_empty(), "one at a time after a conflict");
    hand.accept(id, 4);
    assert_eq!(numbers(&mut hand), [10]);
}

#[test]
fn a_conflict_at_a_first_contact_is_looked_up_by_user() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.say(&bob(), "a", 1);
    let (id, send) = hand.take_send();
    hand.error(id, number_error(ErrorCode::ErrorSequenceConflict, 4, 2));
    let (id, history) = hand.take_history();
    assert_eq!((history.user.as_str(), history.after), ("bob", Some(0)));
    let own = wire::Message { client_message_id: 77, ..message(1, "before the reinstall") };
    let reply = wire::HistoryReply {
        messages: vec![own, message(2, "b")],
        head: 2,
        conversation: id_bytes(room()),
        ..Default::default()
    };
    hand.answer(id, server_frame::Body::History(reply));
    let (_, again) = hand.take_send();
    assert_eq!((again.client_message_id, again.client_sequence), (send.client_message_id, 4));
    assert_eq!(&again.conversation[..], room().to_bytes());
    assert_eq!(hand.texts(), ["before the reinstall", "b"]);
}

#[test]
fn a_gap_goes_back_or_renumbers() {
    let mut hand = warm();
    for tag in 1..=3 {
        hand.say(&here(), "x", tag);
    }
    let ids: Vec<u32> = hand.sent.drain(..).map(|(id, _)| id).collect();
    hand.refuse(ids[0], ErrorCode::ErrorBusy);
    hand.error(ids[1], number_error(ErrorCode::ErrorGap, 2, 0));
    assert!(hand.sent.is_empty());
    hand.error(ids[2], number_error(ErrorCode::ErrorGap, 2, 0));
    assert!(hand.sent.is_empty(), "busy said to wait");
    hand.tick();
    assert_eq!(numbers(&mut hand), [2, 3, 4]);
    // A restored server expects less than this device has.
    hand.reconnect(welcome());
    let ids: Vec<u32> = (0..3).map(|_| hand.take_send().0).collect();
    for id in ids {
        hand.error(id, number_error(ErrorCode::ErrorGap, 1, 0));
    }
    let (id, send) = hand.take_send();
    assert_eq!(send.client_sequence, 1);
    hand.accept(id, 2);
    assert_eq!(numbers(&mut hand), [2, 3]);
}

#[test]
fn a_refusal_for_good_is_shown_once_persisted_and_the_rest_takes_its_number() {
    let mut hand = warm();
    for tag in 1..=3 {
        hand.say(&here(), "x", tag);
    }
    let sends: Vec<(u32, wire::Send)> = (0..3).map(|_| hand.take_send()).collect();
    hand.refuse(sends[0].0, ErrorCode::ErrorForbidden);
    hand.error(sends[1].0, number_error(ErrorCode::ErrorGap, 2, 0));
    assert!(hand.sent.is_empty(), "the lane waits until all are answered");
    hand.durable = false;
    hand.error(sends[2].0, number_error(ErrorCode::ErrorGap, 2, 0));
    let refused = |hand: &Hand| {
        hand.events.iter().any(|event| matches!(event, Event::Refused { tag: 1, .. }))
    };
    assert!(!refused(&hand) && hand.sent.is_empty());
    hand.durable = true;
    hand.confirm();
    assert!(refused(&hand));
    let again: Vec<wire::Send> = (0..2).map(|_| hand.take_send().1).collect();
    assert_eq!(again[0].client_message_id, sends[1].1.client_message_id);
    assert_eq!([again[0].client_sequence, again[1].client_sequence], [2, 3]);
    assert_eq!(hand.session.unanswered(), 2);
}

#[test]
fn a_refusal_also_counts_when_the_connection_ends_before_the_other_answers() {
    let mut hand = warm();
    hand.say(&here(), "x", 1);
    hand.say(&here(), "y", 2);
    let sends: Vec<(u32, wire::Send)> = (0..2).map(|_| hand.take_send()).collect();
    hand.refuse(sends[0].0, ErrorCode::ErrorForbidden);
    hand.reconnect(welcome());
    let (_, send) = hand.take_send();
    assert_eq!((send.client_message_id, send.client_sequence), {
        (sends[1].1.client_message_id, 2)
    });
    assert!(numbers(&mut hand).is_empty());
}

#[test]
fn a_stale_connection_is_left() {
    let mut hand = warm();
    hand.say(&here(), "x", 1);
    let (id, _) = hand.take_send();
    hand.refuse(id, ErrorCode::ErrorStaleConnection);
    assert_eq!(hand.disconnects, 1);
    hand.tick();
    hand.welcomed(welcome());
    assert_eq!(numbers(&mut hand), [2]);
}

#[test]
fn too_much_is_refused_here() {
    let mut hand = Hand::new();
    for tag in 0..=256 {
        hand.say(&here(), "x", tag);
    }
    hand.say(&bob(), &"x".repeat(65_537), 1000);
    let refused = |event: &Event| match event {
        Event::Refused { tag, code, .. } => Some((*tag, *code)),
        _ => None,
    };
    let refused: Vec<_> = hand.events.iter().filter_map(refused).collect();
    let expected = [(256, ErrorCode::ErrorTooManyInFlight), (1000, ErrorCode::ErrorTooLarge)];
    assert_eq!(refused, expected);
    assert_eq!(hand.session.unanswered(), 256);
}

#[test]
fn own_messages_of_another_device_are_messages() {
    let mut hand = warm();
    let own = wire::Message { client_message_id: 5, ..message(2, "from my tablet") };
    hand.push(server_frame::Body::Message(own));
    let is_own = |event: &Event| matches!(event, Event::Message { own: true, .. });
    assert!(hand.events.iter().any(is_own));
    assert!(!hand.sent.iter().any(|(_, body)| matches!(body, Body::Delivered(_))));
    hand.push_message(3, "bob's");
    assert_eq!(hand.take_delivered().1.marks[0].seq, 3);
    hand.feed(Input::Tick);
    assert!(hand.session.is_idle());
}
