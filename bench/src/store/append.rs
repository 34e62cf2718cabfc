//! Durable appends, batch after batch: gather so many records, commit them, go on when they are
//! durable.

use super::args::AppendArgs;
use super::child;
use super::contestant::Contestant;
use super::device::Device;
use super::engine::{Batch, Failure};
use super::natural::{self, CallFound, NaturalFound};
use super::place::Place;
use super::sheet::{Sheet, best, median_by};
use super::step::{Order, Task};
use super::workload::{Random, stream_of};
use crate::latency::{Latency, histogram};
use crate::process::Usage;
use crate::report::arithmetic::{ratio, round, whole};
use roost_event_loop::now;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Records of a commit.
    pub batch: usize,
    /// Streams.
    pub streams: u32,
    /// Bytes of a record.
    pub body_bytes: usize,
    /// Nanoseconds before measuring.
    pub warmup_ns: u64,
    /// Nanoseconds of measuring.
    pub measure_ns: u64,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// Records that became durable a second.
    pub records_per_s: f64,
    /// Time of a commit, from the first record handed over until all are durable.
    pub commit_us: Latency,
    /// Processor time of a record, all threads.
    pub cpu_us_per_record: f64,
    /// Bytes that the device wrote, for everybody on it, for each byte of bodies.
    pub device_written_per_payload: f64,
}

/// Numbers of records: each stream counts on.
#[derive(Debug)]
pub struct Names {
    random: Random,
    streams: Vec<(u128, u64)>,
}

impl Names {
    /// Of so many streams.
    #[must_use]
    pub fn new(streams: u32) -> Self {
        let streams = (0..streams).map(|index| (stream_of(index), 0)).collect();
        Self { random: Random::new(42), streams }
    }

    /// The next record of a random stream.
    ///
    /// # Panics
    /// There are no streams.
    pub fn draw(&mut self) -> (u128, u64) {
        let count = u32::try_from(self.streams.len()).expect("made from 32 bits");
        let place = usize::try_from(self.random.below(count)).expect("usize has 32 bits at least");
        let (stream, seq) = &mut self.streams[place];
        *seq += 1;
        (*stream, *seq)
    }
}

/// The step.
///
/// # Errors
/// The engine's.
pub fn measure(order: &Order, settings: &Settings) -> Result<Found, Failure> {
    let mut engine = order.contestant.open(&order.folder, order.cache_bytes)?;
    let mut names = Names::new(settings.streams);
    let mut batch = Batch::new(settings.batch, settings.body_bytes);
    for _ in 0..settings.batch {
        let (stream, seq) = names.draw();
        batch.push(stream, seq);
    }
    let warm = now().monotonic.ns + settings.warmup_ns;
    while now().monotonic.ns < warm {
        engine.commit(&batch)?;
        rename(&mut batch, &mut names, settings.batch);
    }
    let mut times = histogram();
    let pid = std::process::id();
    let device = Device::of(&order.folder)?;
    let (counts, usage) = (device.counts(), Usage::of(pid).unwrap_or_default());
    let begin = now().monotonic.ns;
    let mut end = begin;
    let mut records = 0;
    while end - begin < settings.measure_ns {
        let before = end;
        engine.commit(&batch)?;
        times.saturating_record((now().monotonic.ns - before) / 1_000);
        records += u64::try_from(settings.batch)?;
        rename(&mut batch, &mut names, settings.batch);
        end = now().monotonic.ns;
    }
    let written = device.counts().since(counts).written_bytes;
    let cpu_us = Usage::of(pid).unwrap_or_default().cpu_us - usage.cpu_us;
    engine.close()?;
    Ok(Found {
        records_per_s: ratio(whole(records) * 1e9, whole(end - begin)),
        commit_us: Latency::of(&times),
        cpu_us_per_record: ratio(whole(cpu_us), whole(records)),
        device_written_per_payload: ratio(
            whole(written),
            whole(records) * whole(u64::try_from(settings.body_bytes)?),
        ),
    })
}

fn rename(batch: &mut Batch, names: &mut Names, records: usize) {
    batch.clear();
    for _ in 0..records {
        let (stream, seq) = names.draw();
        batch.push_again(stream, seq);
    }
}

/// All rounds of one case.
struct Case {
    batch: u32,
    contestant: Contestant,
    rounds: Vec<Found>,
}

