//! From two looks to rows. Pure.

use super::sample::{Sample, share};
use crate::facts::{UNLIMITED, pages_to_bytes};
use crate::settings::SPARE_BYTES;
use crate::text::{bytes, count, percent, table};
use serde::Serialize;

/// Kernel and process memory of a session, about, while nothing better is known.
const SESSION_BYTES: u64 = 4_154 + 248;

const SLABS: &str = "slabs of sockets";
const SENT: &str = "segments sent";
/// What grows without any trouble.
const MAY_GROW: [&str; 2] = [SLABS, SENT];

/// What a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    Number,
    Bytes,
    /// Thousandths.
    Permille,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) now: u64,
    pub(super) limit: Option<u64>,
    /// Growth a second, of what only grows.
    pub(super) per_s: Option<u64>,
    /// Connections that it leaves.
    pub(super) left: Option<u64>,
}

impl Row {
    /// Thousandths of the limit.
    pub(super) fn used_permille(&self) -> Option<u64> {
        let limit = self.limit.filter(|limit| *limit > 0 && *limit != UNLIMITED)?;
        Some(self.now.saturating_mul(1_000) / limit)
    }

    /// Nine tenths of a limit, or a counter of trouble that grows.
    pub(super) fn is_bad(&self) -> bool {
        let full = self.used_permille().is_some_and(|used| used >= 900);
        let grows = self.per_s.is_some_and(|rate| rate > 0) && !MAY_GROW.contains(&self.name);
        full || grows
    }

    pub(super) fn say(&self, value: u64) -> String {
        match self.unit {
            Unit::Number => count(value),
            Unit::Bytes => bytes(value),
            Unit::Permille => percent(value, 1_000),
        }
    }
}

/// All rows, and the least that any of them leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct View {
    pub(super) connections: u64,
    /// How many more there may be, about, and what ends then.
    pub(super) left: Option<u64>,
    pub(super) left_by: Option<&'static str>,
    pub(super) rows: Vec<Row>,
}

impl View {
    /// What two looks show.
    pub(super) fn between(before: &Sample, now: &Sample) -> Self {
        let mut rows = gauges(now);
        if let Some(row) = rows.iter_mut().find(|row| row.name == SLABS) {
            let [old, new] = [before, now].map(|look| look.socket_slab_bytes.unwrap_or(0));
            row.per_s = per_s(before, now, (old, new));
        }
        rows.extend(process(now));
        rows.push(softirq(before, now));
        rows.extend(counters(before, now));
        let least = rows.iter().filter_map(|row| Some((row.left?, row.name))).min();
        Self {
            connections: socket(now, "TCP.inuse"),
            left: least.map(|(left, _)| left),
            left_by: least.map(|(_, name)| name),
            rows,
        }
    }

    /// The table as text.
    pub(super) fn text(&self) -> String {
        let head = ["", "now", "limit", "used", "a second", "connections left"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        lines.extend(self.rows.iter().map(Self::cells));
        format!("{}{}\n", table(&lines), self.verdict())
    }

    pub(super) fn cells(row: &Row) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            row.name.to_owned(),
            row.say(row.now),
            or_dash(row.limit.map(|limit| row.say(limit))),
            or_dash(row.used_permille().map(|used| percent(used, 1_000))),
            or_dash(row.per_s.map(|rate| row.say(rate))),
            or_dash(row.left.map(count)),
        ]
    }

    pub(super) fn verdict(&self) -> String {
        let open = count(self.connections);
        match (self.left, self.left_by) {
            (Some(left), Some(by)) => {
                format!("{open} sockets of TCP; about {} more connections, then {by}", count(left))
            }
            _ => format!("{open} sockets of TCP"),
        }
    }
}

fn socket(sample: &Sample, name: &str) -> u64 {
    sample.sockets.get(name).copied().unwrap_or(0)
}

const fn gauge(name: &'static str, unit: Unit, now: u64, limit: Option<u64>) -> Row {
    Row { name, unit, now, limit, per_s: None, left: None }
}

fn gauges(now: &Sample) -> Vec<Row> {
    let limit = |key: &str| now.limits.get(key).copied();
    let file_max = limit("fs.file-max");
    // Whoever holds more files than there may be is root, and is not stopped by it.
    let passes = now.process.is_some_and(|process| process.passes_file_max)
        || file_max.is_some_and(|max| now.files > max);
    let room = now.memory.room_bytes();
    let used = now.memory.total_bytes.saturating_sub(room);
    let memory_left = room.saturating_sub(SPARE_BYTES) / SESSION_BYTES;
    let mut rows = vec![
        Row {
            left: Some(memory_left),
            ..gauge("memory in use", Unit::Bytes, used, Some(now.memory.total_bytes))
        },
        Row {
            left: file_max.filter(|_| !passes).map(|max| max.saturating_sub(now.files)),
            ..gauge("open files", Unit::Number, now.files, file_max)
        },
        gauge(
            "memory of buffers (tcp_mem)",
            Unit::Bytes,
            pages_to_bytes(socket(now, "TCP.mem")),
            limit("net.ipv4.tcp_mem").map(pages_to_bytes),
        ),
        gauge(
            "orphans",
            Unit::Number,
            socket(now, "TCP.orphan"),
            limit("net.ipv4.tcp_max_orphans"),
        ),
        gauge(
            "in TIME_WAIT",
            Unit::Number,
            socket(now, "TCP.tw"),
            limit("net.ipv4.tcp_max_tw_buckets"),
        ),
    ];
    if let Some(max) = limit("net.netfilter.nf_conntrack_max") {
        let tracked = limit("net.netfilter.nf_conntrack_count").unwrap_or(0);
        // Nothing is tracked: then it leaves as many as one likes.
        let left = (tracked > 0).then(|| max.saturating_sub(tracked));
        let row = gauge("tracked (conntrack)", Unit::Number, tracked, Some(max));
        rows.push(Row { left, ..row });
    }
    if let Some(bytes) = now.socket_slab_bytes {
        rows.push(gauge(SLABS, Unit::Bytes, bytes, None));
    }
    rows
}

