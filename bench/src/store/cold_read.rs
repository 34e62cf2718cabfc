//! The last messages of conversations, with nothing of them in the page cache.

use super::args::ColdReadArgs;
use super::build::{self, peak_rss};
use super::child;
use super::contestant::Contestant;
use super::device::{Device, DeviceCounts, Dropped, OwnCounts};
use super::engine::{Engine, Failure};
use super::place::Place;
use super::sheet::{Sheet, best};
use super::step::{Order, Task};
use super::workload::{Random, Workload, is_body_of, stream_of};
use crate::latency::{Latency, histogram};
use crate::report::arithmetic::{mebibytes, ratio, round, whole};
use roost_event_loop::now;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::os::unix::fs::FileExt;

/// Reads before measuring, so that what an engine keeps in its own cache is there.
const WARMUP_QUERIES: u32 = 20;
/// Bytes of a bare read: ten messages fit, with what lies around them in a block.
const BARE_BYTES: u32 = 4_096;

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// What the store holds.
    pub workload: Workload,
    /// How many conversations to read.
    pub queries: u32,
    /// How many messages of each.
    pub last: usize,
    /// What to drop from the page cache: see [`Device::drop_caches`].
    pub own_files_only: bool,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// Time of a read.
    pub read_us: Latency,
    /// Time of one pread of a block at a random place of the store's largest file, by turns with
    /// the reads and as cold: nobody who asks the device at all can do with less.
    pub bare_us: Latency,
    /// The device during all reads, whoever asked it.
    pub device: DeviceCounts,
    /// Most requests to the device in one read.
    pub most_device_reads: u64,
    /// This process during all reads.
    pub own: OwnCounts,
    /// Messages that were read.
    pub messages: u64,
    /// Messages that were not as they were written, or were not there.
    pub wrong: u64,
    /// What was dropped before each read.
    pub dropped: Dropped,
    /// Most memory that was resident.
    pub peak_rss_bytes: u64,
}

/// Messages of one conversation, checked while they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Messages that were there.
    pub messages: u64,
    /// Messages that were not as they were written, or were not there.
    pub wrong: u64,
}

/// Reads the last messages of a conversation that has `count`. Only compares numbers and bytes in
/// the visit, so that the clock does not see more.
///
/// # Errors
/// The engine's.
pub fn read_checked(
    engine: &mut dyn Engine,
    stream: u128,
    count: u64,
    last: usize,
) -> Result<Checked, Failure> {
    let (mut messages, mut wrong, mut expected) = (0, 0, count);
    engine.last(stream, last, &mut |seq, body| {
        messages += 1;
        wrong += u64::from(seq != expected || !is_body_of(stream, seq, body));
        expected = expected.saturating_sub(1);
    })?;
    let due = count.min(u64::try_from(last)?);
    Ok(Checked { messages, wrong: wrong + due.saturating_sub(messages) })
}

/// The step.
///
/// # Errors
/// The engine's.
pub fn measure(order: &Order, settings: &Settings) -> Result<Found, Failure> {
    let counts = settings.workload.counts();
    let mut engine = order.contestant.open(&order.folder, order.cache_bytes)?;
    let device = Device::of(&order.folder)?;
    let mut random = Random::new(777);
    let (mut times, mut bare) = (histogram(), histogram());
    let (largest, bytes) = device.largest_file()?;
    let blocks = u32::try_from(bytes / u64::from(BARE_BYTES))?.max(1);
    let mut block = vec![0; usize::try_from(BARE_BYTES)?];
    let mut found = Found {
        read_us: Latency::default(),
        bare_us: Latency::default(),
        device: DeviceCounts::default(),
        most_device_reads: 0,
        own: OwnCounts::default(),
        messages: 0,
        wrong: 0,
        dropped: Dropped::All,
        peak_rss_bytes: 0,
    };
    for query in 0..WARMUP_QUERIES + settings.queries {
        let conversation = random.below(settings.workload.conversations);
        let count = counts[usize::try_from(conversation)?];
        found.dropped = device.drop_caches(settings.own_files_only)?;
        let (own, before) = (OwnCounts::now(), device.counts());
        let begin = now().monotonic.ns;
        let stream = stream_of(conversation);
        let checked = read_checked(engine.as_mut(), stream, count, settings.last)?;
        let took = now().monotonic.ns - begin;
        if query < WARMUP_QUERIES {
            continue;
        }
        times.saturating_record(took / 1_000);
        let (own, seen) = (OwnCounts::now().since(own), device.counts().since(before));
        found.most_device_reads = found.most_device_reads.max(seen.reads);
        found.device.reads += seen.reads;
        found.device.read_bytes += seen.read_bytes;
        found.own.read_bytes += own.read_bytes;
        found.messages += checked.messages;
        found.wrong += checked.wrong;
        device.drop_caches(settings.own_files_only)?;
        let at = u64::from(random.below(blocks)) * u64::from(BARE_BYTES);
        let begin = now().monotonic.ns;
        let read = largest.read_at(&mut block, at)?;
        bare.saturating_record((now().monotonic.ns - begin) / 1_000);
        assert!(read > 0, "the file has that block");
    }
    engine.close()?;
    (found.read_us, found.bare_us) = (Latency::of(&times), Latency::of(&bare));
    found.peak_rss_bytes = peak_rss();
    Ok(found)
}

