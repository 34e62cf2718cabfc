//! What a run says: a result as JSON and a few lines for the terminal.

mod catchup;
mod fanout;
mod idle;
mod pairs;

pub use catchup::of_catchup;
pub use fanout::of_fanout;
pub use idle::of_idle;
pub use pairs::of_pairs;

use crate::args::{Common, Scenario as Wanted, TiesArgs};
use crate::latency::Latency;
use crate::machine::{FlushTime, Machine};
use crate::server::{Ending, Server};
use crate::swarm::Counts;
use hdrhistogram::Histogram;
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
            Wanted::Fanout(_) => "fanout",
            Wanted::Catchup(_) => "catchup",
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
    match wanted {
        Wanted::Pairs(args) => {
            settings["pairs"] = json!(args.pairs);
            settings["body_bytes"] = json!(args.body_bytes);
            settings["rate"] = json!(args.rate);
            settings["window"] = json!(args.rate.is_none().then_some(args.window));
        }
        Wanted::Fanout(args) => {
            settings["subscribers"] = json!(args.subscribers);
            settings["body_bytes"] = json!(args.body_bytes);
            settings["rate"] = json!(args.rate);
            settings["window"] = json!(args.rate.is_none().then_some(args.window));
        }
        Wanted::Idle(args) => settings["ties"] = ties(&args.ties),
        Wanted::Catchup(args) => {
            settings["users"] = json!(args.users);
            settings["ties"] = ties(&args.ties);
            settings["fresh"] = json!(args.fresh);
            settings["over_seconds"] = json!(args.over);
            settings["restart"] = json!(args.restart);
        }
    }
    settings
}

fn ties(args: &TiesArgs) -> Value {
    json!({
        "conversations": args.conversations,
        "groups": args.groups,
        "group_size": args.group_size,
    })
}

/// The latencies of a stage, for both kinds of reader.
fn stage(
    report: &mut Report,
    latency: &mut Map<String, Value>,
    name: &str,
    histogram: &Histogram<u64>,
) {
    let of = Latency::of(histogram);
    let text = format!(
        "p50 {:>7} us   p99 {:>7} us   p99.9 {:>7} us   max {:>7} us",
        of.p50, of.p99, of.p999, of.max
    );
    line(&mut report.lines, name, &text);
    latency.insert(name.to_owned(), json!(of));
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
