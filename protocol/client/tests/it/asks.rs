//! Questions: each answered once, changes in order, a new group over restarts.

use crate::hand::{Hand, entry, group, id_bytes, message, room, user, welcome};
use bytes::Bytes;
use roost_client::limits::ASKS_MAX;
use roost_client::{Answer, Command, Config, Event, Restored};
use roost_protocol::ids::{ConversationId, DeviceId, MessageId, Sequence};
use roost_protocol::request::{
    Ask, ConversationSettings, CreateGroup, History, HistoryFrom, PresenceOf, SetPrivacy, SignOut,
    Target,
};
use roost_protocol::wire::{self, ErrorCode, client_frame::Body, server_frame};

fn mute(until: u64) -> Ask {
    let settings =
        ConversationSettings { muted_until_ms: Some(until), ..ConversationSettings::default() };
    Ask::SetConversation { conversation: room(), settings }
}

fn new_group() -> CreateGroup {
    CreateGroup {
        nonce: [9; 16],
        name: "birds".to_owned(),
        picture: String::new(),
        members: vec![user("bob")],
        channel: false,
    }
}

fn done() -> server_frame::Body {
    server_frame::Body::Done(wire::Done {})
}

/// All questions, and an answer to each.
fn all() -> Vec<(Ask, server_frame::Body)> {
    use server_frame::Body as B;
    let channel = ConversationId::from_u128(0x30_03);
    let of = |conversation| PresenceOf { users: vec![user("bob")], conversation };
    let created = wire::GroupCreated { conversation: id_bytes(group()), head: 0 };
    vec![
        (Ask::ListDevices, B::DeviceList(wire::DeviceList::default())),
        (Ask::RenameDevice { device: DeviceId([1; 16]), name: "tablet".to_owned() }, done()),
        (Ask::SignOut(SignOut::AllOthers), done()),
        (Ask::SignOut(SignOut::Device(DeviceId([2; 16]))), done()),
        (Ask::SetPrivacy(SetPrivacy { contacts_only: Some(true), ..Default::default() }), done()),
        (Ask::Block { user: user("eve"), unblock: false }, done()),
        (Ask::ListBlocks { after: None, limit: 100 }, B::BlockList(wire::BlockList::default())),
        (
            Ask::ListConversations { before: MessageId(0), limit: 50 },
            B::ConversationList(wire::ConversationList::default()),
        ),
        (mute(7), done()),
        (Ask::CreateGroup(new_group()), B::GroupCreated(created)),
        (
            Ask::Describe(group()),
            B::ConversationDescription(wire::ConversationDescription::default()),
        ),
        (
            Ask::ListMembers { conversation: group(), after_member: 0, limit: 500 },
            B::MemberList(wire::MemberList::default()),
        ),
        (
            Ask::ReceiptDetails { conversation: group(), seq: Sequence(1), after_member: 0 },
            B::ReceiptDetails(wire::ReceiptDetailsReply::default()),
        ),
        (Ask::DeleteForMe { conversation: room(), seqs: vec![Sequence(1)] }, done()),
        (Ask::JoinChannel { conversation: channel, leave: true }, done()),
        (Ask::AcceptRequest(room()), done()),
        (Ask::QueryPresence(of(Some(group()))), B::PresenceReply(wire::PresenceReply::default())),
        (
            Ask::ListUserDevices { users: vec![user("bob")], conversation: room() },
            B::UserDevices(wire::UserDevices::default()),
        ),
    ]
}

#[test]
fn every_question_has_its_frame_and_its_answer() {
    for (tag, (ask, answer)) in (1..).zip(all()) {
        let mut hand = Hand::new();
        hand.online(vec![]);
        hand.ask(ask, tag);
        // The hand checks that the server would take the frame.
        let asked = hand.sent.pop().expect("a frame");
        assert!(hand.sent.is_empty() && !hand.session.is_idle());
        hand.answer(asked.0, answer);
        assert_eq!(hand.answers(), [(tag, None)], "{:?}", asked.1);
        assert_eq!(hand.session.unanswered_asks(), 0);
    }
}

