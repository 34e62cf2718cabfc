//! How long a store holds the thread that serves, with what its keeper has done and with what ends
//! a batch. On a machine with other work the clock also counts what the thread waited for its
//! processor, so beside it stands the processor time that the thread had. That counts interrupts
//! and what the machine below takes away, too, so beside both stands what spinning for as long
//! showed.

use crate::latency::{Latency, histogram};
use crate::report::arithmetic::whole;
use hdrhistogram::Histogram;
use roost_event_loop::now;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nothing happens for so long at most: one hold that was long by chance need not come twice.
const NOTHING_MAX_NS: u64 = 20_000;

/// Holds of one kind, while they are counted.
#[derive(Debug)]
pub struct Holds {
    wall: Histogram<u64>,
    processor: Histogram<u64>,
}

/// Holds of one kind, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct HoldFound {
    /// How often.
    pub count: u64,
    /// By the clock.
    pub wall_ns: Latency,
    /// Processor time of the thread.
    pub processor_ns: Latency,
    /// How often that was more than 100 us.
    #[serde(default)]
    pub over_100_us: u64,
}

/// What a store held its thread with.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Held {
    /// An answer of the keeper or of the thread that makes segments, taken.
    pub answer: HoldFound,
    /// A batch ended.
    pub end: HoldFound,
    /// A record was appended, if that was asked for: looking at the clock takes longer.
    #[serde(default)]
    pub append: HoldFound,
    /// Nothing happened, after each of the others and for as long.
    #[serde(default)]
    pub nothing: HoldFound,
}

/// When something began.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    wall_ns: u64,
    processor_ns: u64,
}

impl Begun {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { wall_ns: now().monotonic.ns, processor_ns: processor_ns() }
    }
}

fn processor_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

impl Default for Holds {
    fn default() -> Self {
        Self { wall: histogram(), processor: histogram() }
    }
}

impl Holds {
    /// Notes that what was begun has ended.
    pub fn end(&mut self, begun: Begun) {
        let ended = Begun::now();
        self.note(begun, ended);
    }

    /// The same, and then lets nothing happen for as long.
    pub fn end_beside(&mut self, begun: Begun, nothing: &mut Self) {
        let ended = Begun::now();
        self.note(begun, ended);
        let again = Begun::now();
        let over = again.wall_ns + (ended.wall_ns - begun.wall_ns).min(NOTHING_MAX_NS);
        while now().monotonic.ns < over {}
        nothing.end(again);
    }

    fn note(&mut self, begun: Begun, ended: Begun) {
        self.wall.saturating_record(ended.wall_ns - begun.wall_ns);
        self.processor.saturating_record(ended.processor_ns - begun.processor_ns);
    }

    /// What was counted.
    #[must_use]
    pub fn found(&self) -> HoldFound {
        HoldFound {
            count: self.wall.len(),
            wall_ns: Latency::of(&self.wall),
            processor_ns: Latency::of(&self.processor),
            over_100_us: self.processor.count_between(100_000, self.processor.max()),
        }
    }
}

impl Held {
    /// What there was of it, with what it is called.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &HoldFound)> {
        let all = [
            ("an answer", &self.answer),
            ("the end of a batch", &self.end),
            ("an append", &self.append),
            ("nothing", &self.nothing),
        ];
        all.into_iter().filter(|(_, found)| found.count > 0)
    }
}

impl HoldFound {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let us = |ns: u64| whole(ns) / 1e3;
        format!(
            "{} x, p50 {:.1} us, p99 {:.1} us, longest {:.1} us by the clock, {:.1} us \
             computed, {} over 100 us",
            self.count,
            us(self.wall_ns.p50),
            us(self.wall_ns.p99),
            us(self.wall_ns.max),
            us(self.processor_ns.max),
            self.over_100_us,
        )
    }
}
