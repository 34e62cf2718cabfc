//! What an operator can watch: numbers that one shard writes and the admin thread reads, and a few
//! of the whole process.
//!
//! Adding a number of a shard is adding one line to the list below.

use super::turns::Turns;
use crate::budget;
use crate::shard::Shard;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Metric(AtomicU64);

impl Metric {
    /// Adds to it. Only the shard that owns it may: it is a read and a write, not one step.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    /// Sets it. Only the shard that owns it may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is, or was a moment ago.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One number as the encoder takes it.
struct Line {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
}

macro_rules! kind {
    (counter) => {
        MetricType::Counter
    };
    (gauge) => {
        MetricType::Gauge
    };
}

macro_rules! shard_metrics {
    (
        from $shard:ident, $stats:ident, $store:ident;
        $($name:ident, $kind:ident, $source:expr, $help:literal;)+
    ) => {
        /// The numbers of one shard, on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardMetrics {
            $(#[doc = $help] pub $name: Metric,)+
            /// How long the loop's turns take.
            pub turns: Turns,
        }

        impl ShardMetrics {
            const LINES: &[Line] = &[
                $(Line { name: stringify!($name), help: $help, kind: kind!($kind) },)+
            ];

            /// Copies what the shard counted, for the admin thread to see.
            pub fn publish(&self, $shard: &Shard) {
                let ($stats, $store) = ($shard.stats(), $shard.store().stats());
                $(self.$name.set($source);)+
            }

            /// In the order of `LINES`.
            fn values(&self) -> Vec<u64> {
                vec![$(self.$name.get(),)+]
            }
        }
    };
}

// A counter's name ends with _total, a gauge's does not, and no gauge is named as a counter
// without its _total: the text format would take them for one.
shard_metrics! {
    from shard, stats, store;
    connections_open, gauge, stats.connections, "Connections that are open";
    sessions, gauge, shard.sessions().into(),
        "Sessions of users who are at home on this shard, which limits.connections_max counts";
    connections_total, counter, stats.connections_total, "Connections accepted";
    proxied_total, counter, stats.proxied_total, "Connections whose PROXY header was taken";
    refused_untrusted_total, counter, stats.refused_untrusted_total,
        "Connections to a listener for proxies from a network that is not trusted";
    refused_proxy_header_total, counter, stats.refused_proxy_header_total,
        "Connections of trusted proxies that began with no PROXY header";
    refused_no_proxy_header_total, counter, stats.refused_no_proxy_header_total,
        "Connections of trusted proxies whose PROXY header did not come in time";
    refused_prefix_total, counter, stats.refused_prefix_total,
        "Connections of a network that had as many as it may";
    refused_prefix_unauthenticated_total, counter, stats.refused_prefix_unauthenticated_total,
        "Connections of a network that had as many unauthenticated ones as it may";
    accept_pauses_total, counter, stats.accept_pauses_total,
        "Times that no connections were taken for a while because they came too fast";
    refused_full_total, counter, stats.refused_full_total,
        "Devices told that there are as many connections as there may be";
    closing_cut_total, counter, stats.closing_cut_total,
        "Connections reset before they had taken their last words, because too many were ending";
    unacknowledged_total, counter, stats.unacknowledged_total,
        "Connections ended because the peer did not acknowledge for too long";
    address_prefixes, gauge, count(shard.address_prefixes()),
        "Networks that have connections, if they are counted";
    welcomed_total, counter, stats.welcomed_total, "Devices that were welcomed";
    hellos_refused_total, counter, stats.hellos_refused_total, "Devices that were not";
    replaced_total, counter, stats.replaced_total, "Connections a newer one replaced";
    superseded_total, counter, stats.superseded_total, "Connections older than one already there";
    heartbeats_total, counter, stats.heartbeats_total, "Heartbeats received";
    idle_closed_total, counter, stats.idle_closed_total, "Connections ended for their silence";
    too_slow_total, counter, stats.too_slow_total, "Connections ended for being too slow";
    paused_total, counter, stats.paused_total, "Times a connection was not read for a while";
    tls_handshakes_in_progress, gauge, stats.tls_handshakes_in_progress, "TLS handshakes under way";
    tls_handshakes_total, counter, stats.tls_handshakes_total, "TLS handshakes done";
    tls_resumed_total, counter, stats.tls_resumed_total, "Those that resumed a session";
    tls_failed_total, counter, stats.tls_failed_total, "TLS connections that broke its rules";
    tls_certificates_replaced_total, counter, stats.tls_certificates_replaced_total,
        "Times that certificates were read again";
    frames_refused_total, counter, stats.frames_refused_total, "Connections ended for bad bytes";
    requests_total, counter, stats.requests_total, "Requests received";
    refusals_total, counter, stats.refusals_total, "Requests answered with an error";
    busy_total, counter, stats.busy_total, "Requests refused while an actor was loaded";
    messages_total, counter, stats.messages_total, "Messages taken into a conversation";
    duplicates_total, counter, stats.duplicates_total, "Messages sent again and answered as before";
    conflicts_total, counter, stats.conflicts_total, "Messages whose number another one has";
    gaps_total, counter, stats.gaps_total, "Messages whose number is too high";
    stale_connections_total, counter, stats.stale_connections_total, "Sends of old connections";
    deliveries_total, counter, stats.deliveries_total, "Messages pushed to devices";
    away_total, counter, stats.away_total, "Conversations with news for somebody not connected";
    entries_dropped_total, counter, stats.entries_dropped_total, "Conversations past a full list";
    presence_asked_total, counter, stats.presence_asked_total, "Users whose presence was asked for";
    presence_pushes_total, counter, stats.presence_pushes_total, "Changes of presence pushed";
    watchers_refused_total, counter, stats.watchers_refused_total, "Watchers of presence too many";
    receipts_total, counter, stats.receipts_total, "Delivered marks that moved";
    reads_total, counter, stats.reads_total, "Read marks that moved";
    receipts_coalesced_total, counter, stats.receipts_coalesced_total, "Marks that waited";
    receipt_rounds_total, counter, stats.receipt_rounds_total, "Looks at all receipts of a group";
    author_reads_total, counter, stats.author_reads_total, "Writes that wait for an old one";
    blocks_total, counter, stats.blocks_total, "Blocks taken into a conversation, and taken back";
    typing_total, counter, stats.typing_total, "Times somebody began to write or stopped";
    channel_news_total, counter, stats.channel_news_total, "Times a channel told of news";
    syncs_total, counter, stats.syncs_total, "Pages of sync asked for";
    history_pages_total, counter, stats.history_pages_total, "Pages of history asked for";
    behind_total, counter, stats.behind_total, "Times a connection fell behind";
    pushes_dropped_total, counter, stats.pushes_dropped_total, "Pushes dropped for want of room";
    hints_dropped_total, counter, stats.hints_dropped_total, "Hints dropped for want of room";
    rate_limited_total, counter, stats.rate_limited_total, "Requests refused by a rate limit";
    received_bytes_total, counter, stats.received_bytes_total, "Bytes received from devices";
    sent_bytes_total, counter, stats.sent_bytes_total, "Bytes sent to devices";
    actors_loaded, gauge, count(shard.actors()), "Conversations and mailboxes in memory";
    mailboxes_resting, gauge, count(shard.mailboxes_resting()), "Users who only are connected";
    loads_total, counter, stats.loads_total, "Conversations and mailboxes brought into memory";
    evictions_total, counter, stats.evictions_total, "Conversations and mailboxes that left memory";
    backlog, gauge, count(shard.backlog()), "Messages to other actors that wait for room";
    retold_total, counter, stats.retold_total, "Messages to other actors told again after a start";
    merged_rows_total, counter, stats.merged_rows_total, "Rows of heads written to mailboxes";
    checkpoints_total, counter, stats.checkpoints_total, "Checkpoints begun";
    storage_full_total, counter, stats.storage_full_total, "Records refused by a full disk";
    records_total, counter, store.records, "Records appended to the log";
    appended_bytes_total, counter, store.bytes, "Bytes appended to the log";
    commits_total, counter, store.commits, "Commits of the log";
    flushes_total, counter, store.flushes, "Commits that were flushed to the disk";
    store_reads_total, counter, store.reads, "Reads of the store";
    store_fetches_total, counter, store.fetches, "Reads of the store that needed the disk";
    store_index_bytes, gauge, shard.store().index_bytes(), "Memory for finding what is not sealed";
    store_cache_bytes, gauge, store.cache_bytes, "Memory of what was read of tables";
    tables_memory_bytes, gauge, store.table_memory_bytes,
        "Memory for finding what is in tables, of all shards";
    segments_sealed_total, counter, store.sealed, "Segments sealed";
    segments_unsealed, gauge, store.unsealed_segments, "Segments not sealed yet";
    store_corrupt_total, counter, store.corrupt, "Damaged records and blocks met";
    untold_bytes, gauge, shard.store().untold_bytes(), "Bytes of the log kept for what is owed";
}

fn count(actors: usize) -> u64 {
    u64::try_from(actors).unwrap_or(u64::MAX)
}

/// All shards as the encoder wants them.
pub(super) struct Shards(pub(super) Vec<Arc<ShardMetrics>>);

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metrics of {} shards", self.0.len())
    }
}

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shards: Vec<(String, Vec<u64>)> = self
            .0
            .iter()
            .enumerate()
            .map(|(index, shard)| (index.to_string(), shard.values()))
            .collect();
        for (at, line) in ShardMetrics::LINES.iter().enumerate() {
            let name = exported_name(line);
            let mut family = encoder.encode_descriptor(&name, line.help, None, line.kind)?;
            for (shard, values) in &shards {
                let labels = [("shard", shard.as_str())];
                let encoder = family.encode_family(&labels)?;
                let value = values.get(at).copied().unwrap_or_default();
                if matches!(line.kind, MetricType::Counter) {
                    ConstCounter::new(value).encode(encoder)?;
                } else {
                    ConstGauge::new(value).encode(encoder)?;
                }
            }
        }
        let help = "How long the turns of the event loop take, which a message waits for";
        let (name, kind) = ("roost_turn_seconds", MetricType::Histogram);
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for ((shard, _), metrics) in shards.iter().zip(&self.0) {
            metrics.turns.encode(family.encode_family(&[("shard", shard.as_str())])?)?;
        }
        Ok(())
    }
}

