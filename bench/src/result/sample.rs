//! What was seen in one second.

use serde::{Deserialize, Serialize};

/// One second of a round, for plots and for telling change from noise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its end, in seconds since the round began.
    pub at_s: f64,
    /// It lies within the measured phase.
    pub measured: bool,
    /// Devices that are connected.
    pub connected: u64,
    /// First ticks a second.
    pub sent_per_s: f64,
    /// Arrivals a second.
    pub delivered_per_s: f64,
    /// Second ticks a second.
    pub ticked_per_s: f64,
    /// Latency of the scenario's main stage.
    pub p50_us: u64,
    /// The same, 99 in a hundred are faster.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// What went wrong in this second.
    pub errors: u64,
    /// Processors that the server used.
    pub server_cpu_share: f64,
    /// Processors that the generator used.
    pub generator_cpu_share: f64,
    /// Resident memory of the server.
    pub server_rss_bytes: u64,
}
