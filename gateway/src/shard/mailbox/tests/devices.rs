//! The user's devices: listed, named, signed out; which connection of one lives.

use super::*;
use roost_protocol::request::SignOut;

fn list(world: &mut World, n: u32, of: u8) -> wire::DeviceList {
    let body = world.asked(n, of, MailboxRequest::ListDevices);
    let server_frame::Body::DeviceList(list) = body else { panic!("{body:?}") };
    list
}

fn ids(list: &wire::DeviceList) -> Vec<u8> {
    let mut ids: Vec<u8> = list.devices.iter().map(|device| device.device[0]).collect();
    ids.sort_unstable();
    ids
}

fn one(of: u8) -> MailboxRequest {
    MailboxRequest::SignOut(SignOut::Device(device(of)))
}

/// What a registration is answered.
fn answered(world: &mut World, register: Register) -> Result<(), ErrorCode> {
    let to = register.edge;
    world.register(register);
    world.run();
    let answers = std::mem::take(&mut world.edges);
    let mut answers = answers.into_iter().filter(|(edge, _)| *edge == to);
    let answer = answers.find_map(|(_, what)| {
        if let ToEdge::Refused(error) = what {
            return Some(Err(error.code()));
        }
        matches!(what, ToEdge::Registered { .. }).then_some(Ok(()))
    });
    answer.expect("an answer")
}

/// The connections that were told to end, and why.
fn ended(world: &mut World) -> Vec<(EdgeAddress, ErrorCode)> {
    let mut found = Vec::new();
    for (edge, what) in std::mem::take(&mut world.edges) {
        if let ToEdge::Refused(error) = what {
            found.push((edge, error.code()));
        }
    }
    found
}

/// The versions that were pushed, and where.
fn versions(world: &mut World) -> Vec<(EdgeAddress, u64)> {
    let mut found = Vec::new();
    for (edge, body) in world.pushed() {
        if let server_frame::Body::DevicesChanged(changed) = body {
            found.push((edge, changed.version));
        }
    }
    found
}

#[test]
fn devices_are_listed_and_named() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.pass_ms(1_000);
    world.connect(1, 2);
    assert_eq!(versions(&mut world), [(edge(1, 1), 2)]);
    let all = list(&mut world, 1, 1);
    assert_eq!((ids(&all), all.version), (vec![1, 2], 2));
    assert!(all.devices.iter().all(|device| device.connected && device.client == "test 1.0"));
    let rename =
        |of, name: &str| MailboxRequest::RenameDevice { device: device(of), name: name.to_owned() };
    world.done(1, 1, rename(2, "old phone"));
    assert_eq!(versions(&mut world), [(edge(1, 2), 2)], "a name changes no version");
    world.done(1, 1, rename(2, "old phone"));
    assert_eq!(versions(&mut world), []);
    assert_eq!(world.refused(1, 1, rename(3, "?")), ErrorCode::ErrorNotFound);
    let left_ms = world.ctx.now.wall.ms;
    world.disconnect(1, 2);
    world.pass_ms(60_000);
    world.evict_all();
    let all = list(&mut world, 1, 1);
    let old = all.devices.iter().find(|known| known.device[0] == 2).unwrap();
    assert_eq!((old.name.as_str(), old.connected), ("old phone", false));
    assert_eq!(old.last_seen_ms, left_ms);
    assert_eq!(old.registered_ms, START_MS + 1_000);
    world.restart();
    world.connect(1, 1);
    let all = list(&mut world, 1, 1);
    assert_eq!((ids(&all), all.version), (vec![1, 2], 2));
    assert!(all.devices.iter().any(|known| known.name == "old phone"));
}

