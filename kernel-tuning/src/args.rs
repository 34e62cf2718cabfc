//! The command line.

use crate::emit::Format;
use crate::goal::{Driver, Goal};
use crate::settings::Profile;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// As the guide calls it.
pub(crate) const DEFAULT_UNIT: &str = "roost.service";

/// Knows which limit of kernel, process or cloud stops a number of connections first.
///
/// Exit codes: 0 it fits, or it is done; 1 something stops the goal, or differs; 2 it could not be
/// looked at or done.
#[derive(Debug, Parser)]
#[command(name = "roost-tune", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Judges every setting for a goal, sorted by which bites first. Exit code 1: it does not fit.
    Check(CheckArgs),
    /// Budgets of memory, processors, descriptors and disk; the largest number for this machine.
    Plan(PlanArgs),
    /// Shows what would be changed, or changes it with --write.
    Apply(ApplyArgs),
    /// Puts back everything that apply changed.
    Undo(UndoArgs),
    /// Shows what runs out, live.
    Watch(WatchArgs),
    /// Explains what holds a running gateway back.
    Doctor(DoctorArgs),
    /// Opens connections in a network namespace of its own: bytes by slab, and the first limit.
    Probe(ProbeArgs),
    /// What differs between the profiles, and why.
    Profiles,
    /// A page about one setting; without a name, all names.
    Explain {
        /// As in the table of check.
        setting: Option<String>,
    },
    /// Saves all facts of this machine as JSON, for --facts elsewhere.
    Collect(CollectArgs),
    /// A process of probe.
    #[command(hide = true)]
    ProbeChild {
        /// `server` or `client`.
        role: String,
    },
}

/// Where facts come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct FactsArgs {
    /// An archive of `collect --out` instead of this machine.
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    pub(crate) facts: Option<PathBuf>,
    /// A tree with proc, sys and etc instead of this machine's.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// A report of `probe --out`: its bytes by slab count if it is of the same kernel.
    #[arg(long, value_name = "FILE")]
    pub(crate) measured: Option<PathBuf>,
    /// The systemd unit of the server: what its files say of limits counts, and apply gives it a
    /// drop-in.
    #[arg(long, default_value = DEFAULT_UNIT)]
    pub(crate) unit: String,
}

/// What is wanted.
#[derive(Debug, Clone, Args)]
pub(crate) struct GoalArgs {
    /// Connections of this machine.
    #[arg(long, short = 'n', default_value_t = 1_000_000)]
    pub(crate) connections: u64,
    /// They are TLS.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Seconds between two heartbeats of a connection.
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    pub(crate) heartbeat: u64,
    /// Messages a second, all connections together.
    #[arg(long, value_name = "MESSAGES", default_value_t = 2_000)]
    pub(crate) rate: u64,
    /// New connections a second at the worst.
    #[arg(long, value_name = "CONNECTS", default_value_t = 10_000)]
    pub(crate) connects: u64,
    /// The other ends are on this machine, too.
    #[arg(long)]
    pub(crate) loopback: bool,
    /// Pairs of addresses that the connections of a load generator come over.
    #[arg(long, value_name = "PAIRS", default_value_t = 1)]
    pub(crate) address_pairs: u64,
    /// Bytes of an idle session in the server's process, if you know better than the built-in ones.
    #[arg(long, value_name = "BYTES")]
    pub(crate) process_bytes: Option<u64>,
    /// How the server waits for sockets.
    #[arg(long, value_enum, default_value_t = Driver::Auto)]
    pub(crate) driver: Driver,
    /// What matters most.
    #[arg(long, value_enum, default_value_t = Profile::Density)]
    pub(crate) profile: Profile,
}

