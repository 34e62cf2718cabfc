//! When to come back: full jitter, from a seed.

use crate::limits::{BACKOFF_BASE, BACKOFF_MAX, BACKOFF_MIN, RETRY_DEFAULT, RETRY_MAX};
use crate::prng::Prng;
use roost_protocol::time::Duration;

/// Delays that double, each drawn from the whole range below it. A generator of load waits as long
/// as a device does.
#[derive(Debug)]
pub struct Backoff {
    attempt: u32,
    prng: Prng,
}

impl Backoff {
    /// The first delay is next. The same seed gives the same delays.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { attempt: 0, prng: Prng::new(seed) }
    }

    /// The delay before the next attempt to connect, at least what the server asked for.
    pub(crate) fn next(&mut self, asked_ms: u32) -> Duration {
        let factor = 1_u64 << self.attempt.min(16);
        let most = BACKOFF_BASE.ns.saturating_mul(factor).min(BACKOFF_MAX.ns);
        self.attempt = self.attempt.saturating_add(1);
        let drawn = self.prng.between(BACKOFF_MIN, Duration { ns: most });
        if asked_ms == 0 { drawn } else { drawn.max(self.retry(asked_ms)) }
    }

    /// The last connection lasted: begin anew.
    pub(crate) const fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The delay before a refused request is repeated: what was asked for (0: a second), and up to
    /// half more.
    pub fn retry(&mut self, asked_ms: u32) -> Duration {
        let asked = if asked_ms == 0 { RETRY_DEFAULT } else { Duration::from_ms(asked_ms.into()) };
        let asked = asked.min(RETRY_MAX);
        self.prng.between(asked, Duration { ns: asked.ns.saturating_add(asked.ns / 2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_thirty_seconds_and_begin_anew() {
        let longest = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..12).map(|_| backoff.next(0).ns).collect::<Vec<_>>()
        };
        for seed in 0..50 {
            for (attempt, delay) in longest(seed).into_iter().enumerate() {
                assert!((BACKOFF_MIN.ns..=BACKOFF_MAX.ns).contains(&delay));
                assert!(delay <= BACKOFF_BASE.ns << attempt);
            }
        }
        let mut backoff = Backoff::new(1);
        assert!(backoff.next(60_000) >= Duration::from_seconds(60));
        backoff.reset();
        assert!(backoff.next(0) <= BACKOFF_BASE);
    }
}
