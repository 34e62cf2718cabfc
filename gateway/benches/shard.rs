//! What a shard costs when nothing is said: a tick with many idle connections, and a heartbeat; and
//! what a parcel costs between two shards. `cargo bench -p roost-gateway`.

#![expect(missing_docs, reason = "a measurement, not a library")]
#![expect(clippy::unwrap_used, reason = "what is set up here cannot fail, or the measurement does")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hand::World;
use roost_gateway::driver::mesh::weave;
use roost_gateway::ids::{EdgeId, ShardId};
use roost_gateway::shard::{Input, Parcel, Settle};
use std::hint::black_box;
use std::time::Duration;

#[path = "../tests/hand/mod.rs"]
mod hand;

/// What the server uses.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CONNECTIONS: u32 = 200_000;
/// Connections that are made before what they wrote is flushed.
const BATCH: u32 = 1_000;
const PARCELS: u32 = 1_000;

fn with_idle(connections: u32) -> World {
    let mut world = World::new();
    for slot in 0..connections {
        world.connect(slot);
        if slot % BATCH == BATCH - 1 {
            while world.turn() {}
        }
    }
    while world.turn() {}
    assert_eq!(world.shard.stats().welcomed_total, u64::from(connections));
    world
}

fn idle(c: &mut Criterion) {
    let mut world = with_idle(CONNECTIONS);
    c.bench_function(&format!("tick/{CONNECTIONS} idle"), |b| {
        b.iter(|| world.tick());
    });
    let mut slot = 0;
    c.bench_function(&format!("heartbeat/of {CONNECTIONS}, each a cold one"), |b| {
        b.iter(|| {
            // A step that visits all of them and never the neighbour.
            slot = (slot + 61_967) % CONNECTIONS;
            let edge = EdgeId { slot, generation: 1 };
            world.feed(Input::Received { edge, bytes: &mut [0] });
            world.turn()
        });
    });
}

fn queue(c: &mut Criterion) {
    let mut meshes = weave(2, PARCELS);
    let mut to = meshes.pop().unwrap();
    let mut from = meshes.pop().unwrap();
    let mut group = c.benchmark_group("queue between shards");
    group.throughput(Throughput::Elements(PARCELS.into()));
    group.bench_function("push and pop", |b| {
        b.iter_batched_ref(
            || (0..PARCELS).map(|_| Parcel::Settle(Settle::default())).collect::<Vec<_>>(),
            |parcels| {
                for parcel in parcels.drain(..) {
                    from.push(ShardId(1), parcel);
                }
                let mut taken = 0;
                to.arrived(|_, parcel| {
                    black_box(&parcel);
                    taken += 1;
                });
                from.freed(|_, _| {});
                taken
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = idle, queue
}
criterion_main!(benches);
