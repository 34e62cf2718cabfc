//! Coming, staying, going.

use crate::hand::{Hand, WALL, config, entry, id_bytes, message, room, welcome};
use bytes::Bytes;
use roost_client::{Command, Credential, DisconnectReason, Event, Input, Restored};
use roost_protocol::ids::Sequence;
use roost_protocol::time::Duration;
use roost_protocol::wire::{self, ErrorCode, client_frame::Body, server_frame};

#[test]
fn hello_waits_until_the_number_of_the_connection_is_persisted() {
    let mut hand = Hand::new();
    hand.durable = false;
    hand.feed(Input::Start);
    hand.feed(Input::Connected);
    assert!(hand.sent.is_empty());
    hand.confirm();
    let (_, hello) = hand.take_hello();
    assert_eq!((hello.connection_number, hello.token.as_str()), (1, "token"));
}

#[test]
fn the_second_hello_carries_the_ticket_also_after_a_restart() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.feed(Input::Disconnected);
    hand.tick();
    hand.feed(Input::Connected);
    let (_, hello) = hand.take_hello();
    assert_eq!((&hello.ticket[..], hello.connection_number), (&b"ticket"[..], 2));
    let mut restarted = Hand::with(config(), Credential::None, hand.restored());
    restarted.now = hand.now;
    restarted.feed(Input::Start);
    restarted.feed(Input::Connected);
    let (_, hello) = restarted.take_hello();
    assert_eq!((&hello.ticket[..], hello.connection_number), (&b"ticket"[..], 3));
}

#[test]
fn an_expired_ticket_is_not_used_and_a_refused_one_is_forgotten() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.now.wall.ms = WALL + 86_400_000;
    hand.feed(Input::Disconnected);
    hand.tick();
    hand.feed(Input::Connected);
    assert_eq!(hand.take_hello().1.token, "token");

    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.feed(Input::Disconnected);
    for credential in ["ticket", "token"] {
        hand.tick();
        hand.feed(Input::Connected);
        let (id, hello) = hand.take_hello();
        assert_eq!(hello.token.is_empty(), credential == "ticket");
        hand.refuse(id, ErrorCode::ErrorSignedOut);
    }
    assert_eq!(hand.tokens_needed, 0);
    hand.tick();
    assert_eq!(hand.tokens_needed, 1);
    hand.feed(Input::Token("fresh".to_owned()));
    hand.feed(Input::Connected);
    assert_eq!(hand.take_hello().1.token, "fresh");
}

#[test]
fn without_any_credential_a_token_is_asked_for() {
    let mut hand = Hand::with(config(), Credential::None, Restored::default());
    hand.feed(Input::Start);
    assert_eq!((hand.tokens_needed, hand.connects), (1, 0));
    hand.feed(Input::Token("late".to_owned()));
    assert_eq!(hand.connects, 1);
}

#[test]
fn a_superseded_connection_goes_on_from_the_number_it_is_given() {
    let mut hand = Hand::new();
    hand.feed(Input::Start);
    hand.feed(Input::Connected);
    let (id, _) = hand.take_hello();
    hand.error(
        id,
        wire::Error {
            code: ErrorCode::ErrorConnectionSuperseded.into(),
            expected_connection_number: 42,
            ..wire::Error::default()
        },
    );
    assert_eq!(hand.disconnects, 1);
    hand.tick();
    hand.feed(Input::Connected);
    assert_eq!(hand.take_hello().1.connection_number, 42);
    let mut restarted = hand.restarted();
    restarted.feed(Input::Start);
    restarted.feed(Input::Connected);
    assert_eq!(restarted.take_hello().1.connection_number, 43);
}

#[test]
fn replaced_is_final() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.refuse(0, ErrorCode::ErrorReplaced);
    assert!(matches!(
        hand.events.last(),
        Some(Event::Fatal { code: ErrorCode::ErrorReplaced, .. })
    ));
    assert_eq!((hand.disconnects, hand.session.next_deadline()), (1, None));
}

#[test]
fn after_go_away_what_is_in_flight_is_finished_first() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    hand.say(&crate::hand::bob(), "hi", 1);
    let (id, _) = hand.take_send();
    hand.push(server_frame::Body::GoAway(wire::GoAway {
        reconnect_after_ms: 700,
        alternative: "other:1".to_owned(),
    }));
    hand.say(&crate::hand::bob(), "later", 2);
    assert_eq!(hand.disconnects, 0);
    assert!(hand.sent.is_empty(), "nothing new leaves: {:?}", hand.sent);
    hand.accept(id, 1);
    assert_eq!(hand.disconnects, 1);
    assert_eq!(hand.accepted(), [(1, 1)]);
    let reason = DisconnectReason::GoAway { alternative: "other:1".to_owned() };
    let retry_in = Some(Duration::from_ms(700));
    assert!(hand.events.contains(&Event::Disconnected { reason, retry_in }));
    hand.tick();
    assert_eq!(hand.connects, 2);
}

#[test]
fn a_heartbeat_leaves_when_nothing_was_sent_and_silence_ends_the_connection() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    let begin = hand.now.monotonic;
    hand.tick();
    assert_eq!(hand.heartbeats, 1);
    assert_eq!(hand.now.monotonic.since(begin), Duration::from_seconds(12));
    hand.feed(Input::Received(&[0]));
    let heard = hand.now.monotonic;
    while hand.disconnects == 0 {
        hand.tick();
    }
    assert_eq!(hand.now.monotonic.since(heard), Duration::from_seconds(30));
    assert_eq!(hand.heartbeats, 3);
}