impl GoalArgs {
    pub(crate) const fn goal(&self) -> Goal {
        Goal {
            connections: self.connections,
            tls: self.tls,
            heartbeat_s: self.heartbeat,
            messages_per_s: self.rate,
            connects_per_s: self.connects,
            loopback: self.loopback,
            address_pairs: self.address_pairs,
            process_bytes: self.process_bytes,
            driver: self.driver,
            profile: self.profile,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) goal: GoalArgs,
    #[command(flatten)]
    pub(crate) facts: FactsArgs,
    /// For machines: one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Details of settings that fit, too.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) goal: GoalArgs,
    #[command(flatten)]
    pub(crate) facts: FactsArgs,
    /// Measures the kernel's memory of a session first, with 10,000 pairs.
    #[arg(long, conflicts_with = "measured")]
    pub(crate) probe: bool,
    /// For machines: one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) goal: GoalArgs,
    #[command(flatten)]
    pub(crate) facts: FactsArgs,
    /// Changes what is shown. Without it nothing is changed.
    #[arg(long, conflicts_with_all = ["emit", "facts"])]
    pub(crate) write: bool,
    /// The same for another tool, to standard output.
    #[arg(long, value_enum)]
    pub(crate) emit: Option<Format>,
    /// A setting to leave alone; may be repeated.
    #[arg(long, value_name = "SETTING")]
    pub(crate) skip: Vec<String>,
    /// Stops this process after so many writes, for tests of a crash.
    #[arg(long, hide = true)]
    pub(crate) stop_after: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// A tree with proc, sys and etc instead of this machine's.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Also what somebody else changed since.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// A tree with proc and sys instead of this machine's.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) interval: u64,
    /// Two looks, one table, and the end.
    #[arg(long)]
    pub(crate) once: bool,
    /// A JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// A process whose descriptors and memory are shown, too.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The gateway's process.
    #[arg(long)]
    pub(crate) pid: u32,
    /// A tree with proc and sys instead of this machine's.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) interval: u64,
    /// For machines: one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct ProbeArgs {
    /// Pairs of connected sockets, both ends here.
    #[arg(long, short = 'n', default_value_t = 10_000)]
    pub(crate) connections: u64,
    /// Raises one limit at a time, within the probe only, and goes on.
    #[arg(long)]
    pub(crate) raise: bool,
    /// The same, and limits that need no pairs; all compared with the order of check.
    #[arg(long, conflicts_with = "spread")]
    pub(crate) order: bool,
    /// With --order: connections, both ends here, that check is asked about.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 2_000_000, requires = "order")]
    pub(crate) goal: u64,
    /// With --order: opens files until fs.file-max strikes a process that is not root's. For a
    /// moment nobody else who is not root can open one either.
    #[arg(long, requires = "order")]
    pub(crate) open_files: bool,
    /// Takes as many processes and addresses as are needed from the start, to measure memory.
    #[arg(long, conflicts_with = "raise")]
    pub(crate) spread: bool,
    /// Watches the server's ends with epoll.
    #[arg(long)]
    pub(crate) epoll: bool,
    /// Sends 100 bytes over each connection, which nobody reads.
    #[arg(long)]
    pub(crate) unread: bool,
    /// Pairs from which the rest is predicted; 0: none.
    #[arg(long, value_name = "PAIRS", default_value_t = 10_000)]
    pub(crate) predict_from: u64,
    /// Memory that must stay free, in MiB: pages of files count as free.
    #[arg(long, value_name = "MIB", default_value_t = 1_024)]
    pub(crate) keep_free: u64,
    /// Puts the probe into a control group with so many MiB.
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_limit: Option<u64>,
    /// Seconds after which it ends, whatever was reached.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub(crate) seconds: u64,
    /// For machines: one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Saves the report, for --measured.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    /// Where to save them; standard output without it.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// A tree with proc, sys and etc instead of this machine's.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// The systemd unit of the server.
    #[arg(long, default_value = DEFAULT_UNIT)]
    pub(crate) unit: String,
    /// Measures the kernel's memory of a session with 10,000 pairs, and saves it with them.
    #[arg(long)]
    pub(crate) probe: bool,
}
