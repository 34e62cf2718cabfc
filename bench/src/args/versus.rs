//! `roost-bench versus`.

use super::Output;
use crate::peers::Peer;
use clap::Args as ClapArgs;

/// `roost-bench versus`: Roost and other brokers by turns, in the same scenarios.
#[derive(Debug, Clone, ClapArgs)]
pub struct VersusArgs {
    /// Brokers beside Roost, each with the configuration of its makers and a durable one
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    #[arg(default_value = "mosquitto,nats,redis")]
    pub peers: Vec<Peer>,
    /// Measure each so often, by turns
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// Measure for so long each time
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Run for so long before measuring
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub warmup: u32,
    /// Pairs of users that write to each other
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pub pairs: u32,
    /// Messages of a conversation on their way, in the closed loops
    #[arg(long, value_name = "N", default_value = "8")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    pub window: u32,
    /// Messages a second in all, in the open loop
    #[arg(long, value_name = "N", default_value = "10000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: u32,
    /// Members who read, of a group with one writer
    #[arg(long, value_name = "N", default_value = "500")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_023))]
    pub subscribers: u32,
    /// Connections that only say that they are there
    #[arg(long, value_name = "N", default_value = "10000")]
    #[arg(value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub connections: u32,
    /// Bytes of a message's body
    #[arg(long, value_name = "N", default_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub body_bytes: u32,
    /// Each server runs on these processors
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0")]
    pub server_cpus: Vec<usize>,
    /// The generator runs on these processors [default: 1, or 0 where there is only one]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// Where the result goes.
    #[command(flatten)]
    pub output: Output,
}
