//! The format is frozen: `fixtures/v1` opens for ever, and today's store writes the same bytes.
//!
//! To write the fixture of a new version: `ROOST_WRITE_FIXTURES=1 cargo test format`.

use std::fs;
use std::path::PathBuf;

use roost_storage_engine::{Kill, Query, SimDisk};

use crate::world::{World, small, stream};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// Two runs: sealed segments, one cut by a crash, one being written.
fn build() -> World {
    let mut world = World::new(small(), 11);
    for turn in 0..30 {
        world.append(stream(turn % 3), 300).unwrap();
        world.settle();
    }
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
fn the_fixture_opens_and_reads() {
    let built = build();
    if std::env::var_os("ROOST_WRITE_FIXTURES").is_some() {
        fs::create_dir_all(folder()).unwrap();
        for name in built.disk.names() {
            fs::write(folder().join(&name), built.disk.content(&name).unwrap()).unwrap();
        }
    }
    let mut disk = SimDisk::new();
    let mut names: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in &names {
        disk.put_file(name, &fs::read(folder().join(name)).unwrap());
    }
    assert_eq!(names, built.disk.names());
    let mut world = World::new(small(), 11);
    world.disk = disk;
    world.model = built.model;
    world.reopen().unwrap();
    world.adopt_survivors(true);
    let told: Vec<_> = world.stores.iter().flat_map(|store| store.replay_streams()).collect();
    assert!(told.contains(&stream(1)));
    assert_eq!(world.read(Query::Load { stream: stream(9) }).unwrap(), []);
}

#[test]
fn a_new_store_writes_the_same_bytes() {
    let built = build();
    for name in built.disk.names() {
        let frozen = fs::read(folder().join(&name)).unwrap();
        assert!(frozen == built.disk.content(&name).unwrap(), "{name} differs");
    }
}
