//! What `pairs` says.

use super::{BUSY, LATE_US, Report, Surroundings, line, mebibytes, ratio, round, stage, whole};
use crate::args::Scenario as Wanted;
use crate::latency::Latency;
use crate::scenario::pairs;
use crate::swarm::Counts;
use roost_protocol::time::Instant;
use serde_json::{Map, json};

/// The report of `pairs`.
#[must_use]
pub fn of_pairs(
    wanted: &Wanted,
    around: &Surroundings,
    found: &pairs::Findings,
    counts: Counts,
    started: Option<Instant>,
) -> Report {
    let mut report = Report::new(wanted, around);
    report.connections(counts, started, found.connected.unwrap_or_default());
    let wall_us = whole(found.measured.ns / 1_000);
    let per_second = |count: u64| round(ratio(whole(count) * 1e6, wall_us));
    report.field("sent_per_s", per_second(found.sent));
    report.field("delivered_per_s", per_second(found.delivered));
    report.field("ticked_per_s", per_second(found.ticked));
    for (name, count) in [
        ("lost", found.lost),
        ("duplicated", found.duplicated),
        ("unanswered", found.unanswered),
        ("unsent", found.unsent),
        ("pulls", found.pulls),
    ] {
        report.field(name, count);
    }
    let text = format!(
        "{:.0} sent, {:.0} delivered, {:.0} ticked a second",
        per_second(found.sent),
        per_second(found.delivered),
        per_second(found.ticked)
    );
    line(&mut report.lines, "messages", &text);
    let mut latency = Map::new();
    stage(&mut report, &mut latency, "sent", &found.stages.sent);
    stage(&mut report, &mut latency, "delivered", &found.stages.delivered);
    stage(&mut report, &mut latency, "ticked", &found.stages.ticked);
    report.field("latency_us", latency);
    pairs_server(&mut report, found, wall_us);
    pairs_generator(&mut report, found, wall_us);
    pairs_failures(&mut report, found);
    report
}

fn pairs_server(report: &mut Report, found: &pairs::Findings, wall_us: f64) {
    let [Some(before), Some(after)] = found.server else { return };
    let cpu_us = whole(after.cpu_us.saturating_sub(before.cpu_us));
    let system_us = whole(after.system_us.saturating_sub(before.system_us));
    let per_message = ratio(cpu_us, whole(found.ticked));
    let (share, kernel) = (ratio(cpu_us, wall_us), ratio(system_us, cpu_us));
    report.field(
        "server",
        json!({
            "cpu_us_per_message": round(per_message),
            "cpu_share": round(share),
            "cpu_share_in_kernel": round(kernel),
            "rss_bytes": after.rss_bytes,
        }),
    );
    let text = format!(
        "{per_message:.2} us a message, {:.0} % of a core, {:.0} % of it in the kernel, {:.1} MiB",
        share * 100.0,
        kernel * 100.0,
        mebibytes(after.rss_bytes)
    );
    line(&mut report.lines, "server", &text);
}

fn pairs_generator(report: &mut Report, found: &pairs::Findings, wall_us: f64) {
    let share = ratio(whole(found.generator_cpu_us), wall_us);
    let late = found.lateness.as_ref().map(Latency::of);
    let limited = late.map_or(share > BUSY, |late| late.p99 > LATE_US);
    let [sends, receives] = found.buffers.map(|count| ratio(whole(count), whole(found.ticked)));
    report.field(
        "generator",
        json!({
            "limited": limited,
            "cpu_share": round(share),
            "late_us": late,
            "sends_per_message": round(sends),
            "receives_per_message": round(receives),
        }),
    );
    let text = late.map_or_else(
        || format!("{:.0} % of a core", share * 100.0),
        |late| format!("late by p50 {} us, p99 {} us (it spins)", late.p50, late.p99),
    );
    let text = if limited { format!("{text}: IT IS THE LIMIT") } else { text };
    line(&mut report.lines, "generator", &text);
    let text = format!("{sends:.2} sends and {receives:.2} receives of devices a message");
    line(&mut report.lines, "", &text);
}

fn pairs_failures(report: &mut Report, found: &pairs::Findings) {
    for (count, what) in [
        (found.lost, "messages were accepted and never arrived"),
        (found.duplicated, "messages arrived twice"),
        (found.unanswered, "messages were never answered"),
    ] {
        if count > 0 {
            report.failures.push(format!("{count} {what}"));
        }
    }
    if found.unsent > 0 {
        let text = format!("{} due messages had no room to be sent", found.unsent);
        line(&mut report.lines, "behind", &text);
    }
    report.failures.extend(found.failure.clone());
}
