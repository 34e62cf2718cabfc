//! How long the turns of a loop take: what a message waits for at most once the kernel has it.

use super::metrics::Metric;
use prometheus_client::encoding::{MetricEncoder, NoLabelSet};
use roost_protocol::time::Duration;
use std::fmt;

/// Upper bounds of the buckets, in microseconds; longer turns are counted in one more.
const BOUNDS_US: [u64; 11] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000];

/// The turns of one loop. Its thread writes, any thread reads.
#[derive(Debug, Default)]
pub struct Turns {
    counts: [Metric; BOUNDS_US.len() + 1],
    sum_ns: Metric,
}

impl Turns {
    /// Counts a turn.
    pub fn note(&self, turn: Duration) {
        let bucket = BOUNDS_US.partition_point(|bound_us| bound_us * 1_000 < turn.ns);
        self.counts[bucket].add(1);
        self.sum_ns.add(turn.ns);
    }

    /// As a histogram in seconds.
    pub(super) fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let counts: Vec<u64> = self.counts.iter().map(Metric::get).collect();
        let bounds = BOUNDS_US.iter().map(|bound_us| seconds(bound_us * 1_000));
        let buckets: Vec<(f64, u64)> =
            bounds.chain([f64::INFINITY]).zip(counts.iter().copied()).collect();
        let sum = seconds(self.sum_ns.get());
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric of time; below 104 days it is exact")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_counted_where_it_belongs() {
        let turns = Turns::default();
        for us in [1, 50, 51, 4_999, 99_999, 100_001, 10_000_000] {
            turns.note(Duration { ns: us * 1_000 });
        }
        let counts: Vec<u64> = turns.counts.iter().map(Metric::get).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2]);
        assert_eq!(turns.sum_ns.get(), 10_205_101_000);
    }
}
