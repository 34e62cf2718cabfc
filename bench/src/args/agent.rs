//! `roost-bench agent`.

use clap::Args as ClapArgs;
use std::net::SocketAddr;

/// `roost-bench agent`.
#[derive(Debug, Clone, ClapArgs)]
pub struct AgentArgs {
    /// Take orders here; whoever can connect can give them, so choose an address of a network that
    /// only the bench has
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Run on these processors [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// End after the first order
    #[arg(long)]
    pub once: bool,
}
