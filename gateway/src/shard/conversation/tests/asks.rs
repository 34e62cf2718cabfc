//! Questions, looks and hints; and that an id is never a capability.

use super::world::{World, body, direct, ids, key, user};
use crate::shard::message::{
    ConversationAsk, ConversationRequest, Hint, Part, ToConversation, ToEdge, ToMailbox, Watch,
};
use prost::Message;
use roost_protocol::ids::{ConversationId, Sequence};
use roost_protocol::request::{Content, GroupChange, HistoryFrom};
use roost_protocol::wire::{self, ErrorCode, server_frame};

fn description(
    world: &mut World,
    who: &str,
    id: ConversationId,
) -> Result<wire::ConversationDescription, ErrorCode> {
    match world.ask(who, id, ConversationRequest::Describe)? {
        server_frame::Body::ConversationDescription(description) => Ok(description),
        other => panic!("not a description: {other:?}"),
    }
}

fn members(
    world: &mut World,
    who: &str,
    id: ConversationId,
    (after_member, limit): (u32, u32),
) -> Result<wire::MemberList, ErrorCode> {
    let what = ConversationRequest::ListMembers { after_member, limit };
    match world.ask(who, id, what)? {
        server_frame::Body::MemberList(list) => Ok(list),
        other => panic!("not a list: {other:?}"),
    }
}

#[test]
fn a_member_is_told_what_a_group_is() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob"]);
    world.change("ann", id, GroupChange::Rename("us".into())).unwrap();
    world.change("ann", id, GroupChange::Picture("media:1".into())).unwrap();
    let told = description(&mut world, "bob", id).unwrap();
    assert_eq!((told.name.as_str(), told.picture.as_str()), ("us", "media:1"));
    assert_eq!((told.member_count, told.head), (2, 3));
    assert_eq!(told.kind(), wire::ConversationKind::KindGroup);
    let own = told.own.unwrap();
    assert_eq!((own.member, own.user.as_str(), own.joined_seq), (2, "bob", 1));
    // It is the same after a crash.
    let mut world = world.crash();
    let told = description(&mut world, "bob", id).unwrap();
    assert_eq!((told.name.as_str(), told.picture.as_str()), ("us", "media:1"));
    let pair = world.pair("ann", "bob");
    let told = description(&mut world, "ann", pair).unwrap();
    assert_eq!((told.kind(), told.member_count), (wire::ConversationKind::KindDirect, 2));
}

#[test]
fn what_is_told_of_a_group_is_durable() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob"]);
    let rename = world.draft("ann", id, Content::Group(GroupChange::Rename("us".into())));
    world.tell(ToConversation::Submit(Box::new(rename)));
    let (edge, request) = (world.edge_of("bob"), world.next_request());
    let what = ConversationRequest::Describe;
    let ask = ConversationAsk { edge, request, conversation: id, user: key("bob"), what };
    world.tell(ToConversation::Ask(Box::new(ask)));
    assert!(!world.is_answered(request));
    world.flush();
    assert!(world.is_answered(request));
}

#[test]
fn members_are_listed_by_number_former_ones_too() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "cat", "dan"]);
    world.change("ann", id, GroupChange::Remove(ids(&["bob"]))).unwrap();
    let first = members(&mut world, "dan", id, (0, 3)).unwrap();
    let named: Vec<_> =
        first.members.iter().map(|m| (m.member, m.user.as_str(), m.left_seq)).collect();
    assert_eq!((named, first.more), (vec![(1, "ann", 0), (2, "bob", 2), (3, "cat", 0)], true));
    let second = members(&mut world, "dan", id, (3, 3)).unwrap();
    assert_eq!((second.members.len(), second.more), (1, false));
    let behind = members(&mut world, "dan", id, (u32::MAX, 3)).unwrap();
    assert_eq!((behind.members.len(), behind.more), (0, false));
}

