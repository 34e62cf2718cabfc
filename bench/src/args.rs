//! The command line. Names that scenarios share mean the same everywhere.

use crate::store::args::StoreArgs;
use clap::{Args as ClapArgs, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Measures a Roost server: many devices, honest clocks, nothing lost unseen.
#[derive(Debug, Parser)]
#[command(name = "roost-bench", version)]
pub struct Args {
    /// What to measure.
    #[command(subcommand)]
    pub wanted: Wanted,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Wanted {
    /// A server.
    #[command(flatten)]
    Server(Scenario),
    /// Durable storage engines on one disk, ours among them; needs no server
    Store(StoreArgs),
}

impl Wanted {
    /// Where the result is wanted as JSON.
    #[must_use]
    pub fn json(&self) -> Option<&PathBuf> {
        match self {
            Self::Server(scenario) => scenario.common().json.as_ref(),
            Self::Store(args) => args.json(),
        }
    }
}

/// What to measure of a server.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// Hold many connections that only say that they are there
    Idle(IdleArgs),
    /// Pairs of users that write to each other
    Pairs(PairsArgs),
    /// One user writes to a group whose members are all connected
    Fanout(FanoutArgs),
    /// Users who were away come back and look for what they missed
    Catchup(CatchupArgs),
}

impl Scenario {
    /// What all scenarios take.
    #[must_use]
    pub const fn common(&self) -> &Common {
        match self {
            Self::Idle(args) => &args.common,
            Self::Pairs(args) => &args.common,
            Self::Fanout(args) => &args.common,
            Self::Catchup(args) => &args.common,
        }
    }

    /// How many connections it makes.
    #[must_use]
    pub const fn connections(&self) -> u32 {
        match self {
            Self::Idle(args) => args.connections,
            Self::Pairs(args) => args.pairs * 2,
            Self::Fanout(args) => args.subscribers + 1,
            Self::Catchup(args) => args.users,
        }
    }
}

/// What all scenarios take.
#[derive(Debug, Clone, ClapArgs)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["spawn", "server"]))]
pub struct Common {
    /// Start a server for this run and stop it afterwards; its rate limits are out of the way
    #[arg(long)]
    pub spawn: bool,
    /// Measure the server that listens here (plain TCP); tokens are signed with the key in --data
    #[arg(long, value_name = "ADDR", requires = "data")]
    pub server: Option<SocketAddr>,
    /// With --spawn: more arguments of `roost serve`
    #[arg(long, value_name = "ARGS", default_value = "", requires = "spawn")]
    #[arg(allow_hyphen_values = true)]
    pub server_args: String,
    /// With --server: its process on this machine, to measure its memory and processor time
    #[arg(long, value_name = "PID", requires = "server")]
    pub server_pid: Option<u32>,
    /// The server's data folder [default with --spawn: a new one beside this program, removed
    /// afterwards]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// With --spawn: the server runs on these processors
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0")]
    pub server_cpus: Vec<usize>,
    /// The generator runs on these processors
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1")]
    pub cpus: Vec<usize>,
    /// Measure for so long
    #[arg(long, value_name = "N", default_value = "10")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Run for so long before measuring
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub warmup: u32,
    /// Connect so many a second at most
    #[arg(long, value_name = "N", default_value = "20000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connect_rate: u32,
    /// Write the result here, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `roost-bench idle`.
#[derive(Debug, Clone, ClapArgs)]
pub struct IdleArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// Connections to hold
    #[arg(long, value_name = "N", default_value = "10000")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub connections: u32,
    /// What the users have.
    #[command(flatten)]
    pub ties: TiesArgs,
    /// From the last Welcome, or from the last message, to measuring
    #[arg(long, value_name = "SECONDS", default_value = "6")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub settle: u32,
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

/// `roost-bench fanout`.
#[derive(Debug, Clone, ClapArgs)]
pub struct FanoutArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// Members who read
    #[arg(long, value_name = "N", default_value = "500")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_023))]
    pub subscribers: u32,
    /// Closed loop: messages on their way; the next goes when one was acknowledged and is with
    /// every member
    #[arg(long, value_name = "N", default_value = "4")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=32))]
    pub window: u32,
    /// Open loop: so many messages a second, each timed from when it was due
    #[arg(long, value_name = "N", conflicts_with = "window")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Bytes of a message's body; the first 16 are for checking
    #[arg(long, value_name = "N", default_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub body_bytes: u32,
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
    /// With --spawn: before that everybody leaves, the server is started anew and the page cache is
    /// dropped (as root)
    #[arg(long, requires = "spawn")]
    pub restart: bool,
}

/// `roost-bench pairs`.
#[derive(Debug, Clone, ClapArgs)]
pub struct PairsArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// Pairs of users, each on a device of its own
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pub pairs: u32,
    /// Closed loop: messages of a pair that may be on their way; the next goes when one was
    /// reported delivered. Both sides share them
    #[arg(long, value_name = "N", default_value = "8")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    pub window: u32,
    /// Open loop: so many messages a second in all, each timed from when it was due
    #[arg(long, value_name = "N", conflicts_with = "window")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Option<u32>,
    /// Bytes of a message's body; the first 16 are for checking
    #[arg(long, value_name = "N", default_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub body_bytes: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::args::Part;
    use crate::store::contestant::Contestant;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Scenario, clap::Error> {
        let words = std::iter::once("roost-bench").chain(line.split_whitespace());
        Args::try_parse_from(words).map(|args| server(args.wanted))
    }

    fn server(wanted: Wanted) -> Scenario {
        let Wanted::Server(scenario) = wanted else { panic!("a server") };
        scenario
    }

    fn refused(line: &str) -> ErrorKind {
        parse(line).unwrap_err().kind()
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn pairs_have_defaults() {
        let Ok(Scenario::Pairs(pairs)) = parse("pairs --spawn") else { panic!("pairs") };
        assert_eq!((pairs.pairs, pairs.window, pairs.body_bytes, pairs.rate), (1000, 8, 100, None));
        assert_eq!((pairs.common.server_cpus, pairs.common.cpus), (vec![0], vec![1]));
    }

    #[test]
    fn lists_and_arguments_of_the_server_are_taken() {
        let words = ["roost-bench", "idle", "--spawn", "--connections", "7", "--cpus", "1,2"];
        let words = words.into_iter().chain(["--server-args", "--shards 2 --driver epoll"]);
        let scenario = server(Args::try_parse_from(words).unwrap().wanted);
        assert_eq!(scenario.connections(), 7);
        assert_eq!(scenario.common().cpus, [1, 2]);
        assert_eq!(scenario.common().server_args, "--shards 2 --driver epoll");
    }

    #[test]
    fn a_part_of_store_has_defaults() {
        let words = ["roost-bench", "store", "append", "--batches", "1,7"];
        let Wanted::Store(store) = Args::try_parse_from(words).unwrap().wanted else {
            panic!("store")
        };
        let Part::Append(append) = store.part else { panic!("append") };
        assert_eq!((append.batches, append.streams, append.body_bytes), (vec![1, 7], 1000, 256));
        assert_eq!(append.common.peers(), Contestant::peers());
    }

    #[test]
    fn a_run_has_one_target_and_one_kind_of_loop() {
        assert_eq!(refused("pairs"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refused("pairs --server 127.0.0.1:1"), ErrorKind::MissingRequiredArgument);
        let both = "pairs --spawn --server 127.0.0.1:1 --data d";
        assert_eq!(refused(both), ErrorKind::ArgumentConflict);
        assert_eq!(refused("pairs --spawn --rate 9 --window 2"), ErrorKind::ArgumentConflict);
        assert_eq!(refused("pairs --spawn --body-bytes 15"), ErrorKind::ValueValidation);
        assert_eq!(refused("pairs --spawn --window 65"), ErrorKind::ValueValidation);
    }
}
