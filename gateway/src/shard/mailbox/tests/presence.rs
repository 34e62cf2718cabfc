//! Presence: asked once or watched, and never told to who did not ask.

use super::*;
use crate::shard::message::{BlockConfirmed, Part, PresenceAsked, Watch};
use roost_protocol::request::SetPrivacy;
use wire::ActivityState::{ActivityBackground, ActivityForeground, ActivitySuspended};
use wire::Audience;

/// Somebody looks at a user.
fn look(world: &mut World, by: u32, at: u32, contact: bool, watch: Watch) {
    let asked = PresenceAsked {
        edge: edge(by, 1),
        request: RequestTag::default(),
        asker: user(by).0,
        about: user(at),
        contact,
        watch,
    };
    world.tell(ToMailbox::PresenceAsked(Box::new(asked)));
    world.run();
}

/// What was told since the last look: to whom, whether online, since when.
fn seen(world: &mut World) -> Vec<(EdgeAddress, bool, u64)> {
    let mut found = Vec::new();
    let mut note = |edge, presence: &wire::Presence| {
        found.push((edge, presence.online, presence.last_seen_ms));
    };
    for (edge, body) in world.pushed() {
        if let server_frame::Body::Presence(push) = body {
            push.presences.iter().for_each(|presence| note(edge, presence));
        }
    }
    for (edge, what) in std::mem::take(&mut world.edges) {
        if let ToEdge::Part { part, .. } = what {
            let Part::Presence(presence) = *part else { panic!("{part:?}") };
            note(edge, &presence);
        }
    }
    found
}

/// What one look says.
fn asked(world: &mut World, by: u32, at: u32, contact: bool) -> (bool, u64) {
    seen(world);
    look(world, by, at, contact, Watch::Once);
    let found = seen(world);
    let [(to, online, last_seen_ms)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(*to, edge(by, 1));
    (*online, *last_seen_ms)
}

fn visible_to(presence: Audience) -> MailboxRequest {
    MailboxRequest::SetPrivacy(SetPrivacy {
        presence: Some(presence),
        contacts_only: None,
        read_receipts: None,
    })
}

const HIDDEN: (bool, u64) = (false, 0);

#[test]
fn online_is_an_app_in_front_of_a_person() {
    let mut world = World::new(Limits::default());
    assert_eq!(asked(&mut world, 2, 1, true), HIDDEN, "nobody has seen this user");
    world.connect(1, 1);
    let now_ms = |world: &World| world.ctx.now.wall.ms;
    assert_eq!(asked(&mut world, 2, 1, false), (true, now_ms(&world)));
    world.pass_ms(3_000);
    let left_ms = now_ms(&world);
    world.activity(1, 1, ActivityBackground);
    world.pass_ms(60_000);
    assert_eq!(asked(&mut world, 2, 1, false), (false, left_ms));
    // Another device of the user may be in front.
    world.connect(1, 2);
    assert!(asked(&mut world, 2, 1, false).0);
    world.activity(1, 1, ActivitySuspended);
    assert!(asked(&mut world, 2, 1, false).0);
    let left_ms = now_ms(&world);
    world.disconnect(1, 2);
    world.disconnect(1, 1);
    // When it was outlives the eviction of the slot.
    world.pass_ms(60_000);
    world.evict_all();
    assert_eq!(world.boxes.len(), 0);
    assert_eq!(asked(&mut world, 2, 1, false), (false, left_ms));
}

#[test]
fn who_watches_is_told_what_has_lasted() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.edges.clear();
    look(&mut world, 2, 1, false, Watch::Start);
    assert_eq!(seen(&mut world), [(edge(2, 1), true, START_MS)], "how it is now");
    // Coming back within 5 s never was going.
    world.activity(1, 1, ActivityBackground);
    world.pass_ms(4_900);
    world.activity(1, 1, ActivityForeground);
    world.pass_ms(10_000);
    assert_eq!(seen(&mut world), []);
    world.disconnect(1, 1);
    let left_ms = world.ctx.now.wall.ms;
    world.pass_ms(4_999);
    assert_eq!(seen(&mut world), []);
    world.pass_ms(1);
    let whole_seconds = left_ms / 1000 * 1000;
    assert_eq!(seen(&mut world), [(edge(2, 1), false, whole_seconds)]);
    world.connect(1, 1);
    world.pass_ms(5_000);
    let told = seen(&mut world);
    assert!(matches!(told.as_slice(), [(_, true, _)]), "{told:?}");
    look(&mut world, 2, 1, false, Watch::Stop);
    world.disconnect(1, 1);
    world.pass_ms(5_000);
    assert_eq!(seen(&mut world), []);
    assert!(!world.boxes.watches.has(user(1).0));
}

#[test]
fn a_watch_ends_after_five_minutes_unless_it_is_renewed() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    look(&mut world, 2, 1, false, Watch::Start);
    look(&mut world, 3, 1, false, Watch::Start);
    world.pass_ms(240_000);
    look(&mut world, 3, 1, false, Watch::Start);
    world.pass_ms(60_000);
    seen(&mut world);
    world.disconnect(1, 1);
    world.pass_ms(5_000);
    let told: Vec<EdgeAddress> = seen(&mut world).iter().map(|(to, ..)| *to).collect();
    assert_eq!(told, [edge(3, 1)]);
    world.pass_ms(240_000);
    assert!(!world.boxes.watches.has(user(1).0), "nothing is kept of it");
    world.connect(1, 1);
    world.pass_ms(5_000);
    assert_eq!(seen(&mut world), []);
}