/// Everything that one can ask of a conversation, with a name for it, and its answer.
fn every_request(
    world: &mut World,
    who: &str,
    id: ConversationId,
) -> Vec<(&'static str, ErrorCode)> {
    let mut answers = Vec::new();
    let seq = Sequence(1);
    let contents = [
        ("body", body("x")),
        ("edit", Content::Edit { seq, body: "x".into() }),
        ("delete", Content::Delete { seq }),
        ("reaction", Content::Reaction { seq, reaction: "+".into() }),
        ("forward", Content::Forward { conversation: id, seq, body: "x".into() }),
        ("rename", Content::Group(GroupChange::Rename("x".into()))),
        ("picture", Content::Group(GroupChange::Picture("x".into()))),
        ("add", Content::Group(GroupChange::Add(ids(&["zoe"])))),
        ("remove", Content::Group(GroupChange::Remove(ids(&["ann"])))),
        ("leave", Content::Group(GroupChange::Leave)),
        ("promote", Content::Group(GroupChange::Promote(ids(&["bob"])))),
        ("demote", Content::Group(GroupChange::Demote(ids(&["bob"])))),
        ("transfer", Content::Group(GroupChange::Transfer(user("bob").1))),
        ("dissolve", Content::Group(GroupChange::Dissolve)),
        (
            "to devices",
            Content::ToDevices { ciphertexts: vec![], key_message: false, versions: vec![] },
        ),
    ];
    for (what, content) in contents {
        answers.push((what, world.write(who, id, content).unwrap_err()));
    }
    for (what, from) in [
        ("newest", HistoryFrom::Newest),
        ("before", HistoryFrom::Before(Sequence(9))),
        ("after", HistoryFrom::After(Sequence(0))),
        ("before a time", HistoryFrom::BeforeTime(u64::MAX)),
        ("after a time", HistoryFrom::AfterTime(0)),
    ] {
        answers.push((what, world.history(who, id, from, 5).unwrap_err()));
    }
    for (what, request) in [
        ("describe", ConversationRequest::Describe),
        ("list", ConversationRequest::ListMembers { after_member: 0, limit: 10 }),
        ("details", ConversationRequest::ReceiptDetails { seq, after_member: 0 }),
    ] {
        answers.push((what, world.ask(who, id, request).unwrap_err()));
    }
    let (edge, request) = (world.edge_of(who), world.next_request());
    let what = ConversationRequest::UserDevices { about: user("ann") };
    let ask = ConversationAsk { edge, request, conversation: id, user: key(who), what };
    world.tell(ToConversation::Ask(Box::new(ask)));
    world.flush();
    let parts = world.parts();
    let [Part::Refused(error)] = parts.as_slice() else { panic!("told: {parts:?}") };
    answers.push(("devices", error.code()));
    answers
}

#[test]
fn an_id_that_somebody_guessed_is_no_conversation() {
    let mut world = World::new();
    let group = world.group(1, &["ann", "bob"]);
    let pair = world.pair("ann", "bob");
    let nowhere = ConversationId::group(key("ann"), [99; 16], false);
    for id in [group, pair, nowhere] {
        let before = (id != nowhere).then(|| world.digest(id));
        world.take_told();
        for (what, code) in every_request(&mut world, "zoe", id) {
            assert_eq!(code, ErrorCode::ErrorUnknownConversation, "{what} of {id}");
        }
        // What has no answer is not heard.
        world.delivered("zoe", id, 1);
        world.read("zoe", id, 1);
        world.conversations.typing(&mut world.ctx, id, key("zoe"), false);
        world.flush();
        assert!(world.take_told().is_empty() && world.hints.is_empty());
        assert_eq!(before, (id != nowhere).then(|| world.digest(id)));
    }
    assert_eq!(world.conversations.len(), 2, "what is not there takes no memory");
}

#[test]
fn who_left_may_read_what_was_and_nothing_else() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob", "zoe"]);
    world.change("ann", id, GroupChange::Remove(ids(&["zoe"]))).unwrap();
    world.say("ann", id, "without her");
    let before = world.digest(id);
    for what in [
        ConversationRequest::Describe,
        ConversationRequest::ListMembers { after_member: 0, limit: 10 },
        ConversationRequest::ReceiptDetails { seq: Sequence(1), after_member: 0 },
    ] {
        assert_eq!(world.ask("zoe", id, what).unwrap_err(), ErrorCode::ErrorForbidden);
    }
    for content in [body("x"), Content::Group(GroupChange::Leave)] {
        assert_eq!(world.write("zoe", id, content), Err(ErrorCode::ErrorForbidden));
    }
    assert_eq!(world.readable("zoe", id), (vec![1, 2], 2));
    assert_eq!(world.digest(id), before);
}

