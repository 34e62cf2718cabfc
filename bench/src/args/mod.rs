//! The command line. Names that scenarios share mean the same everywhere.

mod agent;
mod cold;
mod common;
mod compare;
mod floor;
mod load;
mod scenarios;
mod target;
mod versus;

pub use agent::AgentArgs;
pub use cold::{ColdArgs, ColdPart, EchoArgs};
pub use common::{Common, MEASURED_FIRST, Output, Tls, Tokens};
pub use compare::CompareArgs;
pub use floor::FloorArgs;
pub use load::LoadArgs;
pub use scenarios::{
    CapacityArgs, CatchupArgs, FanoutArgs, HotArgs, IdleArgs, MixedArgs, Of, PairsArgs, Peers,
    SlowArgs, SoakArgs, StormArgs, TiesArgs,
};
pub use target::{TargetArgs, TargetName};
pub use versus::VersusArgs;

use crate::store::args::StoreArgs;
use clap::{Parser, Subcommand};

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
    Server(Box<Scenario>),
    /// Durable storage engines on one disk, ours among them; needs no server
    Store(StoreArgs),
    /// Tell change from noise in two results of the same scenario: exit code 1 if the second is
    /// worse, 0 if it is not
    Compare(CompareArgs),
    /// Roost and other brokers by turns, in the same scenarios; starts and ends all of them
    Versus(VersusArgs),
    /// What this machine does without any broker: connections, echoes, disk, ciphers, noise
    Floor(FloorArgs),
    /// What a heartbeat and a message cost a server beside a bare echo on equally cold connections
    Cold(Box<ColdArgs>),
    /// Be a bare echo on the server's event loop, which `cold` holds a server against
    Echo(EchoArgs),
    /// Be a generator of a run that is started elsewhere with --agents
    Agent(AgentArgs),
}

impl Wanted {
    /// Where the result goes.
    #[must_use]
    pub fn output(&self) -> Option<&Output> {
        match self {
            Self::Server(scenario) => Some(&scenario.common().output),
            Self::Store(args) => args.output(),
            Self::Compare(args) => Some(&args.output),
            Self::Versus(args) => Some(&args.output),
            Self::Floor(args) => Some(&args.output),
            Self::Cold(args) => Some(&args.common.output),
            Self::Echo(_) | Self::Agent(_) => None,
        }
    }
}

impl Wanted {
    /// How the floor of the same machine is measured.
    #[must_use]
    pub fn floor(&self) -> FloorArgs {
        let (server_cpus, cpus) = match self {
            Self::Server(scenario) => {
                let common = scenario.common();
                (common.spawned_cpus(), common.generator_cpus())
            }
            Self::Cold(args) => (args.common.spawned_cpus(), args.common.generator_cpus()),
            Self::Versus(args) => (args.server_cpus.clone(), args.cpus.clone()),
            Self::Floor(args) => return args.clone(),
            Self::Store(_) | Self::Compare(_) | Self::Echo(_) | Self::Agent(_) => {
                (vec![0], Vec::new())
            }
        };
        FloorArgs {
            seconds: 3,
            connections: 1_000,
            data: None,
            server_cpus,
            cpus,
            output: Output::default(),
        }
    }
}

/// What to measure of a server.
#[derive(Debug, Clone, Subcommand)]
pub enum Scenario {
    /// Hold many connections that only say that they are there
    Idle(IdleArgs),
    /// Pairs of users that write to each other
    Pairs(PairsArgs),
    /// One user writes to a group whose members are all connected
    Fanout(FanoutArgs),
    /// One conversation as fast as its single writer can go
    Hot(HotArgs),
    /// Users who were away come back and look for what they missed
    Catchup(CatchupArgs),
    /// All leave at once and all return at once
    Storm(StormArgs),
    /// A group some of whose readers stall
    Slow(SlowArgs),
    /// A day's mix: conversations of all sizes, receipts, typing, presence, comings and goings
    Mixed(MixedArgs),
    /// The same for hours: does the server's memory grow?
    Soak(SoakArgs),
    /// Search for the highest rate, or the most connections, that keep a latency
    Capacity(CapacityArgs),
}

impl Scenario {
    /// What all scenarios take.
    #[must_use]
    pub const fn common(&self) -> &Common {
        match self {
            Self::Idle(args) => &args.common,
            Self::Pairs(args) => &args.common,
            Self::Fanout(args) => &args.common,
            Self::Hot(args) => &args.common,
            Self::Catchup(args) => &args.common,
            Self::Storm(args) => &args.common,
            Self::Slow(args) => &args.common,
            Self::Mixed(args) => &args.common,
            Self::Soak(args) => &args.mixed.common,
            Self::Capacity(args) => &args.common,
        }
    }

