//! The format is frozen: every `fixtures/v*` opens for ever, and today's store writes the bytes of
//! the newest.
//!
//! To write the fixture of a new version: `ROOST_WRITE_FIXTURES=1 cargo test format`.

use std::fs;
use std::path::PathBuf;

use roost_storage_engine::{Kill, Query, SimDisk, StreamId};

use crate::world::{World, small, stream};

const NEWEST: &str = "v3";

fn folder(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version)
}

pub(crate) fn fixture(version: &str) -> SimDisk {
    let mut disk = SimDisk::new();
    for entry in fs::read_dir(folder(version)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        disk.put_file(&name, &fs::read(path).unwrap());
    }
    disk
}

/// Two runs: sealed segments, one cut by a crash, one being written.
fn build() -> World {
    let mut world = World::new(small(), 11);
    for turn in 0..30 {
        world.append(stream(turn % 3), 300).unwrap();
        world.settle();
    }
    world.trim(stream(0), 4).unwrap();
    world.settle();
    world.append(stream(1), 700).unwrap();
    world.end_batch(1);
    world.crash(Kill::Process);
    world.reopen().unwrap();
    world.adopt_survivors(true);
    world.append(stream(2), 99).unwrap();
    world.append(stream(1), 0).unwrap();
    world.settle();
    world
}

#[test]
fn version_1_opens_and_reads() {
    let mut world = World::new(small(), 11);
    world.disk = fixture("v1");
    world.reopen().unwrap();
    let streams: Vec<StreamId> = (0..3).map(stream).collect();
    let mut numbers = Vec::new();
    for &stream in &streams {
        let all = Query::After { stream, seq: 0, limit: 1000, max_bytes: usize::MAX };
        let records = world.read(all).unwrap();
        assert!(records.iter().all(|record| record.body.len() <= 700));
        let sum: u64 = records.iter().map(|record| record.seq).sum();
        numbers.push((records.len(), sum));
    }
    // What version 1 answered.
    assert_eq!(numbers, [(10, 55), (9, 45), (9, 45)]);
    let told: Vec<_> = world.stores.iter().flat_map(|store| store.replay_streams()).collect();
    assert!(told.contains(&stream(1)));
    world.seal_old();
    assert!(!world.disk.names().iter().any(|name| name.ends_with(".sealed")));
    let all = Query::After { stream: stream(1), seq: 0, limit: 1000, max_bytes: usize::MAX };
    assert_eq!(world.read(all).unwrap().len(), 9);
}

#[test]
fn version_2_opens_and_reads_and_is_merged_with_what_is_new() {
    let built = build();
    let mut world = World::new(small(), 11);
    world.disk = fixture("v2");
    world.model = built.model;
    world.reopen().unwrap();
    world.adopt_survivors(true);
    let old: Vec<String> =
        world.disk.names().into_iter().filter(|name| name.ends_with(".table")).collect();
    assert_eq!(old.len(), 2);
    world.seal_old();
    for turn in 0..60 {
        world.append(stream(turn % 3), 300).unwrap();
        world.settle();
    }
    for _ in 0..20 {
        world.now += 10;
        world.settle();
    }
    world.check();
    assert!(!world.disk.names().iter().any(|name| old.contains(name)), "they were merged");
    world.crash(Kill::Process);
    world.reopen().unwrap();
    world.adopt_survivors(true);
}

#[test]
fn the_newest_fixture_opens_and_reads() {
    let built = build();
    if std::env::var_os("ROOST_WRITE_FIXTURES").is_some() {
        fs::create_dir_all(folder(NEWEST)).unwrap();
        for name in built.disk.names() {
            fs::write(folder(NEWEST).join(&name), built.disk.content(&name).unwrap()).unwrap();
        }
    }
    let mut world = World::new(small(), 11);
    world.disk = fixture(NEWEST);
    assert_eq!(world.disk.names(), built.disk.names());
    world.model = built.model;
    world.reopen().unwrap();
    world.adopt_survivors(true);
    assert_eq!(world.read(Query::Load { stream: stream(9) }).unwrap(), []);
}

#[test]
fn a_new_store_writes_the_same_bytes() {
    let built = build();
    // What the reserve holds means nothing.
    for name in built.disk.names().into_iter().filter(|name| name != "reserve") {
        let frozen = fs::read(folder(NEWEST).join(&name)).unwrap();
        assert!(frozen == built.disk.content(&name).unwrap(), "{name} differs");
    }
}
