//! What `fanout` says.

use super::{BUSY, Report, Surroundings, line, ratio, round, stage, whole};
use crate::args::Scenario as Wanted;
use crate::scenario::fanout;
use crate::swarm::Counts;
use roost_protocol::time::Instant;
use serde_json::{Map, json};

/// The report of `fanout`.
#[must_use]
pub fn of_fanout(
    wanted: &Wanted,
    around: &Surroundings,
    found: &fanout::Findings,
    counts: Counts,
    started: Option<Instant>,
) -> Report {
    let mut report = Report::new(wanted, around);
    report.connections(counts, started, found.connected.unwrap_or_default());
    let wall_us = whole(found.measured.ns / 1_000);
    let per_second = |count: u64| round(ratio(whole(count) * 1e6, wall_us));
    report.field("sent_per_s", per_second(found.sent));
    report.field("delivered_per_s", per_second(found.delivered));
    report.field("lost", found.lost);
    report.field("duplicated", found.duplicated);
    report.field("pulls", found.pulls);
    report.field("acknowledged_every_ms", 100);
    let text = format!(
        "{:.0} sent, {:.0} delivered a second; devices acknowledge every 100 ms",
        per_second(found.sent),
        per_second(found.delivered)
    );
    line(&mut report.lines, "messages", &text);
    let mut latency = Map::new();
    stage(&mut report, &mut latency, "sent", &found.sent_us);
    stage(&mut report, &mut latency, "delivered", &found.delivered_us);
    stage(&mut report, &mut latency, "last", &found.last_us);
    report.field("latency_us", latency);
    if let [Some(before), Some(after)] = found.server {
        let cpu_us = whole(after.cpu_us.saturating_sub(before.cpu_us));
        let each = ratio(cpu_us, whole(found.delivered));
        let share = ratio(cpu_us, wall_us);
        report.field(
            "server",
            json!({
                "cpu_us_per_delivery": round(each),
                "cpu_share": round(share),
                "rss_bytes": after.rss_bytes,
            }),
        );
        let text = format!("{each:.2} us a delivery, {:.0} % of a core", share * 100.0);
        line(&mut report.lines, "server", &text);
    }
    let share = ratio(whole(found.generator_cpu_us), wall_us);
    let receives = ratio(whole(found.receives), whole(found.delivered));
    report.field(
        "generator",
        json!({
            "limited": share > BUSY,
            "cpu_share": round(share),
            "receives_per_message": round(receives),
        }),
    );
    let limit = if share > BUSY { ": IT IS THE LIMIT" } else { "" };
    let text = format!("{:.0} % of a core, {receives:.2} receives a delivery", share * 100.0);
    line(&mut report.lines, "generator", &format!("{text}{limit}"));
    for (count, what) in
        [(found.lost, "deliveries never came"), (found.duplicated, "messages arrived twice")]
    {
        if count > 0 {
            report.failures.push(format!("{count} {what}"));
        }
    }
    report.failures.extend(found.failure.clone());
    report
}
