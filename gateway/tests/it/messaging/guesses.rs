//! What somebody asks who guessed an id, was signed out, or claims what cannot be: each request has
//! its documented answer, and nothing changes by it.

use crate::device::{Bystanders, Device, Wire, hello, message};
use crate::roost::{Server, Setup, on_both_drivers, waits_until};
use bytes::Bytes;
use roost_protocol::error::name;
use roost_protocol::ids::{ConversationId, UserId};
use roost_protocol::wire::client_frame::Body as Ask;
use roost_protocol::wire::group_change::Change;
use roost_protocol::wire::send::Content;
use roost_protocol::wire::server_frame::Body as Told;
use roost_protocol::wire::{self, ErrorCode};

const UNKNOWN: ErrorCode = ErrorCode::ErrorUnknownConversation;
const INVALID: ErrorCode = ErrorCode::ErrorInvalidRequest;

fn direct(one: &str, other: &str) -> Bytes {
    let key = |user| UserId::new(user).unwrap().key("");
    ConversationId::direct(key(one), key(other)).to_wire()
}

#[track_caller]
fn is_refused(device: &mut Device, what: &str, ask: Ask, code: ErrorCode) {
    let error = device.refused(ask);
    assert_eq!(name(error.code()), name(code), "{what}: {}", error.text);
}

#[track_caller]
fn create(device: &mut Device, nonce: u8, members: &[&str], channel: bool) -> wire::GroupCreated {
    let members = members.iter().map(|user| (*user).to_owned()).collect();
    let nonce = vec![nonce; 16].into();
    let group = wire::CreateGroup {
        nonce,
        name: "ours".to_owned(),
        members,
        channel,
        ..Default::default()
    };
    match device.ask(Ask::CreateGroup(group)) {
        Told::GroupCreated(created) => created,
        other => panic!("not created: {other:?}"),
    }
}

/// Everything that can be written.
fn contents() -> Vec<(&'static str, Content)> {
    let users = || wire::MemberChange { users: vec!["eve".to_owned()] };
    let change = |change| Content::GroupChange(wire::GroupChange { change: Some(change) });
    let body = || Bytes::from_static(b"mine");
    let ciphertext =
        wire::DeviceCiphertext { user: "ann".to_owned(), device: vec![1; 16].into(), body: body() };
    let to_devices = wire::ToDevices { ciphertexts: vec![ciphertext], key_message: false };
    vec![
        ("body", Content::Body(body())),
        ("edit", Content::Edit(wire::Edit { seq: 1, body: body() })),
        ("delete", Content::Delete(wire::Delete { seq: 1 })),
        ("reaction", Content::Reaction(wire::Reaction { seq: 1, reaction: "+".to_owned() })),
        ("to_devices", Content::ToDevices(to_devices)),
        ("rename", change(Change::Rename("mine".to_owned()))),
        ("picture", change(Change::Picture("mine".to_owned()))),
        ("add", change(Change::Add(users()))),
        ("remove", change(Change::Remove(wire::MemberChange { users: vec!["bob".to_owned()] }))),
        ("leave", change(Change::Leave(true))),
        ("promote", change(Change::Promote(users()))),
        ("demote", change(Change::Demote(users()))),
        ("transfer", change(Change::Transfer(users()))),
        ("dissolve", change(Change::Dissolve(true))),
    ]
}

/// Every request that takes a conversation, but for writes.
fn requests(conversation: &Bytes) -> Vec<(&'static str, Ask)> {
    let id = || conversation.clone();
    let settings = wire::SetConversation {
        conversation: id(),
        archived: Some(true),
        ..wire::SetConversation::default()
    };
    let details = wire::ReceiptDetails { conversation: id(), seq: 1, after_member: 0 };
    let users = vec!["ann".to_owned()];
    vec![
        ("history", Ask::History(wire::History { conversation: id(), ..Default::default() })),
        ("settings", Ask::SetConversation(settings)),
        ("describe", Ask::DescribeConversation(wire::DescribeConversation { conversation: id() })),
        (
            "members",
            Ask::ListMembers(wire::ListMembers { conversation: id(), after_member: 0, limit: 10 }),
        ),
        ("receipts", Ask::ReceiptDetails(details)),
        ("hide", Ask::DeleteForMe(wire::DeleteForMe { conversation: id(), seqs: vec![1] })),
        ("accept", Ask::AcceptRequest(wire::AcceptRequest { conversation: id() })),
        ("devices", Ask::ListUserDevices(wire::ListUserDevices { users, conversation: id() })),
    ]
}

