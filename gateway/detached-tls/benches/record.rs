//! What a TLS record costs to seal and to open: a small message's, and the largest.
//! `cargo bench -p roost-detached-tls`.

#![expect(missing_docs, reason = "a measurement, not a library")]
#![expect(clippy::unwrap_used, reason = "what is set up here cannot fail, or the measurement does")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use world::{Ours, World, shake_ours};

#[path = "../tests/it/world.rs"]
#[expect(dead_code, reason = "tests need more of it")]
mod world;

/// A message of 100 bytes with what is around it, and what a record holds at most.
const PLAIN_BYTES: [usize; 2] = [140, 16_384];

fn records(c: &mut Criterion) {
    let world = World::new();
    let (mut client, mut server) = (Ours::client(&world, None), Ours::server(&world));
    shake_ours(&mut client, &mut server);
    let (client, server) = (client.detached(), server.detached());
    for bytes in PLAIN_BYTES {
        let plain = vec![7; bytes];
        let mut group = c.benchmark_group(format!("TLS record of {bytes} bytes"));
        group.throughput(Throughput::Bytes(bytes as u64));
        let mut out = Vec::new();
        group.bench_function("seal", |b| {
            b.iter(|| {
                out.clear();
                server.seal(black_box(&plain), &mut out).unwrap();
            });
        });
        group.bench_function("open", |b| {
            // Records are opened in the order in which they were sealed.
            b.iter_batched_ref(
                || {
                    let mut sealed = Vec::new();
                    client.seal(&plain, &mut sealed).unwrap();
                    sealed
                },
                |sealed| {
                    out.clear();
                    let taken = server.open(sealed, &mut out).unwrap();
                    assert_eq!(taken, sealed.len(), "all of it");
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    targets = records
}
criterion_main!(benches);
