//! Writes that are no plain messages: one lane with the messages, one fate.

use crate::hand::{Hand, bob, entry, group, id_bytes, message, room, user, welcome};
use bytes::Bytes;
use roost_client::{Command, Event, Form, Peer};
use roost_protocol::ids::{ClientMessageId, DeviceId, Sequence};
use roost_protocol::request::{Ciphertext, Content, DeviceVersion, GroupChange};
use roost_protocol::wire::send::Content as Said;
use roost_protocol::wire::{self, ErrorCode, client_frame::Body, server_frame};

/// Online, with one send accepted as new, so that the window is open.
fn warm() -> Hand {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    hand.say(&Peer::Conversation(room()), "first", 100);
    let (id, _) = hand.take_send();
    hand.accept(id, 1);
    hand.events.clear();
    hand
}

fn all_contents() -> Vec<Content> {
    let seq = Sequence(1);
    vec![
        Content::Body(Bytes::from_static(b"body")),
        Content::Edit { seq, body: Bytes::from_static(b"better") },
        Content::Delete { seq },
        Content::Reaction { seq, reaction: "🐦".to_owned() },
        Content::Forward { conversation: group(), seq, body: Bytes::from_static(b"heard") },
        to_devices(b"secret", 1),
    ]
}

fn to_devices(body: &'static [u8], version: u64) -> Content {
    let of = |name: &str| DeviceVersion { user: user(name), version };
    Content::ToDevices {
        ciphertexts: vec![Ciphertext {
            user: user("bob"),
            device: DeviceId([7; 16]),
            body: Bytes::from_static(body),
        }],
        key_message: false,
        versions: vec![of("ann"), of("bob")],
    }
}

#[test]
fn every_write_is_numbered_in_one_row_and_repeated_as_it_was() {
    let mut hand = warm();
    for (tag, content) in (1..).zip(all_contents()) {
        hand.write(content, tag);
    }
    let count = all_contents().len();
    let first: Vec<wire::Send> = (0..count).map(|_| hand.take_send().1).collect();
    let numbers: Vec<u64> = first.iter().map(|send| send.client_sequence).collect();
    assert_eq!(numbers, (2..2 + count as u64).collect::<Vec<_>>());
    assert!(matches!(&first[1].content, Some(Said::Edit(edit)) if edit.body == "better"));
    assert_eq!(first[5].device_versions.len(), 2);
    hand.reconnect(welcome());
    let again: Vec<wire::Send> = (0..count).map(|_| hand.take_send().1).collect();
    assert_eq!(first, again);
    // And after the app was killed, one at a time.
    let mut restarted = hand.restarted();
    restarted.welcomed(welcome());
    for (at, send) in first.iter().enumerate() {
        let (id, repeated) = restarted.take_send();
        assert_eq!(&repeated, send);
        restarted.accept(id, 2 + at as u64);
    }
    assert_eq!(restarted.accepted().len(), count);
    assert_eq!(restarted.session.unanswered(), 0);
}

#[test]
fn a_reply_names_what_it_replies_to_and_a_message_may_open_a_conversation() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    let content = to_devices(b"x", 1);
    hand.command(Command::Write { to: bob(), content, reply_to: Sequence(3), tag: 1 });
    let (_, send) = hand.take_send();
    assert_eq!((send.user.as_str(), send.first, send.reply_to), ("bob", true, 3));
    let carol = Peer::User(user("carol"));
    let content = Content::Delete { seq: Sequence(1) };
    hand.command(Command::Write { to: carol, content, reply_to: Sequence(0), tag: 2 });
    let (id, send) = hand.take_send();
    assert!(!send.first, "a deletion opens no conversation");
    hand.refuse(id, ErrorCode::ErrorUnknownConversation);
    assert_eq!(hand.refusals(), [(2, ErrorCode::ErrorUnknownConversation)]);
}

#[test]
fn what_no_server_would_take_is_refused_here() {
    let mut hand = warm();
    let long = "x".repeat(33);
    hand.write(Content::Reaction { seq: Sequence(1), reaction: long }, 1);
    hand.write(Content::Edit { seq: Sequence(0), body: Bytes::new() }, 2);
    hand.write(Content::Group(GroupChange::Leave), 3);
    hand.write(Content::Edit { seq: Sequence(1), body: vec![0; 65_537].into() }, 4);
    let bodies = (0..20).map(|device| Ciphertext {
        user: user("bob"),
        device: DeviceId([device; 16]),
        body: vec![0; 60_000].into(),
    });
    let versions = vec![DeviceVersion { user: user("bob"), version: 1 }];
    let content =
        Content::ToDevices { ciphertexts: bodies.collect(), key_message: false, versions };
    hand.write(content, 5);
    let (invalid, large) = (ErrorCode::ErrorInvalidRequest, ErrorCode::ErrorTooLarge);
    let expected = [(1, invalid), (2, invalid), (3, invalid), (4, large), (5, large)];
    assert_eq!(hand.refusals(), expected);
    assert!(hand.sent.is_empty() && hand.session.unanswered() == 0);
}

