//! Counts, latencies and a sample of every second of one round.

use super::admin::{Asked, Values};
use super::progress::Progress;
use super::syscalls::Counting;
use super::yardstick::Yardstick;
use super::{Look, Observed};
use crate::latency::{Latency, curve, histogram};
use crate::process::{self, Usage};
use crate::report::arithmetic::{ratio, whole};
use crate::result::{Curve, Sample};
use hdrhistogram::Histogram;
use roost_protocol::time::{Duration, Instant};
use std::collections::BTreeMap;

const SECOND: Duration = Duration::from_seconds(1);
/// Samples of a run of two days; later seconds are not kept.
const SAMPLES_MAX: usize = 200_000;

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// First ticks.
    pub sent: u64,
    /// Arrivals.
    pub delivered: u64,
    /// Second ticks.
    pub ticked: u64,
    /// What went wrong.
    pub errors: u64,
}

#[derive(Debug)]
struct Stage {
    name: &'static str,
    times: Histogram<u64>,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Meter {
    observed: Observed,
    stages: Vec<Stage>,
    /// The stage whose latency the samples show.
    main: usize,
    this_second: Histogram<u64>,
    lateness: Option<Histogram<u64>>,
    total: Tally,
    /// The measured phase; far away before it begins.
    window: [Instant; 2],
    is_measuring: bool,
    at_begin: Tally,
    measured: Tally,
    looks: [Option<Look>; 2],
    asked: [Option<Asked>; 2],
    counting: Option<Counting>,
    syscalls: Option<Result<u64, String>>,
    yardstick: Option<Yardstick>,
    yardstick_us: Option<f64>,
    began: Option<Instant>,
    second: Option<Second>,
    samples: Vec<Sample>,
    progress: Progress,
    phase: (&'static str, Option<Instant>),
}

#[derive(Debug, Clone, Copy)]
struct Second {
    began: Instant,
    tally: Tally,
    server_cpu_us: u64,
    generator_cpu_us: u64,
}

impl Meter {
    /// Stages by name; `main` is the place of the one that samples and progress show.
    #[must_use]
    pub fn new(
        observed: Observed,
        stages: &[&'static str],
        main: usize,
        open_loop: bool,
        progress: Progress,
    ) -> Self {
        let stage = |name: &&'static str| Stage { name, times: histogram() };
        Self {
            observed,
            stages: stages.iter().map(stage).collect(),
            main,
            this_second: histogram(),
            lateness: open_loop.then(histogram),
            total: Tally::default(),
            window: [Instant { ns: u64::MAX }; 2],
            is_measuring: false,
            at_begin: Tally::default(),
            measured: Tally::default(),
            looks: [None; 2],
            asked: [None, None],
            counting: None,
            syscalls: None,
            yardstick: None,
            yardstick_us: None,
            began: None,
            second: None,
            samples: Vec::new(),
            progress,
            phase: ("connecting", None),
        }
    }

    /// The server is to be seen there from now on.
    pub const fn observe(&mut self, observed: Observed) {
        self.observed = observed;
    }

    /// What progress calls what goes on, and when it ends.
    pub const fn enter(&mut self, name: &'static str, ends: Option<Instant>) {
        self.phase = (name, ends);
    }

    /// A message has its first tick.
    pub const fn sent(&mut self) {
        self.total.sent += 1;
    }

    /// A message has arrived.
    pub const fn delivered(&mut self) {
        self.total.delivered += 1;
    }

    /// A message has its second tick.
    pub const fn ticked(&mut self) {
        self.total.ticked += 1;
    }

    /// Something went wrong.
    pub const fn error(&mut self) {
        self.total.errors += 1;
    }

    /// What was counted so far, in the measured phase and outside of it.
    #[must_use]
    pub const fn total(&self) -> Tally {
        self.total
    }

    /// What was due then is through a stage now.
    pub fn took(&mut self, stage: usize, due: Instant, now: Instant) {
        let us = now.since(due).ns / 1_000;
        if stage == self.main {
            self.this_second.saturating_record(us);
        }
        if self.window[0] <= due && due < self.window[1] {
            self.stages[stage].times.saturating_record(us);
        }
    }

    /// The same for a stage that is measured whenever it happens, not only in the measured phase.
    pub fn took_at_any_time(&mut self, stage: usize, due: Instant, now: Instant) {
        self.stages[stage].times.saturating_record(now.since(due).ns / 1_000);
    }

    /// The same as `late`, outside of the measured phase, too.
    pub fn late_at_any_time(&mut self, due: Instant, now: Instant) {
        if let Some(lateness) = &mut self.lateness {
            lateness.saturating_record(now.since(due).ns / 1_000);
        }
    }

    /// Open loop: what was due then is written now.
    pub fn late(&mut self, due: Instant, now: Instant) {
        if self.window[0] <= due
            && due < self.window[1]
            && let Some(lateness) = &mut self.lateness
        {
            lateness.saturating_record(now.since(due).ns / 1_000);
        }
    }

    /// Measuring begins and is to last so long.
    pub fn begin(&mut self, now: Instant, length: Duration) {
        self.window = [now, now + length];
        self.is_measuring = true;
        self.at_begin = self.total;
        self.looks[0] = Some(Look::at(self.observed, now));
        self.asked[0] = Some(Asked::at(self.observed.admin));
        let counted = self.observed.pid.filter(|_| self.observed.counts_syscalls);
        self.counting = counted.map(Counting::begin);
        let observed = self.observed.pid.filter(|_| self.observed.has_yardstick);
        self.yardstick = observed.map(Yardstick::begin);
        self.enter("measuring", Some(self.window[1]));
    }

    /// Measuring ends, sooner than it was to if the run is cut short.
    pub fn end(&mut self, now: Instant) {
        if !std::mem::take(&mut self.is_measuring) {
            return;
        }
        self.window[1] = self.window[1].min(now);
        let (total, begin) = (self.total, self.at_begin);
        self.measured = Tally {
            sent: total.sent - begin.sent,
            delivered: total.delivered - begin.delivered,
            ticked: total.ticked - begin.ticked,
            errors: total.errors - begin.errors,
        };
        self.looks[1] = Some(Look::at(self.observed, now));
        self.asked[1] = Some(Asked::at(self.observed.admin));
        self.syscalls = self.counting.take().map(Counting::end);
        self.yardstick_us = self.yardstick.take().and_then(Yardstick::end);
    }

    /// Once a turn.
    pub fn turn(&mut self, now: Instant, connected: u64) {
        let began = *self.began.get_or_insert(now);
        let Some(second) = self.second else {
            self.second = Some(self.second(now));
            return;
        };
        let length = now.since(second.began);
        if length < SECOND {
            return;
        }
        let next = self.second(now);
        let us = whole(length.ns / 1_000);
        let rate = |count: u64, before: u64| ratio(whole(count - before) * 1e6, us);
        let share = |cpu_us: u64, before: u64| ratio(whole(cpu_us.saturating_sub(before)), us);
        let times = Latency::of(&self.this_second);
        let sample = Sample {
            at_s: whole(now.since(began).ns / 1_000_000) / 1e3,
            measured: self.is_measuring && second.began >= self.window[0],
            connected,
            sent_per_s: rate(self.total.sent, second.tally.sent),
            delivered_per_s: rate(self.total.delivered, second.tally.delivered),
            ticked_per_s: rate(self.total.ticked, second.tally.ticked),
            p50_us: times.p50,
            p99_us: times.p99,
            max_us: times.max,
            errors: self.total.errors - second.tally.errors,
            server_cpu_share: share(next.server_cpu_us, second.server_cpu_us),
            generator_cpu_share: share(next.generator_cpu_us, second.generator_cpu_us),
            server_rss_bytes: self.observed.pid.and_then(Usage::of).map_or(0, |of| of.rss_bytes),
        };
        self.this_second.reset();
        self.second = Some(next);
        let left = self.phase.1.map(|ends| ends.since(now).as_ms() / 1_000);
        self.progress.show(self.phase.0, &sample, self.total.errors, left);
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(sample);
        }
    }

    fn second(&self, now: Instant) -> Second {
        Second {
            began: now,
            tally: self.total,
            server_cpu_us: self.observed.pid.and_then(Usage::of).map_or(0, |of| of.cpu_us),
            generator_cpu_us: process::own_thread_cpu_us(),
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(mut self, now: Instant) -> Metered {
        self.end(now);
        self.progress.clear();
        let begun = self.looks[0].is_some();
        let [asked_begin, asked_end] = self.asked;
        let answer = |asked: Option<Asked>| asked.map(Asked::answer).unwrap_or_default();
        Metered {
            length: if begun { self.window[1].since(self.window[0]) } else { Duration::default() },
            counts: self.measured,
            latency_us: stages(&self.stages, Latency::of),
            percentiles: stages(&self.stages, curve),
            histograms: self.stages.into_iter().map(|of| (of.name.to_owned(), of.times)).collect(),
            lateness: self.lateness,
            looks: self.looks,
            said: [answer(asked_begin), answer(asked_end)],
            pss_bytes: self.observed.pid.and_then(process::pss_bytes),
            samples: self.samples,
            syscalls: self.syscalls,
            yardstick_us: self.yardstick_us,
        }
    }
}

fn stages<T>(all: &[Stage], of: impl Fn(&Histogram<u64>) -> T) -> BTreeMap<String, T> {
    let filled = all.iter().filter(|stage| !stage.times.is_empty());
    filled.map(|stage| (stage.name.to_owned(), of(&stage.times))).collect()
}

/// What a meter found.
#[derive(Debug, Default)]
pub struct Metered {
    /// How long was measured.
    pub length: Duration,
    /// What was counted while measuring.
    pub counts: Tally,
    /// Percentiles of each stage.
    pub latency_us: BTreeMap<String, Latency>,
    /// Latency by share of each stage.
    pub percentiles: BTreeMap<String, Curve>,
    /// The times of each stage.
    pub histograms: BTreeMap<String, Histogram<u64>>,
    /// Open loop: how late the generator was itself.
    pub lateness: Option<Histogram<u64>>,
    /// Begin and end of measuring.
    pub looks: [Option<Look>; 2],
    /// What the server said of itself then.
    pub said: [Values; 2],
    /// The server's memory after measuring.
    pub pss_bytes: Option<u64>,
    /// Every second.
    pub samples: Vec<Sample>,
    /// The server's system calls, or why they were not counted; none: they were not to be.
    pub syscalls: Option<Result<u64, String>>,
    /// Microseconds of the same small work on the server's processors meanwhile.
    pub yardstick_us: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter {
        Meter::new(Observed::default(), &["sent", "delivered"], 1, true, Progress::new(false))
    }

    fn at(ms: u64) -> Instant {
        Instant { ns: ms * 1_000_000 }
    }

    #[test]
    fn only_what_was_due_while_measuring_counts() {
        let mut meter = meter();
        meter.took(1, at(10), at(12));
        meter.sent();
        meter.begin(at(1_000), SECOND);
        meter.took(1, at(999), at(1_003));
        meter.took(1, at(1_000), at(1_007));
        meter.late(at(1_500), at(1_501));
        meter.sent();
        meter.end(at(2_000));
        meter.took(1, at(1_999), at(2_500));
        meter.took(1, at(2_000), at(2_001));
        meter.sent();
        let found = meter.finish(at(3_000));
        assert_eq!((found.counts.sent, found.length), (1, SECOND));
        assert_eq!(found.histograms["delivered"].len(), 2);
        assert_eq!(found.lateness.map(|late| late.len()), Some(1));
        assert!(!found.latency_us.contains_key("sent"), "a stage nobody reached is left out");
    }

    #[test]
    fn every_second_has_its_sample() {
        let mut meter = meter();
        for ms in (0..=3_500).step_by(100) {
            meter.delivered();
            meter.turn(at(ms), 7);
        }
        let samples = meter.finish(at(3_500)).samples;
        assert_eq!(samples.len(), 3);
        assert!(samples.iter().all(|of| of.connected == 7 && !of.measured));
        assert_eq!(samples[1].delivered_per_s, 10.0);
    }

    #[test]
    fn a_run_that_is_cut_short_is_measured_up_to_there() {
        let mut meter = meter();
        meter.begin(at(1_000), Duration::from_seconds(60));
        meter.delivered();
        let found = meter.finish(at(3_000));
        assert_eq!((found.length, found.counts.delivered), (Duration::from_seconds(2), 1));
    }
}