/// The part of the command.
///
/// # Errors
/// A step failed.
pub fn run(args: &AppendArgs, sheet: &mut Sheet) -> Result<(), Failure> {
    let place = Place::new(&args.common.dir)?;
    sheet.begin("append", &args.common, &place)?;
    let ours = [Contestant::Bare, Contestant::Roost];
    let all: Vec<_> = ours.iter().chain(args.common.peers()).copied().collect();
    let mut cases = Vec::new();
    for &batch in &args.batches {
        for &contestant in &all {
            cases.push(Case { batch, contestant, rounds: Vec::new() });
        }
    }
    let (mut natural, mut calls) = (Vec::<NaturalFound>::new(), Vec::<CallFound>::new());
    for _ in 0..args.rounds {
        for case in &mut cases {
            let settings = settings(args, case.batch)?;
            case.rounds.push(step(args, &place, case.contestant, Task::Append(settings))?);
        }
        let settings = natural_settings(args)?;
        natural.push(step(args, &place, Contestant::Roost, Task::Natural(settings.clone()))?);
        calls.push(step(args, &place, Contestant::Roost, Task::Call(settings))?);
    }
    let text = format!(
        "{} B records over {} streams, {} s each, medians of {} rounds",
        args.body_bytes, args.streams, args.seconds, args.rounds
    );
    sheet.line("append", &text);
    for &batch in &args.batches {
        report_batch(sheet, batch, &cases);
    }
    let most = args.batches.iter().max().copied().unwrap_or(1);
    let medians = medians(&cases, most);
    natural::report(sheet, &natural, &calls, &medians, most);
    Ok(())
}

fn step<Answer: serde::de::DeserializeOwned>(
    args: &AppendArgs,
    place: &Place,
    contestant: Contestant,
    task: Task,
) -> Result<Answer, Failure> {
    let folder = place.store(contestant, "append");
    let cache_bytes = args.common.cache_bytes();
    let order = Order { contestant, folder: folder.clone(), cache_bytes, task };
    let answer = child::run(&order);
    place.remove(&folder)?;
    answer
}

fn settings(args: &AppendArgs, batch: u32) -> Result<Settings, Failure> {
    Ok(Settings {
        batch: usize::try_from(batch)?,
        streams: args.streams,
        body_bytes: usize::try_from(args.body_bytes)?,
        warmup_ns: u64::from(args.warmup) * 1_000_000_000,
        measure_ns: u64::from(args.seconds) * 1_000_000_000,
    })
}

fn natural_settings(args: &AppendArgs) -> Result<natural::Settings, Failure> {
    let writers = 1_000;
    Ok(natural::Settings { writers, append: settings(args, 1_000)? })
}

/// Each contestant's median rate with this batch.
fn medians(cases: &[Case], batch: u32) -> Vec<(Contestant, f64)> {
    let with = cases.iter().filter(|case| case.batch == batch);
    with.map(|case| {
        let found = median_by(&case.rounds, |found| found.records_per_s);
        (case.contestant, found.records_per_s)
    })
    .collect()
}

fn report_batch(sheet: &mut Sheet, batch: u32, cases: &[Case]) {
    let medians = medians(cases, batch);
    let bare = medians.iter().find(|(contestant, _)| *contestant == Contestant::Bare);
    let bare = bare.map_or(0.0, |(_, rate)| *rate);
    let best = best(&medians, f64::max);
    for case in cases.iter().filter(|case| case.batch == batch) {
        let found = median_by(&case.rounds, |found| found.records_per_s);
        let rates: Vec<f64> = case.rounds.iter().map(|found| round(found.records_per_s)).collect();
        let of_bare = ratio(found.records_per_s, bare);
        let of_best = best.map(|best| ratio(found.records_per_s, best));
        let versus = of_best.map_or_else(String::new, |of_best| format!(", {of_best:.2} x peer"));
        let text = format!(
            "{:<8} {:>9.0}/s  {of_bare:.2} x bare{versus}; commit p50 {} us, p99 {} us; \
             {:.2} us of cpu, {:.1} B written a byte",
            case.contestant.name(),
            found.records_per_s,
            found.commit_us.p50,
            found.commit_us.p99,
            found.cpu_us_per_record,
            found.device_written_per_payload,
        );
        sheet.line(&format!("by {batch}"), &text);
        let name = format!("append_by_{batch}");
        let value = json!({
            "median": found, "records_per_s": rates,
            "of_bare": round(of_bare), "of_best_peer": of_best.map(round),
        });
        sheet.field(&name, case.contestant, value);
    }
}
