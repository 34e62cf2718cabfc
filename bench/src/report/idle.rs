//! What `idle` says.

use super::{BUSY, Report, Surroundings, each, line, mebibytes, ratio, round, seconds, whole};
use crate::args::Scenario as Wanted;
use crate::process::Usage;
use crate::scenario::idle;
use crate::swarm::Counts;
use roost_protocol::time::Instant;
use serde_json::json;

/// The report of `idle`.
#[must_use]
pub fn of_idle(
    wanted: &Wanted,
    around: &Surroundings,
    found: &idle::Findings,
    counts: Counts,
    started: Option<Instant>,
) -> Report {
    let mut report = Report::new(wanted, around);
    report.connections(counts, started, found.connected.at);
    let (begin, end) = (&found.hold_begin, &found.hold_end);
    let wall_us = seconds(begin.at, end.at) * 1e6;
    let heartbeats = end.heartbeats.saturating_sub(begin.heartbeats);
    report.field("heartbeats", counts.heartbeats);
    report.field("heartbeats_answered", counts.echoes);
    report.field("heartbeats_per_s", round(ratio(whole(heartbeats) * 1e6, wall_us)));
    let looks = [found.empty.server, found.connected.server, begin.server, end.server];
    if let [Some(empty), Some(connected), Some(begin), Some(end)] = looks {
        idle_server(&mut report, [empty, connected, begin, end], counts, heartbeats, wall_us);
    }
    let share = ratio(whole(end.generator_cpu_us.saturating_sub(begin.generator_cpu_us)), wall_us);
    let own = end.generator_rss_bytes.saturating_sub(found.empty.generator_rss_bytes);
    report.field(
        "generator",
        json!({
            "limited": share > BUSY,
            "cpu_share": round(share),
            "bytes_per_connection": round(each(own, counts)),
        }),
    );
    let slab = each(end.slab_bytes.saturating_sub(found.empty.slab_bytes), counts);
    report.field("kernel", json!({ "slab_bytes_per_connection_pair": round(slab) }));
    let text = format!("{slab:.0} B of slab for both ends of a connection");
    line(&mut report.lines, "kernel", &text);
    if counts.echoes != counts.heartbeats {
        let missing = counts.heartbeats.abs_diff(counts.echoes);
        report.failures.push(format!("{missing} heartbeats were not answered"));
    }
    report.failures.extend(found.failure.clone());
    report
}

fn idle_server(
    report: &mut Report,
    looks: [Usage; 4],
    counts: Counts,
    heartbeats: u64,
    wall_us: f64,
) {
    let [empty, connected, begin, end] = looks;
    let bytes = each(end.rss_bytes.saturating_sub(empty.rss_bytes), counts);
    let connecting = connected.cpu_us.saturating_sub(empty.cpu_us);
    let holding = whole(end.cpu_us.saturating_sub(begin.cpu_us));
    let share = ratio(holding, wall_us);
    report.field(
        "server",
        json!({
            "user_bytes_per_connection": round(bytes),
            "rss_bytes_empty": empty.rss_bytes,
            "rss_bytes": end.rss_bytes,
            "cpu_us_per_connect": round(each(connecting, counts)),
            "cpu_us_per_heartbeat": round(ratio(holding, whole(heartbeats))),
            "cpu_share": round(share),
        }),
    );
    let text = format!(
        "{bytes:.0} B a connection ({:.1} MiB empty, {:.1} MiB now)",
        mebibytes(empty.rss_bytes),
        mebibytes(end.rss_bytes)
    );
    line(&mut report.lines, "server", &text);
    let text = format!(
        "{:.1} us a connect, {:.2} us a heartbeat, {:.2} % of a core while holding",
        each(connecting, counts),
        ratio(holding, whole(heartbeats)),
        share * 100.0
    );
    line(&mut report.lines, "", &text);
}
