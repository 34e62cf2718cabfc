//! What each scenario takes besides.

use super::{Common, LoadArgs};
use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;

/// `roost-bench idle`.
#[derive(Debug, Clone, ClapArgs)]
pub struct IdleArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// Connections to hold
    #[arg(long, value_name = "N", default_value = "10000")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub connections: u32,
    /// What the users have.
    #[command(flatten)]
    pub ties: TiesArgs,
    /// From the last Welcome, or from the last message, to measuring
    #[arg(long, value_name = "SECONDS", default_value = "6")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub settle: u32,
    /// With --spawn: once the users have all that, they leave, the server is started anew, they
    /// return, and each receives a message; memory is compared with that of the new server before
    #[arg(long)]
    pub restart: bool,
    /// Durable messages a second between devices drawn at random, while holding
    #[arg(long, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub rate: u32,
    /// What the devices are: with `tun` they have no sockets of this machine's kernel (as root)
    #[arg(long, value_enum, default_value_t = Peers::Sockets)]
    pub peers: Peers,
}

/// What the devices of `idle` and `storm` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peers {
    /// Sockets
    Sockets,
    /// A few bytes each behind a TUN device, whose packets the generator answers itself
    Tun,
}

/// What users of a run have.
#[derive(Debug, Clone, ClapArgs)]
pub struct TiesArgs {
    /// Direct conversations of each user, with a message in each
    #[arg(long, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    pub conversations: u32,
    /// Groups of each user
    #[arg(long, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    pub groups: u32,
    /// Members of each group
    #[arg(long, value_name = "N", default_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=1_024))]
    pub group_size: u32,
}

/// `roost-bench pairs`: an open loop of 10,000 messages a second unless told otherwise.
#[derive(Debug, Clone, ClapArgs)]
pub struct PairsArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// Pairs of users, each on a device of its own
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pub pairs: u32,
    /// How is written.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// `roost-bench fanout`: an open loop of 100 messages a second unless told otherwise.
#[derive(Debug, Clone, ClapArgs)]
pub struct FanoutArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// Members who read
    #[arg(long, value_name = "N", default_value = "500")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_023))]
    pub subscribers: u32,
    /// How is written.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// `roost-bench hot`: an open loop of 1,000 messages a second unless told otherwise; the ceiling is
/// found with `--window 32`.
#[derive(Debug, Clone, ClapArgs)]
pub struct HotArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// How is written.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// `roost-bench catchup`.
#[derive(Debug, Clone, ClapArgs)]
pub struct CatchupArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// Users; every second one goes away and comes back
    #[arg(long, value_name = "N", default_value = "2000")]
    #[arg(value_parser = clap::value_parser!(u32).range(200..=1_000_000))]
    pub users: u32,
    /// What the users have.
    #[command(flatten)]
    pub ties: TiesArgs,
    /// Conversations of each returning user that have news, at most half of all
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=25))]
    pub fresh: u32,
    /// They come back within so long
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub over: u32,
    /// Handshakes under way at a time
    #[arg(long, value_name = "N", default_value = "512")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub at_once: u32,
    /// With --spawn: before that everybody leaves, the server is started anew and the page cache is
    /// dropped (as root)
    #[arg(long)]
    pub restart: bool,
}

/// `roost-bench storm`.
#[derive(Debug, Clone, ClapArgs)]
pub struct StormArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// Connections that leave and return
    #[arg(long, value_name = "N", default_value = "10000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub connections: u32,
    /// How long they stay away
    #[arg(long, value_name = "SECONDS", default_value = "2")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub away: u32,
    /// Further devices that stay, and write to each other meanwhile
    #[arg(long, value_name = "N", default_value = "0")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub talkers: u32,
    /// Durable messages a second among those
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Handshakes under way at a time
    #[arg(long, value_name = "N", default_value = "4096")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub at_once: u32,
    /// What the devices are: with `tun` they have no sockets of this machine's kernel (as root)
    #[arg(long, value_enum, default_value_t = Peers::Sockets)]
    pub peers: Peers,
    /// The run fails when somebody is not back after so long
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub within: u32,
}

/// `roost-bench slow`: an open loop of 100 messages a second unless told otherwise.
#[derive(Debug, Clone, ClapArgs)]
pub struct SlowArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// Members who read
    #[arg(long, value_name = "N", default_value = "500")]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=1_023))]
    pub subscribers: u32,
    /// How many of them stall, in percent
    #[arg(long, value_name = "PERCENT", default_value = "10")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=90))]
    pub stalled: u32,
    /// For how long at a time; they read on for as long
    #[arg(long, value_name = "SECONDS", default_value = "2")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=600))]
    pub stall: u32,
    /// How is written.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// `roost-bench mixed`: an open loop of 2,000 acts a second unless told otherwise.
#[derive(Debug, Clone, ClapArgs)]
pub struct MixedArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// Users, each on a device of its own
    #[arg(long, value_name = "N", default_value = "2000")]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub connections: u32,
    /// What they have and do [default: scenarios/mixed.toml, which is built in]
    #[arg(long, value_name = "FILE")]
    pub mix: Option<PathBuf>,
    /// How is written.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// `roost-bench soak`: `mixed` for hours.
#[derive(Debug, Clone, ClapArgs)]
pub struct SoakArgs {
    /// As in `mixed`.
    #[command(flatten)]
    pub mixed: MixedArgs,
    /// The run fails when the server's memory surely grows by more than this
    #[arg(long, value_name = "MIB_PER_HOUR", default_value = "16")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub leak: u32,
}

/// `roost-bench capacity`.
#[derive(Debug, Clone, ClapArgs)]
pub struct CapacityArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// What is searched for
    #[arg(long, value_enum, default_value_t = Of::Rate)]
    pub of: Of,
    /// Pairs of users; of a search for connections the first try
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pub pairs: u32,
    /// Messages a second; of a search for the rate the first try
    #[arg(long, value_name = "N", default_value = "5000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: u32,
    /// Bytes of a message's body
    #[arg(long, value_name = "N", default_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub body_bytes: u32,
    /// 99 in a hundred messages must be there within so long
    #[arg(long, value_name = "MS", default_value = "10")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub goal_ms: u32,
    /// At most so many tries
    #[arg(long, value_name = "N", default_value = "12")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=40))]
    pub tries: u32,
}

/// What `capacity` searches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Of {
    /// The highest rate
    Rate,
    /// The most connections, at a given rate
    Connections,
}
