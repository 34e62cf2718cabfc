//! A shard's counters on their way to the admin listener: copied ten times a second, so that the
//! hot path touches nothing that another thread reads.

use super::metrics::ShardMetrics;
use crate::shard::Shard;

impl ShardMetrics {
    /// Copies what a shard counted.
    pub fn publish(&self, shard: &Shard) {
        let stats = shard.stats();
        let store = shard.store().stats();
        self.connections_open.set(stats.connections);
        self.connections_total.set(stats.connections_total);
        self.welcomed_total.set(stats.welcomed_total);
        self.hellos_refused_total.set(stats.hellos_refused_total);
        self.heartbeats_total.set(stats.heartbeats_total);
        self.requests_total.set(stats.requests_total);
        self.refusals_total.set(stats.refusals_total);
        self.frames_refused_total.set(stats.frames_refused_total);
        self.messages_total.set(stats.messages_total);
        self.deliveries_total.set(stats.deliveries_total);
        self.receipts_total.set(stats.receipts_total + stats.reads_total);
        self.behind_total.set(stats.behind_total);
        self.pushes_dropped_total.set(stats.pushes_dropped_total);
        self.received_bytes_total.set(stats.received_bytes_total);
        self.sent_bytes_total.set(stats.sent_bytes_total);
        self.records_total.set(store.records);
        self.commits_total.set(store.commits);
        self.committed_bytes_total.set(store.bytes);
        self.log_unsealed_bytes.set(shard.store().untold_bytes());
        self.actors_loaded.set(u64::try_from(shard.actors()).unwrap_or(u64::MAX));
        self.evictions_total.set(stats.evictions_total);
    }
}