fn process(now: &Sample) -> Vec<Row> {
    let Some(process) = now.process else { return Vec::new() };
    let (used, max) = (process.descriptors, process.descriptors_max);
    let row = gauge("descriptors of the process", Unit::Number, used, Some(max));
    let left = (!process.has_rings).then(|| max.saturating_sub(used));
    let resident = process.resident_bytes;
    vec![Row { left, ..row }, gauge("memory of the process", Unit::Bytes, resident, None)]
}

fn softirq(before: &Sample, now: &Sample) -> Row {
    let (_, most) = share(&before.softirq, &now.softirq).unwrap_or((0, 0));
    gauge("softirq of the busiest core", Unit::Permille, most, Some(1_000))
}

/// Growth a second between two looks; what shrank did not grow.
fn per_s(before: &Sample, now: &Sample, (old, new): (u64, u64)) -> Option<u64> {
    let ms = now.at_ms.saturating_sub(before.at_ms);
    let grown = new.saturating_sub(old).saturating_mul(1_000);
    Some(grown.checked_div(ms).unwrap_or(0))
}

fn counters(before: &Sample, now: &Sample) -> Vec<Row> {
    let of = |name: &'static str, key: &str| {
        let (old, new) = (before.counters.get(key), now.counters.get(key));
        let (old, new) = (old.copied().unwrap_or(0), new.copied().unwrap_or(0));
        Row { per_s: per_s(before, now, (old, new)), ..gauge(name, Unit::Number, new, None) }
    };
    let dropped = (before.packets_dropped, now.packets_dropped);
    let packets = gauge("packets dropped for want of room", Unit::Number, dropped.1, None);
    let packets = Row { per_s: per_s(before, now, dropped), ..packets };
    vec![
        of("accept queue overflows", "ListenOverflows"),
        of("connects dropped", "ListenDrops"),
        of("handshakes dropped", "TCPReqQFullDrop"),
        of("cookies sent", "SyncookiesSent"),
        of("times memory was saved", "TCPMemoryPressures"),
        of("refused for memory (ENOBUFS)", "TCPAbortOnMemory"),
        of("dropped behind a busy socket", "TCPBacklogDrop"),
        of("TIME_WAIT overflows", "TCPTimeWaitOverflow"),
        of("segments sent again", "RetransSegs"),
        of(SENT, "OutSegs"),
        of("connections reset", "EstabResets"),
        packets,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Memory;
    use crate::watch::sample::ProcessSample;
    use std::collections::BTreeMap;

    fn sample(at_ms: u64, overflows: u64) -> Sample {
        Sample {
            at_ms,
            sockets: BTreeMap::from([("TCP.inuse".to_owned(), 1_000), ("TCP.mem".to_owned(), 10)]),
            counters: BTreeMap::from([("ListenOverflows", overflows)]),
            memory: Memory { total_bytes: 8 << 30, free_bytes: 4 << 30, ..Memory::default() },
            files: 900,
            limits: BTreeMap::from([("fs.file-max", 1_000), ("net.ipv4.tcp_mem", 100)]),
            ..Sample::default()
        }
    }

    #[test]
    fn what_ends_first_is_named_with_how_many_are_left() {
        let view = View::between(&sample(1_000, 5), &sample(3_000, 25));
        assert_eq!((view.left, view.left_by), (Some(100), Some("open files")));
        let row = |name: &str| view.rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!(row("accept queue overflows").per_s, Some(10));
        assert!(row("accept queue overflows").is_bad() && row("open files").is_bad());
        assert!(!row("memory in use").is_bad());
        assert_eq!(row("memory of buffers (tcp_mem)").used_permille(), Some(100));
        assert!(
            view.text()
                .ends_with("1,000 sockets of TCP; about 100 more connections, then open files\n")
        );
    }

    #[test]
    fn descriptors_bound_only_who_has_no_rings() {
        let left = |has_rings| {
            let process = ProcessSample {
                descriptors: 90,
                descriptors_max: 100,
                resident_bytes: 0,
                has_rings,
                passes_file_max: false,
            };
            let now = Sample { process: Some(process), ..sample(1_000, 0) };
            View::between(&now, &now).left
        };
        assert_eq!((left(false), left(true)), (Some(10), Some(100)));
    }

    #[test]
    fn files_do_not_bound_a_process_of_root() {
        let passes = |passes_file_max, files| {
            let process = ProcessSample {
                has_rings: true,
                passes_file_max,
                descriptors_max: 100,
                ..ProcessSample::default()
            };
            let now = Sample { process: Some(process), files, ..sample(1_000, 0) };
            View::between(&now, &now).left_by
        };
        assert_eq!(passes(false, 900), Some("open files"));
        assert_eq!(passes(true, 900), Some("memory in use"));
        // As with two million sessions under a limit of 2,466,170: it is over already.
        assert_eq!(passes(false, 1_001), Some("memory in use"));
    }

    #[test]
    fn one_look_alone_has_no_rates() {
        let view = View::between(&sample(1_000, 5), &sample(1_000, 5));
        assert!(view.rows.iter().filter_map(|row| row.per_s).all(|rate| rate == 0));
    }
}
