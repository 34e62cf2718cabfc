//! Stores with a workload in them, and what building them cost.

use super::args::BuildArgs;
use super::child;
use super::contestant::Contestant;
use super::device::{Device, DeviceCounts, OwnCounts};
use super::engine::{Batch, Failure};
use super::hold::Held;
use super::place::Place;
use super::sheet::Sheet;
use super::step::{Order, Task};
use super::workload::{Workload, stream_of};
use crate::process::kib_of;
use crate::report::arithmetic::{mebibytes, ratio, whole};
use roost_event_loop::now;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;

/// What is to be built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// What the store is to hold.
    pub workload: Workload,
    /// Messages of a commit.
    pub batch: usize,
    /// Whether to look at the clock around each append: it takes longer then.
    pub watched: bool,
    /// Whether it is to be in the form that it has when nothing was written for long.
    pub at_rest: bool,
}

/// What was written until some moment.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Written {
    /// By the process.
    pub own: OwnCounts,
    /// By the device, for everybody on it.
    pub device: DeviceCounts,
    /// Space that the store takes.
    pub used_bytes: u64,
}

/// What building cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// Nanoseconds until the last message was durable.
    pub append_ns: u64,
    /// Nanoseconds of settling after it.
    pub settle_ns: u64,
    /// When the last message was durable.
    pub appended: Written,
    /// When everything was settled and the store closed.
    pub settled: Written,
    /// Most memory that was resident.
    pub peak_rss_bytes: u64,
    /// How long the engine held the calling thread, first until the last message was durable, then
    /// in settling, if it keeps count.
    #[serde(default)]
    pub held: Vec<Held>,
}

/// The step.
///
/// # Errors
/// The engine's.
pub fn perform(order: &Order, settings: &Settings) -> Result<Found, Failure> {
    let mut engine = order.contestant.open(&order.folder, order.cache_bytes)?;
    if settings.watched {
        engine.watch();
    }
    let device = Device::of(&order.folder)?;
    rustix::fs::sync();
    let (own, counts) = (OwnCounts::now(), device.counts());
    let written = || -> Result<Written, Failure> {
        rustix::fs::sync();
        Ok(Written {
            own: OwnCounts::now().since(own),
            device: device.counts().since(counts),
            used_bytes: device.used_bytes()?,
        })
    };
    let mut batch = Batch::new(settings.batch, settings.workload.body_bytes);
    let begin = now().monotonic.ns;
    for (conversation, seq) in settings.workload.order() {
        batch.push(stream_of(conversation), seq);
        if batch.len() == settings.batch {
            engine.commit(&batch)?;
            batch.clear();
        }
    }
    if !batch.is_empty() {
        engine.commit(&batch)?;
    }
    let append_ns = now().monotonic.ns - begin;
    let appended = written()?;
    let begin = now().monotonic.ns;
    let mut held: Vec<Held> = engine.held().into_iter().collect();
    let engine = engine.settle(settings.at_rest)?;
    held.extend(engine.held());
    engine.close()?;
    let settle_ns = now().monotonic.ns - begin;
    let (settled, peak_rss_bytes) = (written()?, peak_rss());
    Ok(Found { append_ns, settle_ns, appended, settled, peak_rss_bytes, held })
}

/// Adds how long the engine held its caller.
pub fn report_holds(sheet: &mut Sheet, contestant: Contestant, found: &Found) {
    for (held, when) in found.held.iter().zip(["appending", "settling"]) {
        for (what, found) in held.parts() {
            let text = found.text();
            sheet.line("held", &format!("{:<8} {when}: by {what} {text}", contestant.name()));
        }
    }
}

/// Most memory of this process that was ever resident.
#[must_use]
pub fn peak_rss() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    kib_of(&status, "VmHWM:").unwrap_or(0) * 1_024
}

/// The folder of a store with this workload, which is built unless an earlier run left it.
///
/// # Errors
/// The step failed.
pub fn ensure(
    sheet: &mut Sheet,
    place: &Place,
    args: &BuildArgs,
    contestant: Contestant,
    workload: Workload,
) -> Result<PathBuf, Failure> {
    let Workload { messages, conversations, body_bytes } = workload;
    let form = if args.unrested { "-unrested" } else { "" };
    let what = format!("{messages}-{conversations}-{body_bytes}{form}");
    let folder = place.store(contestant, &what);
    let done = Place::mark(&folder);
    if done.exists() {
        sheet.line("built", &format!("{:<8} by an earlier run", contestant.name()));
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let batch = usize::try_from(args.build_batch)?;
    let settings = Settings { workload, batch, watched: false, at_rest: !args.unrested };
    let (task, cache_bytes) = (Task::Build(settings), args.build_cache_mib << 20);
    let found: Found =
        child::run(&Order { contestant, folder: folder.clone(), cache_bytes, task })?;
    fs::write(done, serde_json::to_string(&found)?)?;
    let text = format!(
        "{:<8} {messages} messages in {:.1} s ({:.0}/s by {}), settled in {:.1} s, {:.0} MiB",
        contestant.name(),
        whole(found.append_ns) / 1e9,
        ratio(whole(messages) * 1e9, whole(found.append_ns)),
        args.build_batch,
        whole(found.settle_ns) / 1e9,
        mebibytes(found.settled.used_bytes)
    );
    sheet.line("built", &text);
    report_holds(sheet, contestant, &found);
    Ok(folder)
}
