//! What `catchup` says.

use super::{Report, Surroundings, line, mebibytes, ratio, round, stage, whole};
use crate::args::Scenario as Wanted;
use crate::scenario::catchup;
use crate::swarm::Counts;
use roost_protocol::time::Instant;
use serde_json::{Map, json};

/// The report of `catchup`.
#[must_use]
pub fn of_catchup(
    wanted: &Wanted,
    around: &Surroundings,
    found: &catchup::Findings,
    counts: Counts,
    started: Option<Instant>,
) -> Report {
    let mut report = Report::new(wanted, around);
    report.connections(counts, started, found.connected.unwrap_or_default());
    let took_us = whole(found.took.ns / 1_000);
    for (name, count) in [
        ("returned", found.returned),
        ("caught_up", found.caught_up),
        ("found", found.found),
        ("late", found.late),
        ("lost", found.lost),
        ("duplicated", found.duplicated),
    ] {
        report.field(name, count);
    }
    report.field("took_s", round(took_us / 1e6));
    let text = format!(
        "{} came back within {:.1} s and found {} messages",
        found.returned,
        took_us / 1e6,
        found.found
    );
    line(&mut report.lines, "returned", &text);
    if found.late > 0 {
        let text = format!("{} messages only when devices synced once more", found.late);
        line(&mut report.lines, "late", &text);
    }
    let mut latency = Map::new();
    stage(&mut report, &mut latency, "welcomed", &found.welcomed_us);
    stage(&mut report, &mut latency, "caught_up", &found.caught_up_us);
    report.field("latency_us", latency);
    if let [Some(before), Some(after)] = found.server {
        let cpu_us = whole(after.cpu_us.saturating_sub(before.cpu_us));
        let each = ratio(cpu_us, whole(found.returned));
        report.field(
            "server",
            json!({ "cpu_us_per_return": round(each), "rss_bytes": after.rss_bytes }),
        );
        let text =
            format!("{each:.1} us a return, {:.1} MiB afterwards", mebibytes(after.rss_bytes));
        line(&mut report.lines, "server", &text);
    }
    for (count, what) in
        [(found.lost, "messages were not found"), (found.duplicated, "messages were found twice")]
    {
        if count > 0 {
            report.failures.push(format!("{count} {what}"));
        }
    }
    if found.caught_up < found.returned {
        let missing = found.returned - found.caught_up;
        report.failures.push(format!("{missing} devices are not up to date"));
    }
    report.failures.extend(found.failure.clone());
    report
}
