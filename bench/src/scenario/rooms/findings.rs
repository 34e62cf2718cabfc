//! What a run over rooms found.

use crate::measure::Metered;
use crate::swarm::Swarm;
use roost_protocol::time::Instant;

/// What the run found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Accepted and never arrived, in the whole run.
    pub lost: u64,
    /// Of them, those that were passed over: a later one arrived.
    pub missed: u64,
    /// Arrived again, in the whole run.
    pub duplicated: u64,
    /// Not answered when the run gave up waiting.
    pub unanswered: u64,
    /// Due while measuring and not even written (open loop): far behind.
    pub unsent: u64,
    /// Refused for the moment and said again.
    pub repeated: u64,
    /// Pages pulled because pushes were dropped or missing.
    pub pulls: u64,
    /// What devices did, by name; messages are counted apart.
    pub acts: std::collections::BTreeMap<&'static str, u64>,
    /// Acts that the target answered.
    pub answered: u64,
    /// Counts and latencies.
    pub metered: Metered,
    /// When the last device was welcomed.
    pub connected: Option<Instant>,
    /// Buffers sent and received while measuring.
    pub buffers: [u64; 2],
    /// Why the run ended before it was done.
    pub failure: Option<String>,
}

impl Findings {
    pub(super) const fn begin(&mut self, swarm: &Swarm) {
        self.buffers = [swarm.counts().sends, swarm.counts().receives];
    }

    pub(super) const fn end(&mut self, swarm: &Swarm) {
        let [sends, receives] = self.buffers;
        self.buffers = [swarm.counts().sends - sends, swarm.counts().receives - receives];
    }
}