    /// As the command line and the result call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle(_) => "idle",
            Self::Pairs(_) => "pairs",
            Self::Fanout(_) => "fanout",
            Self::Hot(_) => "hot",
            Self::Catchup(_) => "catchup",
            Self::Storm(_) => "storm",
            Self::Slow(_) => "slow",
            Self::Mixed(_) => "mixed",
            Self::Soak(_) => "soak",
            Self::Capacity(_) => "capacity",
        }
    }

    /// How many connections it makes.
    #[must_use]
    pub const fn connections(&self) -> u32 {
        match self {
            Self::Idle(args) => args.connections,
            Self::Pairs(args) => args.pairs * 2,
            Self::Fanout(args) => args.subscribers + 1,
            Self::Hot(_) => 2,
            Self::Catchup(args) => args.users,
            Self::Storm(args) => args.connections.saturating_add(args.talkers),
            Self::Slow(args) => args.subscribers + 1,
            Self::Mixed(args) => args.connections,
            Self::Soak(args) => args.mixed.connections,
            Self::Capacity(args) => args.pairs * 2,
        }
    }

    /// Whether its devices have no sockets.
    #[must_use]
    pub fn is_behind_tun(&self) -> bool {
        match self {
            Self::Idle(args) => args.peers == Peers::Tun,
            Self::Storm(args) => args.peers == Peers::Tun,
            Self::Pairs(_)
            | Self::Fanout(_)
            | Self::Hot(_)
            | Self::Catchup(_)
            | Self::Slow(_)
            | Self::Mixed(_)
            | Self::Soak(_)
            | Self::Capacity(_) => false,
        }
    }

    /// Whether the server is started anew in the middle.
    #[must_use]
    pub const fn restarts(&self) -> bool {
        match self {
            Self::Idle(args) => args.restart,
            Self::Catchup(args) => args.restart,
            Self::Pairs(_)
            | Self::Fanout(_)
            | Self::Hot(_)
            | Self::Storm(_)
            | Self::Slow(_)
            | Self::Mixed(_)
            | Self::Soak(_)
            | Self::Capacity(_) => false,
        }
    }

    /// How is written, if there is writing.
    #[must_use]
    pub const fn load(&self) -> Option<&LoadArgs> {
        match self {
            Self::Pairs(args) => Some(&args.load),
            Self::Fanout(args) => Some(&args.load),
            Self::Hot(args) => Some(&args.load),
            Self::Slow(args) => Some(&args.load),
            Self::Mixed(args) => Some(&args.load),
            Self::Soak(args) => Some(&args.mixed.load),
            Self::Idle(_) | Self::Catchup(_) | Self::Storm(_) | Self::Capacity(_) => None,
        }
    }

    /// Messages a second in all when neither `--rate` nor `--window` says otherwise.
    #[must_use]
    pub const fn default_rate(&self) -> u32 {
        match self {
            Self::Fanout(_) | Self::Slow(_) => 100,
            Self::Hot(_) => 1_000,
            Self::Mixed(_) | Self::Soak(_) => 2_000,
            Self::Idle(_)
            | Self::Pairs(_)
            | Self::Catchup(_)
            | Self::Storm(_)
            | Self::Capacity(_) => 10_000,
        }
    }

    /// How long to measure.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        let default = if matches!(self, Self::Soak(_)) { 3_600 } else { 10 };
        self.common().seconds.unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::args::Part;
    use crate::store::contestant::Contestant;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use crate::scenario::load::Pace;

    fn parse(line: &str) -> Result<Scenario, clap::Error> {
        let words = std::iter::once("roost-bench").chain(line.split_whitespace());
        Args::try_parse_from(words).map(|args| server(args.wanted))
    }

    fn server(wanted: Wanted) -> Scenario {
        let Wanted::Server(scenario) = wanted else { panic!("a server") };
        *scenario
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
        let load = &pairs.load;
        assert_eq!((pairs.pairs, load.window, load.body_bytes, load.rate), (1000, None, 100, None));
        assert_eq!(load.pace(7), Pace::Rate(7), "an open loop by default");
    }

    #[test]
    fn a_window_makes_the_loop_closed() {
        let Ok(Scenario::Pairs(pairs)) = parse("pairs --spawn --window 8") else { panic!("pairs") };
        assert_eq!(pairs.load.pace(7), Pace::Window(8));
    }

    #[test]
    fn lists_and_arguments_of_the_server_are_taken() {
        let words = ["roost-bench", "idle", "--spawn", "--connections", "7", "--cpus", "1,2"];
        let words = words.into_iter().chain(["--server-args", "--shards 2 --driver epoll"]);
        let scenario = server(Args::try_parse_from(words).unwrap().wanted);
        assert_eq!(scenario.connections(), 7);
        assert_eq!(scenario.common().generator_cpus(), [1, 2]);
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
