//! Who has a place: those who have only come and those who are being ended, beside sessions. The
//! driver is played; peers that were told something stay as long as they may.

use super::{World, edge};
use crate::ids::EdgeId;
use crate::shard::edge::table::{Counts, State};
use crate::shard::output::Output;
use crate::shard::report::Report;
use roost_protocol::time::Instant;
use roost_protocol::wire;

/// The least places beside the limit.
const BESIDE: u32 = 8;

/// A world of so many connections at most, with so many sessions.
fn world(connections_max: u32, sessions: u32) -> World {
    let mut world = World::new();
    world.ctx.limits.connections_max = connections_max;
    for slot in 0..sessions {
        world.welcomed(slot, wire::Role::Main);
    }
    world
}

impl World {
    fn comes(&mut self, slot: u32) -> EdgeId {
        let id = edge(slot);
        self.edges.opened(&mut self.ctx, &mut self.outbox, id, 0, None);
        id
    }

    /// Comes, is told no, and does not go.
    fn is_refused(&mut self, slot: u32) {
        let id = self.comes(slot);
        self.edges.received(&mut self.ctx, &mut self.outbox, id, b"nonsense");
    }

    /// The driver does its part. Gives whom it was to cut off, and what else there was.
    fn drives(&mut self) -> (Vec<u32>, Vec<Output>) {
        let (mut cut, mut others) = (Vec::new(), Vec::new());
        for output in self.outbox.drain().collect::<Vec<_>>() {
            if let Output::Send { edge, buffer } = output {
                self.edges.sent(&mut self.ctx, &mut self.outbox, edge, buffer);
            } else if let Output::Abort { edge } = output {
                self.edges.closed(&mut self.ctx, edge);
                cut.push(edge.slot);
            } else if !matches!(output, Output::Close { .. }) {
                others.push(output);
            }
        }
        (cut, others)
    }

    fn counts(&self) -> Counts {
        self.edges.table.counts()
    }

    fn makes_room(&mut self) -> Vec<Output> {
        self.edges.take_newcomers(&self.ctx, &mut self.outbox);
        self.drives().1
    }

    fn was_told_that_it_is_full(&mut self) -> bool {
        let told = |report: &Report| matches!(report, Report::ConnectionsFull { limit: 4 });
        self.ctx.reports.drain(..).filter(told).count() > 0
    }
}

fn pauses(outputs: &[Output]) -> Vec<u16> {
    let listener = |output: &Output| {
        let Output::PauseAccepting { listener } = output else { panic!("{output:?}") };
        *listener
    };
    outputs.iter().map(listener).collect()
}

fn resumes(outputs: &[Output]) -> Vec<u16> {
    let listener = |output: &Output| {
        let Output::ResumeAccepting { listener } = output else { panic!("{output:?}") };
        *listener
    };
    outputs.iter().map(listener).collect()
}

#[test]
fn of_those_who_are_being_ended_the_oldest_are_cut_off() {
    let mut world = world(4, 4);
    let mut cut = Vec::new();
    for slot in 10..60 {
        world.is_refused(slot);
        let (more, others) = world.drives();
        assert!(others.is_empty(), "nobody waits for them: {others:?}");
        cut.extend(more);
        assert!(world.counts().closing <= BESIDE);
    }
    assert_eq!(cut, (10..52).collect::<Vec<u32>>(), "they go in the order in which they were told");
    assert_eq!(world.counts(), Counts { newcomers: 0, sessions: 4, closing: BESIDE });
    assert_eq!(world.ctx.stats.closing_cut_total, 42);
    // Whoever goes by itself is not waited for.
    for slot in 52..60 {
        world.edges.closed(&mut world.ctx, edge(slot));
    }
    assert_eq!(world.counts(), Counts { newcomers: 0, sessions: 4, closing: 0 });
    world.is_refused(60);
    assert_eq!(world.drives().0, [] as [u32; 0]);
}