#[test]
fn one_is_signed_out_and_only_a_later_token_brings_it_back() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.connect(1, 2);
    world.connect(1, 3);
    world.pass_ms(10_000);
    world.edges.clear();
    let before = world.hello(1, 2);
    world.done(1, 1, one(2));
    assert_eq!(versions(&mut world), [(edge(1, 3), 4)]);
    assert_eq!(ended(&mut world), [(edge(1, 2), ErrorCode::ErrorSignedOut)]);
    let all = list(&mut world, 1, 1);
    assert_eq!((ids(&all), all.version), (vec![1, 3], 4));
    assert_eq!(world.refused(1, 1, one(2)), ErrorCode::ErrorNotFound);
    // Its connection ends, which changes nothing.
    world.disconnect(1, 2);
    for restart in [false, true] {
        if restart {
            world.restart();
            world.connect(1, 1);
        }
        let signed_out = Err(ErrorCode::ErrorSignedOut);
        assert_eq!(answered(&mut world, before.clone()), signed_out, "the token it had");
        let ticket = Register { ticket_epoch: Some(0), ..before.clone() };
        assert_eq!(answered(&mut world, ticket), signed_out, "a ticket of before");
    }
    world.pass_ms(1);
    let later = world.hello(1, 2);
    assert_eq!(answered(&mut world, later), Ok(()));
    assert_eq!(list(&mut world, 1, 1).version, 5);
    world.disconnect(1, 2);
    // Tickets of before are no good though it is back; those of now are.
    let old = Register { ticket_epoch: Some(0), ..world.hello(1, 2) };
    assert_eq!(answered(&mut world, old), Err(ErrorCode::ErrorTicketInvalid));
    let new = Register { ticket_epoch: Some(1), ..world.hello(1, 2) };
    assert_eq!(answered(&mut world, new), Ok(()));
}

#[test]
fn a_tombstone_is_forgotten_when_no_such_token_can_live() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.connect(1, 2);
    let before = world.hello(1, 2);
    world.done(1, 1, one(2));
    world.pass_ms(999_999_999);
    world.edges.clear();
    assert_eq!(answered(&mut world, before.clone()), Err(ErrorCode::ErrorSignedOut));
    world.pass_ms(2);
    assert_eq!(answered(&mut world, before), Ok(()));
}

#[test]
fn all_others_are_signed_out() {
    let mut world = World::new(Limits::default());
    for of in 1..=4 {
        world.connect(1, of);
    }
    world.edges.clear();
    world.done(1, 2, MailboxRequest::SignOut(SignOut::AllOthers));
    let gone = ended(&mut world);
    let expected = [1, 3, 4].map(|of| (edge(1, of), ErrorCode::ErrorSignedOut));
    assert_eq!(gone, expected);
    let all = list(&mut world, 1, 2);
    assert_eq!((ids(&all), all.version), (vec![2], 7));
    // Without others there is nothing to do.
    world.done(1, 2, MailboxRequest::SignOut(SignOut::AllOthers));
    assert_eq!(list(&mut world, 1, 2).version, 7);
}

#[test]
fn a_device_that_signs_itself_out_is_answered_first() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.connect(1, 2);
    world.held = true;
    let id = world.ask(1, 2, one(2));
    world.run();
    assert!(world.replies.is_empty() && ended(&mut world).is_empty(), "not before it is durable");
    world.held = false;
    world.run();
    assert_eq!(world.replies.len(), 1);
    assert_eq!(ended(&mut world), [(edge(1, 2), ErrorCode::ErrorSignedOut)]);
    assert!(matches!(world.answer(id), Some(Reply::Frame(_))));
}

#[test]
fn the_eleventh_device_signs_out_the_one_unused_for_longest() {
    let mut world = World::new(Limits::default());
    for of in 1..=10 {
        world.connect(1, of);
        world.pass_ms(1_000);
    }
    // The first two go; the second comes back and goes again.
    for of in [1, 2] {
        world.disconnect(1, of);
    }
    world.connect(1, 2);
    world.disconnect(1, 2);
    world.evict_all();
    world.edges.clear();
    world.connect(1, 11);
    assert_eq!(ids(&list(&mut world, 1, 11)), (2..=11).collect::<Vec<u8>>());
    assert_eq!(ended(&mut world), [], "it was not connected");
    world.connect(1, 12);
    assert!(!ids(&list(&mut world, 1, 12)).contains(&2));
    // All are connected: the one that connected first goes.
    world.edges.clear();
    world.connect(1, 13);
    assert_eq!(ended(&mut world), [(edge(1, 3), ErrorCode::ErrorSignedOut)]);
    assert_eq!(list(&mut world, 1, 13).devices.len(), 10);
}

