//! How many connections there are of each network, so that none takes what is for all. It is empty
//! while no such limit is set; then a connection costs some 40 bytes more, and 40 for the first one
//! of its network, until it goes.

use crate::limits::Limits;
use crate::prefix::network_of;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What a network has.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    connections: u32,
    /// Those of them that were not welcomed yet.
    beginning: u32,
}

/// Why a connection is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMany {
    Connections,
    Beginning,
}

/// See the module's comment. Memory goes node by node, so a crowd that leaves keeps nobody waiting.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    counts: BTreeMap<u128, Counts>,
    /// The network of a connection, by slot.
    of: BTreeMap<u32, u128>,
    /// Slots of connections that were not welcomed yet.
    beginning: BTreeSet<u32>,
}

/// A shard's part of a limit of the whole server, rounded up. 0 is no limit.
const fn part(limit: u32, shards: u8) -> u32 {
    if limit == 0 { u32::MAX } else { limit.div_ceil(shards as u32) }
}

impl Prefixes {
    /// Whether anything is counted.
    const fn is_on(limits: &Limits) -> bool {
        limits.connections_per_prefix_max > 0 || limits.unauthenticated_per_prefix_max > 0
    }

    /// A connection comes from there.
    pub(crate) fn enter(
        &mut self,
        limits: &Limits,
        shards: u8,
        slot: u32,
        peer: IpAddr,
    ) -> Result<(), TooMany> {
        if !Self::is_on(limits) {
            return Ok(());
        }
        let network = network_of(peer, limits.prefix_ipv4_bits, limits.prefix_ipv6_bits);
        let counts = self.counts.get(&network).copied().unwrap_or_default();
        if counts.connections >= part(limits.connections_per_prefix_max, shards) {
            return Err(TooMany::Connections);
        }
        if counts.beginning >= part(limits.unauthenticated_per_prefix_max, shards) {
            return Err(TooMany::Beginning);
        }
        let counts = self.counts.entry(network).or_default();
        counts.connections += 1;
        counts.beginning += 1;
        let before = self.of.insert(slot, network);
        assert!(before.is_none(), "a slot is used by one connection at a time");
        self.beginning.insert(slot);
        Ok(())
    }

    /// A connection was welcomed.
    pub(crate) fn welcomed(&mut self, slot: u32) {
        if self.beginning.remove(&slot)
            && let Some(counts) = self.of.get(&slot).and_then(|of| self.counts.get_mut(of))
        {
            counts.beginning -= 1;
        }
    }

    /// A connection is gone.
    pub(crate) fn leave(&mut self, slot: u32) {
        self.welcomed(slot);
        let Some(network) = self.of.remove(&slot) else { return };
        let Some(counts) = self.counts.get_mut(&network) else { return };
        counts.connections -= 1;
        if counts.connections == 0 {
            self.counts.remove(&network);
        }
    }

    /// Networks that have connections.
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            connections_per_prefix_max: 4,
            unauthenticated_per_prefix_max: 2,
            ..Limits::default()
        }
    }

    #[test]
    fn each_network_has_its_own_part_and_gets_it_back() {
        let (limits, mut prefixes) = (limits(), Prefixes::default());
        let enter = |prefixes: &mut Prefixes, slot, peer: &str| {
            prefixes.enter(&limits, 1, slot, peer.parse().unwrap())
        };
        for slot in 0..4 {
            assert_eq!(enter(&mut prefixes, slot, "192.0.2.1"), Ok(()));
            prefixes.welcomed(slot);
        }
        assert_eq!(enter(&mut prefixes, 9, "192.0.2.1"), Err(TooMany::Connections));
        assert_eq!(enter(&mut prefixes, 4, "192.0.2.2"), Ok(()));
        assert_eq!(enter(&mut prefixes, 5, "192.0.2.2"), Ok(()));
        assert_eq!(enter(&mut prefixes, 9, "192.0.2.2"), Err(TooMany::Beginning));
        prefixes.leave(4);
        assert_eq!(enter(&mut prefixes, 4, "192.0.2.2"), Ok(()));
        prefixes.welcomed(4);
        assert_eq!(enter(&mut prefixes, 6, "192.0.2.2"), Ok(()));
        // A phone has many addresses of IPv6, and one network.
        assert_eq!(enter(&mut prefixes, 7, "2001:db8::1"), Ok(()));
        assert_eq!(enter(&mut prefixes, 8, "2001:db8::2"), Ok(()));
        assert_eq!(enter(&mut prefixes, 9, "2001:db8::3"), Err(TooMany::Beginning));
        assert_eq!(prefixes.len(), 3);
        for slot in 0..10 {
            prefixes.leave(slot);
        }
        assert!(prefixes.counts.is_empty() && prefixes.of.is_empty());
        assert!(prefixes.beginning.is_empty());
    }

    #[test]
    fn a_shard_has_its_part_and_nothing_is_counted_without_a_limit() {
        let mut prefixes = Prefixes::default();
        let peer = "192.0.2.1".parse().unwrap();
        assert_eq!(prefixes.enter(&limits(), 2, 0, peer), Ok(()));
        assert_eq!(prefixes.enter(&limits(), 2, 1, peer), Err(TooMany::Beginning));
        let mut prefixes = Prefixes::default();
        for slot in 0..100 {
            assert_eq!(prefixes.enter(&Limits::default(), 1, slot, peer), Ok(()));
        }
        assert_eq!(prefixes.len(), 0);
        assert!(prefixes.of.is_empty());
    }
}
