//! Looking at a store from outside.

use std::collections::BTreeMap;

use proptest::prelude::*;
use roost_storage_engine::inspect::{
    InspectError, RepairSettings, Repaired, SegmentState, StreamPart, Verified, Watched, export,
    inspect, inspect_stream, repair, stats, verify,
};
use roost_storage_engine::{Folder, Kill, Query, SimDisk, StoredRecord, StreamId};

use crate::world::{World, small, stream};

/// A world with tables, segments, trims and a deletion; everything durable.
pub(crate) fn lived_in(seed: u64, turns: u8) -> World {
    let mut world = World::new(small(), seed);
    for turn in 0..turns {
        for number in 0..5 {
            world.append(stream(number * 3), 60 + usize::from(turn) * 3).unwrap();
        }
        if turn % 16 == 9 {
            world.trim(stream(6), u64::from(turn / 2)).unwrap();
        }
        if turn == turns / 2 {
            world.delete(stream(9)).unwrap();
        }
        world.settle();
    }
    world
}

pub(crate) fn looked<T>(
    disk: &mut SimDisk,
    act: impl FnOnce(&mut Watched<'_>) -> Result<T, InspectError>,
) -> Result<T, InspectError> {
    act(&mut Watched(disk))
}

pub(crate) fn verified(disk: &mut SimDisk) -> Verified {
    looked(disk, |look| verify(look, &mut |_bytes| ())).unwrap()
}

pub(crate) fn exported(disk: &mut SimDisk) -> BTreeMap<StreamId, Vec<StoredRecord>> {
    let mut found: BTreeMap<StreamId, Vec<StoredRecord>> = BTreeMap::new();
    looked(disk, |look| {
        let mut last = StreamId(0);
        let give = &mut |one: &roost_storage_engine::inspect::FoundRecord| {
            assert!(one.stream >= last, "streams come in order");
            last = one.stream;
            found.entry(one.stream).or_default().push(one.record.clone());
            true
        };
        export(look, None, give, &mut |_bytes| ())
    })
    .unwrap();
    found
}

pub(crate) fn repaired(disk: &mut SimDisk, dry: bool) -> Result<Repaired, InspectError> {
    let settings = RepairSettings { fresh_incarnation: 4711, dry, cut_at_holes: false };
    repair(disk, settings, &mut |_bytes| ())
}

/// What must be there: all from the last snapshot on, and all with a seq.
fn owed(records: &[StoredRecord]) -> Vec<StoredRecord> {
    let snapshot = records.iter().rposition(|record| record.snapshot_start).unwrap_or(0);
    let kept = records.iter().enumerate().filter(|(at, one)| *at >= snapshot || one.seq > 0);
    kept.map(|(_, record)| record.clone()).collect()
}

pub(crate) fn contents(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let all = disk.names();
    all.iter().map(|name| (name.clone(), disk.content(name).unwrap().to_vec())).collect()
}

#[test]
fn an_export_is_what_the_store_holds() {
    let mut world = lived_in(5, 60);
    let before = contents(&world.disk);
    assert!(before.keys().any(|name| name.ends_with(".table")));
    let found = exported(&mut world.disk);
    for (stream, expected) in &world.model {
        let shown = expected.records();
        let there = found.get(stream).cloned().unwrap_or_default();
        assert!(there.iter().all(|record| shown.contains(record)), "{stream:?}");
        for record in owed(&shown) {
            assert!(there.contains(&record), "{stream:?}: {record:?}");
        }
    }
    let verified = verified(&mut world.disk);
    assert_eq!(verified.flaws, []);
    assert!(verified.records >= 200 && verified.files > 3);
    let numbers = looked(&mut world.disk, |look| stats(look, &mut |_bytes| ())).unwrap();
    assert_eq!(numbers.records, found.values().map(|all| all.len() as u64).sum::<u64>());
    assert_eq!(numbers.streams, found.len() as u64);
    let bodies = found.values().flatten().map(|record| record.body.len() as u64);
    assert_eq!(numbers.body_bytes, bodies.sum::<u64>());
    assert!(numbers.biggest.is_sorted_by(|one, next| one.bytes >= next.bytes));
    assert!(numbers.unsealed_bytes > 0 && numbers.root_bytes > 0 && numbers.chunk_bytes > 0);
    assert_eq!(contents(&world.disk), before, "nothing was changed");
}

#[test]
fn what_a_store_consists_of_is_told() {
    let mut world = lived_in(5, 60);
    let facts = looked(&mut world.disk, |look| inspect(look, &mut |_bytes| ())).unwrap();
    assert_eq!((facts.run, facts.clean, facts.interval), (1, false, false));
    assert!(facts.tables.iter().all(|table| table.root.is_some()));
    assert!(facts.segments.iter().any(|one| one.state == SegmentState::Written && one.records > 0));
    assert!(facts.spares.len() + facts.segments.len() > 2);
    let one = stream(6);
    let (parts, flaws) =
        looked(&mut world.disk, |look| inspect_stream(look, one, &mut |_bytes| ())).unwrap();
    assert!(flaws.is_empty());
    let of_part = |part: &StreamPart| part.records.iter().map(|one| one.number).max();
    let numbers: Vec<u64> = parts.iter().filter_map(of_part).collect();
    assert!(numbers.is_sorted() && numbers.len() > 1);
    assert!(parts.iter().any(|part| part.line.is_some()));
    assert!(parts.iter().any(|part| part.line.is_none()));
}

#[test]
fn there_may_be_no_store() {
    let mut disk = SimDisk::new();
    let nothing = looked(&mut disk, |look| verify(look, &mut |_bytes| ()));
    assert_eq!(nothing.unwrap_err(), InspectError::NoStore);
    let mut world = lived_in(5, 20);
    world.disk.flip_bit("catalogue", 30, 1);
    let error = looked(&mut world.disk, |look| inspect(look, &mut |_bytes| ())).unwrap_err();
    assert_eq!(error, InspectError::BadCatalogue);
    assert_eq!(repaired(&mut world.disk, false), Err(InspectError::BadCatalogue));
    world.disk.remove("catalogue").unwrap();
    assert_eq!(repaired(&mut world.disk, false), Err(InspectError::NoCatalogue));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_is_no_damage(seed in any::<u64>(), turns in 3_u8..50) {
        let mut world = lived_in(seed, turns);
        for number in 0..5 {
            world.append(stream(number), 300).unwrap();
        }
        for shard in 0..2 {
            world.end_batch(shard);
        }
        world.crash(Kill::PowerCut);
        let found = verified(&mut world.disk);
        prop_assert_eq!(found.flaws, []);
        let seen = exported(&mut world.disk);
        world.reopen().unwrap();
        for (stream, expected) in world.model.clone() {
            let kept = owed(&expected.shown(expected.durable));
            let there = seen.get(&stream).cloned().unwrap_or_default();
            prop_assert!(kept.iter().all(|record| there.contains(record)));
            let read = world.read(Query::Load { stream }).unwrap();
            prop_assert!(read.iter().all(|record| there.contains(record)));
        }
    }
}
