//! Numbers that look random and follow from a seed. Not for secrets.

use roost_protocol::time::Duration;

/// SplitMix64: one word of state, every seed is good.
#[derive(Debug, Clone)]
pub(crate) struct Prng {
    state: u64,
}

/// The odd constant of SplitMix64's counter.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Prng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A length of time from `low` to `high`.
    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let width = high.ns.saturating_sub(low.ns).saturating_add(1);
        Duration { ns: low.ns.saturating_add(self.next() % width) }
    }
}

/// The finishing step of SplitMix64: every bit of the input moves every bit of the output.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A name for one message: never 0. The time is in it so that a restored backup, whose count went
/// back, does not give an old name to a new message.
pub(crate) fn message_name(seed: u64, count: u64, wall_ms: u64, monotonic_ns: u64) -> u64 {
    let parts = [count, wall_ms, monotonic_ns];
    let name = parts.iter().fold(mix(seed), |sum, part| mix(sum.wrapping_add(GOLDEN) ^ part));
    name.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_seed_count_and_time() {
        assert_eq!(message_name(1, 2, 3, 4), message_name(1, 2, 3, 4));
        let others = [
            message_name(2, 2, 3, 4),
            message_name(1, 3, 3, 4),
            message_name(1, 2, 4, 4),
            message_name(1, 2, 3, 5),
        ];
        assert!(others.iter().all(|other| *other != message_name(1, 2, 3, 4)));
    }
}
