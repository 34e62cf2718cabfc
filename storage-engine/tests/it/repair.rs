//! Repairing a damaged store.

use std::collections::BTreeMap;

use proptest::prelude::*;
use roost_storage_engine::inspect::{
    Fate, FlawKind, Hole, InspectError, RepairSettings, Repaired, repair,
};
use roost_storage_engine::{Folder, Kill, Query, SimDisk, StoredRecord, StreamId};

use crate::inspect::{contents, exported, lived_in, repaired, verified};
use crate::world::{World, first_page, small, stream};

#[test]
fn a_whole_store_is_left_alone() {
    let mut world = lived_in(5, 40);
    world.crash(Kill::Process);
    let before = contents(&world.disk);
    let done = repaired(&mut world.disk, false).unwrap();
    assert_eq!((done.flaws.len(), done.files.len(), done.incarnation), (0, 0, None));
    assert_eq!(contents(&world.disk), before);
}

/// The place of a record in its segment: stream, checksum, length, flags, kind, number.
fn find(disk: &SimDisk, stream: StreamId, number: u64) -> Option<(String, u64)> {
    let segments = disk.names().into_iter().filter(|name| name.ends_with(".active"));
    segments.into_iter().find_map(|name| {
        let content = disk.content(&name).unwrap();
        let is_it = |record: &[u8]| {
            let length = if record[20] < 0x80 { 1 } else { 2 };
            record[..16] == stream.0.to_le_bytes() && u64::from(record[22 + length]) == number
        };
        let at = content.windows(40).position(is_it)?;
        Some((name, at as u64))
    })
}

/// Repairs, and checks what must be true afterwards; gives the repair and the records there are.
fn mend(world: &mut World) -> (Repaired, BTreeMap<StreamId, Vec<StoredRecord>>) {
    let before = contents(&world.disk);
    let dry = repaired(&mut world.disk, true).unwrap();
    assert_eq!(contents(&world.disk), before, "a dry run changes nothing");
    let done = repaired(&mut world.disk, false).unwrap();
    assert_eq!((&dry.flaws, &dry.files), (&done.flaws, &done.files));
    assert_eq!(done.incarnation, Some(4711));
    assert_eq!(verified(&mut world.disk).flaws, []);
    let found = exported(&mut world.disk);
    world.reopen().unwrap();
    assert_eq!(world.incarnation, 4711);
    for stream in found.keys().copied().collect::<Vec<_>>() {
        let read = world.read(Query::Load { stream }).unwrap();
        assert!(read.iter().all(|record| found[&stream].contains(record)));
    }
    world.crash(Kill::Process);
    assert_eq!(verified(&mut world.disk).flaws, []);
    (done, found)
}

#[test]
fn a_segment_damaged_in_the_middle_keeps_what_is_around() {
    let mut world = lived_in(5, 8);
    let three = stream(3);
    let lost = world.model[&three].records()[1].clone();
    world.crash(Kill::Process);
    let (name, at) = find(&world.disk, three, lost.number).unwrap();
    assert!(name.ends_with(".active"));
    world.disk.flip_bit(&name, at + 20, 5);
    assert!(world.reopen().is_err());
    let flaws = verified(&mut world.disk).flaws;
    assert_eq!((flaws.len(), flaws[0].kind), (1, FlawKind::Record));
    let (done, found) = mend(&mut world);
    assert_eq!(done.files[0].fate, Fate::Rewritten);
    assert!(world.disk.names().contains(&format!("damaged/{name}")));
    for (stream, expected) in &world.model {
        let whole: Vec<StoredRecord> =
            expected.records().into_iter().filter(|one| *stream != three || *one != lost).collect();
        assert_eq!(found.get(stream).cloned().unwrap_or_default(), whole);
    }
}

#[test]
fn a_segment_without_its_first_bytes_is_read_all_the_same() {
    for offset in [3, 45, 512 + 20, 4096] {
        let mut world = lived_in(5, 8);
        world.crash(Kill::Process);
        let name = "0000000100000001.active";
        world.disk.flip_bit(name, offset, 2);
        let (done, found) = mend(&mut world);
        assert_eq!(done.files.len(), 1);
        let count: usize = found.values().map(Vec::len).sum();
        let all: usize = world.model.values().map(|expected| expected.records().len()).sum();
        assert!(count == all, "offset {offset}: {count} of {all}");
    }
}

