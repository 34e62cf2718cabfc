//! The version of a user's list of devices: told to the conversations that asked for it.

use super::*;
use crate::shard::message::{DevicesAsked, Part, VersionWanted};
use roost_protocol::request::SignOut;

fn want(world: &mut World, n: u32, conversation: ConversationId) {
    let user = user(n).0;
    world.tell(ToMailbox::VersionWanted(VersionWanted { user, conversation }));
    world.run();
}

/// What conversations were told since the last look.
fn told(world: &mut World) -> Vec<(ConversationId, u64)> {
    let mut found = Vec::new();
    for message in std::mem::take(&mut world.told) {
        let ToConversation::VersionTold(told) = message else { panic!("{message:?}") };
        found.push((told.conversation, told.version));
    }
    found.sort_unstable();
    found
}

fn sorted(mut all: Vec<(ConversationId, u64)>) -> Vec<(ConversationId, u64)> {
    all.sort_unstable();
    all
}

#[test]
fn whoever_wants_it_is_told_now_and_at_each_change() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.deliver(said(2, 1, 1));
    world.deliver(said(3, 1, 1));
    assert_eq!(told(&mut world), [], "nobody asked");
    want(&mut world, 1, direct(1, 2));
    assert_eq!(told(&mut world), [(direct(1, 2), 1)]);
    // One that asks before anything was said.
    want(&mut world, 1, direct(1, 4));
    assert_eq!(told(&mut world), [(direct(1, 4), 1)]);
    world.connect(1, 2);
    let all = |version| sorted(vec![(direct(1, 2), version), (direct(1, 4), version)]);
    assert_eq!(told(&mut world), all(2));
    world.deliver(said(4, 1, 1));
    world.sync(1, 1, 0);
    world.evict_all();
    world.done(1, 1, MailboxRequest::SignOut(SignOut::Device(device(2))));
    assert_eq!(told(&mut world), all(3));
    // A name, or a device that comes back as it went, changes nothing.
    let name = "phone".to_owned();
    world.done(1, 1, MailboxRequest::RenameDevice { device: device(1), name });
    world.connect(1, 1);
    assert_eq!(told(&mut world), []);
    // After a crash they are told again.
    world.restart();
    assert_eq!(told(&mut world), all(3));
    world.connect(1, 3);
    assert_eq!(told(&mut world), all(4));
}

#[test]
fn the_eleventh_raises_it_twice_and_tells_the_last() {
    let mut world = World::new(Limits { devices_max: 2, ..Limits::default() });
    world.connect(1, 1);
    world.connect(1, 2);
    want(&mut world, 1, direct(1, 2));
    told(&mut world);
    world.connect(1, 3);
    assert_eq!(told(&mut world), [(direct(1, 2), 4)]);
}

#[test]
fn nothing_is_told_before_the_change_is_durable() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.deliver(said(2, 1, 1));
    want(&mut world, 1, direct(1, 2));
    told(&mut world);
    world.held = true;
    let hello = world.hello(1, 2);
    world.register(hello);
    world.run();
    assert_eq!(told(&mut world), []);
    world.held = false;
    world.run();
    assert_eq!(told(&mut world), [(direct(1, 2), 2)]);
}

#[test]
fn a_user_nobody_has_seen_has_version_zero_until_the_first_device() {
    let mut world = World::new(Limits::default());
    want(&mut world, 5, direct(5, 6));
    assert_eq!(told(&mut world), [(direct(5, 6), 0)]);
    world.restart();
    assert_eq!(told(&mut world), [(direct(5, 6), 0)]);
    world.connect(5, 1);
    assert_eq!(told(&mut world), [(direct(5, 6), 1)]);
}

#[test]
fn the_list_is_shown_to_who_may_encrypt_for_it() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.connect(1, 2);
    let request = RequestTag { id: 9, ..RequestTag::default() };
    for (n, version, devices) in [(1, 2, 2), (8, 0, 0)] {
        world.edges.clear();
        let about = user(n);
        let asked = DevicesAsked { edge: edge(3, 1), request, about };
        world.tell(ToMailbox::DevicesAsked(Box::new(asked)));
        world.run();
        let parts = std::mem::take(&mut world.edges);
        let [(to, ToEdge::Part { part, .. })] = parts.as_slice() else { panic!("{parts:?}") };
        let Part::Devices(set) = &**part else { panic!("{part:?}") };
        assert_eq!((*to, set.version, set.devices.len()), (edge(3, 1), version, devices));
    }
}