#[test]
fn the_end_of_an_old_connection_changes_nothing_for_the_new_one() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    let mut again = world.hello(1, 1);
    again.edge.edge.generation = 2;
    let new = again.edge;
    world.register(again);
    world.run();
    assert_eq!(ended(&mut world), [(edge(1, 1), ErrorCode::ErrorReplaced)]);
    world.disconnect(1, 1);
    let all = list(&mut world, 1, 1);
    assert!(all.devices[0].connected);
    world.deliver(said(2, 1, 1));
    let pushed = world.pushed();
    assert_eq!(pushed.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [new]);
    // Nor does what it says of the app.
    world.activity(1, 1, wire::ActivityState::ActivityBackground);
    assert!(world.boxes.cells.get(user(1).0).unwrap().slot.is_present());
}

#[test]
fn an_older_connection_is_refused_with_the_number_to_go_on_from() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    let old = world.hello(1, 1);
    world.connect(1, 1);
    world.disconnect(1, 1);
    world.edges.clear();
    let number = world.connections;
    for evicted in [false, true] {
        if evicted {
            world.evict_all();
            assert_eq!(world.boxes.len(), 0);
        }
        world.register(old.clone());
        world.run();
        let told = std::mem::take(&mut world.edges);
        let [(_, ToEdge::Refused(error))] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(error.code(), ErrorCode::ErrorConnectionSuperseded);
        assert_eq!(error.expected_connection_number, number + 1);
    }
}

#[test]
fn an_extension_is_beside_the_app() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    let extension = |world: &mut World, generation| {
        let mut hello = world.hello(1, 1);
        hello.role = wire::Role::Extension;
        hello.edge.edge = EdgeId { slot: 9_000, generation };
        hello
    };
    let first = extension(&mut world, 1);
    assert_eq!(answered(&mut world, first.clone()), Ok(()));
    world.deliver(said(2, 1, 1));
    let pushed = world.pushed();
    assert_eq!(pushed.len(), 1, "no pushes to extensions");
    assert_eq!(pushed[0].0, edge(1, 1));
    let second = extension(&mut world, 2);
    world.register(second.clone());
    world.run();
    assert_eq!(ended(&mut world), [(first.edge, ErrorCode::ErrorReplaced)]);
    // It never counts as present.
    world.disconnect(1, 1);
    let slot = |world: &World| world.boxes.cells.get(user(1).0).unwrap().slot.clone();
    assert!(!slot(&world).is_present() && slot(&world).is_connected());
    let of_extension =
        ActivityTold { edge: second.edge, user: user(1).0, device: device(1), ..told() };
    world.own(ToOwnMailbox::Activity(of_extension));
    assert!(!slot(&world).is_present());
    // It moves no cursor of the app.
    world.connect(1, 1);
    let cursor = world.sync(1, 1, 0).cursor;
    world.sync(1, 1, cursor);
    let ask = SyncAsk {
        edge: second.edge,
        request: RequestTag { id: 5_000, ..RequestTag::default() },
        user: user(1).0,
        cursor: 0,
        limit: 500,
    };
    world.own(ToOwnMailbox::Sync(ask));
    world.run();
    assert_eq!(list(&mut world, 1, 1).devices[0].cursor, cursor);
    // Nor does the end of the first end the second.
    let gone = Gone { edge: first.edge, user: user(1).0, device: device(1) };
    world.own(ToOwnMailbox::Gone(Box::new(gone)));
    assert!(slot(&world).devices.as_slice()[0].extension.is_some());
}

fn told() -> ActivityTold {
    ActivityTold {
        edge: edge(1, 1),
        user: user(1).0,
        device: device(1),
        state: wire::ActivityState::ActivityForeground,
    }
}

#[test]
fn what_comes_right_behind_a_registration_sees_it() {
    let mut world = World::new(Limits::default());
    world.held = true;
    let hello = world.hello(1, 1);
    world.register(hello);
    let id = world.ask(1, 1, MailboxRequest::ListDevices);
    world.run();
    assert!(world.edges.is_empty() && world.replies.is_empty(), "nothing is durable");
    world.held = false;
    let Some(Reply::Frame(body)) = world.answer(id) else { panic!("no answer") };
    let server_frame::Body::DeviceList(list) = *body else { panic!("{body:?}") };
    assert_eq!((ids(&list), list.devices[0].registered_ms), (vec![1], START_MS));
    assert!(matches!(world.edges.as_slice(), [(_, ToEdge::Registered { .. })]));
}
