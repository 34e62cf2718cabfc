//! Flush errors, full disks, flipped bits: what fails is named, neighbours are served.

use proptest::prelude::*;
use roost_storage_engine::{
    Damage, DiskError, FileId, Kill, NewRecord, OpenError, Query, ReadError, SegmentId, StoreError,
    StoreEvent, StoreOp, StreamId,
};

use crate::world::{World, first_page, small, stream};

#[test]
fn a_failed_flush_is_final() {
    let mut world = World::new(small(), 3);
    world.settle();
    world.append(stream(2), 100).unwrap();
    world.disk.set_flush_fails(true);
    world.settle();
    let failed = StoreError::Failed(DiskError::Io { code: 5 });
    assert!(world.saw(|event| *event == StoreEvent::Fatal(failed)));
    assert_eq!(world.append(stream(2), 100), Err(failed));
    assert_eq!(world.read(Query::Load { stream: stream(2) }), Err(ReadError::Stopped));
    world.crash(Kill::Process);
    world.reopen().unwrap();
    world.adopt_survivors(true);
}

/// A world that wrote to a stream until the disk was full.
fn on_a_full_disk() -> (World, StreamId) {
    let mut world = World::new(small(), 3);
    let one = stream(2);
    world.append(one, 100).unwrap();
    world.settle();
    world.disk.set_full(true);
    while world.append(one, 500).is_ok() {
        world.settle();
    }
    (world, one)
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    let (mut world, one) = on_a_full_disk();
    assert_eq!(world.append(one, 10), Err(StoreError::Full));
    assert!(world.saw(|event| *event == StoreEvent::Full));
    assert_eq!(world.read(Query::Load { stream: one }).unwrap(), world.model[&one].records());
    world.settle();
    assert!(!world.saw(|event| *event == StoreEvent::Room));
    world.disk.set_full(false);
    world.now += 1000;
    world.settle();
    assert!(world.saw(|event| *event == StoreEvent::Room));
    for _ in 0..50 {
        world.append(one, 500).unwrap();
        world.settle();
    }
    world.check();
}

#[test]
fn sealing_that_waits_for_room_says_so_once() {
    let (mut world, one) = on_a_full_disk();
    for _ in 0..5 {
        world.now += 1000;
        world.settle();
    }
    let waits =
        |event: &StoreEvent| matches!(event, StoreEvent::NotSealed { error: DiskError::Full, .. });
    assert_eq!(world.events.iter().filter(|(_, event)| waits(event)).count(), 1);
    assert_eq!(world.read(Query::Load { stream: one }).unwrap(), world.model[&one].records());
    world.disk.set_full(false);
    world.now += 1000;
    world.settle();
    assert!(world.saw(|event| matches!(event, StoreEvent::Sealed(_))));
    world.check();
}

#[test]
fn sealing_that_fails_is_said_and_tried_again() {
    let mut world = World::new(small(), 3);
    let one = stream(2);
    let is_seal = |op: &StoreOp| matches!(op, StoreOp::Seal { .. });
    let place = loop {
        world.append(one, 500).unwrap();
        world.end_batch(0);
        match world.disk.pending().iter().position(|(_, op)| is_seal(op)) {
            Some(place) => break place,
            None => world.complete(0),
        }
    };
    // Not the log's flush, which would be final.
    world.disk.set_flush_fails(true);
    world.complete(place);
    world.disk.set_flush_fails(false);
    let failed = |event: &StoreEvent| {
        matches!(event, StoreEvent::NotSealed { error: DiskError::Io { .. }, .. })
    };
    assert_eq!(world.events.iter().filter(|(_, event)| failed(event)).count(), 1);
    world.settle();
    let sealed = |event: &StoreEvent| matches!(event, StoreEvent::Sealed(_));
    assert!(!world.saw(sealed), "not before a second is over");
    world.now += 1000;
    world.settle();
    assert!(world.saw(sealed));
    world.events.clear();
    world.check();
}

#[test]
fn what_never_fits_and_what_waits_too_long_is_said() {
    let mut world = World::new(small(), 3);
    assert_eq!(world.append(stream(3), 9000), Err(StoreError::TooLarge));
    let refused = (0..200).find_map(|_| world.append(stream(3), 1000).err());
    assert_eq!(refused, Some(StoreError::Busy));
    world.settle();
    world.append(stream(3), 1000).unwrap();
    world.settle();
    world.check();
}

/// The place of a body in the only file that has it.
fn find(world: &World, body: &[u8]) -> (String, u64) {
    for name in world.disk.names() {
        let content = world.disk.content(&name).unwrap();
        if let Some(at) = content.windows(body.len()).position(|some| some == body) {
            return (name, u64::try_from(at).unwrap());
        }
    }
    panic!("not stored");
}

#[test]
fn a_flipped_bit_hides_one_record_and_is_reported() {
    let mut world = World::new(small(), 3);
    let one = stream(0);
    for turn in 0..30_u8 {
        let body = [turn; 40];
        let number = u64::from(turn) + 1;
        let new = NewRecord {
            stream: one,
            number,
            seq: number,
            stamp: 0,
            kind: 0,
            snapshot_start: false,
            body: &[&body],
        };
        world.store(one).append(&new).unwrap();
    }
    world.settle();
    let (name, at) = find(&world, &[7; 40]);
    world.disk.flip_bit(&name, at + 9, 3);
    let records = world.read(Query::Load { stream: one }).unwrap();
    assert_eq!(records.len(), 29);
    assert!(records.iter().all(|record| record.number != 8));
    assert!(world.saw(|event| matches!(event, StoreEvent::Corrupt(Damage { offset, stream, .. })
        // Before the body: stream, checksum, length, flags, kind, number, seq.
        if *offset == at - (16 + 4 + 1 + 2 + 2) && *stream == Some(one))));
}

