//! Opening a store whose process was killed while it appended.

use super::args::OpenArgs;
use super::build::{self, peak_rss};
use super::child;
use super::cold_read::read_checked;
use super::contestant::Contestant;
use super::device::{Device, DeviceCounts, OwnCounts};
use super::engine::{Batch, Failure};
use super::place::Place;
use super::sheet::{Sheet, best, median_by};
use super::step::{Order, Task};
use super::workload::{Random, Workload, stream_of};
use crate::report::arithmetic::{mebibytes, ratio, round, whole};
use roost_event_loop::now;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{self, Write};

/// Records of a commit before the kill.
const BATCH: u64 = 100;
/// Streams that are appended to before the kill, none of the workload.
const STREAMS: u32 = 10_000;

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// What the store holds.
    pub workload: Workload,
    /// The round, which names the streams of its appends.
    pub round: u32,
    /// What to drop from the page cache: see [`Device::drop_caches`].
    pub own_files_only: bool,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// Nanoseconds until the engine gave a store that can append and read.
    pub open_ns: u64,
    /// Nanoseconds of the first read after it, of a conversation that is in no cache.
    pub first_read_ns: u64,
    /// The device while it opened, for everybody on it.
    pub device: DeviceCounts,
    /// This process while it opened.
    pub own: OwnCounts,
    /// The last commit that is there of those before the kill.
    pub last_commit: u64,
    /// Messages of the first read that were not as they were written, or were not there.
    pub wrong: u64,
    /// Most memory that was resident.
    pub peak_rss_bytes: u64,
}

impl Settings {
    /// The stream whose last number tells how many commits are there.
    fn marker(&self) -> u128 {
        stream_of(u32::MAX - self.round)
    }

    fn stream(&self, random: &mut Random) -> u128 {
        let first = u32::MAX / 2 + self.round * STREAMS;
        stream_of(first + random.below(STREAMS))
    }
}

/// The step that does not end: says the number of records after each commit.
///
/// # Errors
/// The engine's.
pub fn append_until_killed(order: &Order, settings: &Settings) -> Result<(), Failure> {
    let mut engine = order.contestant.open(&order.folder, order.cache_bytes)?;
    let mut batch = Batch::new(usize::try_from(BATCH)?, settings.workload.body_bytes);
    let mut random = Random::new(99);
    let mut seq = 0;
    for commit in 1.. {
        batch.clear();
        batch.push(settings.marker(), commit);
        while u64::try_from(batch.len())? < BATCH {
            seq += 1;
            batch.push(settings.stream(&mut random), seq);
        }
        engine.commit(&batch)?;
        io::stdout().write_all(format!("{}\n", commit * BATCH).as_bytes())?;
    }
    Ok(())
}

/// The step that opens.
///
/// # Errors
/// The engine's.
pub fn measure(order: &Order, settings: &Settings) -> Result<Found, Failure> {
    let workload = settings.workload;
    let conversation = Random::new(u64::from(settings.round)).below(workload.conversations);
    let count = workload.counts()[usize::try_from(conversation)?];
    let device = Device::of(&order.folder)?;
    device.drop_caches(settings.own_files_only)?;
    let (own, before) = (OwnCounts::now(), device.counts());
    let begin = now().monotonic.ns;
    let mut engine = order.contestant.open(&order.folder, order.cache_bytes)?;
    let open_ns = now().monotonic.ns - begin;
    let (own, seen) = (OwnCounts::now().since(own), device.counts().since(before));
    let begin = now().monotonic.ns;
    let checked = read_checked(engine.as_mut(), stream_of(conversation), count, 50)?;
    let first_read_ns = now().monotonic.ns - begin;
    let mut last_commit = 0;
    engine.last(settings.marker(), 1, &mut |seq, _| last_commit = seq)?;
    engine.close()?;
    Ok(Found {
        open_ns,
        first_read_ns,
        device: seen,
        own,
        last_commit,
        wrong: checked.wrong,
        peak_rss_bytes: peak_rss(),
    })
}

