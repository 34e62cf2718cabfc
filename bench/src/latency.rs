//! Percentiles of how long things take.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time that is told apart: ten minutes.
const MAX_US: u64 = 600_000_000;

/// An empty histogram of microseconds, exact to three digits.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_US, 3).expect("the bounds are sound")
}

/// Percentiles, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: u64,
    /// 99 in a hundred are faster.
    pub p99: u64,
    /// 999 in a thousand are faster.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

impl Latency {
    /// Of a histogram of microseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// Latency by share of messages: denser towards the slow end, up to the slowest.
#[must_use]
pub fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let mut curve: Vec<(f64, u64)> = Vec::new();
    let shares = histogram.iter_quantiles(5);
    curve.extend(shares.map(|at| (at.quantile_iterated_to(), at.value_iterated_to())));
    curve.dedup_by_key(|(share, _)| share.to_bits());
    curve
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_order_and_long_times_are_kept() {
        let mut times = histogram();
        assert_eq!(Latency::of(&times).max, 0);
        for time in 1..=1_000 {
            times.saturating_record(time);
        }
        times.saturating_record(1_000_000);
        let Latency { p50, p99, p999, max } = Latency::of(&times);
        assert!((499..=502).contains(&p50) && (985..=995).contains(&p99), "{p50} {p99}");
        assert!((998..=1_002).contains(&p999) && max >= 1_000_000, "{p999} {max}");
    }
}