#[test]
fn a_table_is_rebuilt_whatever_part_is_damaged() {
    let mut kinds = Vec::new();
    let tables = |world: &World| -> Vec<String> {
        world.disk.names().into_iter().filter(|name| name.ends_with(".table")).collect()
    };
    let (bytes, page, root) = {
        let world = lived_in(5, 60);
        let name = tables(&world).remove(0);
        let content = world.disk.content(&name).unwrap();
        let page = first_page(content);
        let footer = &content[content.len() - 4096..];
        let root = u64::from_le_bytes(footer[48..56].try_into().unwrap());
        (content.len(), page, usize::try_from(root).unwrap())
    };
    for offset in (0..bytes).step_by(bytes / 150).chain([
        page + 1,
        page + 5,
        page + 8,
        page + 13,
        page + 40,
        root + 5,
    ]) {
        let mut world = lived_in(5, 60);
        world.crash(Kill::Process);
        let before = exported(&mut world.disk);
        let name = tables(&world).remove(0);
        world.disk.flip_bit(&name, offset as u64, 6);
        let flaws = verified(&mut world.disk).flaws;
        if flaws.is_empty() {
            // Padding has no checksum.
            continue;
        }
        kinds.extend(flaws.iter().map(|flaw| flaw.kind));
        let (done, found) = mend(&mut world);
        let all = |map: &BTreeMap<StreamId, Vec<StoredRecord>>| map.values().flatten().count();
        let lost = all(&before) - all(&found);
        let mended = &done.files[0];
        assert!(lost <= 120, "offset {offset}: {lost} lost");
        if mended.marks_lost == Some(0) {
            assert!(mended.lost.is_none_or(|told| told >= lost as u64), "{mended:?} {lost}");
        }
        assert!(world.disk.names().contains(&format!("damaged/{name}")));
    }
    for kind in [FlawKind::Chunk, FlawKind::Page, FlawKind::Root, FlawKind::Footer] {
        assert!(kinds.contains(&kind), "{kind:?} was not met: {kinds:?}");
    }
}

#[test]
fn a_stream_can_be_cut_at_its_hole() {
    let mut world = lived_in(5, 8);
    world.crash(Kill::Process);
    let three = stream(3);
    let (name, at) = find(&world.disk, three, 6).unwrap();
    world.disk.flip_bit(&name, at + 60, 1);
    let (done, _found) = mend(&mut world);
    // Number 5 is a snapshot; 6 is gone; 7 and 8 follow.
    assert_eq!(done.holes, [Hole { stream: three, before: 5, next: 7, behind: 2 }]);
    let settings = |dry| RepairSettings { fresh_incarnation: 12, dry, cut_at_holes: true };
    let before = contents(&world.disk);
    let dry = repair(&mut world.disk, settings(true), &mut |_bytes| ()).unwrap();
    assert_eq!((dry.holes.len(), dry.files.len(), dry.incarnation), (1, 1, None));
    assert_eq!(contents(&world.disk), before);
    let cut = repair(&mut world.disk, settings(false), &mut |_bytes| ()).unwrap();
    assert_eq!((cut.holes.len(), cut.files.len(), cut.incarnation), (1, 1, Some(12)));
    assert_eq!(verified(&mut world.disk).flaws, []);
    let again = repair(&mut world.disk, settings(false), &mut |_bytes| ()).unwrap();
    assert_eq!(again, Repaired::default());
    world.reopen().unwrap();
    let records = world.read(Query::Load { stream: three }).unwrap();
    assert_eq!(records.iter().map(|record| record.number).collect::<Vec<_>>(), [5]);
    let other = world.read(Query::Load { stream: stream(12) }).unwrap();
    assert_eq!(other, world.model[&stream(12)].records());
}

#[test]
fn a_repair_that_is_cut_short_can_be_repeated() {
    let damaged = || {
        let mut world = lived_in(5, 40);
        world.crash(Kill::Process);
        let names = world.disk.names();
        let table = names.iter().find(|name| name.ends_with(".table")).unwrap();
        world.disk.flip_bit(table, 100, 2);
        let segments = names.iter().rev().filter(|name| name.ends_with(".active"));
        for name in segments.take(2) {
            world.disk.flip_bit(name, 4096 + 200, 2);
        }
        world
    };
    let mut once = damaged();
    repaired(&mut once.disk, false).unwrap();
    let wanted = exported(&mut once.disk);
    for steps in (0..800).step_by(7) {
        for kill in [Kill::Process, Kill::PowerCut] {
            let mut world = damaged();
            world.disk.stop_after(Some(steps));
            let done = repaired(&mut world.disk, false).is_ok();
            world.crash(kill);
            repaired(&mut world.disk, false).unwrap();
            assert_eq!(verified(&mut world.disk).flaws, [], "after {steps} steps");
            assert!(exported(&mut world.disk) == wanted, "after {steps} steps");
            world.reopen().unwrap();
            assert_eq!(world.incarnation, 4711, "after {steps} steps");
            assert!(!done || steps > 100, "it takes some steps");
        }
    }
}

