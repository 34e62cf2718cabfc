//! How long each stage of a message takes.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart: ten minutes.
const MAX_US: u64 = 600_000_000;

/// Latencies of the stages of a message, each from when it was due (or, in a closed loop, written).
#[derive(Debug, Clone)]
pub struct Stages {
    /// To its sender's first tick: it is durable.
    pub sent: Histogram<u64>,
    /// To its arrival at the peer.
    pub delivered: Histogram<u64>,
    /// To its sender's second tick.
    pub ticked: Histogram<u64>,
}

impl Default for Stages {
    fn default() -> Self {
        let empty = || Histogram::new_with_bounds(1, MAX_US, 3).expect("the bounds are sound");
        Self { sent: empty(), delivered: empty(), ticked: empty() }
    }
}

/// Percentiles, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
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