/// Everything that takes a conversation and is not answered.
fn notices(conversation: &Bytes) -> Vec<Ask> {
    let id = || conversation.clone();
    let marks = || vec![wire::Mark { conversation: id(), seq: 1, uncounted: 0 }];
    let users = vec!["ann".to_owned(), "bob".to_owned()];
    vec![
        Ask::Delivered(wire::Delivered { marks: marks() }),
        Ask::Read(wire::Read { marks: marks() }),
        Ask::Typing(wire::Typing { conversation: id(), stopped: false }),
        Ask::WatchChannel(wire::WatchChannel { conversation: id(), stop: false }),
        Ask::WatchPresence(wire::WatchPresence { users, stop: false, conversation: id() }),
    ]
}

/// What a member is shown of a conversation: the records, the members, the receipts.
#[track_caller]
fn as_it_is(device: &mut Device, conversation: &Bytes) -> [Told; 3] {
    let id = || conversation.clone();
    let history = wire::History { conversation: id(), ..Default::default() };
    let members = wire::ListMembers { conversation: id(), after_member: 0, limit: 10 };
    let receipts = wire::ReceiptDetails { conversation: id(), seq: 1, after_member: 0 };
    [
        device.ask(Ask::History(history)),
        device.ask(Ask::ListMembers(members)),
        device.ask(Ask::ReceiptDetails(receipts)),
    ]
}

/// The code for a request about an id of that kind: some requests are about some kinds only.
fn expected(id: &Bytes, what: &str) -> ErrorCode {
    let (direct, channel) = (id[15] & 3 == 1, id[15] & 3 == 3);
    match what {
        "members" if direct => INVALID,
        "devices" if !direct => INVALID,
        "receipts" | "accept" if channel => INVALID,
        _ => UNKNOWN,
    }
}

fn sync(device: &mut Device) -> wire::SyncReply {
    match device.ask(Ask::Sync(wire::Sync::default())) {
        Told::Sync(reply) => reply,
        other => panic!("no sync: {other:?}"),
    }
}

#[track_caller]
fn signed_out_ends(server: &Server, wire: &mut Wire) {
    let code = wire.ends();
    assert_eq!(code, Some(ErrorCode::ErrorSignedOut), "{}", server.log());
}

