//! What arrives: in order, once, and nothing lost between a cursor and the pulls it promises.

use crate::hand::{Hand, config, entry, message, messages, room, token, welcome};
use roost_client::limits::NOTICE_INTERVAL;
use roost_client::{Command, Config, Event, Order, Restored};
use roost_protocol::ids::Sequence;
use roost_protocol::wire::{self, ErrorCode, client_frame::Body, server_frame};

#[test]
fn a_push_ahead_of_a_gap_waits_for_what_is_missing() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    hand.push_message(1, "m1");
    hand.push_message(4, "m4");
    hand.push_message(4, "m4");
    hand.push_message(5, "m5");
    assert_eq!(hand.texts(), ["m1"]);
    let asked = hand.page(messages(2..=4), 4);
    assert_eq!((asked.after, asked.before), (Some(1), None));
    assert_eq!(hand.texts(), ["m1", "m2", "m3", "m4", "m5"]);
    hand.push_message(3, "m3");
    assert_eq!(hand.texts().len(), 5);
    hand.tick();
    assert!(hand.session.is_idle());
}

#[test]
fn a_kill_between_the_sync_and_its_pulls_loses_nothing() {
    let mut hand = Hand::new();
    hand.online(vec![entry(3)]);
    assert!(!hand.events.contains(&Event::CaughtUp));
    let mut restarted = hand.restarted();
    restarted.welcomed(welcome());
    let (id, sync) = restarted.take_sync();
    assert_eq!(sync.cursor, 1);
    let reply = wire::SyncReply { cursor: 1, ..wire::SyncReply::default() };
    restarted.answer(id, server_frame::Body::Sync(reply));
    restarted.page(messages(1..=3), 3);
    assert_eq!(restarted.texts(), ["m1", "m2", "m3"]);
    assert_eq!(restarted.events.last(), Some(&Event::CaughtUp));
    // And the cursor is not passed before the heads are safe.
    let mut unsafe_hand = Hand::new();
    unsafe_hand.welcomed(welcome());
    unsafe_hand.durable = false;
    let safe = unsafe_hand.records.len();
    unsafe_hand.synced(1, vec![entry(3)]);
    assert_eq!(unsafe_hand.records.len(), safe + 1, "heads and cursor are one record");
}

#[test]
fn sync_goes_on_page_by_page_and_again_when_behind() {
    let mut hand = Hand::new();
    hand.welcomed(welcome());
    let (id, sync) = hand.take_sync();
    assert_eq!(sync.cursor, 0);
    let reply = wire::SyncReply { cursor: 5, more: true, ..wire::SyncReply::default() };
    hand.answer(id, server_frame::Body::Sync(reply));
    hand.push(server_frame::Body::Behind(wire::Behind {}));
    let (id, sync) = hand.take_sync();
    assert_eq!(sync.cursor, 5);
    let reply = wire::SyncReply { cursor: 7, ..wire::SyncReply::default() };
    hand.answer(id, server_frame::Body::Sync(reply));
    assert!(!hand.events.contains(&Event::CaughtUp));
    hand.synced(7, vec![]);
    assert_eq!(hand.events.last(), Some(&Event::CaughtUp));
}

#[test]
fn a_push_moves_no_cursor_and_an_unknown_conversation_is_synced_first() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.push_message(1, "hello from a stranger");
    assert!(hand.texts().is_empty());
    let (id, sync) = hand.take_sync();
    assert_eq!(sync.cursor, 1);
    let reply = wire::SyncReply { entries: vec![entry(0)], cursor: 2, more: false };
    hand.answer(id, server_frame::Body::Sync(reply));
    hand.page(messages(1..=1), 1);
    let peer = hand.events.iter().find_map(|event| match event {
        Event::Message { peer, .. } => peer.clone(),
        _ => None,
    });
    assert_eq!(peer.unwrap().as_str(), "bob");
}

#[test]
fn news_and_pages_with_holes_and_more() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    let news = wire::News { conversation: crate::hand::id_bytes(room()), head: 9, uncounted: 0 };
    hand.push(server_frame::Body::News(news));
    let (id, _) = hand.take_history();
    // Seqs 1, 3 and 4 are not for this user.
    let reply = wire::HistoryReply {
        messages: vec![message(2, "m2"), message(5, "m5")],
        more: true,
        head: 9,
        next: 6,
        ..wire::HistoryReply::default()
    };
    hand.answer(id, server_frame::Body::History(reply));
    let asked = hand.page(messages(7..=8), 9);
    assert_eq!(asked.after, Some(6));
    assert_eq!(hand.texts(), ["m2", "m5", "m7", "m8"]);
    hand.tick();
    assert!(hand.session.is_idle());
    assert_eq!(hand.sent.pop().map(|(id, _)| id), Some(0));
}

#[test]
fn a_trimmed_log_begins_later_and_a_forbidden_one_is_left_alone() {
    let mut hand = Hand::new();
    hand.online(vec![entry(9)]);
    let (id, _) = hand.take_history();
    let code = ErrorCode::ErrorTrimmed.into();
    hand.error(id, wire::Error { code, first_seq: 8, ..wire::Error::default() });
    let asked = hand.page(messages(8..=9), 9);
    assert_eq!(asked.after, Some(7));
    assert_eq!(hand.texts(), ["m8", "m9"]);

    let mut hand = Hand::new();
    hand.online(vec![entry(9)]);
    let (id, _) = hand.take_history();
    hand.refuse(id, ErrorCode::ErrorForbidden);
    assert!(hand.session.is_idle() && hand.sent.is_empty());
}

