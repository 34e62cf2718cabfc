//! What the machine is to hold, and how.

use crate::error::Error;
use crate::facts::Facts;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Sessions of one machine that make sense to ask about: every one costs at least 3 KB of kernel.
pub(crate) const CONNECTIONS_MAX: u64 = 1_000_000_000;
/// Messages a second of all machines together.
const RATE_MAX: u64 = 1_000_000_000;
/// New connections a second.
const CONNECTS_MAX: u64 = 10_000_000;

/// Places of one ring's table, unless the limit of descriptors is lower: as Roost opens them.
const RING_SLOTS: u64 = 16_384;
/// The most that one gateway takes as `limits.connections_max`.
pub(crate) const GATEWAY_CONNECTIONS_MAX: u64 = 10_000_000;
/// The most shards of one gateway.
pub(crate) const GATEWAY_SHARDS_MAX: u32 = 16;
/// Descriptors besides connections: listeners, rings, files of the store, the log.
pub(crate) const OTHER_DESCRIPTORS: u64 = 200;

/// What matters most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// Most connections for the memory.
    Density,
    /// Short waits for each message.
    Latency,
    /// Most bytes a second.
    Throughput,
}

/// How the server waits for sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    /// `io_uring` where it is there.
    Auto,
    Uring,
    Epoll,
}

/// A goal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Goal {
    pub connections: u64,
    pub tls: bool,
    /// Seconds between two heartbeats of a connection.
    pub heartbeat_s: u64,
    /// Messages a second, all connections together.
    pub messages_per_s: u64,
    /// New connections a second at the worst.
    pub connects_per_s: u64,
    /// The other ends are on this machine, too.
    pub loopback: bool,
    /// Pairs of source and destination address that the connections come over.
    pub address_pairs: u64,
    /// Bytes of a session in the server's process, if somebody measured them.
    pub process_bytes: Option<u64>,
    pub driver: Driver,
    pub profile: Profile,
}

impl Default for Goal {
    fn default() -> Self {
        Self {
            connections: 1_000_000,
            tls: false,
            heartbeat_s: 240,
            messages_per_s: 2_000,
            connects_per_s: 10_000,
            loopback: false,
            address_pairs: 1,
            process_bytes: None,
            driver: Driver::Auto,
            profile: Profile::Density,
        }
    }
}

impl Goal {
    /// Refuses what cannot be meant.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bounds = [
            ("--connections", self.connections, 1, CONNECTIONS_MAX),
            ("--heartbeat", self.heartbeat_s, 1, 86_400),
            ("--rate", self.messages_per_s, 0, RATE_MAX),
            ("--connects", self.connects_per_s, 0, CONNECTS_MAX),
            ("--address-pairs", self.address_pairs, 1, 1_000_000),
            ("--process-bytes", self.process_bytes.unwrap_or(1), 1, 100_000_000),
        ];
        match bounds.into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value)) {
            None => Ok(()),
            Some((name, value, min, max)) => {
                Err(Error::Goal(format!("{name} is {value}; choose a number from {min} to {max}")))
            }
        }
    }

    /// Sockets of this machine for each session.
    pub(crate) const fn ends(&self) -> u64 {
        if self.loopback { 2 } else { 1 }
    }

    /// How the server will hold the sockets on a machine.
    pub(crate) fn layout(&self, facts: &Facts) -> Layout {
        let uring = match self.driver {
            Driver::Auto => facts.uring_is_there(),
            Driver::Uring => true,
            Driver::Epoll => false,
        };
        let slots = if uring {
            RING_SLOTS.min(facts.server_nofile().0.max(1))
        } else {
            facts.server_nofile().0.saturating_sub(OTHER_DESCRIPTORS).max(1)
        };
        Layout { uring, slots, tables: self.connections.div_ceil(slots) }
    }
}

/// Tables of sockets: rings of one process, or processes with their descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Rings; else descriptors and epoll.
    pub uring: bool,
    /// Sockets of one table.
    pub slots: u64,
    /// Tables that the goal needs.
    pub tables: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_goals_are_refused_with_their_range() {
        let refuse = |goal: Goal| goal.check().unwrap_err().to_string();
        assert!(Goal::default().check().is_ok());
        assert_eq!(
            refuse(Goal { connections: 0, ..Goal::default() }),
            "--connections is 0; choose a number from 1 to 1000000000"
        );
        let refused = [
            (Goal { connections: u64::MAX, ..Goal::default() }, "--connections"),
            (Goal { heartbeat_s: 0, ..Goal::default() }, "--heartbeat"),
            (Goal { messages_per_s: u64::MAX, ..Goal::default() }, "--rate"),
            (Goal { address_pairs: 0, ..Goal::default() }, "--address-pairs"),
        ];
        for (goal, name) in refused {
            assert!(refuse(goal).starts_with(name), "{name}");
        }
    }
}