#[test]
fn an_answer_to_something_else_is_not_the_protocol() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.ask(Ask::ListDevices, 1);
    let (id, _) = hand.sent.pop().unwrap();
    hand.answer(id, done());
    assert_eq!((hand.disconnects, hand.answers().len()), (1, 0));
}

#[test]
fn questions_wait_for_a_connection_and_are_asked_again_on_the_next() {
    let mut hand = Hand::new();
    hand.ask(Ask::ListDevices, 1);
    hand.ask(Ask::Describe(group()), 2);
    hand.online(vec![]);
    assert_eq!(hand.sent.len(), 2);
    hand.reconnect(welcome());
    hand.synced(2, vec![]);
    let asked = std::mem::take(&mut hand.sent);
    assert_eq!(asked.len(), 2);
    hand.answer(asked[0].0, server_frame::Body::DeviceList(wire::DeviceList::default()));
    hand.refuse(asked[1].0, ErrorCode::ErrorUnknownConversation);
    assert_eq!(hand.answers(), [(1, None), (2, Some(ErrorCode::ErrorUnknownConversation))]);
}

#[test]
fn changes_go_one_at_a_time_and_questions_beside_them() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    for until in 1..=3 {
        hand.ask(mute(until), until);
    }
    hand.ask(Ask::ListDevices, 9);
    let asked = std::mem::take(&mut hand.sent);
    assert!(matches!(asked[..], [(_, Body::SetConversation(_)), (_, Body::ListDevices(_))]));
    // A busy mailbox must not let a later value go first.
    hand.refuse(asked[0].0, ErrorCode::ErrorBusy);
    assert!(hand.sent.is_empty());
    hand.tick();
    for until in 1..=3 {
        let (id, set) = hand.sent.pop().unwrap();
        let Body::SetConversation(set) = set else { panic!("{set:?}") };
        assert_eq!(set.muted_until_ms, Some(until));
        hand.answer(id, done());
    }
    assert_eq!(hand.answers(), [(1, None), (2, None), (3, None)]);
    assert_eq!(hand.session.entry_of(room()).unwrap().muted_until_ms, 3);
}

#[test]
fn a_new_group_is_asked_for_until_it_is_answered() {
    let mut hand = Hand::new();
    hand.online(vec![]);
    hand.durable = false;
    hand.ask(Ask::CreateGroup(new_group()), 5);
    assert!(hand.sent.is_empty(), "it is written down first");
    hand.confirm();
    assert!(matches!(hand.sent[..], [(_, Body::CreateGroup(_))]));
    // Once is enough.
    hand.ask(Ask::CreateGroup(new_group()), 6);
    assert_eq!(hand.answers(), [(6, Some(ErrorCode::ErrorInvalidRequest))]);
    // The reply is lost with the app.
    let mut restarted = hand.restarted();
    restarted.online(vec![]);
    let (id, asked) = restarted.sent.pop().unwrap();
    let Body::CreateGroup(asked) = asked else { panic!("{asked:?}") };
    assert_eq!((asked.nonce.as_ref(), asked.members), (&[9; 16][..], vec!["bob".to_owned()]));
    let created = wire::GroupCreated { conversation: id_bytes(group()), head: 2 };
    restarted.answer(id, server_frame::Body::GroupCreated(created));
    let answer = Answer::GroupCreated { conversation: group(), head: Sequence(2) };
    let told = Event::Answer { tag: 5, answer: Box::new(Ok(answer)) };
    assert!(restarted.events.contains(&told));
    // The group is synced and read, and not made again.
    let listed = wire::Entry { conversation: id_bytes(group()), ..entry(2) };
    let listed = wire::Entry { kind: wire::ConversationKind::KindGroup.into(), ..listed };
    restarted.synced(2, vec![listed]);
    restarted.page(vec![message(1, "m1"), message(2, "m2")], 2);
    let mut again = restarted.restarted();
    again.online(vec![]);
    assert!(again.sent.iter().all(|(_, body)| !matches!(body, Body::CreateGroup(_))));
}