/// A world with several commits durable in its first segment.
fn several_commits() -> (World, String) {
    let mut world = World::new(small(), 3);
    for _ in 0..5 {
        world.append(stream(0), 300).unwrap();
        world.settle();
    }
    let name = SegmentId::new(1, 0, 1).active_name();
    assert!(world.disk.names().contains(&name));
    (world, name)
}

#[test]
fn damage_in_durable_bytes_is_not_taken_for_a_torn_tail() {
    let (mut world, name) = several_commits();
    world.disk.flip_bit(&name, 4096 + 47 + 100, 0);
    world.crash(Kill::Process);
    let error = world.reopen().unwrap_err();
    let offset = 4096 + 47;
    assert_eq!(
        error,
        OpenError::Corrupt { segment: SegmentId::new(1, 0, 1), offset, sealed: false }
    );
    expect_test::expect![
        "0000000100000001.active: bytes that were durable are damaged at byte 4143; restore the \
         folder from a backup or another copy of the disk, or save what is \
         whole with `roost store repair`"
    ]
    .assert_eq(&error.to_string());
}

#[test]
fn damage_before_a_cut_is_found_at_every_start() {
    let (mut world, name) = several_commits();
    world.crash(Kill::Process);
    world.reopen().unwrap();
    world.disk.flip_bit(&name, 4096 + 2, 0);
    world.crash(Kill::Process);
    assert!(matches!(world.reopen(), Err(OpenError::Corrupt { offset: 4096, .. })));
}

#[test]
fn missing_files_are_named() {
    let (mut world, name) = several_commits();
    world.crash(Kill::Process);
    world.reopen().unwrap();
    roost_storage_engine::Folder::remove(&mut world.disk, &name).unwrap();
    let error = world.reopen().unwrap_err();
    assert_eq!(error, OpenError::Missing { segment: SegmentId::new(1, 0, 1) });
    let (mut world, _name) = several_commits();
    roost_storage_engine::Folder::remove(&mut world.disk, "catalogue").unwrap();
    assert_eq!(world.reopen().unwrap_err(), OpenError::NoCatalogue);
}

#[test]
fn newer_formats_are_refused() {
    let (mut world, name) = several_commits();
    world.disk.flip_bit(&name, 16, 2);
    let error = world.reopen().unwrap_err();
    expect_test::expect![
        "0000000100000001: written in format 7, this program knows 3; use a newer program"
    ]
    .assert_eq(&error.to_string());
    let (mut world, _name) = several_commits();
    world.disk.flip_bit("catalogue", 4, 2);
    let error = world.reopen().unwrap_err();
    assert_eq!(error, OpenError::Newer { segment: None, version: 7 });
}

/// The only table there is.
fn table(world: &World) -> String {
    let names = world.disk.names();
    names.into_iter().find(|name| name.ends_with(".table")).unwrap()
}

#[test]
fn a_damaged_index_is_named_and_others_are_served() {
    let mut world = World::new(small(), 3);
    for turn in 0..60 {
        world.append(stream(turn % 2 * 2), 500).unwrap();
        world.settle();
    }
    let name = table(&world);
    let page = first_page(world.disk.content(&name).unwrap());
    world.disk.flip_bit(&name, u64::try_from(page).unwrap() + 12, 0);
    let result = world.read(Query::Load { stream: stream(0) });
    let (file, offset) = match result {
        Err(ReadError::Index { table, offset }) => (FileId::Table(table), offset),
        other => panic!("{other:?}"),
    };
    let damage = Damage { file, offset, stream: Some(stream(0)) };
    assert!(world.saw(|event| *event == StoreEvent::Corrupt(damage)));
    world.append(stream(0), 500).unwrap();
    world.settle();
    let query = Query::Before { stream: stream(0), seq: u64::MAX, limit: 1, max_bytes: usize::MAX };
    assert_eq!(world.read(query).unwrap().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_is_an_error_or_a_hole_and_never_a_wrong_record(
        seed in any::<u64>(),
        flips in 1_u32..6,
    ) {
        let mut world = World::new(small(), seed);
        for turn in 0..50 {
            world.append(stream(turn % 3 * 2), 200 + usize::from(turn)).unwrap();
            if turn % 3 == 0 {
                world.settle();
            }
        }
        world.settle();
        world.crash(Kill::Process);
        for _ in 0..flips {
            let names = world.disk.names();
            let chosen = world.dice.below(u32::try_from(names.len()).unwrap());
            let name = &names[usize::try_from(chosen).unwrap()];
            let bytes = world.disk.content(name).unwrap().len();
            if bytes == 0 {
                continue;
            }
            let offset = world.dice.below(u32::try_from(bytes).unwrap());
            let bit = u8::try_from(world.dice.below(8)).unwrap();
            world.disk.flip_bit(name, u64::from(offset), bit);
        }
        if world.reopen().is_ok() {
            for (stream, expected) in world.model.clone() {
                let records = world.read(Query::Load { stream }).unwrap_or_default();
                let shown = expected.records();
                prop_assert!(records.iter().all(|record| shown.contains(record)));
            }
        }
    }
}
