//! Sealing and merging: crashes at every step, space given back, damage contained, few files for
//! each stream.

use roost_storage_engine::{
    Damage, FileId, Kill, NewRecord, OpenError, Query, Settings, StoreEvent, StreamId,
};

use crate::world::{Dice, World, first_page, small, stream};

/// A world in which sealing, merging and the reuse of files are all due.
fn busy(seed: u64) -> World {
    let mut world = World::new(small(), seed);
    for turn in 0..90 {
        world.append(stream(turn % 5), 350).unwrap();
        if turn % 3 == 0 {
            world.end_batch(turn % 2);
        }
        if turn == 40 {
            world.trim(stream(2), 4).unwrap();
            world.delete(stream(4)).unwrap();
        }
        if turn % 9 == 0 {
            world.now += 2;
        }
    }
    world
}

fn tables(world: &World) -> usize {
    world.disk.names().iter().filter(|name| name.ends_with(".table")).count()
}

/// Everything is sealed and merged.
fn tidy(world: &mut World) {
    for _ in 0..20 {
        world.now += 10;
        world.settle();
    }
    assert!(world.stores.iter().all(roost_storage_engine::Store::is_tidy));
}

#[test]
fn a_crash_at_any_step_of_sealing_and_merging_loses_nothing() {
    let mut most = 0;
    for (begin, kill) in [(0, Kill::Process), (1, Kill::PowerCut)] {
        for steps in (begin..700).step_by(2) {
            let mut world = busy(u64::from(steps));
            world.disk.stop_after(Some(steps));
            for _ in 0..6 {
                world.now += 3;
                let pending = world.disk.pending().len();
                for _ in 0..pending {
                    world.complete(0);
                }
                world.end_batch(0);
                world.end_batch(1);
            }
            most = most.max(tables(&world));
            world.crash(kill);
            // What the disk refused is no damage.
            world.events.clear();
            world.settings.shards = 1 + u8::try_from(steps % 3).unwrap();
            world.reopen().unwrap_or_else(|error| panic!("after {steps} steps: {error}"));
            world.adopt_survivors(true);
            // And again, shortly after.
            world.disk.stop_after(Some(steps % 50));
            world.seal_old_as_far_as_it_goes();
            world.crash(kill);
            match world.reopen() {
                Ok(()) => {}
                Err(OpenError::Folder { .. }) => panic!("steps are not counted after a crash"),
                Err(error) => panic!("after {steps} steps and then some: {error}"),
            }
            world.adopt_survivors(true);
        }
    }
    assert!(most >= 2, "there were tables to merge");
}

#[test]
fn no_stream_is_in_more_tables_than_allowed() {
    let mut world = World::new(small(), 7);
    for turn in 0..600_u32 {
        let number = u8::try_from(turn % 7).unwrap();
        world.append(stream(number), 200).unwrap();
        if turn % 5 == 0 {
            world.settle();
        }
        if turn % 150 == 149 {
            world.settle();
            world.crash(Kill::Process);
            world.settings.shards = 1 + u8::try_from(turn / 150).unwrap();
            world.reopen().unwrap();
            world.adopt_survivors(true);
            world.seal_old();
            tidy(&mut world);
            // Each stream is in a partition of its own, so all tables of a store may hold it.
            assert!(tables(&world) <= 2 * 4, "{} tables", tables(&world));
        }
    }
    world.check();
}

fn all_of(world: &mut World, stream: StreamId) -> Vec<u64> {
    let query = Query::After { stream, seq: 0, limit: 10_000, max_bytes: usize::MAX };
    world.read(query).unwrap().iter().map(|record| record.seq).collect()
}

fn stored_bytes(world: &World) -> usize {
    let names = world.disk.names();
    let tables = names.iter().filter(|name| name.ends_with(".table"));
    tables.map(|name| world.disk.content(name).unwrap().len()).sum()
}

/// Bodies of a stream that no other has, in tables.
fn filled(world: &mut World, stream: StreamId, byte: u8, records: u64) {
    for number in 1..=records {
        let mut body = vec![byte; 400];
        // Nothing that compresses well.
        let mut noise = Dice(number * 1_000_003);
        for one in &mut body[8..] {
            *one = u8::try_from(noise.below(256)).unwrap();
        }
        let record = NewRecord {
            stream,
            number,
            seq: if number == records { 0 } else { number },
            stamp: number * 10,
            kind: 1,
            snapshot_start: number == records,
            body: &[&body],
        };
        world.store(stream).append(&record).unwrap();
        world.settle();
    }
}