/// A folder that an earlier version left.
fn fixture(version: &str) -> SimDisk {
    let folder = format!("{}/tests/fixtures/{version}", env!("CARGO_MANIFEST_DIR"));
    let mut disk = SimDisk::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        disk.put_file(name, &std::fs::read(&path).unwrap());
    }
    disk
}

#[test]
fn older_formats_are_read_and_repaired() {
    for version in ["v1", "v2"] {
        let whole = exported(&mut fixture(version));
        assert!(!whole.is_empty());
        assert_eq!(verified(&mut fixture(version)).flaws, [], "{version}");
        let names = fixture(version).names();
        for name in names.iter().filter(|name| name.contains('.')) {
            for offset in [5, 600, 4096 + 90, 4096 + 200] {
                let mut disk = fixture(version);
                if disk.content(name).unwrap().len() <= offset {
                    continue;
                }
                disk.flip_bit(name, offset as u64, 3);
                if verified(&mut disk).flaws.is_empty() {
                    continue;
                }
                repaired(&mut disk, false).unwrap();
                assert_eq!(verified(&mut disk).flaws, [], "{version} {name} {offset}");
                for (stream, records) in exported(&mut disk) {
                    let known = |one: &StoredRecord| whole[&stream].contains(one);
                    assert!(records.iter().all(known), "{version} {name} {offset}");
                }
                roost_storage_engine::open(&mut disk, &small()).unwrap();
            }
        }
    }
}

#[test]
fn missing_files_are_given_up_by_name() {
    let mut world = lived_in(5, 60);
    world.crash(Kill::Process);
    let name = world.disk.names().into_iter().find(|name| name.ends_with(".table")).unwrap();
    world.disk.remove(&name).unwrap();
    assert_eq!(verified(&mut world.disk).flaws[0].kind, FlawKind::Missing);
    let (done, _found) = mend(&mut world);
    assert_eq!((done.files[0].file.as_str(), done.files[0].fate), (name.as_str(), Fate::Lost));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn after_any_damage_a_repair_opens_or_says_why(
        seed in any::<u64>(),
        flips in 1_u32..8,
        turns in 5_u8..60,
    ) {
        let mut world = lived_in(seed, turns);
        world.crash(Kill::Process);
        for _ in 0..flips {
            let names = world.disk.names();
            let names: Vec<_> = names.iter().filter(|name| *name != "catalogue").collect();
            let count = u32::try_from(names.len()).unwrap();
            let name = names[usize::try_from(world.dice.below(count)).unwrap()];
            let bytes = u32::try_from(world.disk.content(name).unwrap().len()).unwrap();
            if world.dice.below(8) == 0 {
                let kept = usize::try_from(world.dice.below(bytes.max(1))).unwrap();
                let content = world.disk.content(name).unwrap()[..kept].to_vec();
                world.disk.put_file(name, &content);
            } else if bytes > 0 && world.dice.below(4) == 0 {
                // A sector that is gone, as disks do it.
                let from = usize::try_from(world.dice.below(bytes) / 512 * 512).unwrap();
                let mut content = world.disk.content(name).unwrap().to_vec();
                let to = (from + 512).min(content.len());
                let with = if world.dice.below(2) == 0 { 0 } else { 0xff };
                content[from..to].fill(with);
                world.disk.put_file(name, &content);
            } else if bytes > 0 {
                let offset = world.dice.below(bytes);
                let bit = u8::try_from(world.dice.below(8)).unwrap();
                world.disk.flip_bit(name, offset.into(), bit);
            }
        }
        match repaired(&mut world.disk, false) {
            Ok(done) if done.incarnation.is_none() => {}
            Ok(_) => {
                prop_assert_eq!(verified(&mut world.disk).flaws, []);
                for (stream, records) in exported(&mut world.disk) {
                    let all = &world.model[&stream].log;
                    let known = |one: &StoredRecord| all.contains(
                        &crate::world::Logged::Record(one.clone()));
                    prop_assert!(records.iter().all(known), "only what was written");
                }
            }
            Err(InspectError::NoPlace { .. } | InspectError::Newer { .. }) => return Ok(()),
            Err(error) => prop_assert!(false, "{error}"),
        }
        world.reopen().unwrap();
    }
}
