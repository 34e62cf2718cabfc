//! `roost-bench compare`.

use super::Output;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// `roost-bench compare`.
#[derive(Debug, Clone, ClapArgs)]
pub struct CompareArgs {
    /// A result, the measure of the other; with --measure a server's program
    #[arg(value_name = "A.json")]
    pub before: PathBuf,
    /// A result of the same scenario, or another program: better, worse, or no change?
    #[arg(value_name = "B.json")]
    pub after: PathBuf,
    /// A and B are builds of the server: measure both by turns, as this command line of a scenario
    /// says, and compare them round by round
    #[arg(long, value_name = "'pairs --window 8 ...'", allow_hyphen_values = true)]
    pub measure: Option<String>,
    /// With --measure: rounds of each build
    #[arg(long, value_name = "N", default_value = "16", requires = "measure")]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=99))]
    pub rounds: u32,
    /// Changes smaller than so much are none, whatever the intervals say [default: 2 with three
    /// rounds or more on both sides, else 5]
    #[arg(long, value_name = "PERCENT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub threshold: Option<u32>,
    /// Where the comparison goes.
    #[command(flatten)]
    pub output: Output,
}
