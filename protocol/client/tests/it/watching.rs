//! What is said and pushed while somebody looks: presence, typing, channels, own devices.

use crate::hand::{Hand, channel, entry, group, id_bytes, room, user, welcome};
use roost_client::limits::{TYPING_INTERVAL, WATCH_RENEWAL, WATCHES_MAX};
use roost_client::{Command, Event, Input};
use roost_protocol::request::PresenceOf;
use roost_protocol::time::Duration;
use roost_protocol::wire::{self, ErrorCode, client_frame::Body, server_frame};

fn watch(users: &[&str], stop: bool) -> Command {
    let users = users.iter().map(|name| user(name)).collect();
    Command::WatchPresence { of: PresenceOf { users, conversation: None }, stop }
}

/// The users of each frame about presence, oldest first.
fn watched(hand: &mut Hand) -> Vec<(Vec<String>, bool)> {
    let frames = hand.taken(|body| matches!(body, Body::WatchPresence(_)));
    let users = frames.into_iter().map(|(id, body)| match body {
        Body::WatchPresence(watch) if id == 0 => (watch.users, watch.stop),
        other => panic!("{other:?}"),
    });
    users.collect()
}

/// Ticks until that much time has passed, hearing the server all the while.
fn wait(hand: &mut Hand, length: Duration) {
    let until = hand.now.monotonic + length;
    while hand.session.next_deadline().is_some_and(|due| due <= until) {
        hand.tick();
        hand.feed(Input::Received(&[0]));
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_watch_is_said_again_while_it_is_wanted() {
    let mut hand = Hand::new();
    hand.command(watch(&["bob"], false));
    hand.online(vec![]);
    assert_eq!(watched(&mut hand), [(names(&["bob"]), false)]);
    hand.command(watch(&["carol"], false));
    assert_eq!(watched(&mut hand), [(names(&["carol"]), false)]);
    wait(&mut hand, WATCH_RENEWAL);
    assert_eq!(watched(&mut hand), [(names(&["bob", "carol"]), false)]);
    hand.command(watch(&["bob", "nobody"], true));
    assert_eq!(watched(&mut hand), [(names(&["bob"]), true)]);
    hand.reconnect(welcome());
    assert_eq!(watched(&mut hand), [(names(&["carol"]), false)]);
    hand.command(watch(&["carol"], true));
    watched(&mut hand);
    hand.synced(2, vec![]);
    wait(&mut hand, WATCH_RENEWAL);
    assert_eq!(watched(&mut hand), []);
}

#[test]
fn watches_are_bounded_and_go_in_frames_the_server_takes() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    let users: Vec<_> = (0..WATCHES_MAX + 50).map(|n| user(&format!("u{n:05}"))).collect();
    for some in users.chunks(100) {
        let of = PresenceOf { users: some.to_vec(), conversation: Some(group()) };
        hand.command(Command::WatchPresence { of, stop: false });
    }
    watched(&mut hand);
    hand.reconnect(welcome());
    let said = watched(&mut hand);
    assert!(said.iter().all(|(users, _)| users.len() <= 100));
    assert_eq!(said.iter().map(|(users, _)| users.len()).sum::<usize>(), WATCHES_MAX);
}

#[test]
fn a_notice_that_was_refused_ends_no_connection() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.command(watch(&["bob"], false));
    watched(&mut hand);
    hand.refuse(0, ErrorCode::ErrorInvalidRequest);
    let code = ErrorCode::ErrorRateLimited.into();
    hand.error(0, wire::Error { code, retry_after_ms: 500, ..wire::Error::default() });
    assert_eq!(hand.disconnects, 0);
    wait(&mut hand, Duration::from_ms(800));
    assert_eq!(watched(&mut hand), [(names(&["bob"]), false)]);
}

#[test]
fn channels_are_watched_likewise() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    let watch = |stop| Command::WatchChannel { conversation: channel(), stop };
    let said = |hand: &mut Hand| hand.taken(|body| matches!(body, Body::WatchChannel(_))).len();
    hand.command(watch(false));
    assert_eq!(said(&mut hand), 1);
    wait(&mut hand, WATCH_RENEWAL);
    assert_eq!(said(&mut hand), 1);
    hand.command(watch(true));
    assert_eq!(said(&mut hand), 1);
    hand.reconnect(welcome());
    assert_eq!(said(&mut hand), 0);
}

#[test]
fn typing_is_told_every_three_seconds_at_most() {
    let mut hand = Hand::new();
    let typing = |hand: &mut Hand, stopped| {
        hand.command(Command::Typing { conversation: room(), stopped });
        hand.taken(|body| matches!(body, Body::Typing(_))).len()
    };
    assert_eq!(typing(&mut hand, false), 0, "nobody is there to be told");
    hand.online(vec![entry(0)]);
    assert_eq!(typing(&mut hand, true), 0, "it never began");
    assert_eq!([typing(&mut hand, false), typing(&mut hand, false)], [1, 0]);
    assert_eq!([typing(&mut hand, true), typing(&mut hand, true)], [1, 0]);
    assert_eq!(typing(&mut hand, false), 0, "within three seconds");
    hand.pass(TYPING_INTERVAL);
    assert_eq!([typing(&mut hand, false), typing(&mut hand, false)], [1, 0]);
}

#[test]
fn pushes_are_told_and_change_nothing() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    let records = hand.records.len();
    hand.events.clear();
    let typing = wire::TypingPush { conversation: id_bytes(room()), member: 3, stopped: true };
    hand.push(server_frame::Body::Typing(typing));
    let presence = wire::Presence { user: "bob".to_owned(), online: true, last_seen_ms: 0 };
    let presences = vec![presence];
    hand.push(server_frame::Body::Presence(wire::PresencePush { presences: presences.clone() }));
    hand.push(server_frame::Body::DevicesChanged(wire::DevicesChanged { version: 4 }));
    let told = [
        Event::Typing { conversation: room(), member: 3, stopped: true },
        Event::Presence(presences),
        Event::DevicesChanged { version: 4 },
    ];
    assert_eq!(hand.events, told);
    assert_eq!(hand.records.len(), records);
}