/// The part of the command.
///
/// # Errors
/// A step failed.
pub fn run(args: &ColdReadArgs, sheet: &mut Sheet) -> Result<(), Failure> {
    let parent = &args.common.dir;
    let place = if args.build.keep { Place::kept(parent)? } else { Place::new(parent)? };
    sheet.begin("cold-read", &args.common, &place)?;
    let workload = Workload {
        messages: args.messages,
        conversations: args.conversations,
        body_bytes: usize::try_from(args.build.body_bytes)?,
    };
    let last = usize::try_from(args.last)?;
    let own_files_only = args.build.own_files_only;
    let settings = Settings { workload, queries: args.queries, last, own_files_only };
    let text = format!(
        "the last {} messages of {} of {} conversations with {:.1} on average, caches dropped \
         before each",
        args.last,
        args.queries,
        args.conversations,
        ratio(whole(args.messages), f64::from(args.conversations))
    );
    sheet.line("queries", &text);
    sheet.setting("settings", json!(settings));
    let cache_bytes = args.common.cache_bytes();
    let mut all: Vec<(Contestant, Found)> = Vec::new();
    for &contestant in [Contestant::Roost].iter().chain(args.common.peers()) {
        let folder = build::ensure(sheet, &place, &args.build, contestant, workload)?;
        let task = Task::ColdRead(settings.clone());
        let order = Order { contestant, folder: folder.clone(), cache_bytes, task };
        let found = child::run(&order);
        place.remove(&folder)?;
        all.push((contestant, found?));
    }
    report(sheet, args.queries, &all);
    Ok(())
}

fn report(sheet: &mut Sheet, queries: u32, all: &[(Contestant, Found)]) {
    let median = |found: &Found| whole(found.read_us.p50);
    let medians: Vec<_> = all.iter().map(|(who, found)| (*who, median(found))).collect();
    let best = best(&medians, f64::min);
    for (contestant, found) in all {
        let each = |count: u64| ratio(whole(count), f64::from(queries));
        let of_best = best.map(|best| ratio(median(found), best));
        let versus = of_best.map_or_else(String::new, |of_best| format!(" ({of_best:.2} x peer)"));
        let text = format!(
            "{:<8} p50 {} us{versus}, p99 {} us, max {} us (one pread p50 {} us); {:.2} device \
             reads (most {}), {:.1} KiB, own {:.1} KiB; memory {:.0} MiB",
            contestant.name(),
            found.read_us.p50,
            found.read_us.p99,
            found.read_us.max,
            found.bare_us.p50,
            each(found.device.reads),
            found.most_device_reads,
            each(found.device.read_bytes) / 1_024.0,
            each(found.own.read_bytes) / 1_024.0,
            mebibytes(found.peak_rss_bytes)
        );
        sheet.line("cold read", &text);
        if found.dropped == Dropped::Files {
            sheet.line("", "only its files were dropped: metadata stayed in memory");
        }
        if found.wrong > 0 {
            let name = contestant.name();
            sheet.fail(format!("{name}: {} of {} messages wrong", found.wrong, found.messages));
        }
        let value = json!({
            "found": found,
            "device_reads_per_query": round(each(found.device.reads)),
            "device_bytes_per_query": round(each(found.device.read_bytes)),
            "own_bytes_per_query": round(each(found.own.read_bytes)),
            "p50_of_best_peer": of_best.map(round),
        });
        sheet.field("cold_read", *contestant, value);
    }
}
