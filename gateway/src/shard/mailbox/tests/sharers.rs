//! The connections of a user share what the user may: each is told how many there are.

use super::*;
use roost_protocol::request::SignOut;

/// What connections were told since the last look.
fn told(world: &mut World) -> Vec<(EdgeAddress, u8)> {
    let mut found = Vec::new();
    for (edge, what) in std::mem::take(&mut world.edges) {
        if let ToEdge::Sharers(sharers) = what {
            found.push((edge, sharers));
        }
    }
    found.sort_unstable_by_key(|(edge, _)| edge.edge.slot);
    found
}

fn all(of: &[u8]) -> Vec<(EdgeAddress, u8)> {
    let sharers = u8::try_from(of.len()).unwrap();
    of.iter().map(|of| (edge(1, *of), sharers)).collect()
}

#[test]
fn each_connection_is_told_how_many_share() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    assert_eq!(told(&mut world), [], "one shares with nobody");
    world.connect(1, 2);
    assert_eq!(told(&mut world), all(&[1, 2]));
    world.connect(1, 3);
    assert_eq!(told(&mut world), all(&[1, 2, 3]));
    world.disconnect(1, 2);
    assert_eq!(told(&mut world), all(&[1, 3]));
    // The slot keeps the others while the list is on disk.
    world.evict_all();
    world.done(1, 1, MailboxRequest::SignOut(SignOut::Device(device(3))));
    assert_eq!(told(&mut world), all(&[1]));
    world.disconnect(1, 1);
    assert_eq!(told(&mut world), [], "nobody is left");
}

#[test]
fn a_connection_that_replaces_another_is_told_too() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.connect(1, 2);
    told(&mut world);
    let mut again = world.hello(1, 2);
    again.edge.edge.slot += 100;
    let new = again.edge;
    world.register(again);
    world.run();
    assert_eq!(told(&mut world), [(edge(1, 1), 2), (new, 2)]);
    // The end of the old one changes nothing.
    world.disconnect(1, 2);
    assert_eq!(told(&mut world), []);
}

#[test]
fn an_extension_shares_as_well() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    let mut extension = world.hello(1, 1);
    extension.role = wire::Role::Extension;
    extension.edge.edge.slot += 100;
    let new = extension.edge;
    world.register(extension);
    world.run();
    assert_eq!(told(&mut world), [(edge(1, 1), 2), (new, 2)]);
    let gone = Gone { edge: new, user: user(1).0, device: device(1) };
    world.own(ToOwnMailbox::Gone(Box::new(gone)));
    world.run();
    assert_eq!(told(&mut world), all(&[1]));
}