/// The encoder itself adds `_total` to counters.
fn exported_name(line: &Line) -> String {
    format!("roost_{}", line.name.strip_suffix("_total").unwrap_or(line.name))
}

/// What the process as a whole uses, asked when somebody looks.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let resident = resident_bytes();
        let mut gauges =
            vec![("process_resident_memory_bytes", "Memory of the process in RAM", resident)];
        gauges.extend(allocator_bytes());
        gauges.extend(session_bytes());
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

/// The second number of `/proc/self/statm` is pages in RAM.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

type Gauge = (&'static str, &'static str, Option<u64>);

fn session_bytes() -> [Gauge; 2] {
    let [plain, tls] = budget::session_bytes();
    [
        ("roost_session_plain_bytes", "Budget of an idle session over plain TCP", Some(plain)),
        ("roost_session_tls_bytes", "The same over TLS", Some(tls)),
    ]
}

fn allocator_bytes() -> [Gauge; 5] {
    use tikv_jemalloc_ctl::{epoch, stats};
    // Without a new epoch the allocator repeats what it said last.
    let is_fresh = epoch::advance().is_ok();
    let bytes = |read: tikv_jemalloc_ctl::Result<usize>| {
        read.ok().filter(|_| is_fresh).and_then(|bytes| u64::try_from(bytes).ok())
    };
    [
        ("roost_allocator_allocated_bytes", "Memory in use", bytes(stats::allocated::read())),
        ("roost_allocator_active_bytes", "Memory in pages in use", bytes(stats::active::read())),
        ("roost_allocator_resident_bytes", "Memory in RAM", bytes(stats::resident::read())),
        ("roost_allocator_retained_bytes", "Addresses kept", bytes(stats::retained::read())),
        ("roost_allocator_metadata_bytes", "Book-keeping", bytes(stats::metadata::read())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_what_the_text_format_asks_for() {
        let mut names = BTreeSet::new();
        for line in ShardMetrics::LINES {
            let is_counter = matches!(line.kind, MetricType::Counter);
            assert_eq!(line.name.ends_with("_total"), is_counter, "{}", line.name);
            assert!(names.insert(exported_name(line)), "{} is taken", line.name);
        }
        assert_eq!(ShardMetrics::LINES.len(), ShardMetrics::default().values().len());
    }

    #[test]
    fn whatever_a_shard_counts_is_exported() {
        let stats = format!("{:?}", crate::shard::stats::Stats::default());
        let fields = stats.split([' ', '{']).filter_map(|word| word.strip_suffix(':'));
        for field in fields.filter(|field| *field != "connections") {
            let is_there = ShardMetrics::LINES.iter().any(|line| line.name == field);
            assert!(is_there, "add {field} to the list of shard_metrics!");
        }
    }

    #[test]
    fn a_metric_adds_and_sets() {
        let metrics = ShardMetrics::default();
        metrics.requests_total.add(2);
        metrics.requests_total.add(3);
        metrics.actors_loaded.set(7);
        metrics.actors_loaded.set(6);
        assert_eq!((metrics.requests_total.get(), metrics.actors_loaded.get()), (5, 6));
    }

    #[test]
    fn the_process_knows_its_memory() {
        assert!(resident_bytes().unwrap() > 100_000);
    }
}
