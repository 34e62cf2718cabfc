//! What a run found, as a file: one schema for every subcommand, so that reports, comparisons and
//! other people's tools read all of them alike.
//!
//! A [`Document`] says where and how it was measured and holds the figures of the whole run, those
//! of each round, and a sample of every second. Names are the field names of the JSON; units are in
//! the names. A figure that a scenario does not have is left out, never zero.

mod combine;
mod environment;
mod sample;

pub use combine::{Spread, numbers};
pub use environment::{Environment, Limits, Placement, Versions};
pub use sample::Sample;

use crate::latency::Latency;
use crate::machine::FlushTime;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Changes when a field changes its meaning or goes away; new fields do not change it.
pub const SCHEMA: u32 = 2;

/// The latency in microseconds that each share of messages stayed below: `(share, us)`.
pub type Curve = Vec<(f64, u64)>;

/// The file that `--json` writes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The subcommand.
    pub scenario: String,
    /// What was measured: `roost`, or another broker.
    pub target: String,
    /// When it began, UTC.
    pub date: String,
    /// The command line.
    pub command: Vec<String>,
    /// What it ran on.
    pub environment: Environment,
    /// What was asked for.
    pub settings: Map<String, Value>,
    /// How this target differs in meaning from the others; a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// The disk of the server's data before the run, if it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fdatasync_us: Option<FlushTime>,
    /// Of the whole run: medians of rounds, sums of what must not be, latencies of all together.
    #[serde(flatten)]
    pub figures: Figures,
    /// How far the rounds are apart, by the dotted name of each figure.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spread: BTreeMap<String, Spread>,
    /// Latency by share of messages, for each stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub percentiles: BTreeMap<String, Curve>,
    /// Each round.
    #[serde(default)]
    pub rounds: Vec<Round>,
    /// Of a run over several targets or settings: each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<Self>,
    /// What must not be; empty in a good run.
    pub failures: Vec<String>,
}

/// One round.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Round {
    /// What it found.
    #[serde(flatten)]
    pub figures: Figures,
    /// A sample of every second.
    pub samples: Vec<Sample>,
    /// What must not be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Devices that were welcomed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Welcomed devices a second while they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_per_s: Option<f64>,
    /// Connections that ended though nobody wanted that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnected: Option<u64>,
    /// First ticks a second: the server has the message (durable, where the target promises it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_per_s: Option<f64>,
    /// Arrivals a second, over all receivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_per_s: Option<f64>,
    /// Second ticks a second: the writer knows of the delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticked_per_s: Option<f64>,
    /// Accepted and not arrived at somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Arrived again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicated: Option<u64>,
    /// By stage, each from when the message was due.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latency_us: BTreeMap<String, Latency>,
    /// The server's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerFigures>,
    /// The kernel of the machine that the server runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelFigures>,
    /// The generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<GeneratorFigures>,
    /// Who else was at work while measuring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<BesideFigures>,
    /// What only some scenarios have.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Who else was at work on this machine while measuring. Much of it, and latencies are theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BesideFigures {
    /// Processors that were used on average, but by the server, if it runs here, and this process.
    /// Interrupts that struck while nobody ran are in it.
    pub others_cpu_share: f64,
    /// Processors that were wanted here and that the hypervisor gave to another machine.
    pub stolen_cpu_share: f64,
}