#[test]
fn a_request_without_an_answer_ends_the_connection() {
    let mut hand = Hand::new();
    hand.welcomed(welcome());
    while hand.disconnects == 0 {
        hand.tick();
        hand.feed(Input::Received(&[0]));
    }
    let timeout = |event: &Event| {
        matches!(event, Event::Disconnected { reason: DisconnectReason::Timeout, .. })
    };
    assert!(hand.events.iter().any(timeout));
}

#[test]
fn an_expiring_token_is_refreshed_on_the_open_connection() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.push(server_frame::Body::TokenExpiring(wire::TokenExpiring::default()));
    assert_eq!(hand.tokens_needed, 1);
    hand.feed(Input::Token("next".to_owned()));
    let (id, refresh) = hand.take_refresh();
    assert_eq!(refresh.token, "next");
    let refreshed = wire::Refreshed {
        ticket: Bytes::from_static(b"ticket2"),
        ticket_expires_ms: WALL + 90_000_000,
        token_expires_ms: 0,
    };
    hand.answer(id, server_frame::Body::Refreshed(refreshed));
    hand.reconnect(welcome());
    let mut restarted = Hand::with(config(), Credential::None, hand.restored());
    restarted.now = hand.now;
    restarted.feed(Input::Start);
    restarted.feed(Input::Connected);
    assert!(restarted.take_hello().1.ticket.starts_with(b"ticket"));
}

#[test]
fn delivered_is_said_once_persisted_and_coalesced_and_again_after_a_reconnect() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    hand.durable = false;
    hand.push_message(1, "a");
    hand.push_message(2, "b");
    assert!(
        hand.sent.is_empty() && hand.events.iter().all(|e| !matches!(e, Event::Message { .. }))
    );
    hand.durable = true;
    hand.confirm();
    let (_, delivered) = hand.take_delivered();
    let mark = wire::Mark { conversation: id_bytes(room()), seq: 2, uncounted: 0 };
    assert_eq!(delivered.marks, std::slice::from_ref(&mark));
    assert!(hand.sent.is_empty());
    hand.reconnect(welcome());
    assert_eq!(hand.take_delivered().1.marks, std::slice::from_ref(&mark));
    hand.synced(2, vec![]);
    // The Sync was asked for after it was said: that proves it.
    hand.reconnect(welcome());
    assert!(!hand.sent.iter().any(|(_, body)| matches!(body, Body::Delivered(_))));
    // Another run of the server may have forgotten it, and so may a restarted app.
    hand.reconnect(wire::Welcome { server_run: 22, ..welcome() });
    assert_eq!(hand.take_delivered().1.marks, std::slice::from_ref(&mark));
    let mut restarted = hand.restarted();
    restarted.welcomed(wire::Welcome { server_run: 22, ..welcome() });
    assert_eq!(restarted.take_delivered().1.marks, [mark]);
}

#[test]
fn read_is_persisted_and_said_until_a_sync_proves_it() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    let pushed = wire::Message { uncounted: 1, ..message(1, "a") };
    hand.push(server_frame::Body::Message(pushed));
    hand.command(Command::Read { conversation: room(), seq: Sequence(1) });
    let mark = wire::Mark { conversation: id_bytes(room()), seq: 1, uncounted: 1 };
    hand.tick();
    assert_eq!(hand.take_read().1.marks, std::slice::from_ref(&mark));
    // The app is killed: nobody knows whether it arrived.
    let mut restarted = hand.restarted();
    restarted.welcomed(welcome());
    assert_eq!(restarted.take_read().1.marks, [mark]);
    restarted.synced(2, vec![]);
    let mut again = restarted.restarted();
    again.welcomed(welcome());
    assert!(!again.sent.iter().any(|(_, body)| matches!(body, Body::Read(_))));
}

#[test]
fn the_background_is_told_and_synced() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.sent.clear();
    hand.command(Command::SetActivity(wire::ActivityState::ActivityBackground));
    assert!(matches!(hand.sent[..], [(0, Body::Activity(_)), (_, Body::Sync(_))]));
    hand.synced(2, vec![]);
    let begin = hand.now.monotonic;
    hand.tick();
    assert_eq!(hand.now.monotonic.since(begin), Duration::from_seconds(240));
}

#[test]
fn ticks_rise_and_never_go_back() {
    let mut hand = Hand::new();
    hand.online(vec![wire::Entry { peer_delivered: 3, peer_read: 1, ..entry(5) }]);
    let receipt = |delivered, read| {
        let conversation = id_bytes(room());
        let receipt = wire::Receipt { conversation, delivered, read, member: 0 };
        server_frame::Body::Receipts(wire::Receipts { receipts: vec![receipt] })
    };
    hand.push(receipt(2, 0));
    hand.push(receipt(0, 4));
    let mut restarted = hand.restarted();
    restarted.online(vec![wire::Entry { peer_delivered: 3, peer_read: 2, ..entry(5) }]);
    let ticks = |hand: &Hand| -> Vec<(char, u64)> {
        let tick = |event: &Event| match event {
            Event::Delivered { up_to, .. } => Some(('d', up_to.0)),
            Event::Read { up_to, .. } => Some(('r', up_to.0)),
            _ => None,
        };
        hand.events.iter().filter_map(tick).collect()
    };
    assert_eq!(ticks(&hand), [('d', 3), ('r', 1), ('d', 4), ('r', 4)]);
    assert_eq!(ticks(&restarted), []);
}

#[test]
fn garbage_ends_the_connection_and_nothing_else() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.feed(Input::Received(&[5, 0xff, 0xff, 0xff, 0xff, 0xff]));
    assert_eq!(hand.disconnects, 1);
    hand.tick();
    assert_eq!(hand.connects, 2);
}