#[test]
fn a_deleted_stream_leaves_the_files() {
    let mut world = World::new(small(), 3);
    let (gone, kept) = (stream(0), stream(2));
    filled(&mut world, gone, 0xd1, 60);
    filled(&mut world, kept, 0xd2, 60);
    tidy(&mut world);
    let before = stored_bytes(&world);
    world.store(gone).delete(gone).unwrap();
    // A new beginning, and enough of others that the mark is sealed.
    filled(&mut world, gone, 0xd3, 3);
    filled(&mut world, stream(4), 0xd4, 60);
    tidy(&mut world);
    assert_eq!(all_of(&mut world, gone), [1, 2]);
    assert_eq!(all_of(&mut world, kept).len(), 59);
    let after = stored_bytes(&world);
    assert!(after <= before + 4096, "{before} bytes before, {after} after");
    let names = world.disk.names();
    for name in names.iter().filter(|name| name.ends_with(".table")) {
        let content = world.disk.content(name).unwrap();
        assert!(!content.windows(8).any(|some| some == [0xd1; 8]), "{name} still has it");
    }
    world.crash(Kill::PowerCut);
    world.reopen().unwrap();
    assert_eq!(all_of(&mut world, gone), [1, 2]);
}

#[test]
fn a_trimmed_stream_keeps_its_end_and_its_state() {
    let mut world = World::new(small(), 3);
    let one = stream(2);
    filled(&mut world, one, 1, 60);
    world.store(one).trim(one, 50).unwrap();
    world.settle();
    let left: Vec<u64> = (50..60).collect();
    assert_eq!(all_of(&mut world, one), left);
    let before = Query::Before { stream: one, seq: 55, limit: 100, max_bytes: usize::MAX };
    assert_eq!(world.read(before).unwrap().len(), 5);
    assert_eq!(world.read(Query::Load { stream: one }).unwrap().len(), 1);
    filled(&mut world, stream(4), 2, 60);
    tidy(&mut world);
    assert_eq!(all_of(&mut world, one), left);
    assert_eq!(world.read(before).unwrap().len(), 5);
}

#[test]
fn what_lies_beside_a_snapshot_comes_with_it() {
    let mut world = World::new(small(), 3);
    let one = stream(2);
    filled(&mut world, one, 1, 60);
    filled(&mut world, stream(4), 2, 60);
    tidy(&mut world);
    let snapshot = world.read(Query::Load { stream: one }).unwrap();
    assert_eq!(snapshot.len(), 1);
    let fetches = |world: &mut World| world.store(one).stats().fetches;
    let before = fetches(&mut world);
    world.read(Query::Load { stream: one }).unwrap();
    let alone = fetches(&mut world) - before;
    let with_recent = world.read(Query::LoadWithRecent { stream: one }).unwrap();
    assert_eq!(fetches(&mut world) - before, 2 * alone, "it costs as much");
    assert_eq!(with_recent.last(), snapshot.last());
    let seqs: Vec<u64> = with_recent.iter().map(|record| record.seq).filter(|&s| s > 0).collect();
    let first = *seqs.first().expect("it is not alone");
    assert!(seqs.into_iter().eq(first..60), "they have no gap");
}

#[test]
fn what_is_too_old_goes_once_a_snapshot_stands_for_it() {
    let mut world = World::new(small(), 3);
    let (with, without) = (stream(0), stream(2));
    filled(&mut world, with, 1, 100);
    for number in 1..=100 {
        let record = NewRecord {
            stream: without,
            number,
            seq: number,
            stamp: number * 10,
            kind: 1,
            snapshot_start: false,
            body: &[&[9; 300]],
        };
        world.store(without).append(&record).unwrap();
        world.settle();
    }
    filled(&mut world, stream(4), 2, 60);
    tidy(&mut world);
    let before = stored_bytes(&world);
    world.stores[0].retain_from(901);
    tidy(&mut world);
    let after = stored_bytes(&world);
    let left: Vec<u64> = (91..100).collect();
    assert_eq!(all_of(&mut world, with), left);
    assert_eq!(all_of(&mut world, without).len(), 100);
    assert!(after + 60 * 400 < before, "{before} bytes before, {after} after");
    let size = world.disk.detach().unwrap();
    assert_eq!(size.stamp_for_bytes(1 << 30), 0);
    assert!(size.stamp_for_bytes(1000) > 900);
}

