//! What the thread that serves pays: appends, ends of batches, answers of the keeper, reads of what
//! is in memory. `cargo bench -p roost-storage-engine`.

#![expect(clippy::unwrap_used, missing_docs, reason = "a measurement stops where it cannot go on")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use roost_storage_engine::{
    Durability, NewRecord, OpenSettings, Query, Settings, SimDisk, Store, StoreEvent, StreamId,
    open,
};
use std::hint::black_box;

fn spread(stream: u64) -> StreamId {
    let high = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    StreamId(u128::from(high) << 64 | u128::from(stream))
}

struct World {
    store: Store,
    disk: SimDisk,
    number: u64,
    streams: u64,
}

impl World {
    fn new(streams: u64) -> Self {
        let mut disk = SimDisk::new();
        let settings = Settings {
            segment_bytes: 64 << 20,
            first_segment_bytes: 64 << 20,
            durability: Durability::Interval { ms: 1 << 40 },
            reserve_bytes: 0,
            ..Settings::DEFAULT
        };
        let settings = OpenSettings { shards: 1, settings, fresh_incarnation: 7 };
        let mut opened = open(&mut disk, &settings).unwrap();
        disk.attach(opened.keeper, 1);
        Self { store: opened.stores.remove(0), disk, number: 0, streams }
    }

    /// Appends so many records of 204 bytes, each to another stream.
    fn append(&mut self, records: u64) {
        for _ in 0..records {
            self.number += 1;
            let record = NewRecord {
                stream: spread(self.number.wrapping_mul(2_654_435_761) % self.streams),
                number: self.number,
                seq: self.number,
                stamp: self.number,
                kind: 1,
                snapshot_start: false,
                body: &[&[7; 204]],
            };
            black_box(self.store.append(black_box(&record)).unwrap());
        }
    }

    fn settle(&mut self) {
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        loop {
            self.store.end_batch(1, &mut ops);
            for op in ops.drain(..) {
                self.disk.submit(0, op);
            }
            if self.disk.pending().is_empty() {
                return;
            }
            while !self.disk.pending().is_empty() {
                let (_shard, done) = self.disk.complete(0, &mut |_| 0);
                self.store.handle(done, &mut events, &mut ops);
                for op in ops.drain(..) {
                    self.disk.submit(0, op);
                }
            }
        }
    }
}

fn append(c: &mut Criterion) {
    const EACH: u64 = 1000;
    let mut group = c.benchmark_group("append_256_bytes");
    group.throughput(Throughput::Elements(EACH));
    for streams in [1000, 100_000, 1_000_000] {
        let mut world = World::new(streams);
        // Until indices and buffers have their size.
        for _ in 0..700 {
            world.append(EACH);
            world.settle();
        }
        group.bench_function(BenchmarkId::new("streams", streams), |bench| {
            bench.iter_custom(|turns| {
                let mut spent = std::time::Duration::ZERO;
                for _ in 0..turns {
                    let begun = clock();
                    world.append(EACH);
                    spent += clock() - begun;
                    world.settle();
                }
                spent
            });
        });
    }
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

fn read(c: &mut Criterion) {
    let mut world = World::new(1000);
    for _ in 0..700 {
        world.append(1000);
        world.settle();
    }
    let mut events: Vec<StoreEvent> = Vec::new();
    c.bench_function("last_50_of_a_table_in_memory", |bench| {
        bench.iter_batched(
            || (),
            |()| {
                let stream = spread(5);
                let query =
                    Query::Before { stream, seq: 300_000, limit: 50, max_bytes: usize::MAX };
                let mut ops = Vec::new();
                world.store.read(query, &mut ops);
                while let Some(op) = ops.pop() {
                    world.disk.submit(0, op);
                    let (_shard, done) = world.disk.complete(0, &mut |_| 0);
                    world.store.handle(done, &mut events, &mut ops);
                }
                world.store.take_ready(&mut events);
                black_box(events.drain(..).count());
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, append, read);
criterion_main!(benches);