#[test]
fn the_devices_of_the_two_are_asked_of_their_mailboxes() {
    let mut world = World::new();
    let id = world.pair("ann", "bob");
    world.take_told();
    let mut ask = |who: &str, about: &str, id: ConversationId| {
        let (edge, request) = (world.edge_of(who), world.next_request());
        let what = ConversationRequest::UserDevices { about: user(about) };
        let ask = ConversationAsk { edge, request, conversation: id, user: key(who), what };
        world.tell(ToConversation::Ask(Box::new(ask)));
        world.flush();
        match (world.parts().as_slice(), world.take_told().as_slice()) {
            ([], [ToMailbox::DevicesAsked(asked)]) => Ok(asked.about.0),
            ([Part::Refused(error)], []) => Err(error.code()),
            (parts, told) => panic!("{parts:?}, {told:?}"),
        }
    };
    assert_eq!(ask("ann", "bob", id), Ok(key("bob")));
    assert_eq!(ask("ann", "ann", id), Ok(key("ann")));
    assert_eq!(ask("ann", "cat", id), Err(ErrorCode::ErrorInvalidRequest));
    assert_eq!(ask("cat", "ann", id), Err(ErrorCode::ErrorUnknownConversation));
    // Before the first message, which may be in ciphertexts; but not through a block.
    world.block("dan", "ann", 1, true);
    let mut ask = |who: &str, about: &str, id: ConversationId| {
        let (edge, request) = (world.edge_of(who), world.next_request());
        let what = ConversationRequest::UserDevices { about: user(about) };
        let ask = ConversationAsk { edge, request, conversation: id, user: key(who), what };
        world.tell(ToConversation::Ask(Box::new(ask)));
        world.flush();
        world.parts().into_iter().find_map(|part| match part {
            Part::Refused(error) => Some(error.code()),
            _ => None,
        })
    };
    let blocked = direct("dan", "ann");
    assert_eq!(ask("ann", "dan", blocked), Some(ErrorCode::ErrorForbidden));
}

