//! Reads of a stream that lies in several tables: those that will hardly have enough by themselves
//! are asked at once, and one that nobody needs harms nobody.

use roost_storage_engine::{Query, ReadError, StoreOp, StreamId};

use crate::world::{World, small, stream};

/// All of its records have a seq.
const ASKED: u8 = 6;
const TABLES: usize = 3;
const EACH: usize = 5;

/// Three tables with five records of one stream each, and one record of each of many others.
fn world() -> World {
    let mut settings = small();
    settings.shards = 1;
    settings.settings.tables_a_stream_max = 8;
    settings.settings.cache_bytes = 1 << 20;
    let mut world = World::new(settings, 1);
    let mut others = 0_u128;
    for tables in 1..=TABLES {
        for _ in 0..EACH {
            world.append(stream(ASKED), 50).unwrap();
        }
        while table_names(&world).len() < tables {
            others += 1;
            world.append(StreamId(others << 90), 50).unwrap();
            world.settle();
        }
    }
    world
}

fn table_names(world: &World) -> Vec<String> {
    world.disk.names().into_iter().filter(|name| name.ends_with(".table")).collect()
}

fn last(limit: usize) -> Query {
    Query::Before { stream: stream(ASKED), seq: u64::MAX, limit, max_bytes: usize::MAX }
}

/// How many tables are asked first.
fn asked_first(world: &mut World, limit: usize) -> usize {
    let mut ops = Vec::new();
    world.stores[0].read(last(limit), &mut ops);
    let files = ops.iter().map(|op| match op {
        StoreOp::Fetch { parts, .. } => parts.len(),
        other => panic!("not a fetch: {other:?}"),
    });
    let files = files.sum();
    world.submit(0, ops);
    world.settle();
    files
}

#[test]
fn tables_that_hardly_have_enough_are_asked_at_once() {
    let mut world = world();
    assert_eq!(asked_first(&mut world, 50), TABLES);
    let records = world.read(last(50)).unwrap();
    assert_eq!(records.len(), EACH * TABLES);
    let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
    assert!(seqs.is_sorted_by(|one, next| one > next));
}

#[test]
fn a_table_that_will_have_enough_is_asked_alone() {
    let mut world = world();
    assert_eq!(asked_first(&mut world, 1), 1);
    assert_eq!(asked_first(&mut world, 50), TABLES - 1, "one is known already");
}

#[test]
fn an_older_table_that_cannot_be_read_spoils_no_read_that_needs_it_not() {
    let mut world = world();
    let names = table_names(&world);
    world.disk.put_file(&names[0], &[]);
    assert_eq!(world.read(last(EACH)).unwrap().len(), EACH);
    assert_eq!(world.read(last(EACH + 1)).unwrap().len(), EACH + 1);
    let error = world.read(last(EACH * 2 + 1)).unwrap_err();
    assert!(matches!(error, ReadError::Disk(_)), "{error:?}");
}

#[test]
fn damage_in_an_older_table_is_met_by_those_who_need_it() {
    let mut world = world();
    let names = table_names(&world);
    let oldest = world.disk.content(&names[0]).unwrap();
    let page = crate::world::first_page(oldest);
    // Its directory: no line of the page can be read.
    world.disk.flip_bit(&names[0], u64::try_from(page).unwrap() + 8, 0);
    assert_eq!(world.read(last(EACH * 2)).unwrap().len(), EACH * 2);
    assert_eq!(world.stores[0].stats().corrupt, 0);
    let error = world.read(last(EACH * 2 + 1)).unwrap_err();
    assert!(matches!(error, ReadError::Index { .. }), "{error:?}");
    assert_eq!(world.stores[0].stats().corrupt, 1);
}