#[test]
fn a_page_that_another_one_was_faster_than_is_no_reason_to_stop() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    hand.push_message(3, "m3");
    let (id, _) = hand.take_history();
    // What the page will bring comes by itself, and another gap behind it.
    (1..=2).for_each(|seq| hand.push_message(seq, &format!("m{seq}")));
    hand.push_message(5, "m5");
    let reply = wire::HistoryReply {
        messages: messages(1..=2),
        more: true,
        head: 5,
        next: 2,
        ..wire::HistoryReply::default()
    };
    hand.answer(id, server_frame::Body::History(reply));
    let asked = hand.page(messages(4..=5), 5);
    assert_eq!(asked.after, Some(3));
    assert_eq!(hand.texts().len(), 5);
}

#[test]
fn a_head_that_is_not_there_is_asked_for_once() {
    for config in [config(), newest()] {
        let mut hand = Hand::with(config, token(), Restored::default());
        hand.online(vec![entry(9)]);
        let (id, _) = hand.take_history();
        let reply = wire::HistoryReply { messages: vec![], head: 0, ..Default::default() };
        hand.answer(id, server_frame::Body::History(reply));
        assert!(hand.sent.is_empty() && hand.session.is_idle());
    }
}

#[test]
fn a_busy_server_is_asked_again_later() {
    let mut hand = Hand::new();
    hand.online(vec![entry(1)]);
    let (id, _) = hand.take_history();
    hand.refuse(id, ErrorCode::ErrorBusy);
    assert!(hand.sent.is_empty() && !hand.session.is_idle());
    hand.tick();
    hand.page(messages(1..=1), 1);
    assert!(hand.session.is_idle());
}

fn newest() -> Config {
    Config { order: Order::Newest, ..config() }
}

#[test]
fn newest_first_then_down_to_what_was_held() {
    let mut hand = Hand::with(newest(), token(), Restored::default());
    hand.online(vec![entry(100)]);
    let (id, asked) = hand.take_history();
    assert_eq!((asked.before, asked.after, asked.limit), (None, None, Some(50)));
    let reply = wire::HistoryReply {
        messages: messages((51..=100).rev()),
        more: true,
        head: 100,
        next: 51,
        ..wire::HistoryReply::default()
    };
    hand.answer(id, server_frame::Body::History(reply));
    assert_eq!(hand.take_delivered().1.marks[0].seq, 100);
    assert!(hand.session.is_idle());
    assert_eq!((hand.texts().len(), hand.texts()[0].as_str()), (50, "m100"));
    // A gap is filled from above, down to what is held.
    hand.push_message(103, "m103");
    assert_eq!(hand.texts().last().unwrap(), "m103");
    let (id, asked) = hand.take_history();
    assert_eq!(asked.before, Some(103));
    let reply = wire::HistoryReply {
        messages: messages((100..=102).rev()),
        more: true,
        head: 103,
        next: 100,
        ..wire::HistoryReply::default()
    };
    hand.answer(id, server_frame::Body::History(reply));
    hand.tick();
    assert_eq!(hand.take_delivered().1.marks[0].seq, 103);
    hand.pass(NOTICE_INTERVAL);
    // Older ones on demand.
    hand.command(Command::FetchOlder { conversation: room(), limit: 10 });
    let (id, asked) = hand.take_history();
    assert_eq!((asked.before, asked.limit), (Some(51), Some(10)));
    let reply = wire::HistoryReply {
        messages: messages((41..=50).rev()),
        more: true,
        head: 103,
        next: 41,
        ..wire::HistoryReply::default()
    };
    hand.answer(id, server_frame::Body::History(reply));
    assert_eq!(hand.events.last(), Some(&Event::Older { conversation: room(), more: true }));
    assert_eq!(hand.texts().len(), 63);
    let read = Command::Read { conversation: room(), seq: Sequence(103) };
    hand.command(read);
    assert!(matches!(hand.sent[..], [(0, Body::Read(_))]));
}

#[test]
fn sixteen_pulls_at_a_time() {
    let mut hand = Hand::new();
    let entries = (1..=40_u128).map(|number| {
        let id = roost_protocol::ids::ConversationId::from_u128(number << 8 | 2);
        wire::Entry {
            conversation: crate::hand::id_bytes(id),
            kind: wire::ConversationKind::KindGroup.into(),
            head: 1,
            ..wire::Entry::default()
        }
    });
    hand.online(entries.collect());
    assert_eq!(hand.sent.len(), 16);
    for left in (0..40).rev() {
        hand.page(messages(1..=1), 1);
        let pulls = hand.sent.iter().filter(|(_, body)| matches!(body, Body::History(_))).count();
        assert_eq!(pulls, left.min(16));
    }
    assert_eq!(hand.events.last(), Some(&Event::CaughtUp));
}
