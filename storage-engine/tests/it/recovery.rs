//! Crash at any step, open, crash again, open: nothing durable is lost, nothing comes back.

use proptest::prelude::*;
use roost_storage_engine::{DiskError, Durability, Kill, OpenError, Query, SegmentId};

use crate::world::{World, small, stream};

#[derive(Clone, Debug)]
enum Step {
    Append { number: u8, bytes: usize },
    EndBatch(u8),
    Complete(u32),
    Settle,
    Crash { kill: Kill, shards: u8, again: Option<(u32, Kill)> },
    SealOld,
    Full(bool),
    Trim { number: u8, seq: u64 },
    Delete(u8),
}

fn kill() -> impl Strategy<Value = Kill> {
    prop_oneof![Just(Kill::Process), Just(Kill::PowerCut)]
}

fn step() -> impl Strategy<Value = Step> {
    let crash = (kill(), 1_u8..5, proptest::option::of((0_u32..60, kill())))
        .prop_map(|(kill, shards, again)| Step::Crash { kill, shards, again });
    prop_oneof![
        12 => (0_u8..7, 0_usize..1200).prop_map(|(number, bytes)| Step::Append { number, bytes }),
        4 => (0_u8..5).prop_map(Step::EndBatch),
        4 => any::<u32>().prop_map(Step::Complete),
        1 => Just(Step::Settle),
        2 => crash,
        1 => Just(Step::SealOld),
        1 => any::<bool>().prop_map(Step::Full),
        1 => (0_u8..7, 0_u64..20).prop_map(|(number, seq)| Step::Trim { number, seq }),
        1 => (0_u8..7).prop_map(Step::Delete),
    ]
}

/// Crashes and opens, the second time possibly in the middle of opening.
fn crash(world: &mut World, kill: Kill, shards: u8, again: Option<(u32, Kill)>) {
    world.crash(kill);
    world.settings.shards = shards;
    if let Some((steps, kill)) = again {
        world.disk.stop_after(Some(steps));
        match world.reopen() {
            Ok(()) | Err(OpenError::Folder { error: DiskError::Stopped, .. }) => {}
            Err(error) => panic!("{error}"),
        }
        world.crash(kill);
    }
    world.reopen().unwrap_or_else(|error| panic!("{error}"));
}

/// The disk is not full any more, and everything gets done.
fn make_room(world: &mut World) {
    world.disk.set_full(false);
    world.now += 1000;
    world.settle();
    world.now += 1000;
    world.settle();
}

