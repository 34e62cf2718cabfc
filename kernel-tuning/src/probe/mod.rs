//! Proves a plan: opens connections between processes of its own in a network namespace of its own,
//! until the number asked for or until something stops it, which is then named.
//!
//! Nothing outside is changed: values of the kernel are raised in that namespace only, limits in
//! the probe's own processes only. It ends before memory does, and after a bounded time; when it
//! ends, in whatever way, its processes end and the namespace is gone.

mod child;
mod group;
mod order;
mod parent;
mod processes;
mod report;
mod singles;
mod slabs;
mod strikes;

pub(crate) use report::report;

use crate::args::ProbeArgs;
use crate::cost::Measured;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Pairs of a short probe.
const SHORT_PAIRS: u64 = 10_000;
/// More than any machine holds.
const PAIRS_MAX: u64 = 20_000_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Wanted {
    pub pairs: u64,
    /// Raises a limit that struck, and goes on.
    pub raise: bool,
    /// As many processes and addresses as are needed, from the start.
    pub spread: bool,
    pub epoll: bool,
    pub unread: bool,
    pub predict_from: u64,
    pub keep_free_bytes: u64,
    pub memory_limit_bytes: Option<u64>,
    pub seconds: u64,
    /// Also limits that need no pairs, and all compared with what `check` says of so many sessions.
    pub order_for: Option<u64>,
    /// Fills the table of open files.
    pub open_files: bool,
}

impl Wanted {
    pub(crate) const fn of(args: &ProbeArgs) -> Self {
        Self {
            pairs: args.connections,
            raise: args.raise || args.order,
            spread: args.spread,
            epoll: args.epoll,
            unread: args.unread,
            predict_from: args.predict_from,
            keep_free_bytes: args.keep_free << 20,
            memory_limit_bytes: match args.memory_limit {
                None => None,
                Some(mib) => Some(mib << 20),
            },
            seconds: args.seconds,
            order_for: if args.order { Some(args.goal) } else { None },
            open_files: args.open_files,
        }
    }
}

/// A limit that was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Strike {
    /// Pairs that were held.
    pub at: u64,
    /// Its name, as in the table of `check`.
    pub limit: String,
    /// What was seen.
    pub error: String,
    /// What the probe did about it; empty: it ended.
    pub raised: String,
    /// Where `check` says that it strikes, if it was asked.
    #[serde(default)]
    pub predicted: Option<u64>,
}

/// A limit in the order of limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub limit: String,
    /// Where `check` says that it strikes.
    pub predicted: Option<u64>,
    /// Where it struck; none: it did not.
    pub struck: Option<u64>,
    /// How that was seen, or why it was not struck.
    pub why: String,
}

/// What `check` says beside what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Sessions, both ends here, that `check` was asked about.
    pub goal: u64,
    /// Those that struck did so in that order, each near to where it should.
    pub as_predicted: bool,
    /// Those that struck, in their order, and then those that did not.
    pub rows: Vec<Row>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    pub kernel: String,
    pub wanted: u64,
    pub reached: u64,
    /// In the order in which they struck.
    pub strikes: Vec<Strike>,
    /// Processes that it took.
    pub processes: u64,
    /// Slab memory that connections took, by cache.
    pub grown: BTreeMap<String, u64>,
    /// Slab memory that others took meanwhile, or left by listing descriptors.
    pub others_bytes: u64,
    /// What a few pairs predicted for all of them, by cache.
    pub predicted: BTreeMap<String, u64>,
    /// Pairs that it was predicted from; 0: it was not.
    pub predicted_from: u64,
    /// By how much free memory and pages of files fell.
    pub memory_fell_bytes: u64,
    pub open_ms: u64,
    /// What the probe's control group counted, if it had one; 0: a process was ended.
    pub group_bytes: Option<u64>,
    /// Thousandths of a byte of each slab of a pair, of all pairs.
    pub measured: Option<Measured>,
    /// Sockets that were left when it was over.
    pub left: u64,
    /// With `--order`.
    pub order: Option<Order>,
}

impl Outcome {
    pub(crate) fn grown_bytes(&self) -> u64 {
        self.grown.values().sum()
    }

    pub(crate) fn predicted_bytes(&self) -> u64 {
        self.predicted.values().sum()
    }

    /// By how much the prediction was wrong, in thousandths of what was measured.
    pub(crate) fn error_permille(&self) -> Option<u64> {
        let measured = self.grown_bytes();
        let error = self.predicted_bytes().abs_diff(measured);
        (self.predicted_from > 0 && measured > 0).then(|| error.saturating_mul(1_000) / measured)
    }
}

/// Runs a probe in this process, which then is in the new network namespace.
pub(crate) fn run(wanted: &Wanted) -> Result<Outcome, Error> {
    if !(1..=PAIRS_MAX).contains(&wanted.pairs) {
        return Err(Error::Goal(format!(
            "--connections is {}; choose a number from 1 to {PAIRS_MAX}",
            wanted.pairs
        )));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot { what: "probe (a network namespace, and /proc/slabinfo)" });
    }
    parent::run(wanted)
}

/// A short one in a process of its own: this one stays where it is.
pub(crate) fn short() -> Result<Measured, Error> {
    let failed = |text: String| Error::Probe(format!("the short probe did not work: {text}"));
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let pairs = SHORT_PAIRS.to_string();
    let output = Command::new(program)
        .args(["probe", "--spread", "--json", "--connections", &pairs])
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let outcome: Outcome = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))?;
    outcome.measured.ok_or_else(|| failed("it held too few connections to tell".to_owned()))
}

/// A report that was saved.
pub(crate) fn load(path: &Path) -> Result<Measured, Error> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let outcome: Outcome = serde_json::from_str(&text)
        .map_err(|source| Error::NotFacts { path: path.to_owned(), source })?;
    outcome.measured.ok_or_else(|| {
        Error::Probe(format!("{} held too few connections to measure any", path.display()))
    })
}

pub(crate) fn child(role: &str) -> Result<(), Error> {
    child::run(role)
}
