//! When a server that was just started has nothing more to do: its store is open and sealed, and
//! what opening took is given back.

use crate::process::Usage;
use roost_protocol::time::{Duration, Instant};
use std::collections::VecDeque;

/// Between two looks at the server.
const EVERY: Duration = Duration::from_seconds(1);
/// So long it must rest at least: three times as long as the allocator keeps memory.
const SHORTEST_S: u64 = 6;
/// And at most: longer than a store keeps what it may soon need again, which is a minute.
const LONG_ENOUGH_S: u64 = 75;
/// Resident memory may differ by so much meanwhile.
const RSS_BYTES: u64 = 128 << 10;
/// The server may work so much in each second of it: 2 % of a processor.
const CPU_US_A_SECOND: u64 = 20_000;
/// After so long it is calm enough.
const LONGEST: Duration = Duration::from_seconds(300);

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Calm {
    rest_s: u64,
    began: Option<Instant>,
    next: Instant,
    looks: VecDeque<Usage>,
}

/// How the wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waited {
    /// For how long.
    pub(super) length: Duration,
    /// Whether the server was calm then, and the wait not merely over.
    pub(super) is_calm: bool,
}

impl Calm {
    /// One is calm that has rested for so long, within bounds.
    pub(super) fn new(rest: Duration) -> Self {
        let rest_s = (rest.as_ms() / 1_000).clamp(SHORTEST_S, LONG_ENOUGH_S);
        Self { rest_s, began: None, next: Instant::default(), looks: VecDeque::new() }
    }

    /// Looks at the server once in a while. None: it must be waited for.
    pub(super) fn look(
        &mut self,
        now: Instant,
        usage: impl FnOnce() -> Option<Usage>,
    ) -> Option<Waited> {
        let began = *self.began.get_or_insert(now);
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        self.looks.extend(usage());
        if self.looks.len() as u64 > self.rest_s + 1 {
            self.looks.pop_front();
        }
        let (is_calm, length) = (self.is_calm(), now.since(began));
        (is_calm || length >= LONGEST).then_some(Waited { length, is_calm })
    }

    fn is_calm(&self) -> bool {
        let rss = || self.looks.iter().map(|look| look.rss_bytes);
        let (Some(first), Some(last)) = (self.looks.front(), self.looks.back()) else {
            return false;
        };
        let differs = rss().max().unwrap_or(0) - rss().min().unwrap_or(0);
        self.looks.len() as u64 > self.rest_s
            && differs <= RSS_BYTES
            && last.cpu_us.saturating_sub(first.cpu_us) <= CPU_US_A_SECOND * self.rest_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a server ten times a second until it is calm, or that was waited for.
    fn wait_for(rest_s: u64, usage: impl Fn(u64) -> Usage) -> Waited {
        let mut calm = Calm::new(Duration::from_seconds(rest_s));
        let at = |ms: u64| Instant { ns: 1 + ms * 1_000_000 };
        (0..).step_by(100).find_map(|ms| calm.look(at(ms), || Some(usage(ms)))).unwrap()
    }

    fn wait(usage: impl Fn(u64) -> Usage) -> Waited {
        wait_for(0, usage)
    }

    #[test]
    fn whoever_measures_after_a_long_rest_begins_with_one() {
        // What was kept for a minute goes then.
        let keeps = |ms: u64| Usage {
            rss_bytes: if ms < 60_000 { 2 << 24 } else { 1 << 24 },
            ..Usage::default()
        };
        let length = Duration::from_seconds(60 + 75);
        assert_eq!(wait_for(190, keeps), Waited { length, is_calm: true });
    }

    #[test]
    fn a_server_is_calm_when_memory_and_processor_rest() {
        let rests = |ms: u64| Usage { rss_bytes: 1 << 24, cpu_us: ms, ..Usage::default() };
        let six = Waited { length: Duration::from_seconds(6), is_calm: true };
        assert_eq!(wait(rests), six);
        let opens = |ms: u64| Usage { rss_bytes: ms.min(9_000) << 10, ..Usage::default() };
        assert_eq!(wait(opens), Waited { length: Duration::from_seconds(15), is_calm: true });
    }

    #[test]
    fn one_that_never_rests_is_not_waited_for_for_ever() {
        let longest = Waited { length: LONGEST, is_calm: false };
        assert_eq!(wait(|ms| Usage { rss_bytes: ms << 10, ..Usage::default() }), longest);
        assert_eq!(wait(|ms| Usage { cpu_us: ms * 1_000, ..Usage::default() }), longest);
    }
}