/// The part of the command.
///
/// # Errors
/// A step failed.
pub fn run(args: &OpenArgs, sheet: &mut Sheet) -> Result<(), Failure> {
    let parent = &args.common.dir;
    let place = if args.build.keep { Place::kept(parent)? } else { Place::new(parent)? };
    sheet.begin("open", &args.common, &place)?;
    let text = format!(
        "killed after {} acknowledged appends and more by {BATCH}, caches dropped, {} rounds",
        args.appends, args.rounds
    );
    sheet.line("open", &text);
    let settings = json!({ "rounds": args.rounds, "appends": args.appends, "batch": BATCH });
    sheet.setting("settings", settings);
    for &messages in &args.messages {
        let workload = Workload {
            messages,
            conversations: u32::try_from((messages / args.each).max(1))?,
            body_bytes: usize::try_from(args.build.body_bytes)?,
        };
        let mut all = Vec::new();
        for &contestant in [Contestant::Roost].iter().chain(args.common.peers()) {
            all.push((contestant, rounds(args, sheet, &place, contestant, workload)?));
        }
        report(sheet, messages, &all);
    }
    Ok(())
}

fn rounds(
    args: &OpenArgs,
    sheet: &mut Sheet,
    place: &Place,
    contestant: Contestant,
    workload: Workload,
) -> Result<Vec<Found>, Failure> {
    let cache_bytes = args.common.cache_bytes();
    let folder = build::ensure(sheet, place, &args.build, contestant, workload)?;
    let order = |task| Order { contestant, folder: folder.clone(), cache_bytes, task };
    let mut found = Vec::new();
    for round in 0..args.rounds {
        let settings = Settings { workload, round, own_files_only: args.build.own_files_only };
        let enough = args.appends * u64::from(round + 1);
        let killed = order(Task::AppendUntilKilled(settings.clone()));
        let acknowledged = child::run_and_kill(&killed, enough)?;
        let opened: Found = child::run(&order(Task::Open(settings)))?;
        if opened.last_commit * BATCH < acknowledged || opened.wrong > 0 {
            sheet.fail(format!(
                "{}: {acknowledged} records were acknowledged before the kill, {} are there; {} \
                 older ones are wrong",
                contestant.name(),
                opened.last_commit * BATCH,
                opened.wrong
            ));
        }
        found.push(opened);
    }
    place.remove(&folder)?;
    Ok(found)
}

fn report(sheet: &mut Sheet, messages: u64, all: &[(Contestant, Vec<Found>)]) {
    let time = |found: &Found| whole(found.open_ns) / 1e6;
    let median = |rounds: &[Found]| time(median_by(rounds, time));
    let medians: Vec<_> = all.iter().map(|(who, rounds)| (*who, median(rounds))).collect();
    let best = best(&medians, f64::min);
    for (contestant, rounds) in all {
        let found = median_by(rounds, time);
        let times: Vec<f64> = rounds.iter().map(|found| round(time(found))).collect();
        let most = times.iter().copied().fold(0.0, f64::max);
        let first_read = whole(median_by(rounds, |found| whole(found.first_read_ns)).first_read_ns);
        let of_best = best.map(|best| ratio(time(found), best));
        let versus = of_best.map_or_else(String::new, |of_best| format!(" ({of_best:.2} x peer)"));
        let text = format!(
            "{:<8} {messages} messages: {:.1} ms{versus}, slowest {most:.1} ms, first read {:.2} \
             ms more; {} device reads, {:.1} MiB, own {:.1} MiB; memory {:.0} MiB",
            contestant.name(),
            time(found),
            first_read / 1e6,
            found.device.reads,
            mebibytes(found.device.read_bytes),
            mebibytes(found.own.read_bytes),
            mebibytes(found.peak_rss_bytes)
        );
        sheet.line("opened", &text);
        let value = json!({
            "median": found, "open_ms": times, "of_best_peer": of_best.map(round),
        });
        sheet.field(&format!("open_{messages}"), *contestant, value);
    }
}
