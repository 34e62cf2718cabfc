//! What every measurement of a server takes.

use super::TargetArgs;
use crate::machine::processors;
use clap::{Args as ClapArgs, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// In place of the name of a file: the floor is measured first.
pub const MEASURED_FIRST: &str = "measured-first";

/// What all scenarios take.
#[derive(Debug, Clone, ClapArgs)]
#[command(group = clap::ArgGroup::new("measured").required(true).args(["spawn", "server"]))]
#[command(group = clap::ArgGroup::new("known").multiple(true).args(["data", "target"]))]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Common {
    /// What is measured.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Start a server for this run and stop it afterwards; its rate limits are out of the way
    #[arg(long)]
    pub spawn: bool,
    /// Measure the server that listens here; tokens are signed with the key in --data, unless
    /// --target is another broker
    #[arg(long, value_name = "ADDR", requires = "known")]
    pub server: Option<SocketAddr>,
    /// With --spawn: more arguments of `roost serve`
    #[arg(long, value_name = "ARGS", default_value = "", requires = "spawn")]
    #[arg(allow_hyphen_values = true)]
    pub server_args: String,
    /// With --spawn: start this build of the server [default: the `roost` beside this program]
    #[arg(long, value_name = "FILE", requires = "spawn")]
    pub server_program: Option<PathBuf>,
    /// With --server: its process on this machine, to measure its memory and processor time
    #[arg(long, value_name = "PID", requires = "server")]
    pub server_pid: Option<u32>,
    /// With --server: its admin listener, for what it says of its allocator and its disk
    #[arg(long, value_name = "ADDR", requires = "server")]
    pub server_admin: Option<SocketAddr>,
    /// The server's data folder [default with --spawn: a new one beside this program, removed
    /// afterwards]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// With --spawn: the server runs on these processors [default: 0]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub server_cpus: Vec<usize>,
    /// The generator runs on these processors [default: 1, or 0 where there is only one]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// Measure for so long [default: 10; soak: 3600]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub seconds: Option<u32>,
    /// Run for so long before measuring
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub warmup: u32,
    /// Measure so often, each time from the start, and report medians and the spread
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// Connect so many a second at most
    #[arg(long, value_name = "N", default_value = "20000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connect_rate: u32,
    /// With --spawn: devices say once in so long that they are there [default: the server's, 12 for
    /// apps that are looked at; it lets those in a pocket wait 240]
    #[arg(long, value_name = "SECONDS", requires = "spawn")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=600))]
    pub heartbeat: Option<u32>,
    /// Sealed connections, without resumption or with it; --server names the TLS listener then
    #[arg(long, value_enum, default_value_t = Tls::Off)]
    #[arg(num_args = 0..=1, default_missing_value = "full")]
    pub tls: Tls,
    /// With --tls: trust what is in this PEM file [default: the development certificate in --data]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// With --spawn: how tokens are signed: eddsa by the server's own key, hs256 by a secret that
    /// it is told, which costs it less to check
    #[arg(long, value_enum, value_name = "ALGORITHM", default_value = "eddsa")]
    pub tokens: Tokens,
    /// Let these generators do it together, each its share: `roost-bench agent` listens there. Only
    /// for idle, pairs and storm
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub agents: Vec<String>,
    /// Count the server's system calls with perf, which makes all of them a little slower
    #[arg(long)]
    pub syscalls: bool,
    /// Do the same small work beside the server, over and over, to see how fast its processors are
    /// meanwhile; takes 2 % of one. `compare --measure` does
    #[arg(long)]
    pub yardstick: bool,
    /// Go on though this machine has too little memory for what is asked
    #[arg(long)]
    pub force: bool,
    /// Where the result goes.
    #[command(flatten)]
    pub output: Output,
}

/// Where a result goes.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Output {
    /// Write the result here, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a report with plots here, one file that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Show figures as shares of what the machine does without a broker, which `roost-bench floor
    /// --json FILE` found; without FILE it is found first, in this run
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = MEASURED_FIRST)]
    pub floor: Option<PathBuf>,
    /// Show progress though standard error is no terminal
    #[arg(long)]
    pub progress: bool,
}

/// How connections are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    /// Not at all
    Off,
    /// TLS 1.3, each connection with a full handshake
    Full,
    /// TLS 1.3, whoever comes back resumes its session
    Resume,
}

/// How tokens are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Tokens {
    /// With Ed25519: who checks them cannot make them
    #[default]
    Eddsa,
    /// With HMAC and SHA-256: who checks them can make them
    Hs256,
}

impl Common {
    /// Processors of a server that the run starts.
    #[must_use]
    pub fn spawned_cpus(&self) -> Vec<usize> {
        if self.server_cpus.is_empty() { vec![0] } else { self.server_cpus.clone() }
    }

    /// Processors of the generator.
    #[must_use]
    pub fn generator_cpus(&self) -> Vec<usize> {
        if self.cpus.is_empty() { vec![usize::from(processors() > 1)] } else { self.cpus.clone() }
    }

    /// The server that is somebody else's.
    #[must_use]
    pub fn server_text(&self) -> String {
        self.server.map_or_else(|| "nowhere".to_owned(), |server| server.to_string())
    }
}
