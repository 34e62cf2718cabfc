//! What reaches the disk for each byte of messages, and what stays on it.

use super::args::AmplificationArgs;
use super::build::{self, Found, Settings, Written};
use super::child;
use super::contestant::Contestant;
use super::engine::Failure;
use super::place::Place;
use super::sheet::{Sheet, best};
use super::step::{Order, Task};
use super::workload::Workload;
use crate::report::arithmetic::{mebibytes, ratio, round, whole};
use serde_json::json;

/// The part of the command.
///
/// # Errors
/// A step failed.
pub fn run(args: &AmplificationArgs, sheet: &mut Sheet) -> Result<(), Failure> {
    let place = Place::new(&args.common.dir)?;
    sheet.begin("amplification", &args.common, &place)?;
    let workload = Workload {
        messages: args.messages,
        conversations: args.conversations,
        body_bytes: usize::try_from(args.body_bytes)?,
    };
    let text = format!(
        "{} messages of {} B over {} conversations, {} a commit; then everything settled",
        args.messages, args.body_bytes, args.conversations, args.batch
    );
    sheet.line("workload", &text);
    let commits = json!({ "workload": workload, "batch": args.batch });
    sheet.setting("settings", commits);
    let mut all = Vec::new();
    for &contestant in [Contestant::Roost].iter().chain(args.common.peers()) {
        let folder = place.store(contestant, "amplification");
        let batch = usize::try_from(args.batch)?;
        let settings = Settings { workload, batch, watched: true, at_rest: false };
        let task = Task::Build(settings);
        let cache_bytes = args.common.cache_bytes();
        let order = Order { contestant, folder: folder.clone(), cache_bytes, task };
        let found: Result<Found, Failure> = child::run(&order);
        place.remove(&folder)?;
        all.push((contestant, found?));
    }
    report(sheet, workload, &all);
    Ok(())
}

fn report(sheet: &mut Sheet, workload: Workload, all: &[(Contestant, Found)]) {
    let body_bytes = u64::try_from(workload.body_bytes).expect("usize has at most 64 bits");
    let payload = workload.messages * body_bytes;
    let per_payload = |bytes: u64| round(ratio(whole(bytes), whole(payload)));
    let settled: Vec<(Contestant, f64)> = all
        .iter()
        .map(|(contestant, found)| (*contestant, per_payload(found.settled.device.written_bytes)))
        .collect();
    let best = best(&settled, f64::min);
    for (contestant, found) in all {
        let record = body_bytes + contestant.bytes_beside_body();
        let given = whole(workload.messages * record);
        let moment = |written: &Written| {
            json!({
                "written_per_payload": per_payload(written.device.written_bytes),
                "written_per_record_byte": round(ratio(whole(written.device.written_bytes), given)),
                "own_written_per_payload": per_payload(written.own.written_bytes),
                "read_per_payload": per_payload(written.own.read_bytes),
                "space_per_payload": per_payload(written.used_bytes),
            })
        };
        let (appended, end) = (&found.appended, &found.settled);
        let text = format!(
            "{:<8} {:>6.2} B a byte when appended ({:.1} s), {:.2} settled ({:.1} s), \
             {:.2} for a byte of records; pages of its own made dirty {:.2}",
            contestant.name(),
            per_payload(appended.device.written_bytes),
            whole(found.append_ns) / 1e9,
            per_payload(end.device.written_bytes),
            whole(found.settle_ns) / 1e9,
            ratio(whole(end.device.written_bytes), given),
            per_payload(end.own.written_bytes),
        );
        sheet.line("written", &text);
        let text = format!(
            "{:<8} {:>6.2} B a byte when appended, {:.2} settled; peak memory {:.0} MiB",
            contestant.name(),
            per_payload(appended.used_bytes),
            per_payload(end.used_bytes),
            mebibytes(found.peak_rss_bytes)
        );
        sheet.line("space", &text);
        build::report_holds(sheet, *contestant, found);
        let of_best = best.map(|best| ratio(per_payload(end.device.written_bytes), best));
        if let Some(of_best) = of_best.filter(|_| *contestant == Contestant::Roost) {
            sheet.line("", &format!("roost writes {of_best:.2} x the best peer, settled"));
        }
        let value = json!({
            "appended": moment(appended), "settled": moment(end), "raw": found,
            "written_of_best_peer": of_best.map(round),
        });
        sheet.field("amplification", *contestant, value);
    }
}