#[test]
fn a_look_says_whether_both_are_in_it_and_goes_on() {
    let mut world = World::new();
    let group = world.group(1, &["ann", "bob", "cat"]);
    world.change("ann", group, GroupChange::Remove(ids(&["cat"]))).unwrap();
    let pair = world.pair("ann", "bob");
    world.block("ann", "dan", 1, true);
    world.take_told();
    let mut contact = |who: &str, about: &str, id: ConversationId| {
        world.look(who, about, id);
        let told = world.take_told();
        let [ToMailbox::PresenceAsked(asked)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((asked.asker, asked.about.0), (key(who), key(about)));
        asked.contact
    };
    assert!(contact("ann", "bob", pair));
    assert!(contact("bob", "ann", group));
    assert!(!contact("ann", "cat", group), "who left is no contact by it");
    assert!(!contact("zoe", "ann", group));
    assert!(!contact("dan", "ann", direct("ann", "dan")), "a block makes no contact");
    assert!(!contact("zoe", "ann", direct("ann", "zoe")), "nor what is not there");
    assert_eq!(world.conversations.len(), 3);
}

#[test]
fn a_look_that_finds_no_room_shows_nothing() {
    let mut world = World::new();
    world.ctx.limits.loading_inputs_max = 1;
    let id = direct("ann", "bob");
    for name in ["ann", "bob", "cat"] {
        let look = crate::shard::message::PresenceLook {
            edge: world.edge_of(name),
            request: world.next_request(),
            conversation: id,
            asker: key(name),
            about: user("bob"),
            watch: if name == "cat" { Watch::Start } else { Watch::Once },
        };
        let arrival = crate::shard::links::Arrival {
            message: ToConversation::Look(Box::new(look)),
            token: crate::shard::links::Token::NONE,
            taken: None,
        };
        world.conversations.handle(&mut world.ctx, arrival, 1);
    }
    world.settle();
    let parts = world.parts();
    let [Part::Presence(hidden)] = parts.as_slice() else { panic!("{parts:?}") };
    assert_eq!((hidden.user.as_str(), hidden.online, hidden.last_seen_ms), ("bob", false, 0));
    assert_eq!(world.take_told().len(), 1, "the first was in time");
}

#[test]
fn those_who_are_few_hear_who_writes() {
    let mut world = World::new();
    let pair = world.pair("ann", "bob");
    let group = world.group(1, &["ann", "bob", "cat"]);
    let mut typing = |who: &str, id: ConversationId| {
        world.conversations.typing(&mut world.ctx, id, key(who), true);
        world.settle();
        let told = std::mem::take(&mut world.hints).into_iter().map(|(_, hint)| match hint {
            Hint::TypingTold { conversation: _, recipients, frame } => {
                let mut frame = frame;
                let frame = wire::ServerFrame::decode_length_delimited(&mut frame).unwrap();
                let Some(server_frame::Body::Typing(push)) = frame.body else {
                    panic!("{frame:?}")
                };
                assert!(push.stopped);
                (recipients.as_slice().to_vec(), push.member)
            }
            other => panic!("{other:?}"),
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(typing("ann", pair), [(vec![key("bob")], 0)]);
    assert_eq!(typing("bob", group), [(vec![key("ann"), key("cat")], 2)]);
    assert!(typing("zoe", group).is_empty());
    world.block("bob", "ann", 1, true);
    world.conversations.typing(&mut world.ctx, pair, key("ann"), false);
    assert!(world.hints.is_empty(), "not through a block");
    // A conversation is not read for that, and a crowd does not hear it.
    let people: Vec<String> = (0..65).map(|n| format!("user {n}")).collect();
    let all: Vec<&str> = people.iter().map(String::as_str).collect();
    let crowd = world.group(2, &all);
    world.conversations.typing(&mut world.ctx, crowd, key("user 1"), false);
    world.change("user 2", crowd, GroupChange::Leave).unwrap();
    assert!(world.hints.is_empty());
    world.conversations.typing(&mut world.ctx, crowd, key("user 1"), false);
    world.settle();
    assert_eq!(std::mem::take(&mut world.hints).len(), 1);
    world.evict_all();
    world.conversations.typing(&mut world.ctx, group, key("ann"), false);
    world.settle();
    assert!(world.hints.is_empty());
    assert_eq!(world.conversations.len(), 0);
}

#[test]
fn what_waits_for_a_conversation_that_cannot_be_read_is_refused() {
    let mut world = World::new();
    let id = world.group(1, &["ann", "bob"]);
    world.evict_all();
    // Something that is no record of a conversation.
    let stream = crate::shard::context::conversation_stream(id);
    let record = roost_storage_engine::NewRecord {
        stream,
        number: 0,
        seq: 0,
        stamp: 0,
        kind: 2,
        snapshot_start: false,
        body: &[b"of another time"],
    };
    world.ctx.append(&record).unwrap();
    let corrupt = ErrorCode::ErrorStorageCorrupt;
    assert_eq!(world.write("ann", id, body("x")), Err(corrupt));
    assert_eq!(world.ask("ann", id, ConversationRequest::Describe).unwrap_err(), corrupt);
    assert_eq!(world.history("ann", id, HistoryFrom::Newest, 1).unwrap_err(), corrupt);
    world.read("ann", id, 1);
    assert_eq!(world.confirmed, 1, "what is owed is not told for ever");
    world.look("ann", "bob", id);
    assert_eq!(world.parts().len(), 1);
    world.take_told();
    assert_eq!(world.ctx.reports.len(), 1);
    let edges = world.edges.iter().filter(|(_, what)| matches!(what, ToEdge::Reply { .. }));
    assert_eq!(edges.count(), 0);
}