#[test]
fn a_watched_user_may_leave_memory_and_come_back() {
    let mut world = World::new(Limits::default());
    look(&mut world, 2, 1, false, Watch::Start);
    assert_eq!(seen(&mut world), [(edge(2, 1), false, 0)]);
    world.evict_all();
    assert_eq!(world.boxes.len(), 0);
    world.connect(1, 1);
    world.pass_ms(5_000);
    let told = seen(&mut world);
    assert!(matches!(told.as_slice(), [(_, true, _)]), "{told:?}");
}

#[test]
fn the_user_says_who_may_see() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    for (audience, stranger, contact) in [
        (Audience::Everyone, true, true),
        (Audience::Contacts, false, true),
        (Audience::Nobody, false, false),
    ] {
        world.done(1, 1, visible_to(audience));
        for evicted in [false, true] {
            if evicted {
                world.evict_all();
            }
            assert_eq!(asked(&mut world, 2, 1, false).0, stranger, "{audience:?}");
            assert_eq!(asked(&mut world, 2, 1, true).0, contact, "{audience:?}");
            assert!(asked(&mut world, 1, 1, false).0, "oneself always");
        }
        if !contact {
            assert_eq!(asked(&mut world, 2, 1, true), HIDDEN);
        }
    }
}

#[test]
fn who_may_not_see_any_more_is_told_that_there_is_nobody_and_nothing_after() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    for (by, contact) in [(2, true), (3, false), (4, true)] {
        look(&mut world, by, 1, contact, Watch::Start);
    }
    seen(&mut world);
    world.done(1, 1, visible_to(Audience::Contacts));
    assert_eq!(seen(&mut world), [(edge(3, 1), false, 0)]);
    let id = world.ask(1, 1, MailboxRequest::Block { peer: user(2), unblock: false });
    world.run();
    assert_eq!(seen(&mut world), [(edge(2, 1), false, 0)]);
    world.disconnect(1, 1);
    world.pass_ms(5_000);
    let told: Vec<EdgeAddress> = seen(&mut world).iter().map(|(to, ..)| *to).collect();
    assert_eq!(told, [edge(4, 1)]);
    // Whoever is blocked sees nothing, also when the list is on disk.
    world.connect(1, 1);
    let confirmed = BlockConfirmed { user: user(1).0, conversation: direct(1, 2), number: 3 };
    world.tell(ToMailbox::BlockConfirmed(confirmed));
    assert!(world.answer(id).is_some());
    world.evict_all();
    assert_eq!(asked(&mut world, 2, 1, true), HIDDEN);
    assert!(asked(&mut world, 4, 1, true).0);
    seen(&mut world);
    look(&mut world, 2, 1, true, Watch::Start);
    assert_eq!(seen(&mut world), [(edge(2, 1), false, 0)]);
    world.disconnect(1, 1);
    world.pass_ms(5_000);
    assert!(seen(&mut world).iter().all(|(to, ..)| *to != edge(2, 1)));
}

#[test]
fn a_thousand_watch_and_the_others_ask() {
    let mut world = World::new(Limits { watchers_max: 3, ..Limits::default() });
    world.connect(1, 1);
    for by in 2..=6 {
        look(&mut world, by, 1, false, Watch::Start);
    }
    let told = seen(&mut world);
    assert_eq!(told.iter().filter(|(_, online, _)| *online).count(), 5, "all are told once");
    assert_eq!(world.ctx.stats.watchers_refused_total, 2);
    // Renewing needs no room.
    look(&mut world, 2, 1, false, Watch::Start);
    assert_eq!(world.ctx.stats.watchers_refused_total, 2);
    seen(&mut world);
    world.disconnect(1, 1);
    world.pass_ms(5_000);
    let told: Vec<EdgeAddress> = seen(&mut world).iter().map(|(to, ..)| *to).collect();
    assert_eq!(told, [edge(2, 1), edge(3, 1), edge(4, 1)]);
    // Those whose time is over make room.
    world.pass_ms(299_000);
    look(&mut world, 7, 1, false, Watch::Start);
    assert_eq!(world.ctx.stats.watchers_refused_total, 2);
    assert_eq!(Limits::default().watchers_max, 1_000);
}

#[test]
fn a_storm_of_returns_pushes_to_nobody_who_did_not_ask() {
    let mut world = World::new(Limits::default());
    for n in 1..=200 {
        world.connect(n, 1);
    }
    look(&mut world, 1, 2, true, Watch::Start);
    seen(&mut world);
    for n in 2..=200 {
        world.disconnect(n, 1);
    }
    world.pass_ms(6_000);
    for n in 2..=200 {
        world.connect(n, 1);
    }
    world.pass_ms(6_000);
    let told = seen(&mut world);
    assert!(told.iter().all(|(to, ..)| *to == edge(1, 1)), "{told:?}");
    assert_eq!(told.len(), 2);
    assert_eq!(world.ctx.stats.presence_pushes_total, 2);
}
