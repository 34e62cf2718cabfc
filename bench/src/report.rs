//! What a run says: a result as JSON and a few lines for the terminal.

use crate::args::{Common, Scenario as Wanted};
use crate::latency::Latency;
use crate::machine::{FlushTime, Machine};
use crate::process::Usage;
use crate::scenario::{idle, pairs};
use crate::server::{Ending, Server};
use crate::swarm::Counts;
use roost_protocol::time::Instant;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Changes when a field changes its meaning.
const SCHEMA: u32 = 1;
/// A generator that is this busy may be what is measured.
const BUSY: f64 = 0.95;
/// Open loop: a generator that is so late itself, in microseconds at p99, spoils latencies.
const LATE_US: u64 = 1_000;

/// What all results hold.
#[derive(Debug)]
pub struct Surroundings {
    /// When the run began.
    pub date: String,
    /// What it ran on.
    pub machine: Machine,
    /// The disk of the server's data before the run, if it is here.
    pub flush: Option<FlushTime>,
    /// How the server talks to the kernel.
    pub driver: Option<String>,
    /// How many shards it has.
    pub shards: Option<u32>,
    /// How the server ended.
    pub ending: Ending,
    /// What the server logged last, when something went wrong.
    pub log_tail: String,
}

impl Surroundings {
    /// Stops the server and notes how it ended.
    pub fn end(&mut self, server: Server, failed: bool) {
        let (ending, log_tail) = server.stop();
        self.ending = ending;
        if failed || matches!(ending, Ending::Failed | Ending::Killed) {
            self.log_tail = log_tail;
        }
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    fields: Map<String, Value>,
    lines: String,
    failures: Vec<String>,
}

impl Report {
    /// The result as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(&self.fields);
        text.expect("a map of numbers and texts can be written")
    }

    /// The lines for the terminal, failures last.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut lines = self.lines.clone();
        for failure in &self.failures {
            line(&mut lines, "FAILED", failure);
        }
        lines
    }

    /// Whether nothing was lost, doubled or refused, and the server stopped as it should.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.failures.is_empty()
    }

    pub(crate) const fn of_parts(
        fields: Map<String, Value>,
        lines: String,
        failures: Vec<String>,
    ) -> Self {
        Self { fields, lines, failures }
    }

    fn new(wanted: &Wanted, around: &Surroundings) -> Self {
        let common = wanted.common();
        let name = match wanted {
            Wanted::Idle(_) => "idle",
            Wanted::Pairs(_) => "pairs",
        };
        let mut report = Self { fields: Map::new(), lines: String::new(), failures: Vec::new() };
        report.field("schema", SCHEMA);
        report.field("scenario", name);
        report.field("date", &around.date);
        report.field("machine", &around.machine);
        report.field("settings", settings(wanted, common, around));
        report.field("fdatasync_us", around.flush);
        let machine = &around.machine;
        let gib = whole(machine.memory_bytes) / f64::from(1 << 30);
        let text = format!(
            "{} x {}, {gib:.0} GiB, Linux {}, {}",
            machine.processors, machine.cpu, machine.kernel, around.date
        );
        line(&mut report.lines, "machine", &text);
        if let Some(flush) = around.flush {
            let FlushTime { overwritten, reserved } = flush;
            let text = format!(
                "p50 {} us, p99 {} us; of reserved blocks p50 {} us, p99 {} us; before the run",
                overwritten.p50, overwritten.p99, reserved.p50, reserved.p99
            );
            line(&mut report.lines, "fdatasync", &text);
        }
        if matches!(around.ending, Ending::Failed | Ending::Killed) {
            report.failures.push(format!("the server did not stop cleanly: {:?}", around.ending));
        }
        if !around.log_tail.is_empty() {
            report.failures.push(format!("the server logged last:\n{}", around.log_tail));
        }
        report
    }

    fn field(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).expect("results are numbers and texts");
        self.fields.insert(name.to_owned(), value);
    }

    fn connections(&mut self, counts: Counts, started: Option<Instant>, connected: Instant) {
        let seconds = started.map_or(0.0, |started| seconds(started, connected));
        let rate = ratio(f64::from(counts.welcomed), seconds);
        self.field("connections", counts.welcomed);
        self.field("connect_per_s", round(rate));
        self.field("disconnected", counts.disconnected);
        let text = format!("{} at {rate:.0}/s", counts.welcomed);
        line(&mut self.lines, "connected", &text);
        if counts.disconnected > 0 {
            self.failures.push(format!("{} devices lost their connection", counts.disconnected));
        }
    }
}

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
    let stages = [
        ("sent", &found.stages.sent),
        ("delivered", &found.stages.delivered),
        ("ticked", &found.stages.ticked),
    ];
    let mut latency = Map::new();
    for (name, histogram) in stages {
        let of = Latency::of(histogram);
        let text = format!(
            "p50 {:>7} us   p99 {:>7} us   p99.9 {:>7} us   max {:>7} us",
            of.p50, of.p99, of.p999, of.max
        );
        line(&mut report.lines, name, &text);
        latency.insert(name.to_owned(), json!(of));
    }
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

fn settings(wanted: &Wanted, common: &Common, around: &Surroundings) -> Value {
    let mut settings = json!({
        "spawn": common.spawn,
        "server_args": common.server_args,
        "server_cpus": common.server_cpus,
        "cpus": common.cpus,
        "seconds": common.seconds,
        "warmup": common.warmup,
        "connect_rate": common.connect_rate,
        "driver": around.driver,
        "shards": around.shards,
    });
    if let Wanted::Pairs(args) = wanted {
        settings["pairs"] = json!(args.pairs);
        settings["body_bytes"] = json!(args.body_bytes);
        settings["rate"] = json!(args.rate);
        settings["window"] = json!(args.rate.is_none().then_some(args.window));
    }
    settings
}

fn line(lines: &mut String, name: &str, text: &str) {
    writeln!(lines, "{name:<10} {text}").expect("a text grows as needed");
}

fn each(total: u64, counts: Counts) -> f64 {
    ratio(whole(total), f64::from(counts.welcomed))
}

/// 0 when there is nothing to divide by.
fn ratio(total: f64, count: f64) -> f64 {
    if count > 0.0 { total / count } else { 0.0 }
}

/// Three digits behind the point are plenty.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "figures for people: 53 bits are enough")]
const fn whole(count: u64) -> f64 {
    count as f64
}

fn mebibytes(bytes: u64) -> f64 {
    whole(bytes) / f64::from(1 << 20)
}

fn seconds(from: Instant, to: Instant) -> f64 {
    whole(to.since(from).ns) / 1e9
}