#[test]
fn changes_of_a_group_wait_their_turn_and_a_refused_one_lets_the_rest_go_on() {
    let mut hand = Hand::new();
    hand.online(vec![wire::Entry {
        conversation: id_bytes(group()),
        kind: wire::ConversationKind::KindGroup.into(),
        member: 1,
        ..entry(0)
    }]);
    let write = |content, tag| Command::Write {
        to: Peer::Conversation(group()),
        content,
        reply_to: Sequence(0),
        tag,
    };
    hand.command(write(Content::Body(Bytes::from_static(b"hi")), 1));
    let (id, _) = hand.take_send();
    hand.accept(id, 1);
    hand.command(write(Content::Group(GroupChange::Remove(vec![user("bob")])), 2));
    hand.command(write(Content::Body(Bytes::from_static(b"bye bob")), 3));
    let (refused, change) = hand.take_send();
    let Some(Said::GroupChange(change)) = change.content else { panic!("no change") };
    let removed = wire::MemberChange { users: vec!["bob".to_owned()] };
    assert_eq!(change.change, Some(wire::group_change::Change::Remove(removed)));
    let (id, _) = hand.take_send();
    hand.refuse(refused, ErrorCode::ErrorForbidden);
    let expected_sequence = 2;
    let code = ErrorCode::ErrorGap.into();
    hand.error(id, wire::Error { code, expected_sequence, ..wire::Error::default() });
    let (_, again) = hand.take_send();
    assert_eq!(again.client_sequence, 2);
    assert_eq!(hand.refusals(), [(2, ErrorCode::ErrorForbidden)]);
}

#[test]
fn too_fast_waits_as_long_as_it_is_told_and_overtakes_nothing() {
    for first in [false, true] {
        let mut hand = if first { Hand::new() } else { warm() };
        if first {
            hand.online(vec![]);
        }
        let to = if first { bob() } else { Peer::Conversation(room()) };
        hand.say(&to, "a", 1);
        hand.say(&to, "b", 2);
        let (id, send) = hand.take_send();
        let begin = hand.now.monotonic;
        let code = ErrorCode::ErrorRateLimited.into();
        hand.error(id, wire::Error { code, retry_after_ms: 72_000, ..wire::Error::default() });
        let expected_sequence = send.client_sequence;
        for (id, _) in hand.taken(|body| matches!(body, Body::Send(_))) {
            let code = ErrorCode::ErrorGap.into();
            hand.error(id, wire::Error { code, expected_sequence, ..wire::Error::default() });
        }
        while hand.sent.iter().all(|(_, body)| !matches!(body, Body::Send(_))) {
            hand.feed(roost_client::Input::Received(&[0]));
            hand.tick();
        }
        assert!(hand.now.monotonic.since(begin).as_ms() >= 72_000);
        assert_eq!(hand.take_send().1, send);
        assert!(hand.refusals().is_empty());
    }
}

/// `devices_changed`, with these versions.
fn changed(version: u64) -> wire::Error {
    let of = |name: &str| wire::DeviceVersion { user: name.to_owned(), version };
    wire::Error {
        code: ErrorCode::ErrorDevicesChanged.into(),
        devices: vec![of("ann"), of("bob")],
        ..wire::Error::default()
    }
}

fn is_send(body: &Body) -> bool {
    matches!(body, Body::Send(_))
}

fn asked_again(hand: &mut Hand) -> Vec<(u64, ClientMessageId, u64)> {
    let mut asked = Vec::new();
    for event in std::mem::take(&mut hand.events) {
        if let Event::EncryptAgain { tag, client_message_id, versions } = event {
            asked.push((tag, client_message_id, versions[0].version));
        }
    }
    asked
}

