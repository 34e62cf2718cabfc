//! Plain counters of a shard. Drivers export them; tests use them as marks: the test of a branch
//! asserts that its counter moved.

/// What a shard counted since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all; the admin page describes each")]
pub struct Stats {
    pub connections: u64,
    pub connections_total: u64,
    pub welcomed_total: u64,
    pub requests_total: u64,
    pub heartbeats_total: u64,
    pub received_bytes_total: u64,
    pub sent_bytes_total: u64,
    pub frames_refused_total: u64,
    pub hellos_refused_total: u64,
    pub refusals_total: u64,
    pub messages_total: u64,
    pub duplicates_total: u64,
    pub conflicts_total: u64,
    pub gaps_total: u64,
    pub stale_connections_total: u64,
    pub deliveries_total: u64,
    pub receipts_total: u64,
    pub reads_total: u64,
    pub syncs_total: u64,
    pub history_pages_total: u64,
    pub behind_total: u64,
    pub pushes_dropped_total: u64,
    pub merged_rows_total: u64,
    pub checkpoints_total: u64,
    pub loads_total: u64,
    pub evictions_total: u64,
    pub busy_total: u64,
    pub replaced_total: u64,
    pub superseded_total: u64,
    pub retold_total: u64,
    pub storage_full_total: u64,
    pub idle_closed_total: u64,
    pub too_slow_total: u64,
    pub paused_total: u64,
}