#[test]
fn a_flipped_bit_in_a_table_hides_one_record() {
    let mut world = World::new(small(), 3);
    let one = stream(2);
    filled(&mut world, one, 0xd1, 60);
    filled(&mut world, stream(4), 0xd2, 60);
    tidy(&mut world);
    let mut found = None;
    for name in world.disk.names().iter().filter(|name| name.ends_with(".table")) {
        let content = world.disk.content(name).unwrap();
        let places: Vec<usize> =
            (0..content.len() - 8).filter(|&at| content[at..at + 8] == [0xd1; 8]).collect();
        if places.len() > 20 {
            found = Some((name.clone(), places[10]));
        }
    }
    let (name, at) = found.unwrap();
    world.disk.flip_bit(&name, u64::try_from(at).unwrap() + 100, 3);
    // Chunks were read before: what the cache has is not what the disk has now.
    world.crash(Kill::Process);
    world.reopen().unwrap();
    assert_eq!(all_of(&mut world, one).len(), 58);
    let reported = |event: &StoreEvent| {
        matches!(event, StoreEvent::Corrupt(Damage { file: FileId::Table(_), offset, stream })
            if *stream == Some(one) && at.abs_diff(usize::try_from(*offset).unwrap()) < 64)
    };
    assert!(world.saw(reported));
    assert_eq!(all_of(&mut world, stream(4)).len(), 59);
    // Merging keeps what is left, and does not hide that something is missing.
    world.seal_old();
    world.events.clear();
    filled(&mut world, stream(6), 3, 200);
    tidy(&mut world);
    assert_eq!(all_of(&mut world, one).len(), 58);
    assert!(world.saw(|event| matches!(event, StoreEvent::Corrupt(_))));
}

#[test]
fn tables_are_merged_around_one_with_a_damaged_page() {
    let mut world = World::new(small(), 3);
    let one = stream(2);
    let grow = |world: &mut World, records: u32| {
        for _ in 0..records {
            world.append(one, 350).unwrap();
            world.settle();
        }
        tidy(world);
    };
    grow(&mut world, 60);
    let names = world.disk.names();
    let damaged = names.iter().find(|name| name.ends_with(".table")).unwrap();
    let page = first_page(world.disk.content(damaged).unwrap());
    world.disk.flip_bit(damaged, u64::try_from(page).unwrap() + 12, 0);
    world.crash(Kill::Process);
    world.reopen().unwrap();
    world.seal_old();
    world.events.clear();
    grow(&mut world, 300);
    // What was older than it, what is newer, and itself.
    assert!(world.disk.names().contains(damaged));
    assert!(tables(&world) <= 2 + 1 + 2, "{} tables", tables(&world));
    let named = |event: &StoreEvent| {
        matches!(event, StoreEvent::Corrupt(Damage { file: FileId::Table(_), stream: None, .. }))
    };
    assert_eq!(world.events.iter().filter(|(_, event)| named(event)).count(), 1);
    let newest = Query::Before { stream: one, seq: u64::MAX, limit: 50, max_bytes: usize::MAX };
    assert_eq!(world.read(newest).unwrap().len(), 50);
    // A deletion cannot give back what it does not reach; others can.
    let other = stream(4);
    filled(&mut world, other, 0xd7, 40);
    world.delete(other).unwrap();
    grow(&mut world, 60);
    assert_eq!(all_of(&mut world, other), []);
}

#[test]
fn tables_serve_any_number_of_shards() {
    let mut world = World::new(small(), 9);
    for turn in 0..200_u32 {
        world.append(stream(u8::try_from(turn % 9).unwrap()), 150).unwrap();
        if turn % 4 == 0 {
            world.settle();
        }
    }
    world.settle();
    for shards in [1, 4, 3, 2] {
        world.crash(Kill::PowerCut);
        world.settings.shards = shards;
        world.reopen().unwrap();
        world.adopt_survivors(true);
        world.seal_old();
        for number in 0..9 {
            world.append(stream(number), 100).unwrap();
        }
        world.settle();
        world.check();
    }
}

