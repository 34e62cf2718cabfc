//! The command line of `roost-bench store`.

use super::contestant::Contestant;
use crate::args::Output;
use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

/// `roost-bench store`.
#[derive(Debug, Clone, ClapArgs)]
pub struct StoreArgs {
    /// What to measure.
    #[command(subcommand)]
    pub part: Part,
}

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub enum Part {
    /// Durable appends: records a second, against a bare file and against the peers
    Append(AppendArgs),
    /// Bytes written and kept for each byte of messages in random order
    Amplification(AmplificationArgs),
    /// The last messages of conversations that are in nobody's memory
    ColdRead(ColdReadArgs),
    /// Time to open after the process was killed while it appended
    Open(OpenArgs),
    /// One step of a measurement, in a process of its own
    #[command(hide = true)]
    Step {
        /// The step, as JSON.
        order: String,
    },
}

/// What all parts take.
#[derive(Debug, Clone, ClapArgs)]
pub struct StoreCommon {
    /// Keep the data in a new folder in this one; its disk is what is measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Compare ours with these [default: all that were built in, with --features peers]
    #[arg(long, value_name = "LIST", value_delimiter = ',', num_args = 0..)]
    pub peers: Option<Vec<Contestant>>,
    /// Cache of each peer; ours has none of its own beside its indices
    #[arg(long, value_name = "N", default_value = "256")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub cache_mib: u64,
    /// Where the result goes.
    #[command(flatten)]
    pub output: Output,
}

impl StoreCommon {
    /// The peers that are wanted.
    #[must_use]
    pub fn peers(&self) -> &[Contestant] {
        self.peers.as_deref().unwrap_or(Contestant::peers())
    }

    /// Cache of each peer.
    #[must_use]
    pub const fn cache_bytes(&self) -> u64 {
        self.cache_mib << 20
    }
}

/// `roost-bench store append`.
#[derive(Debug, Clone, ClapArgs)]
pub struct AppendArgs {
    /// What all parts take.
    #[command(flatten)]
    pub common: StoreCommon,
    /// Records that are committed together, one measurement for each
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,10,100,1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub batches: Vec<u32>,
    /// Streams that the records are of, each as likely as any other
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub streams: u32,
    /// Bytes of a record
    #[arg(long, value_name = "N", default_value = "256")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub body_bytes: u32,
    /// Measure each for so long
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Run each for so long before measuring
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=600))]
    pub warmup: u32,
    /// Measure everything so often, by turns, and report medians
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
}

/// `roost-bench store amplification`.
#[derive(Debug, Clone, ClapArgs)]
pub struct AmplificationArgs {
    /// What all parts take.
    #[command(flatten)]
    pub common: StoreCommon,
    /// Messages to write
    #[arg(long, value_name = "N", default_value = "4000000")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    pub messages: u64,
    /// Conversations that they are of, each as likely as any other
    #[arg(long, value_name = "N", default_value = "100000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub conversations: u32,
    /// Bytes of a message
    #[arg(long, value_name = "N", default_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub body_bytes: u32,
    /// Messages that are committed together
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch: u32,
}

/// What the parts take that build a large store first.
#[derive(Debug, Clone, ClapArgs)]
pub struct BuildArgs {
    /// Bytes of a message
    #[arg(long, value_name = "N", default_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub body_bytes: u32,
    /// Messages that are committed together while the store is built
    #[arg(long, value_name = "N", default_value = "100000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub build_batch: u32,
    /// Cache of each peer while the store is built, which is not what is measured
    #[arg(long, value_name = "N", default_value = "2048")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub build_cache_mib: u64,
    /// Drop only the store's files from the page cache, not everybody's: disturbs nobody, but what
    /// the file system knows of the files stays in memory
    #[arg(long)]
    pub own_files_only: bool,
    /// Leave the stores in DIR, and use those that an earlier run left there
    #[arg(long)]
    pub keep: bool,
    /// Leave ours as it is while it is written: sealed, but not merged further than it must be
    #[arg(long)]
    pub unrested: bool,
}

/// `roost-bench store cold-read`.
#[derive(Debug, Clone, ClapArgs)]
pub struct ColdReadArgs {
    /// What all parts take.
    #[command(flatten)]
    pub common: StoreCommon,
    /// How the store is built.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Messages in the store
    #[arg(long, value_name = "N", default_value = "10000000")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    pub messages: u64,
    /// Conversations that they are of, each as likely as any other
    #[arg(long, value_name = "N", default_value = "1000000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub conversations: u32,
    /// Conversations to read
    #[arg(long, value_name = "N", default_value = "200")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub queries: u32,
    /// Messages of each, the last ones
    #[arg(long, value_name = "N", default_value = "50")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub last: u32,
}

/// `roost-bench store open`.
#[derive(Debug, Clone, ClapArgs)]
pub struct OpenArgs {
    /// What all parts take.
    #[command(flatten)]
    pub common: StoreCommon,
    /// How the stores are built.
    #[command(flatten)]
    pub build: BuildArgs,
    /// Messages in the stores, one measurement for each
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1000000,10000000")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    pub messages: Vec<u64>,
    /// Messages of a conversation on average
    #[arg(long, value_name = "N", default_value = "10")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub each: u64,
    /// Kill and open so often; each round kills after a different number of appends
    #[arg(long, value_name = "N", default_value = "5")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// Appends acknowledged before the kill in the first round, twice as many in the second and so
    /// on
    #[arg(long, value_name = "N", default_value = "100000")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub appends: u64,
}

impl StoreArgs {
    /// Where the result goes.
    #[must_use]
    pub const fn output(&self) -> Option<&Output> {
        let common = match &self.part {
            Part::Append(args) => &args.common,
            Part::Amplification(args) => &args.common,
            Part::ColdRead(args) => &args.common,
            Part::Open(args) => &args.common,
            Part::Step { .. } => return None,
        };
        Some(&common.output)
    }
}
