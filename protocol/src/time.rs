//! Time as numbers, so that a simulator can write down any time and a log can print it.

use std::fmt;
use std::ops::{Add, Sub};

/// A point on a monotonic clock, in nanoseconds from an origin that means nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant {
    /// Nanoseconds since the origin.
    pub ns: u64,
}

/// A length of time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration {
    /// How many nanoseconds.
    pub ns: u64,
}

/// A time of day: milliseconds since 1970-01-01 UTC. It may jump; order never depends on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Milliseconds since 1970.
    pub ms: u64,
}

/// Both clocks, read once per turn of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For intervals and deadlines.
    pub monotonic: Instant,
    /// For what people and tokens mean by time.
    pub wall: Timestamp,
}

impl Duration {
    /// From milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self { ns: ms.saturating_mul(1_000_000) }
    }

    /// From seconds.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self { ns: seconds.saturating_mul(1_000_000_000) }
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.ns / 1_000_000
    }
}

impl Instant {
    /// The time from `earlier` to here; nothing when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration { ns: self.ns.saturating_sub(earlier.ns) }
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self { ns: self.ns.saturating_add(duration.ns) }
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self { ns: self.ns.saturating_sub(duration.ns) }
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.ns / 1000)
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.ns / 1000)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.ms)
    }
}