#[test]
fn those_who_are_being_ended_have_what_newcomers_leave() {
    let mut world = world(100, 20);
    for slot in 100..150 {
        world.is_refused(slot);
    }
    assert_eq!(world.drives().0, [] as [u32; 0]);
    for slot in 200..260 {
        world.comes(slot);
    }
    // Of a hundred places twenty are left.
    assert_eq!(world.drives().0, (100..130).collect::<Vec<u32>>());
    assert_eq!(world.counts(), Counts { newcomers: 60, sessions: 20, closing: 20 });
}

#[test]
fn newcomers_wait_when_all_places_are_taken() {
    let mut world = world(4, 2);
    for slot in 10..10 + BESIDE - 1 {
        world.comes(slot);
        assert_eq!(pauses(&world.drives().1), [] as [u16; 0]);
    }
    assert!(!world.was_told_that_it_is_full());
    world.comes(30);
    assert_eq!(pauses(&world.drives().1), [0, 1], "at every listener");
    assert!(world.was_told_that_it_is_full());
    // The driver had taken it before.
    world.comes(31);
    assert_eq!(pauses(&world.drives().1), [] as [u16; 0]);
    for slot in [30, 31, 10] {
        assert_eq!(resumes(&world.makes_room()), [] as [u16; 0]);
        world.edges.closed(&mut world.ctx, edge(slot));
    }
    assert_eq!(resumes(&world.makes_room()), [0, 1]);
    assert_eq!(resumes(&world.makes_room()), [] as [u16; 0]);
}

#[test]
fn a_shard_that_has_more_sessions_than_its_part_lets_others_return() {
    let mut world = world(4, 30);
    for slot in 100..100 + BESIDE - 2 {
        world.comes(slot);
        world.is_refused(slot + 100);
    }
    assert_eq!(format!("{:?}", world.drives()), "([], [])");
    let expected = Counts { newcomers: BESIDE - 2, sessions: 30, closing: BESIDE - 2 };
    assert_eq!(world.counts(), expected);
}

#[test]
fn a_listener_goes_on_when_neither_its_rate_nor_its_places_are_used_up() {
    let mut world = world(4, 4);
    world.ctx.limits.connections_per_second = 10;
    world.ctx.now.monotonic = Instant { ns: 5_000_000_000 };
    for slot in 10..10 + BESIDE {
        world.comes(slot);
    }
    // For the rate, and then for the places.
    assert_eq!(pauses(&world.drives().1), [0, 0, 1]);
    world.ctx.now.monotonic.ns += 2_000_000_000;
    world.edges.sweep(&mut world.ctx, &mut world.outbox, 20);
    assert_eq!(resumes(&world.drives().1), [] as [u16; 0]);
    for slot in 10..14 {
        world.edges.closed(&mut world.ctx, edge(slot));
    }
    assert_eq!(resumes(&world.makes_room()), [0, 1]);
}

#[test]
fn a_stop_tells_everybody_and_cuts_nobody_off() {
    let mut world = world(40, 40);
    world.ctx.limits.drain_ms = 0;
    world.edges.drain(&mut world.ctx, &mut world.outbox);
    assert_eq!(format!("{:?}", world.drives()), "([], [])");
    assert_eq!(world.counts(), Counts { newcomers: 0, sessions: 0, closing: 40 });
}

#[test]
fn whoever_is_cut_off_says_and_hears_nothing_more() {
    let mut world = world(4, 4);
    world.is_refused(10);
    world.drives();
    for slot in 11..11 + BESIDE {
        world.is_refused(slot);
    }
    let cut = edge(10);
    let state = |world: &World| world.edges.table.peek(cut).map(|edge| edge.state);
    assert_eq!(state(&world), Some(State::Aborting));
    let outputs = world.outbox.drain().count();
    assert!(outputs > 0);
    world.edges.received(&mut world.ctx, &mut world.outbox, cut, b"ROO\x01");
    world.edges.sent(&mut world.ctx, &mut world.outbox, cut, Vec::new());
    world.edges.sweep(&mut world.ctx, &mut world.outbox, 100_000);
    let concerns = |output: &Output| matches!(output, Output::Abort { edge } if *edge == cut);
    assert!(!world.outbox.drain().any(|output| concerns(&output)));
    world.edges.closed(&mut world.ctx, cut);
    assert_eq!(state(&world), None);
}