fn run(world: &mut World, step: Step, keeps: bool) {
    match step {
        Step::Append { number, bytes } => {
            if world.append(stream(number), bytes).is_err() {
                world.settle();
            }
        }
        Step::EndBatch(shard) => {
            world.now += 3;
            world.end_batch(shard % world.settings.shards);
        }
        Step::Complete(index) => {
            let bound = u32::try_from(world.disk.pending().len()).unwrap();
            if bound > 0 {
                world.complete(usize::try_from(index % bound).unwrap());
            }
        }
        Step::Settle => world.settle(),
        Step::Crash { kill, shards, again } => {
            crash(world, kill, shards, again);
            world.adopt_survivors(keeps);
        }
        Step::Full(full) => world.disk.set_full(full),
        Step::Trim { number, seq } => drop(world.trim(stream(number), seq)),
        Step::Delete(number) => drop(world.delete(stream(number))),
        Step::SealOld => {
            make_room(world);
            world.seal_old();
            assert!(world.stores.iter().all(|store| store.replay_streams().is_empty()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_was_durable_survives(
        steps in proptest::collection::vec(step(), 1..200),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(small(), seed);
        for step in steps {
            run(&mut world, step, true);
        }
        make_room(&mut world);
        world.check();
    }

    #[test]
    fn in_interval_mode_a_beginning_survives(
        steps in proptest::collection::vec(step(), 1..120),
        seed in any::<u64>(),
    ) {
        let mut settings = small();
        settings.settings.durability = Durability::Interval { ms: 10 };
        let mut world = World::new(settings, seed);
        for step in steps {
            let before = world.incarnation;
            let crashes = matches!(step, Step::Crash { .. });
            run(&mut world, step, false);
            prop_assert_eq!(before != world.incarnation, crashes);
        }
        make_room(&mut world);
        world.check();
    }
}

#[test]
fn every_crash_in_the_middle_of_opening_is_harmless() {
    for kill in [Kill::Process, Kill::PowerCut] {
        for steps in 0..80 {
            let mut world = World::new(small(), u64::from(steps));
            for turn in 0..40 {
                world.append(stream(turn % 5), 300).unwrap();
                if turn % 7 == 0 {
                    world.settle();
                }
            }
            world.end_batch(0);
            world.end_batch(1);
            crash(&mut world, kill, 3, Some((steps, kill)));
            world.adopt_survivors(true);
        }
    }
}

#[test]
fn replay_gives_what_was_not_sealed_to_its_new_home() {
    let mut world = World::new(small(), 5);
    for turn in 0..30 {
        world.append(stream(turn % 6), 50).unwrap();
    }
    world.settle();
    crash(&mut world, Kill::PowerCut, 3, None);
    let told: Vec<_> = world.stores.iter().flat_map(|store| store.replay_streams()).collect();
    assert_eq!(told.len(), 6);
    for stream in told {
        let records = world.read(Query::Replay { stream }).unwrap();
        assert_eq!(records, world.model[&stream].records());
    }
    world.seal_old();
    assert!(world.stores.iter().all(|store| store.replay_streams().is_empty()));
    assert!(world.read(Query::Replay { stream: stream(1) }).unwrap().is_empty());
    world.check();
    crash(&mut world, Kill::PowerCut, 1, None);
    assert!(world.stores[0].replay_streams().is_empty());
    world.adopt_survivors(true);
}

#[test]
fn a_clean_stop_keeps_the_incarnation_in_interval_mode() {
    let mut settings = small();
    settings.settings.durability = Durability::Interval { ms: 10 };
    let mut world = World::new(settings, 5);
    world.now += 100;
    world.settle();
    world.append(stream(1), 50).unwrap();
    world.settle();
    world.append(stream(1), 50).unwrap();
    world.settle();
    assert!(world.stores[1].synced() < world.stores[1].durable());
    world.stores[1].flush_soon();
    world.settle();
    assert_eq!(world.stores[1].synced(), world.stores[1].appended());
    let before = world.incarnation;
    let mut keeper = world.disk.detach().unwrap();
    keeper.close_cleanly(&mut world.disk, 777, false).unwrap();
    world.reopen().unwrap();
    assert_eq!(world.incarnation, before);
    assert_eq!(world.stores[0].max_stamp(), 777);
    world.crash(Kill::Process);
    world.reopen().unwrap();
    assert_ne!(world.incarnation, before);
}

#[test]
fn after_a_clean_stop_that_owed_nothing_nothing_is_told_again() {
    for told in [false, true] {
        let mut world = World::new(small(), 5);
        world.append(stream(1), 50).unwrap();
        world.settle();
        let (store, segment) = (world.store(stream(1)), SegmentId::new(1, 1, 1));
        assert!(store.owes_nothing());
        store.owe(segment, 2);
        store.settle(segment, 1);
        assert!(!store.owes_nothing());
        store.settle(segment, 1);
        assert!(store.owes_nothing());
        let mut keeper = world.disk.detach().unwrap();
        keeper.close_cleanly(&mut world.disk, 777, told).unwrap();
        world.reopen().unwrap();
        let streams = world.store(stream(1)).replay_streams();
        assert_eq!(streams.is_empty(), told);
        world.check();
        // It holds for that start only: what its run did with them is not known.
        world.crash(Kill::Process);
        world.reopen().unwrap();
        assert_eq!(world.store(stream(1)).replay_streams(), [stream(1)]);
        world.check();
    }
}
