//! What people and scripts are told, as text.

use super::*;
use bytes::Bytes;
use expect_test::expect;
use roost_client::DisconnectReason;
use roost_protocol::ids::{ClientMessageId, ConversationId, MessageId, Sequence};
use roost_protocol::time::Duration;
use roost_protocol::wire::{self, ErrorCode};

fn events() -> Vec<Event> {
    let conversation = ConversationId::from_bytes([0xa9; 16]);
    let message = |seq, own, body: &'static [u8]| Event::Message {
        conversation,
        peer: UserId::new("bob").ok(),
        own,
        sender: 0,
        form: roost_client::Form::Plain,
        reply_to: Sequence(0),
        seq: Sequence(seq),
        message_id: MessageId(4_194_304_000),
        client_message_id: ClientMessageId(if own { u64::MAX } else { 0 }),
        body: Bytes::from_static(body),
    };
    vec![
        Event::Disconnected {
            reason: DisconnectReason::ConnectFailed,
            retry_in: Some(Duration::from_ms(200)),
        },
        Event::Disconnected { reason: DisconnectReason::Closed, retry_in: None },
        Event::Accepted {
            tag: 7,
            client_message_id: ClientMessageId(u64::MAX),
            conversation,
            seq: Sequence(3),
            message_id: MessageId(4_194_304_000),
        },
        message(4, false, "hé\u{1b}[2J\nho".as_bytes()),
        message(5, true, b""),
        message(6, false, b"\xff\x00"),
        Event::Delivered { conversation, up_to: Sequence(3) },
        Event::Read { conversation, up_to: Sequence(3) },
        Event::Refused {
            tag: 8,
            client_message_id: ClientMessageId(0),
            code: ErrorCode::ErrorTooLarge,
            text: "too long".to_owned(),
        },
        Event::CaughtUp,
        Event::Fatal { code: ErrorCode::ErrorReplaced, text: "elsewhere".to_owned() },
    ]
}

fn all(json: bool) -> String {
    let me = UserId::new("alice").unwrap();
    let mut renderer = Renderer::new(json, me, Names::default());
    renderer.said(7, None, b"hello");
    events().iter().map(|event| renderer.event(event, 0).text).collect()
}

