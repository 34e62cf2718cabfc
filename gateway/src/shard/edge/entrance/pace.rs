//! How many connections a listener takes in a second. Whoever comes faster waits in the kernel,
//! which costs nothing; nobody is sent away. A driver takes a few at a time, so the count may go
//! below zero before it stops; it goes on when the count is above it again, so the rate holds on
//! the whole.

use roost_protocol::time::Instant;

/// A connection, in the unit that is counted.
const ONE: i64 = 1_000;
/// What is saved up while few come, in milliseconds.
const SAVED_MS: i64 = 200;

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    level: i64,
    counted_ms: u64,
    paused: bool,
}

impl Pace {
    /// A connection was taken. Says whether no further one is to be taken for now.
    pub(crate) fn take(&mut self, per_second: u32, now: Instant) -> bool {
        if per_second == 0 {
            return false;
        }
        self.count(per_second, now);
        self.level -= ONE;
        self.level <= 0 && !std::mem::replace(&mut self.paused, true)
    }

    /// Whether connections are to be taken again.
    pub(crate) fn goes_on(&mut self, per_second: u32, now: Instant) -> bool {
        if !self.paused {
            return false;
        }
        self.count(per_second, now);
        self.paused = self.level <= 0;
        !self.paused
    }

    /// Whether no further connection is taken for now.
    pub(crate) const fn is_paused(&self) -> bool {
        self.paused
    }

    fn count(&mut self, per_second: u32, now: Instant) {
        let now_ms = now.ns / 1_000_000;
        let passed_ms = i64::try_from(now_ms - self.counted_ms.min(now_ms)).unwrap_or(i64::MAX);
        self.counted_ms = now_ms;
        let (gain, most) = (i64::from(per_second), i64::from(per_second) * SAVED_MS);
        self.level = self.level.saturating_add(gain.saturating_mul(passed_ms)).min(most.max(ONE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant { ns: ms * 1_000_000 }
    }

    /// Ten times as many as may come want to, and eight are taken at once.
    #[test]
    fn the_rate_holds_however_many_come() {
        let (mut pace, mut taken, mut paused) = (Pace::default(), 0, false);
        for ms in 10_000..20_000 {
            if ms % 100 == 0 {
                paused &= !pace.goes_on(100, at(ms));
            }
            for _ in 0..if paused { 0 } else { 8 } {
                taken += 1;
                paused |= pace.take(100, at(ms));
            }
        }
        assert!((1_000..1_050).contains(&taken), "{taken} in ten seconds");
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let mut pace = Pace::default();
        assert!((0..1_000_000).all(|_| !pace.take(0, at(5))));
        assert!(!pace.goes_on(0, at(6)));
    }

    #[test]
    fn few_wait_never() {
        let mut pace = Pace::default();
        assert!((1_000..5_000).step_by(20).all(|ms| !pace.take(100, at(ms))));
    }
}
