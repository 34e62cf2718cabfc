//! What a run of pairs found.

use crate::latency::histogram;
use crate::process::Usage;
use hdrhistogram::Histogram;
use roost_protocol::time::{Duration, Instant};

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
        Self { sent: histogram(), delivered: histogram(), ticked: histogram() }
    }
}

/// What the run found.
#[derive(Debug, Default)]
pub struct Findings {
    /// First ticks while measuring.
    pub sent: u64,
    /// Arrivals while measuring.
    pub delivered: u64,
    /// Second ticks while measuring.
    pub ticked: u64,
    /// Accepted and never arrived, in the whole run.
    pub lost: u64,
    /// Arrived again, in the whole run.
    pub duplicated: u64,
    /// Not answered when the run gave up waiting.
    pub unanswered: u64,
    /// Due while measuring and not even written (open loop): far behind.
    pub unsent: u64,
    /// Pages pulled because pushes were dropped or missing.
    pub pulls: u64,
    /// Latencies of messages that were due while measuring.
    pub stages: Stages,
    /// Open loop: how late the generator was itself.
    pub lateness: Option<Histogram<u64>>,
    /// When the last device was welcomed.
    pub connected: Option<Instant>,
    /// Begin and end of measuring.
    pub measured: Duration,
    /// The server at the begin and the end of measuring.
    pub server: [Option<Usage>; 2],
    /// Processor time of the generator while measuring.
    pub generator_cpu_us: u64,
    /// Buffers sent and received while measuring.
    pub buffers: [u64; 2],
    /// Why the run ended before it was done.
    pub failure: Option<String>,
}