#[test]
fn a_message_for_old_devices_is_encrypted_again_under_its_name() {
    let mut hand = warm();
    hand.write(to_devices(b"for one", 1), 1);
    hand.say(&Peer::Conversation(room()), "after it", 2);
    let (id, send) = hand.take_send();
    let (behind, _) = hand.take_send();
    hand.error(id, changed(4));
    let code = ErrorCode::ErrorGap.into();
    hand.error(behind, wire::Error { code, expected_sequence: 2, ..wire::Error::default() });
    let name = ClientMessageId(send.client_message_id);
    assert_eq!(asked_again(&mut hand), [(1, name, 4)]);
    assert!(hand.sent.is_empty(), "nothing overtakes it");
    // It is told again when the app did not hear, or was killed.
    hand.reconnect(welcome());
    let (id, _) = hand.take_send();
    hand.error(id, changed(4));
    let (behind, _) = hand.take_send();
    hand.error(behind, wire::Error { code, expected_sequence: 2, ..wire::Error::default() });
    assert_eq!(asked_again(&mut hand).len(), 1);
    hand.durable = false;
    let content = Some(to_devices(b"for two", 4));
    hand.command(Command::EncryptedAgain { client_message_id: name, content: content.clone() });
    assert!(hand.taken(is_send).is_empty(), "it is written down first");
    hand.confirm();
    let mut restarted = hand.restarted();
    restarted.welcomed(welcome());
    for hand in [&mut hand, &mut restarted] {
        let (_, again) = hand.take_send();
        assert_eq!(again.client_message_id, send.client_message_id);
        assert_eq!((again.client_sequence, again.device_versions[0].version), (2, 4));
    }
    // What is not asked for changes nothing.
    hand.command(Command::EncryptedAgain { client_message_id: name, content });
    assert_eq!(hand.session.unanswered(), 2);
}

#[test]
fn a_message_for_old_devices_can_be_given_up() {
    let mut hand = warm();
    hand.write(to_devices(b"x", 1), 1);
    let (id, send) = hand.take_send();
    hand.error(id, changed(4));
    let client_message_id = ClientMessageId(send.client_message_id);
    hand.command(Command::EncryptedAgain { client_message_id, content: None });
    assert_eq!(hand.refusals(), [(1, ErrorCode::ErrorDevicesChanged)]);
    hand.say(&Peer::Conversation(room()), "next", 2);
    assert_eq!(hand.take_send().1.client_sequence, 2);
}

#[test]
fn nobody_encrypts_for_ever() {
    let mut hand = warm();
    hand.write(to_devices(b"x", 1), 1);
    for version in 2..=6 {
        let (id, send) = hand.take_send();
        hand.error(id, changed(version));
        let client_message_id = ClientMessageId(send.client_message_id);
        let content = Some(to_devices(b"x", version));
        hand.command(Command::EncryptedAgain { client_message_id, content });
    }
    let (id, _) = hand.take_send();
    hand.error(id, changed(7));
    let told = |event: &&Event| matches!(event, Event::EncryptAgain { .. });
    assert_eq!(hand.events.iter().filter(told).count(), 5);
    assert_eq!(hand.refusals(), [(1, ErrorCode::ErrorDevicesChanged)]);
}

#[test]
fn versions_that_are_not_known_yet_only_take_a_moment() {
    let mut hand = warm();
    hand.write(to_devices(b"x", 1), 1);
    let (id, send) = hand.take_send();
    hand.error(id, wire::Error { retry_after_ms: 200, ..changed(0) });
    assert!(asked_again(&mut hand).is_empty() && hand.sent.is_empty());
    hand.tick();
    assert_eq!(hand.take_send().1, send);
}

#[test]
fn what_comes_says_who_wrote_it_and_what_it_is() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    use wire::message::Content as C;
    let seq = 1;
    let forward =
        wire::Forward { conversation: id_bytes(group()), seq: 9, body: Bytes::from_static(b"f") };
    let contents = [
        Some(C::Body(Bytes::from_static(b"b"))),
        Some(C::Forward(forward)),
        Some(C::Ciphertext(wire::DeviceCiphertext::default())),
        Some(C::Edit(wire::Edit { seq, body: Bytes::from_static(b"e") })),
        Some(C::Delete(wire::Delete { seq })),
        Some(C::Reaction(wire::Reaction { seq, reaction: "+".to_owned() })),
        Some(C::System(wire::SystemMessage { created: true, ..Default::default() })),
        None,
    ];
    for (seq, content) in (1..).zip(contents) {
        let reply_to = u64::from(seq == 2);
        let pushed = wire::Message { content, sender: 3, reply_to, ..message(seq, "") };
        hand.push(server_frame::Body::Message(pushed));
    }
    let told: Vec<(u64, Option<Form>)> = hand
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Message { seq, form, sender: 3, .. } => Some((seq.0, Some(*form))),
            Event::Record { record, .. } => Some((record.seq, None)),
            _ => None,
        })
        .collect();
    let forwarded = Form::Forwarded { conversation: group(), seq: Sequence(9) };
    let forms = [Some(Form::Plain), Some(forwarded), Some(Form::Ciphertext)];
    let expected: Vec<_> = (1..).zip(forms.into_iter().chain([None; 5])).collect();
    assert_eq!(told, expected);
    let reply = |event: &Event| matches!(event, Event::Message { reply_to: Sequence(1), .. });
    assert_eq!(hand.events.iter().filter(|event| reply(event)).count(), 1);
}