#[test]
fn files_are_used_again() {
    let mut world = World::new(small(), 9);
    for turn in 0..300_u32 {
        world.append(stream(u8::try_from(turn % 4).unwrap()), 500).unwrap();
        if turn % 4 == 0 {
            world.settle();
        }
    }
    world.settle();
    let names = world.disk.names();
    let segments = names.iter().filter(|name| name.ends_with(".active")).count();
    let spares = names.iter().filter(|name| name.ends_with(".spare")).count();
    assert!(segments <= 4, "{names:?}");
    assert!((1..=4).contains(&spares), "{names:?}");
    // A crash in a segment whose file was another one before.
    world.append(stream(1), 500).unwrap();
    world.end_batch(1);
    world.crash(Kill::PowerCut);
    world.reopen().unwrap();
    world.adopt_survivors(true);
}

/// Streams of the first shard, in a world where few records are few and 50 ms are a stretch.
fn calm_world(seed: u64, change: impl FnOnce(&mut Settings)) -> (World, Vec<StreamId>) {
    let mut settings = small();
    change(&mut settings.settings);
    settings.settings.rest_after_ms = 50;
    settings.settings.rest_records = 3;
    settings.settings.rest_streams = 3;
    let world = World::new(settings, seed);
    let ours = (0..40).map(stream).filter(|of| world.home(*of) == 0).take(4).collect();
    (world, ours)
}

/// So much time passes.
fn pass(world: &mut World, ms: u64) {
    world.now += ms;
    world.settle();
}

#[test]
fn a_segment_that_hardly_anybody_writes_to_is_sealed_when_its_index_is_large() {
    let (mut world, ours) = calm_world(11, |_| ());
    pass(&mut world, 50);
    for of in &ours[..2] {
        world.append(*of, 90).unwrap();
    }
    pass(&mut world, 100);
    pass(&mut world, 100);
    assert_eq!(tables(&world), 0, "two streams are few");
    for of in &ours {
        world.append(*of, 600).unwrap();
    }
    pass(&mut world, 50);
    assert_eq!(tables(&world), 0, "much was written just now");
    world.append(ours[0], 90).unwrap();
    pass(&mut world, 49);
    assert_eq!(tables(&world), 0, "the stretch is not over");
    pass(&mut world, 1);
    assert_eq!(tables(&world), 1, "one record was written meanwhile");
    world.append(ours[3], 90).unwrap();
    world.settle();
    world.crash(Kill::Process);
    world.reopen().unwrap();
    world.adopt_survivors(true);
    world.check();
}

#[test]
fn a_segment_of_which_little_is_written_is_sealed_only_for_a_large_index() {
    for (index_bytes, expected) in [(1 << 20, 0), (24, 1)] {
        let (mut world, ours) = calm_world(12, |settings| {
            settings.segment_bytes = 256 << 10;
            settings.first_segment_bytes = 256 << 10;
            settings.rest_index_bytes = index_bytes;
        });
        for of in &ours {
            world.append(*of, 20).unwrap();
        }
        for _ in 0..4 {
            pass(&mut world, 50);
        }
        assert_eq!(tables(&world), expected);
        let files = |world: &World| {
            world.disk.names().iter().filter(|name| name.ends_with(".active")).count()
        };
        let made = files(&world);
        for _ in 0..20 {
            pass(&mut world, 50);
        }
        assert_eq!((files(&world), tables(&world)), (made, expected), "once is enough");
    }
}

#[test]
fn a_store_that_is_written_to_now_and_then_has_few_tables_all_the_same() {
    let (mut world, ours) = calm_world(13, |settings| {
        settings.segment_bytes = 256 << 10;
        settings.first_segment_bytes = 256 << 10;
        settings.rest_index_bytes = 24;
        settings.tables_a_stream_max = 100;
        settings.idle_merge_ms = 1000;
    });
    let mut most = 0;
    for round in 0..60 {
        world.append(ours[round % 4], 20).unwrap();
        pass(&mut world, 50);
        pass(&mut world, 50);
        most = most.max(tables(&world));
    }
    // One each round, and at the tenth they become one.
    assert!((5..=14).contains(&most), "{most} tables");
    world.check();
}
