//! `roost-bench cold`, and the bare echo that it starts.

use super::Common;
use clap::{Args as ClapArgs, ValueEnum};
use std::net::SocketAddr;

/// `roost-bench cold`: 20 seconds of each unless told otherwise.
#[derive(Debug, Clone, ClapArgs)]
pub struct ColdArgs {
    /// What all scenarios take.
    #[command(flatten)]
    pub common: Common,
    /// What is said
    #[arg(long, value_enum, default_value_t = ColdPart::Heartbeats)]
    pub part: ColdPart,
    /// Connections to each of the two servers
    #[arg(long, value_name = "N", default_value = "200000")]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=5_000_000))]
    pub connections: u32,
    /// With messages: of them so many are the few that are used all the time
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub active: u32,
    /// Heartbeats, echoes or messages a second
    #[arg(long, value_name = "N", default_value = "8000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// In place of a rate: so many are under way at any time
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub at_once: Option<u32>,
    /// Both servers are measured so often, by turns
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=99))]
    pub turns: u32,
}

/// What is said on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColdPart {
    /// Heartbeats, one connection after the other; to the bare echo as many bytes
    Heartbeats,
    /// Durable messages: among few sessions, with the others connected and without them, and among
    /// all; to the bare echo as many echoes
    Messages,
}

/// `roost-bench echo`.
#[derive(Debug, Clone, ClapArgs)]
pub struct EchoArgs {
    /// Listen here; with port 0 the system chooses one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Connections at a time, at most
    #[arg(long, value_name = "N", default_value = "1048576")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    pub connections: u32,
}
