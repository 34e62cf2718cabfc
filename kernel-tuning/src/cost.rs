//! What one session takes of a machine, by field. All figures are of idle sessions.
//!
//! Kernel figures are by slab, so with what slabs lose between objects. Those built in were
//! measured on Linux 6.18 (x86-64) at 200,000 connections; `roost-tune probe` measures those of the
//! kernel at hand, and then those count.

use crate::facts::Facts;
use crate::goal::{Goal, Layout};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One end that nobody watches, on Linux 6.18.
const BARE_END: [(&str, u64); 7] = [
    ("TCP", 2521),
    ("sock_inode_cache", 862),
    ("filp", 195),
    ("dentry", 195),
    ("lsm_inode_cache", 32),
    ("lsm_file_cache", 24),
    ("control group vectors", 29),
];
/// Being watched by epoll: eventpoll_epi, eventpoll_pwq, ep_head and their part of vectors.
const EPOLL_BYTES: u64 = 231;
/// Being watched by a multishot poll: io_kiocb and its part of vectors.
const URING_POLL_BYTES: u64 = 264;
/// A direct descriptor: io_rsrc_node.
const DIRECT_BYTES: u64 = 32;
/// Its place in a table of descriptors, which is no slab.
const TABLE_BYTES: u64 = 8;

/// User memory of an idle session of Roost, by docs/memory.md.
const EDGE_BYTES: u64 = 96;
const MAILBOX_BYTES: u64 = 80;
const TABLE_PLACE_BYTES: u64 = 12;
const EVENT_LOOP_BYTES: u64 = 12;
/// User ids of more than 15 bytes, and what the allocator and tables have in reserve.
const SLACK_BYTES: u64 = 48;
/// What TLS adds once its handshake is done.
const TLS_BYTES: u64 = 192;
/// A device in a load generator on the same machine.
const LOAD_BYTES: u64 = 176;
/// An empty server.
pub(crate) const SERVER_BYTES: u64 = 10 << 20;

/// Microseconds of one core.
pub(crate) const HEARTBEAT_US: u64 = 14;
pub(crate) const MESSAGE_US: u64 = 28;
pub(crate) const CONNECT_US: u64 = 83;
/// What a connect takes more with TLS, a full handshake: 273 in all.
pub(crate) const TLS_HANDSHAKE_US: u64 = 190;

/// Bytes that reach the disk for a message of 100 bytes, with merging.
pub(crate) const DISK_BYTES_PER_MESSAGE: u64 = 450;
/// Bytes of a message of 100 bytes at rest.
pub(crate) const STORED_BYTES_PER_MESSAGE: u64 = 150;

/// What a probe measured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Measured {
    /// The kernel that it was measured on.
    pub kernel: String,
    /// Pairs of sockets that it held.
    pub pairs: u64,
    /// Whether the server's end was watched by epoll.
    pub watched: bool,
    /// Thousandths of a byte of a pair, by slab.
    pub pair_millibytes: BTreeMap<String, u64>,
}

impl Measured {
    /// Bytes of a number of pairs, by slab.
    pub(crate) fn predict(&self, pairs: u64) -> BTreeMap<String, u64> {
        let of = |millibytes: &u64| {
            let bytes = u128::from(*millibytes) * u128::from(pairs) / 1_000;
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        self.pair_millibytes.iter().map(|(name, each)| (name.clone(), of(each))).collect()
    }
}

/// Bytes with what they are.
pub(crate) type Bytes = Vec<(String, u64)>;

/// What one session takes here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SessionCost {
    /// In the kernel, all ends that are on this machine.
    pub kernel: Bytes,
    /// In the server's process.
    pub process: Bytes,
    /// Where the kernel's figures are from.
    pub source: String,
}

