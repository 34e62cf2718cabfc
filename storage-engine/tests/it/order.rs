//! The store against a model: any appends, commits, roll-overs and seals.

use proptest::prelude::*;
use roost_storage_engine::{Query, StoreEvent};

use crate::world::{World, small, stream};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn holds_what_was_appended(
        steps in proptest::collection::vec((0_u8..6, 0_usize..900, 0_u8..14), 1..250),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(small(), seed);
        for (number, bytes, what) in steps {
            match what {
                0 => world.settle(),
                1 => world.end_batch(number % 2),
                2 if !world.disk.pending().is_empty() => {
                    let bound = u32::try_from(world.disk.pending().len()).unwrap();
                    let index = world.dice.below(bound);
                    world.complete(usize::try_from(index).unwrap());
                }
                3 if bytes < 200 => drop(world.delete(stream(number))),
                4 if bytes < 300 => drop(world.trim(stream(number), u64::from(number) + 5)),
                5 => world.now += 3,
                _ => {
                    if world.append(stream(number), bytes).is_err() {
                        world.settle();
                    }
                }
            }
        }
        world.settle();
        world.check();
        prop_assert!(world.model.values().all(|one| one.durable == one.log.len()));
    }
}

#[test]
fn rolled_segments_are_sealed_when_they_owe_nothing() {
    let mut world = World::new(small(), 1);
    let one = stream(3);
    world.append(one, 100).unwrap();
    world.settle();
    let first = world.stores[1].run();
    let segment = roost_storage_engine::SegmentId::new(first, 1, 1);
    world.stores[1].owe(segment, 2);
    for _ in 0..60 {
        world.append(one, 700).unwrap();
        world.settle();
    }
    let sealed = |event: &StoreEvent| *event == StoreEvent::Sealed(segment);
    assert!(!world.saw(sealed));
    assert!(world.stores[1].untold_bytes() > 40_000);
    world.stores[1].settle(segment, 2);
    world.settle();
    assert!(world.saw(sealed));
    assert_eq!(world.stores[1].untold_bytes(), 0);
    assert!(world.stores[1].stats().sealed >= 4);
    world.check();
}

#[test]
fn a_read_waits_for_the_commit_of_what_it_touches() {
    let mut world = World::new(small(), 1);
    let one = stream(2);
    world.settle();
    world.append(one, 10).unwrap();
    let mut ops = Vec::new();
    let id = world.stores[0].read(Query::Load { stream: one }, &mut ops);
    let mut events = Vec::new();
    world.stores[0].take_ready(&mut events);
    assert!(ops.is_empty());
    assert!(events.is_empty());
    world.settle();
    let answered = |event: &StoreEvent| {
        matches!(event, StoreEvent::Read { id: got, result: Ok(records) }
            if *got == id && records.len() == 1)
    };
    assert!(world.saw(answered));
}

#[test]
fn answers_have_a_limit_in_bytes_and_at_least_one_record() {
    let mut world = World::new(small(), 1);
    let one = stream(6);
    for _ in 0..10 {
        world.append(one, 100).unwrap();
    }
    world.settle();
    let mut after = |max_bytes| {
        let query = Query::After { stream: one, seq: 0, limit: 100, max_bytes };
        world.read(query).unwrap().len()
    };
    assert_eq!([after(0), after(99), after(250), after(1000)], [1, 1, 2, 10]);
}

#[test]
fn a_read_that_waited_shows_nothing_that_came_later() {
    let mut world = World::new(small(), 1);
    let one = stream(2);
    world.settle();
    world.append(one, 10).unwrap();
    let mut ops = Vec::new();
    let id = world.stores[0].read(Query::Load { stream: one }, &mut ops);
    world.end_batch(0);
    world.append(one, 20).unwrap();
    while !world.disk.pending().is_empty() {
        world.complete(0);
    }
    let answered = |event: &StoreEvent| {
        matches!(event, StoreEvent::Read { id: got, result: Ok(records) }
            if *got == id && records.len() == 1)
    };
    assert!(world.saw(answered));
    world.settle();
    world.check();
}

#[test]
fn a_fetch_has_a_bounded_number_of_ranges() {
    let mut settings = small();
    settings.settings.segment_bytes = 8 << 20;
    settings.settings.first_segment_bytes = 8 << 20;
    settings.settings.batch_max_bytes = 16 << 20;
    settings.shards = 1;
    let mut world = World::new(settings, 1);
    let (scattered, between) = (stream(2), stream(4));
    for _ in 0..2500 {
        world.append(scattered, 1).unwrap();
        world.append(between, 1100).unwrap();
    }
    world.settle();
    world.crash(roost_storage_engine::Kill::Process);
    world.reopen().unwrap();
    let mut ops = Vec::new();
    world.stores[0].read(Query::Replay { stream: scattered }, &mut ops);
    let ranges = ops.iter().map(|op| match op {
        roost_storage_engine::StoreOp::Fetch { parts, .. } => parts[0].ranges.len(),
        other => panic!("not a fetch: {other:?}"),
    });
    assert_eq!(ranges.collect::<Vec<_>>(), [1024]);
    assert_eq!(world.read(Query::Replay { stream: scattered }).unwrap().len(), 2500);
}
