//! `floor`: what this machine does without any broker, so that other figures can be held against
//! it: connections accepted and held, echoes on the repository's own event loop, the disk, ciphers
//! and handshakes, and how often a thread alone on a core loses it.

mod accept;
mod crypto;
mod disk;
mod echo;
mod ratios;
mod slab;
mod spin;

pub(crate) use echo::Echo;
pub use ratios::{FLOOR_RATIO, FloorError, add_ratios, read};
pub use slab::slab_bytes_per_pair;

use crate::args::FloorArgs;
use crate::machine::{self, Machine};
use crate::report::Report;
use crate::report::arithmetic::{ratio, round, thousands};
use crate::report::summary;
use crate::result::{Document, Environment, Limits, Placement, SCHEMA};
use crate::server::{ServerError, pin};
use crate::stop;
use roost_event_loop::{Choice, Kind, Settings as LoopSettings, now, probe};
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How often the serving side looks whether it is over.
const TICK_MS: u64 = 10;

/// Loops that do the least that is possible, and so give way to nobody.
fn loop_settings(receive_buffer_bytes: usize) -> LoopSettings {
    let defaults = LoopSettings::default();
    let turn_us_per_newcomer = 0;
    LoopSettings { receive_buffer_bytes, tick_ms: TICK_MS, turn_us_per_newcomer, ..defaults }
}

/// What each part takes.
#[derive(Debug, Clone)]
struct Settings {
    length: Duration,
    connections: u32,
    server_cpus: Vec<usize>,
    cpus: Vec<usize>,
    folder: PathBuf,
}

/// Measures all parts.
///
/// # Errors
/// A part cannot be measured at all: no socket, no folder, no such processor.
pub fn run(args: &FloorArgs) -> Result<Report, FloorFailure> {
    stop::watch()?;
    let settings = settings(args)?;
    pin(&settings.cpus)?;
    let found = parts(&settings);
    // What remains there is in nobody's way but takes room.
    drop(fs::remove_dir_all(&settings.folder));
    let mut document = document(args, &settings);
    for (name, value) in found? {
        document.figures.more.insert(name.to_owned(), value);
    }
    if stop::is_wanted() {
        document.failures.push("ended by a signal: this is what there was".to_owned());
    }
    let lines = lines(&document);
    Ok(Report::with_lines(document, lines))
}

fn settings(args: &FloorArgs) -> Result<Settings, FloorFailure> {
    let own = std::env::current_exe()?;
    let beside = own.parent().unwrap_or_else(|| Path::new(".")).to_owned();
    let name = format!("roost-bench-floor-{}", std::process::id());
    let folder = args.data.clone().unwrap_or(beside).join(name);
    fs::create_dir_all(&folder)?;
    let several = machine::processors() > 1;
    Ok(Settings {
        length: Duration::from_secs(args.seconds.into()),
        connections: args.connections,
        server_cpus: args.server_cpus.clone(),
        cpus: if args.cpus.is_empty() { vec![usize::from(several)] } else { args.cpus.clone() },
        folder,
    })
}

/// A part and what it found.
type Part = (&'static str, Value);

fn parts(settings: &Settings) -> Result<Vec<Part>, FloorFailure> {
    let mut found = vec![("spin", spin::measure(settings)?)];
    found.push(("accept", accept::measure(settings)?));
    let mut echoes = serde_json::Map::new();
    for choice in [Choice::Epoll, Choice::Uring] {
        let Ok(probed) = probe(choice) else { continue };
        let name = match probed.kind {
            Kind::Epoll => "epoll",
            Kind::Uring => "io_uring",
        };
        let of = |shape| echo::measure(settings, probed.kind, shape);
        let shapes = json!({ "one_64_b": of(echo::ONE)?, "batch_8_x_100_b": of(echo::BATCH)? });
        echoes.insert(name.to_owned(), shapes);
    }
    found.push(("echo", echoes.into()));
    found.push(("disk", disk::measure(settings)?));
    found.push(("aead", crypto::aead(settings)));
    found.push(("handshakes", crypto::handshakes(settings)?));
    Ok(found)
}

fn document(args: &FloorArgs, settings: &Settings) -> Document {
    let settings_json = json!({ "seconds": args.seconds, "connections": args.connections });
    let (server, own) = (&settings.server_cpus, &settings.cpus);
    let placement = Placement {
        server_cpus: Some(server.clone()),
        cpus: own.clone(),
        text: format!("serving side on cores {server:?}, the other on cores {own:?}"),
    };
    let environment = Environment {
        machine: Machine::this(),
        limits: Limits::here(),
        placement,
        ..Environment::default()
    };
    Document {
        schema: SCHEMA,
        scenario: "floor".to_owned(),
        target: "machine".to_owned(),
        date: machine::date(now().wall),
        command: std::env::args().collect(),
        environment,
        settings: settings_json.as_object().cloned().unwrap_or_default(),
        ..Document::default()
    }
}

fn lines(document: &Document) -> String {
    let mut lines = summary::head(document);
    for (part, value) in &document.figures.more {
        describe(&mut lines, part, value);
    }
    for failure in &document.failures {
        summary::line(&mut lines, "FAILED", failure);
    }
    lines
}

/// A line for each group of numbers.
fn describe(lines: &mut String, name: &str, value: &Value) {
    let Some(fields) = value.as_object() else { return };
    let number = |of: &Value| {
        of.as_f64().map(|of| if of < 100.0 { round(of).to_string() } else { thousands(of) })
    };
    let numbers: Vec<String> = fields
        .iter()
        .filter_map(|(field, of)| Some(format!("{} {}", field.replace('_', " "), number(of)?)))
        .collect();
    if !numbers.is_empty() {
        summary::line(lines, name, &numbers.join(", "));
    }
    for (field, of) in fields {
        describe(lines, &format!("{name} {field}"), of);
    }
}

/// The time now, counted from some moment.
fn clock() -> Duration {
    Duration::from_nanos(now().monotonic.ns)
}

/// Something on a thread of its own.
fn side<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(work)
}

/// So many in that time, a second.
fn per_second(count: u64, took: Duration) -> f64 {
    round(ratio(crate::report::arithmetic::whole(count), took.as_secs_f64()))
}

/// Why the floor cannot be measured.
#[derive(Debug)]
pub enum FloorFailure {
    /// A socket, a file, or a thread.
    Io(io::Error),
    /// No such processor.
    Pin(ServerError),
    /// No certificate can be made.
    Tls(String),
}

impl From<io::Error> for FloorFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ServerError> for FloorFailure {
    fn from(error: ServerError) -> Self {
        Self::Pin(error)
    }
}

impl fmt::Display for FloorFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the floor cannot be measured: {error}"),
            Self::Pin(error) => error.fmt(f),
            Self::Tls(why) => write!(f, "handshakes cannot be measured: {why}"),
        }
    }
}

impl std::error::Error for FloorFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Pin(error) => Some(error),
            Self::Tls(_) => None,
        }
    }
}