#[test]
fn a_script_reads_json() {
    // A line of JSON each; broken up here to fit the page.
    expect![[r#"
        {"event":"disconnected",
          "reason":"connect_failed",
          "retry_in_ms":200}
        {"event":"disconnected",
          "reason":"closed"}
        {"event":"sent",
          "conversation":"a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9",
          "seq":3,
          "client_message_id":"18446744073709551615",
          "message_id":"4194304000",
          "time_ms":1767225601000}
        {"event":"message",
          "conversation":"a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9",
          "seq":4,
          "message_id":"4194304000",
          "time_ms":1767225601000,
          "from":"bob",
          "own":false,
          "body":"hé\u001b[2J\nho"}
        {"event":"message",
          "conversation":"a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9",
          "seq":5,
          "client_message_id":"18446744073709551615",
          "message_id":"4194304000",
          "time_ms":1767225601000,
          "from":"alice",
          "own":true,
          "body":""}
        {"event":"message",
          "conversation":"a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9",
          "seq":6,
          "message_id":"4194304000",
          "time_ms":1767225601000,
          "from":"bob",
          "own":false,
          "body":"�\u0000",
          "body_base64":"/wA="}
        {"event":"delivered",
          "conversation":"a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9",
          "seq":3,
          "up_to":3}
        {"event":"read",
          "conversation":"a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9",
          "seq":3,
          "up_to":3}
        {"event":"error",
          "code":"too_large",
          "text":"too long",
          "fatal":false}
        {"event":"caught_up"}
        {"event":"error",
          "code":"replaced",
          "text":"elsewhere",
          "fatal":true}
    "#]]
    .assert_eq(&all(true).replace(",\"", ",\n  \""));
}

#[test]
fn a_person_reads_text() {
    expect![[r#"
        * not connected: connect_failed, trying again
        ✓ 3 hello
        4 bob: hé\u{1b}[2J
          ho
        5 alice (elsewhere): 
        6 bob: �\u{0}
        ✓✓ 3
        ✓✓ 3 read
        ! not sent: too long (too_large)
        ! elsewhere (replaced)
    "#]]
    .assert_eq(&all(false));
}

/// What happens in a group, told to Alice, who writes elsewhere.
fn in_a_group(json: bool) -> String {
    use wire::group_change::Change;
    use wire::message::Content as C;
    let id = ConversationId::from_bytes([0xa2; 16]);
    let member = |member, user: &str, role: wire::MemberRole| wire::Member {
        member,
        user: user.to_owned(),
        role: role.into(),
        joined_seq: 1,
        left_seq: 0,
    };
    let (ann, bob) =
        (member(1, "ann", wire::MemberRole::Owner), member(2, "bob", wire::MemberRole::Member));
    let system = |change: Option<Change>, members: Vec<wire::Member>| {
        let created = change.is_none();
        let change = change.map(|change| wire::GroupChange { change: Some(change) });
        C::System(wire::SystemMessage { change, members, created })
    };
    let seq = 2;
    let contents = [
        system(None, vec![ann.clone(), bob.clone()]),
        C::Edit(wire::Edit { seq, body: Bytes::from_static(b"better") }),
        C::Delete(wire::Delete { seq }),
        C::Reaction(wire::Reaction { seq, reaction: "🐦".to_owned() }),
        C::Reaction(wire::Reaction { seq, reaction: String::new() }),
        system(Some(Change::Rename("birds".to_owned())), vec![]),
        system(Some(Change::Add(wire::MemberChange::default())), vec![bob.clone()]),
        system(Some(Change::Leave(true)), vec![member(3, "eve", bob.role()), ann]),
    ];
    let mut events: Vec<Event> = (1..)
        .zip(contents)
        .map(|(seq, content)| {
            let content = Some(content);
            let record = wire::Message { seq, sender: 1, content, ..Default::default() };
            Event::Record { conversation: id, record: Box::new(record) }
        })
        .collect();
    let presence = wire::Presence { user: "bob".to_owned(), online: true, last_seen_ms: 0 };
    events.extend([
        Event::Typing { conversation: id, member: 2, stopped: false },
        Event::Presence(vec![presence]),
        Event::DevicesChanged { version: 3 },
    ]);
    let me = UserId::new("alice").unwrap();
    let mut renderer = Renderer::new(json, me, Names::default());
    renderer.current = Some(ConversationId::from_bytes([0xa1; 16]));
    events.iter().map(|event| renderer.event(event, 0).text).collect()
}

#[test]
fn a_person_reads_what_happens_in_a_group() {
    expect![[r#"
        1 [a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2] * ann created this with bob
        2 [a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2] ann edits 2: better
        3 [a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2] ann deletes 2
        4 [a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2] ann reacts to 2: 🐦
        5 [a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2] ann takes back the reaction to 2
        6 [birds] * ann called this birds
        7 [birds] * ann added bob
        8 [birds] * ann left; this is ann's now
        [birds] * bob types
        * bob is there
        * my devices changed: /devices
    "#]]
    .assert_eq(&in_a_group(false));
}

#[test]
fn a_script_reads_what_happens_in_a_group() {
    // A line of JSON each; broken up and shortened here to fit the page.
    let told = in_a_group(true).replace(&"a2".repeat(16), "A2");
    let breaks = [",\"from\"", ",\"members\"", ",{\"member\"", ",\"presences\""];
    let told = breaks
        .iter()
        .fold(told, |told, at| told.replace(at, &format!(",\n  {}", at.trim_start_matches(','))));
    expect![[r#"
        {"event":"system","conversation":"A2","seq":1,"message_id":"0","time_ms":1767225600000,
          "from":"ann","member":1,"own":false,"change":"created",
          "members":[{"member":1,"user":"ann","role":"owner","joined_seq":1,"left_seq":0},
          {"member":2,"user":"bob","role":"member","joined_seq":1,"left_seq":0}]}
        {"event":"edited","conversation":"A2","seq":2,"message_id":"0","time_ms":1767225600000,
          "from":"ann","member":1,"own":false,"target":2,"body":"better"}
        {"event":"deleted","conversation":"A2","seq":3,"message_id":"0","time_ms":1767225600000,
          "from":"ann","member":1,"own":false,"target":2}
        {"event":"reacted","conversation":"A2","seq":4,"message_id":"0","time_ms":1767225600000,
          "from":"ann","member":1,"own":false,"target":2,"reaction":"🐦"}
        {"event":"reacted","conversation":"A2","seq":5,"message_id":"0","time_ms":1767225600000,
          "from":"ann","member":1,"own":false,"target":2,"reaction":""}
        {"event":"system","conversation":"A2","seq":6,"message_id":"0","time_ms":1767225600000,
          "from":"ann","member":1,"own":false,"change":"renamed","text":"birds",
          "members":[]}
        {"event":"system","conversation":"A2","seq":7,"message_id":"0","time_ms":1767225600000,
          "from":"ann","member":1,"own":false,"change":"added",
          "members":[{"member":2,"user":"bob","role":"member","joined_seq":1,"left_seq":0}]}
        {"event":"system","conversation":"A2","seq":8,"message_id":"0","time_ms":1767225600000,
          "from":"ann","member":1,"own":false,"change":"left",
          "members":[{"member":3,"user":"eve","role":"member","joined_seq":1,"left_seq":0},
          {"member":1,"user":"ann","role":"owner","joined_seq":1,"left_seq":0}]}
        {"event":"typing","conversation":"A2",
          "from":"bob","member":2,"stopped":false}
        {"event":"presence","command":"/watch",
          "presences":[{"user":"bob","online":true,"last_seen_ms":0}]}
        {"event":"devices_changed","version":3}
    "#]]
    .assert_eq(&told);
}

#[test]
fn only_what_others_wrote_counts_as_seen() {
    let me = UserId::new("alice").unwrap();
    let mut renderer = Renderer::new(true, me, Names::default());
    let seen: Vec<_> = events()
        .iter()
        .filter_map(|event| renderer.event(event, 0).seen)
        .map(|s| s.seq.0)
        .collect();
    assert_eq!(seen, [4, 6]);
}