on_both_drivers! {
    fn every_request_with_a_guessed_id(driver) {
        let server = Setup::new(driver).start();
        let mut ann = Device::sign_in(&server, "ann");
        let bob = Device::sign_in(&server, "bob");
        let group = create(&mut ann, 1, &["bob"], false).conversation;
        let channel = create(&mut ann, 2, &[], true).conversation;
        let theirs = ann.send(message("bob", 1, b"for you")).conversation;
        let before = [&group, &theirs].map(|id| as_it_is(&mut ann, id));
        let mut eve = Device::sign_in(&server, "eve");
        let mut guessed = group.to_vec();
        guessed[0] ^= 1;
        let nobodys = [guessed.into(), direct("nobody", "noone")];
        for id in [&group, &theirs, &channel, &nobodys[0], &nobodys[1]] {
            for (what, ask) in requests(id) {
                is_refused(&mut eve, what, ask, expected(id, what));
            }
            for (what, content) in contents() {
                let send = wire::Send {
                    user: String::new(),
                    conversation: id.clone(),
                    content: Some(content),
                    ..message("", 1, b"")
                };
                // What no conversation of this kind takes may be told so.
                let error = eve.refused(Ask::Send(send));
                assert!([UNKNOWN, INVALID].contains(&error.code()), "{what}: {error:?}");
            }
            for notice in notices(id) {
                eve.wire.ask(0, notice);
            }
            let users = vec!["ann".to_owned()];
            let look = wire::QueryPresence { users, conversation: id.clone() };
            match eve.ask(Ask::QueryPresence(look)) {
                Told::PresenceReply(found) => assert!(!found.presences.is_empty()),
                Told::Error(error) => assert_eq!(error.code(), INVALID),
                other => panic!("{other:?}"),
            }
        }
        for id in [&group, &theirs] {
            let join = wire::JoinChannel { conversation: (*id).clone(), leave: false };
            is_refused(&mut eve, "join", Ask::JoinChannel(join), INVALID);
        }
        assert!(sync(&mut eve).entries.iter().all(|entry| entry.head == 0));
        let after = [&group, &theirs].map(|id| as_it_is(&mut ann, id));
        assert_eq!(before, after);
        bob.leave();
    }

    fn user_ids_that_are_none_in_every_request(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let mut eve = Device::sign_in(&server, "eve");
        let long = "u".repeat(65);
        for bad in ["a\nb", "\u{85}", "\u{0}", long.as_str()] {
            let users = || vec![bad.to_owned()];
            let group = wire::CreateGroup {
                nonce: vec![7; 16].into(),
                name: "g".to_owned(),
                members: users(),
                ..Default::default()
            };
            let presence = wire::QueryPresence { users: users(), ..Default::default() };
            let devices = wire::ListUserDevices {
                users: users(),
                conversation: direct("ann", "bob"),
            };
            let add = Change::Add(wire::MemberChange { users: users() });
            let add = Content::GroupChange(wire::GroupChange { change: Some(add) });
            let mut id = direct("ann", "bob").to_vec();
            id[15] = id[15] & !3 | 2;
            let add = wire::Send {
                user: String::new(),
                conversation: id.into(),
                content: Some(add),
                ..message("", 1, b"")
            };
            let asks = [
                ("create", Ask::CreateGroup(group)),
                ("presence", Ask::QueryPresence(presence)),
                ("devices", Ask::ListUserDevices(devices)),
                ("block", Ask::Block(wire::Block { user: bad.to_owned(), unblock: false })),
                ("add", Ask::Send(add)),
            ];
            for (what, ask) in asks {
                is_refused(&mut eve, what, ask, INVALID);
            }
        }
        // What is no UTF-8 is no text of the protocol, and so no frame.
        let mut frame = Vec::new();
        let block = wire::Block { user: "MARK".to_owned(), unblock: false };
        roost_protocol::encode::client(9, Ask::Block(block), &mut frame);
        let at = frame.windows(4).position(|four| four == b"MARK").unwrap();
        frame[at] = 0xff;
        eve.wire.write(&frame);
        assert_eq!(eve.wire.ends(), Some(ErrorCode::ErrorMalformedFrame));
        bystanders.are_unharmed();
    }

    fn a_device_that_was_signed_out(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let token = server.token("eve");
        let mut phone = Wire::open(server.tcp);
        phone.ask(1, Ask::Hello(hello(&token, 1, 1)));
        let mut phone = Device::welcomed(phone);
        let ticket = phone.welcome.ticket.clone();
        let mut tablet = Device::sign_in_as(&server, "eve", 2, 1);
        let device = 1_u128.to_be_bytes().to_vec().into();
        let out = wire::SignOut { device, all_others: false };
        assert!(matches!(tablet.ask(Ask::SignOut(out.clone())), Told::Done(_)));
        signed_out_ends(&server, &mut phone.wire);
        // Neither what it holds brings it back, and it is not in the list.
        for hello in [
            hello(&token, 1, 2),
            wire::Hello { ticket, ..hello("", 1, 3) },
        ] {
            let mut wire = Wire::open(server.tcp);
            wire.ask(1, Ask::Hello(hello));
            let (_, error) = wire.refused_hello();
            assert_eq!(name(error.code()), name(ErrorCode::ErrorSignedOut));
        }
        // To sign it out again changes nothing.
        is_refused(&mut tablet, "again", Ask::SignOut(out), ErrorCode::ErrorNotFound);
        let Told::DeviceList(list) = tablet.ask(Ask::ListDevices(wire::ListDevices {})) else {
            panic!("no list")
        };
        assert_eq!(list.devices.len(), 1);
        bystanders.are_unharmed();
    }

    fn a_group_created_twice_and_more_of_them_than_a_list_takes(driver) {
        let server = Setup::new(driver)
            .config("limits.conversations_per_user_max = 8\n")
            .start();
        let mut eve = Device::sign_in(&server, "eve");
        let first = create(&mut eve, 1, &["ann"], false);
        // The reply was lost: the same creation is asked for again, with whatever in it.
        assert_eq!(create(&mut eve, 1, &["ann"], false), first);
        assert_eq!(create(&mut eve, 1, &["bob", "carol"], false).conversation, first.conversation);
        let members = wire::ListMembers {
            conversation: first.conversation,
            after_member: 0,
            limit: 10,
        };
        let Told::MemberList(list) = eve.ask(Ask::ListMembers(members)) else { panic!("no list") };
        let users: Vec<&str> = list.members.iter().map(|member| member.user.as_str()).collect();
        assert_eq!(users, ["eve", "ann"]);
        for nonce in 2..=12 {
            create(&mut eve, nonce, &[], false);
        }
        // The list takes as many as it may have, as they come, and the connection goes on.
        waits_until("the list is full", || sync(&mut eve).entries.len() >= 8);
        server.metric_becomes("roost_entries_dropped_total", |dropped| dropped >= 4);
        assert_eq!(sync(&mut eve).entries.len(), 8);
        eve.wire.is_alive();
    }
}