impl SessionCost {
    pub(crate) fn of(facts: &Facts, goal: &Goal, layout: &Layout) -> Self {
        let mut kernel = Bytes::new();
        let waiting = if layout.uring { URING_POLL_BYTES + DIRECT_BYTES } else { EPOLL_BYTES };
        let waits = if layout.uring { "io_uring poll" } else { "epoll" };
        let source = match &facts.measured {
            Some(measured) if measured.kernel == facts.kernel => {
                for (slab, millibytes) in &measured.pair_millibytes {
                    let bytes = millibytes * goal.ends() / 2_000;
                    if bytes > 0 {
                        kernel.push((slab.clone(), bytes));
                    }
                }
                if measured.watched {
                    // One end of each pair was watched, and counts half of that in each end.
                    let known = EPOLL_BYTES * goal.ends() / 2;
                    kernel.push((
                        format!("{waits}, beyond the probe's"),
                        waiting.saturating_sub(known),
                    ));
                } else {
                    kernel.push((waits.to_owned(), waiting));
                }
                format!("measured on this kernel with {} pairs", measured.pairs)
            }
            Some(_) | None => {
                let ends =
                    BARE_END.iter().map(|(slab, bytes)| ((*slab).to_owned(), bytes * goal.ends()));
                kernel.extend(ends);
                kernel.push((waits.to_owned(), waiting));
                "built in, of Linux 6.18; roost-tune probe measures this kernel".to_owned()
            }
        };
        if goal.loopback {
            // The load generator waits for its ends, too.
            kernel.push((format!("{waits} of the other end"), waiting));
        }
        kernel.push(("descriptor tables".to_owned(), TABLE_BYTES * goal.ends()));
        Self { kernel, process: process(goal), source }
    }

    pub(crate) fn kernel_bytes(&self) -> u64 {
        self.kernel.iter().map(|(_, bytes)| bytes).sum()
    }

    pub(crate) fn process_bytes(&self) -> u64 {
        self.process.iter().map(|(_, bytes)| bytes).sum()
    }

    /// What the control group counts of it. Version 1 does not count the TCP part of a socket that
    /// was accepted: the kernel makes it while it serves an interrupt, for nobody.
    pub(crate) fn counted_bytes(&self, facts: &Facts) -> u64 {
        let uncounted = if facts.cgroup.version == 1 { BARE_END[0].1 } else { 0 };
        self.bytes().saturating_sub(uncounted)
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.kernel_bytes() + self.process_bytes()
    }
}

fn process(goal: &Goal) -> Bytes {
    if let Some(bytes) = goal.process_bytes {
        return vec![("as given with --process-bytes".to_owned(), bytes)];
    }
    let mut fields = vec![
        ("edge", EDGE_BYTES),
        ("mailbox", MAILBOX_BYTES),
        ("its place in a table", TABLE_PLACE_BYTES),
        ("event loop", EVENT_LOOP_BYTES),
        ("long user ids, allocator and tables", SLACK_BYTES),
    ];
    if goal.tls {
        fields.push(("TLS", TLS_BYTES));
    }
    if goal.loopback {
        fields.push(("the load generator's part", LOAD_BYTES));
    }
    fields.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_the_sum_of_its_fields() {
        let facts = Facts { kernel: "6.18.44".to_owned(), ..Facts::default() };
        let goal = Goal::default();
        let cost = SessionCost::of(&facts, &goal, &goal.layout(&facts));
        assert_eq!(cost.kernel_bytes(), 3_858 + 264 + 32 + 8);
        assert_eq!(cost.process_bytes(), 248);
        let goal = Goal { tls: true, ..goal };
        let cost = SessionCost::of(&facts, &goal, &goal.layout(&facts));
        assert_eq!(cost.process_bytes(), 248 + 192);
    }

    #[test]
    fn what_was_measured_here_counts_and_what_was_measured_elsewhere_does_not() {
        let slabs = BTreeMap::from([("TCP".to_owned(), 5_000_000), ("filp".to_owned(), 400_000)]);
        let measured = Measured {
            kernel: "6.1.0".to_owned(),
            pairs: 10_000,
            watched: false,
            pair_millibytes: slabs,
        };
        assert_eq!(measured.predict(1_000)["TCP"], 5_000_000);
        let mut facts = Facts { kernel: "6.1.0".to_owned(), ..Facts::default() };
        facts.measured = Some(measured);
        let goal = Goal::default();
        let cost = |facts: &Facts| SessionCost::of(facts, &goal, &goal.layout(facts));
        assert_eq!(cost(&facts).kernel_bytes(), 2_500 + 200 + 231 + 8);
        facts.kernel = "6.2.0".to_owned();
        assert_eq!(cost(&facts).kernel_bytes(), 3_858 + 231 + 8);
    }
}