/// The server's process while measuring, or at the end of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerFigures {
    /// Processor time for each delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_message: Option<f64>,
    /// Processors used on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_share: Option<f64>,
    /// Of the processor time, the part in the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_share_in_kernel: Option<f64>,
    /// Resident memory at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// Resident memory before the first connection; of a server that was started anew, with its
    /// store and before anybody returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes_empty: Option<u64>,
    /// Of one that was started anew: of the server before it, with an empty store, before the first
    /// connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes_first_empty: Option<u64>,
    /// Of that server, when its store was filled and everybody was connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes_first_filled: Option<u64>,
    /// The same with shared pages divided among those who share them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pss_bytes: Option<u64>,
    /// What the allocator has handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_bytes: Option<u64>,
    /// What the allocator holds in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// Growth of the resident memory for each connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_bytes_per_connection: Option<f64>,
    /// Context switches a message: it waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voluntary_switches_per_message: Option<f64>,
    /// Context switches a second: somebody else took the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub involuntary_switches_per_s: Option<f64>,
    /// System calls a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscalls_per_message: Option<f64>,
    /// System calls a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscalls_per_s: Option<f64>,
    /// Processor time of the same small work beside the server, which shows how fast its processors
    /// were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yardstick_us: Option<f64>,
    /// Why there are no system calls, though they were to be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscalls_not_measured: Option<String>,
    /// Bytes a second that it made the disk write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes_per_s: Option<f64>,
    /// Flushes of its log a second, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flushes_per_s: Option<f64>,
    /// What only some scenarios have.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The kernel of the server's machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelFigures {
    /// Slab memory for the server's end of a connection: of both ends, without the generator's
    /// half of the bare floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_connection: Option<f64>,
    /// What both ends take beyond a bare pair of sockets measured in the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_connection_above_floor: Option<f64>,
    /// Slab memory of a bare pair of connected sockets, measured in the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor_bytes_per_pair: Option<f64>,
    /// Slab memory for both ends of a connection, which are on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slab_bytes_per_connection_pair: Option<f64>,
    /// All slab memory at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slab_bytes: Option<u64>,
    /// TCP sockets at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_sockets: Option<u64>,
    /// Memory of TCP buffers at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_buffer_bytes: Option<u64>,
}

/// The generator while measuring.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorFigures {
    /// Whether the generator itself may be what was measured. Such a run is no result.
    pub limited: bool,
    /// Processors used on average. An open loop spins: then this says nothing.
    pub cpu_share: f64,
    /// Processor time for each delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_message: Option<f64>,
    /// Growth of its resident memory for each device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_connection: Option<f64>,
    /// Open loop: how late messages were written, by the generator's own fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_us: Option<Latency>,
    /// What only some scenarios have.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Document {
    /// Whether nothing was lost, doubled or refused.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.failures.is_empty()
    }

    /// As the file holds it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("numbers, texts and maps with text keys can be written") + "\n"
    }

    /// Reads a file's content.
    ///
    /// # Errors
    /// It is no result, or one of another schema.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let value: Value = serde_json::from_str(text).map_err(ParseError::Json)?;
        let schema = value.get("schema").and_then(Value::as_u64);
        if schema != Some(SCHEMA.into()) {
            return Err(ParseError::Schema(schema));
        }
        serde_json::from_value(value).map_err(ParseError::Json)
    }
}

/// Why a file is no result.
#[derive(Debug)]
pub enum ParseError {
    /// It is not JSON, or a field is not as it should be.
    Json(serde_json::Error),
    /// It says another schema, or none.
    Schema(Option<u64>),
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(error) => write!(f, "it is not a result of roost-bench: {error}"),
            Self::Schema(Some(schema)) => write!(
                f,
                "its schema is {schema}, this roost-bench reads {SCHEMA}: measure again with it"
            ),
            Self::Schema(None) => write!(f, "it says no schema: it is not a result of roost-bench"),
        }
    }
}

impl std::error::Error for ParseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Schema(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Document {
        let mut figures = Figures { ticked_per_s: Some(3.5), ..Figures::default() };
        figures.more.insert("pulls".to_owned(), json!(2));
        figures.latency_us.insert("sent".to_owned(), Latency { p50: 7, ..Latency::default() });
        Document { schema: SCHEMA, scenario: "pairs".to_owned(), figures, ..Document::default() }
    }

    #[test]
    fn figures_stand_at_the_top_and_come_back() {
        let text = document().to_json();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["ticked_per_s"], 3.5);
        assert_eq!(value["pulls"], 2);
        assert_eq!(value["latency_us"]["sent"]["p50"], 7);
        assert!(value.get("lost").is_none(), "what was not measured is left out");
        assert_eq!(Document::parse(&text).unwrap().figures, document().figures);
    }

    #[test]
    fn another_schema_is_refused() {
        let text = document().to_json().replace("\"schema\": 2", "\"schema\": 1");
        assert!(matches!(Document::parse(&text), Err(ParseError::Schema(Some(1)))));
        assert!(matches!(Document::parse("{}"), Err(ParseError::Schema(None))));
        assert!(matches!(Document::parse("7 apples"), Err(ParseError::Json(_))));
    }
}