#[test]
fn questions_are_bounded_and_an_extension_only_looks() {
    let mut hand = Hand::new();
    for tag in 0..=ASKS_MAX as u64 {
        hand.ask(Ask::ListDevices, tag);
    }
    assert_eq!(hand.answers(), [(ASKS_MAX as u64, Some(ErrorCode::ErrorTooManyInFlight))]);
    hand.online(vec![]);
    assert_eq!(hand.sent.len(), 8, "a few at a time");
    let long = Ask::RenameDevice { device: DeviceId([0; 16]), name: "x".repeat(65) };
    let mut hand = Hand::new();
    hand.ask(long, 1);
    assert_eq!(hand.answers(), [(1, Some(ErrorCode::ErrorInvalidRequest))]);
    let config = Config { role: wire::Role::Extension, ..crate::hand::config() };
    let mut hand = Hand::with(config, crate::hand::token(), Restored::default());
    hand.online(vec![]);
    hand.ask(Ask::ListDevices, 1);
    assert_eq!(hand.answers(), [(1, Some(ErrorCode::ErrorForbidden))]);
    assert!(hand.sent.is_empty());
    hand.command(Command::LookUp { history: newest(), tag: 2 });
    assert!(matches!(hand.sent[..], [(_, Body::History(_))]));
}

fn newest() -> History {
    History { target: Target::Conversation(room()), from: HistoryFrom::Newest, limit: 5 }
}

#[test]
fn a_look_at_a_page_holds_nothing() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    hand.command(Command::LookUp { history: newest(), tag: 1 });
    let page =
        wire::HistoryReply { messages: vec![message(3, "m3")], head: 3, ..Default::default() };
    let (id, asked) = hand.take_history();
    assert_eq!((asked.limit, asked.before, asked.after), (Some(5), None, None));
    hand.answer(id, server_frame::Body::History(page.clone()));
    let told = Event::Answer { tag: 1, answer: Box::new(Ok(Answer::History(page))) };
    assert_eq!(hand.events.last(), Some(&told));
    assert!(hand.texts().is_empty() && hand.session.is_idle());
    let by_time = History { from: HistoryFrom::BeforeTime(77), ..newest() };
    hand.command(Command::LookUp { history: by_time, tag: 2 });
    let (id, asked) = hand.take_history();
    assert_eq!(asked.before_time_ms, 77);
    let code = ErrorCode::ErrorTrimmed.into();
    hand.error(id, wire::Error { code, first_seq: 8, ..wire::Error::default() });
    let Some(Event::Answer { answer, .. }) = hand.events.last() else { panic!("no answer") };
    assert_eq!(answer.as_ref().as_ref().unwrap_err().first_seq, Sequence(8));
}

#[test]
fn what_another_store_may_not_know_is_not_changed_again_unasked() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    hand.ask(mute(1), 1);
    hand.ask(mute(2), 2);
    hand.ask(Ask::ListDevices, 3);
    hand.reconnect(wire::Welcome { store_incarnation: 12, server_run: 22, ..welcome() });
    assert_eq!(hand.answers(), [(1, Some(ErrorCode::ErrorUnspecified))]);
    let asked: Vec<&Body> = hand.sent.iter().map(|(_, body)| body).collect();
    let is =
        |body: &&Body| matches!(body, Body::SetConversation(set) if set.muted_until_ms == Some(2));
    assert!(asked.iter().any(is), "{asked:?}");
    let mut nonce = new_group();
    nonce.nonce = Bytes::from_static(&[1; 16]).as_ref().try_into().unwrap();
    hand.ask(Ask::CreateGroup(nonce), 4);
    assert_eq!(hand.session.unanswered_asks(), 3);
}
