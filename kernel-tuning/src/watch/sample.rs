//! One look.

use crate::facts::{
    CAP_SYS_ADMIN, Memory, UNLIMITED, capability, limit_of, parse_meminfo, parse_slabs,
};
use crate::root::Root;
use std::collections::BTreeMap;

/// Counters of the network namespace: group and name in `/proc/net/netstat` or `snmp`.
pub(super) const COUNTERS: [(&str, &str); 11] = [
    ("TcpExt", "ListenOverflows"),
    ("TcpExt", "ListenDrops"),
    ("TcpExt", "TCPReqQFullDrop"),
    ("TcpExt", "SyncookiesSent"),
    ("TcpExt", "TCPMemoryPressures"),
    ("TcpExt", "TCPAbortOnMemory"),
    ("TcpExt", "TCPBacklogDrop"),
    ("TcpExt", "TCPTimeWaitOverflow"),
    ("Tcp", "RetransSegs"),
    ("Tcp", "OutSegs"),
    ("Tcp", "EstabResets"),
];

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    pub(super) at_ms: u64,
    /// By protocol and name in `/proc/net/sockstat`.
    pub(super) sockets: BTreeMap<String, u64>,
    pub(super) counters: BTreeMap<&'static str, u64>,
    /// Packets dropped for want of room, all processors.
    pub(super) packets_dropped: u64,
    /// Ticks in softirq, and all ticks, of each processor.
    pub(super) softirq: Vec<(u64, u64)>,
    pub(super) memory: Memory,
    /// Bytes of the caches that sockets are made of; none: only root sees them.
    pub(super) socket_slab_bytes: Option<u64>,
    pub(super) files: u64,
    /// Limits by sysctl name.
    pub(super) limits: BTreeMap<&'static str, u64>,
    pub(super) process: Option<ProcessSample>,
}

/// A process, if one was named.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProcessSample {
    pub(super) descriptors: u64,
    pub(super) descriptors_max: u64,
    pub(super) resident_bytes: u64,
    /// It holds sockets in rings, which are no descriptors.
    pub(super) has_rings: bool,
    /// It may open files beyond fs.file-max (`CAP_SYS_ADMIN`).
    pub(super) passes_file_max: bool,
}

const SOCKET_CACHES: [&str; 5] = ["TCP", "TCPv6", "sock_inode_cache", "filp", "request_sock_TCP"];

impl Sample {
    pub(super) fn read(root: &Root, pid: Option<u32>, at_ms: u64) -> Self {
        let text = |path: &str| root.text(path).unwrap_or_default();
        let net = pid.map_or_else(|| "/proc/net".to_owned(), |pid| format!("/proc/{pid}/net"));
        let (netstat, snmp) = (text(&format!("{net}/netstat")), text(&format!("{net}/snmp")));
        let counters = COUNTERS.iter().filter_map(|(group, name)| {
            let from = if *group == "TcpExt" { &netstat } else { &snmp };
            Some((*name, counter(from, group, name)?))
        });
        let tcp_mem = root.word("/proc/sys/net/ipv4/tcp_mem").unwrap_or_default();
        let pressure = tcp_mem.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        let number = |key: &'static str| {
            let path = crate::root::sysctl_path(key);
            root.number(&path).map(|value| (key, value))
        };
        let mut limits: BTreeMap<&'static str, u64> =
            ["fs.file-max", "net.ipv4.tcp_max_orphans", "net.ipv4.tcp_max_tw_buckets"]
                .into_iter()
                .chain(["net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_count"])
                .filter_map(number)
                .collect();
        limits.extend(pressure.map(|pages| ("net.ipv4.tcp_mem", pages)));
        let slabs = root.text("/proc/slabinfo").map(|text| parse_slabs(&text));
        let of_sockets = slabs.map(|slabs| {
            let caches = SOCKET_CACHES.iter().filter_map(|name| slabs.get(*name));
            caches.map(crate::facts::SlabShape::bytes).sum()
        });
        Self {
            at_ms,
            sockets: sockstat(&text(&format!("{net}/sockstat"))),
            counters: counters.collect(),
            packets_dropped: softnet_drops(&text("/proc/net/softnet_stat")),
            softirq: ticks(&text("/proc/stat")),
            memory: parse_meminfo(&text("/proc/meminfo")),
            socket_slab_bytes: of_sockets,
            files: root.number("/proc/sys/fs/file-nr").unwrap_or(0),
            limits,
            process: pid.map(|pid| ProcessSample::read(root, pid)),
        }
    }
}

