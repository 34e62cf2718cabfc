//! `roost-bench floor`.

use super::Output;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// `roost-bench floor`: what this machine does without any broker.
#[derive(Debug, Clone, ClapArgs)]
pub struct FloorArgs {
    /// Measure each part for so long
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Connections that are held, and those that are echoed on
    #[arg(long, value_name = "N", default_value = "1000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub connections: u32,
    /// The disk that is measured is that of this folder [default: that of this program]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The serving side runs on these processors
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0")]
    pub server_cpus: Vec<usize>,
    /// The other side runs on these processors [default: 1, or 0 where there is only one]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// Where the result goes.
    #[command(flatten)]
    pub output: Output,
}
