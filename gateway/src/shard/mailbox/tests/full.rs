//! How many sessions there may be is decided where their users are at home, so it does not matter
//! by which shard a device comes back.

use super::*;
use roost_protocol::request::SignOut;

/// As many sessions as there may be.
const MOST: u32 = 3;

fn world() -> World {
    World::new(Limits { connections_max: MOST, ..Limits::default() })
}

/// What a device is told that registers from another connection than before.
fn told(world: &mut World, mut register: Register, moved: u32) -> ToEdge {
    register.edge.edge.slot += moved;
    world.register(register);
    world.run();
    world.edges.pop().expect("it is told something").1
}

fn is_welcome(what: &ToEdge) -> bool {
    if let ToEdge::Refused(error) = what {
        assert_eq!(error.code(), ErrorCode::ErrorOverloaded);
        assert!(error.retry_after_ms > 0);
        return false;
    }
    assert!(matches!(what, ToEdge::Registered { .. }), "{what:?}");
    true
}

#[test]
fn whoever_is_one_too_many_is_told_to_come_back_later() {
    let mut world = world();
    for n in 1..=MOST {
        world.connect(n, 1);
    }
    assert_eq!(world.boxes.sessions(), MOST);
    for (n, of) in [(4, 1), (1, 2), (1, 3)] {
        let register = world.hello(n, of);
        assert!(!is_welcome(&told(&mut world, register, 0)), "user {n}, device {of}");
    }
    assert_eq!((world.boxes.sessions(), world.ctx.stats.refused_full_total), (MOST, 3));
    world.disconnect(2, 1);
    assert_eq!(world.boxes.sessions(), MOST - 1);
    world.connect(4, 1);
}

#[test]
fn whoever_takes_over_its_own_session_is_welcome() {
    let mut world = world();
    for n in 1..=MOST {
        world.connect(n, 1);
    }
    for moved in 1..20 {
        let register = world.hello(1, 1);
        let before = register.edge;
        assert!(is_welcome(&told(&mut world, register, moved)));
        assert_eq!(world.boxes.sessions(), MOST);
        // The end of the one before changes nothing.
        let mut gone = Gone { edge: before, user: user(1).0, device: device(1) };
        gone.edge.edge.slot += moved - 1;
        world.own(ToOwnMailbox::Gone(Box::new(gone)));
        world.run();
        assert_eq!(world.boxes.sessions(), MOST);
    }
    // Neither does that of a connection that was not let in.
    let register = world.hello(9, 1);
    assert!(!is_welcome(&told(&mut world, register, 0)));
    world.disconnect(9, 1);
    assert_eq!(world.boxes.sessions(), MOST);
}

#[test]
fn each_session_is_counted_once_however_it_ends() {
    let mut world = world();
    world.connect(1, 1);
    world.connect(1, 2);
    let mut extension = world.hello(1, 1);
    extension.role = wire::Role::Extension;
    let at = EdgeAddress { edge: EdgeId { slot: 7, generation: 1 }, ..extension.edge };
    extension.edge = at;
    world.register(extension);
    world.run();
    assert_eq!(world.boxes.sessions(), 3, "an extension has a connection of its own");
    world.evict_all();
    assert_eq!(world.boxes.sessions(), 3);
    // Both of a device end at once, and are gone later.
    world.done(1, 2, MailboxRequest::SignOut(SignOut::Device(device(1))));
    assert_eq!(world.boxes.sessions(), 1);
    world.disconnect(1, 1);
    let gone = Gone { edge: at, user: user(1).0, device: device(1) };
    world.own(ToOwnMailbox::Gone(Box::new(gone)));
    world.run();
    assert_eq!(world.boxes.sessions(), 1);
    world.disconnect(1, 2);
    world.disconnect(1, 2);
    assert_eq!(world.boxes.sessions(), 0);
    // Nobody is connected after a restart.
    world.connect(2, 1);
    world.restart();
    assert_eq!(world.boxes.sessions(), 0);
    world.disconnect(2, 1);
    world.connect(2, 1);
    assert_eq!(world.boxes.sessions(), 1);
}

#[test]
fn a_device_that_is_signed_out_for_another_leaves_its_place() {
    let mut world = World::new(Limits { devices_max: 2, connections_max: 3, ..Limits::default() });
    world.connect(1, 1);
    world.connect(1, 2);
    world.connect(1, 3);
    assert_eq!(world.boxes.sessions(), 2);
}

#[test]
fn who_leaves_while_a_list_is_read_that_cannot_be_read_has_left() {
    let mut world = world();
    world.connect(1, 1);
    world.evict_all();
    world.ask(1, 1, MailboxRequest::SignOut(SignOut::Device(device(2))));
    let gone = Gone { edge: edge(1, 1), user: user(1).0, device: device(1) };
    world.own(ToOwnMailbox::Gone(Box::new(gone)));
    assert_eq!(world.boxes.sessions(), 1, "it waits for the list");
    world.boxes.loaded(&mut world.ctx, user(1).0, None, world.tick);
    assert_eq!(world.boxes.sessions(), 0);
}