impl ProcessSample {
    fn read(root: &Root, pid: u32) -> Self {
        let limits = root.text(&format!("/proc/{pid}/limits")).unwrap_or_default();
        let status = root.text(&format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = kib.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            descriptors: descriptors(root, pid),
            descriptors_max: limit_of(&limits, "Max open files")
                .map_or(UNLIMITED, |(soft, _)| soft),
            resident_bytes: kib.unwrap_or(0) * 1_024,
            has_rings: root
                .text(&format!("/proc/{pid}/maps"))
                .is_some_and(|maps| maps.contains("[io_uring]")),
            passes_file_max: capability(&status, CAP_SYS_ADMIN),
        }
    }
}

/// Open descriptors without listing them, which would leave memory behind: the folder's size says
/// it from Linux 6.2 on, before that the size of the table is the nearest thing.
pub(crate) fn descriptors(root: &Root, pid: u32) -> u64 {
    let folder = std::fs::metadata(root.path(&format!("/proc/{pid}/fd")));
    if let Some(count) = folder.ok().map(|folder| folder.len()).filter(|count| *count > 0) {
        return count;
    }
    let status = root.text(&format!("/proc/{pid}/status")).unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    size.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
}

/// A counter of `/proc/net/netstat` or `snmp`: a line of names above a line of numbers.
pub(crate) fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.split(':').next() == Some(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|word| word == name)?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

/// `TCP.inuse`, `TCP.mem` and so on.
fn sockstat(text: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let Some((protocol, rest)) = line.split_once(':') else { continue };
        let words: Vec<&str> = rest.split_whitespace().collect();
        for pair in words.chunks_exact(2) {
            if let (&[name, number], Ok(_)) = (pair, pair[1].parse::<u64>()) {
                found.insert(format!("{protocol}.{name}"), number.parse().unwrap_or(0));
            }
        }
    }
    found
}

fn softnet_drops(text: &str) -> u64 {
    let second = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    text.lines().filter_map(second).sum()
}

/// Softirq and all ticks of each processor.
pub(super) fn ticks(stat: &str) -> Vec<(u64, u64)> {
    let of_cpu = |line: &&str| {
        line.starts_with("cpu") && line.as_bytes().get(3).is_some_and(u8::is_ascii_digit)
    };
    let numbers = |line: &str| {
        let words = line.split_whitespace().skip(1);
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        // Guests' time is in user time already.
        let all = numbers.iter().take(8).sum();
        (numbers.get(6).copied().unwrap_or(0), all)
    };
    stat.lines().filter(of_cpu).map(numbers).collect()
}

/// The processor with the largest share in softirq between two looks at `/proc/stat`, per mille.
pub(crate) fn softirq_share(before: &str, now: &str) -> Option<(usize, u64)> {
    share(&ticks(before), &ticks(now))
}

pub(super) fn share(before: &[(u64, u64)], now: &[(u64, u64)]) -> Option<(usize, u64)> {
    let of = |((softirq_before, all_before), (softirq, all)): (&(u64, u64), &(u64, u64))| {
        let all = all.saturating_sub(*all_before);
        softirq.saturating_sub(*softirq_before).saturating_mul(1_000).checked_div(all).unwrap_or(0)
    };
    before.iter().zip(now).map(of).enumerate().max_by_key(|(_, share)| *share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stand_below_their_names() {
        let text = "TcpExt: A ListenOverflows B\nTcpExt: 1 22 3\nIpExt: X\nIpExt: 4\n";
        assert_eq!(counter(text, "TcpExt", "ListenOverflows"), Some(22));
        assert_eq!(counter(text, "IpExt", "X"), Some(4));
        assert_eq!(counter(text, "TcpExt", "X"), None);
        assert_eq!(counter("TcpExt: A\n", "TcpExt", "A"), None);
    }

    #[test]
    fn sockets_drops_and_ticks_are_read() {
        let found = sockstat("sockets: used 9\nTCP: inuse 5 orphan 1 tw 2 alloc 7 mem 3\n");
        assert_eq!((found["TCP.inuse"], found["TCP.mem"]), (5, 3));
        assert_eq!(softnet_drops("00000001 0000000a 0\n00000001 00000001 0\n"), 11);
        let before = ticks("cpu 9 9\ncpu0 10 0 10 80 0 0 0 0 0 0\ncpu1 0 0 0 100 0 0 0 0 0 0\n");
        let now = ticks("cpu 9 9\ncpu0 10 0 10 130 0 0 50 0 0 0\ncpu1 0 0 0 200 0 0 0 0 0 0\n");
        assert_eq!(share(&before, &now), Some((0, 500)));
    }
}
