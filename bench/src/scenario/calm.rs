//! When a server that was just started has nothing more to do: its store is open and sealed, and
//! what opening took is given back.

use crate::process::Usage;
use roost_protocol::time::{Duration, Instant};
use std::collections::VecDeque;

/// Between two looks at the server.
const EVERY: Duration = Duration::from_seconds(1);
/// Looks that must be alike: over six seconds, three times as long as the allocator keeps memory.
const LOOKS: usize = 7;
/// Resident memory of these looks may differ by so much.
const RSS_BYTES: u64 = 128 << 10;
/// The server may work so much between the first and the last of them: 2 % of a processor.
const CPU_US: u64 = 120_000;
/// After so long it is calm enough.
const LONGEST: Duration = Duration::from_seconds(60);

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Calm {
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
        if self.looks.len() > LOOKS {
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
        self.looks.len() == LOOKS
            && differs <= RSS_BYTES
            && last.cpu_us.saturating_sub(first.cpu_us) <= CPU_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a server ten times a second until it is calm, or that was waited for.
    fn wait(usage: impl Fn(u64) -> Usage) -> Waited {
        let mut calm = Calm::default();
        let at = |ms: u64| Instant { ns: 1 + ms * 1_000_000 };
        (0..).step_by(100).find_map(|ms| calm.look(at(ms), || Some(usage(ms)))).unwrap()
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
