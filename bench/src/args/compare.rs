//! `roost-bench compare`.

use super::Output;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// `roost-bench compare`.
#[derive(Debug, Clone, ClapArgs)]
pub struct CompareArgs {
    /// A result: the measure of the other
    #[arg(value_name = "A.json")]
    pub before: PathBuf,
    /// A result of the same scenario: better, worse, or no change?
    #[arg(value_name = "B.json")]
    pub after: PathBuf,
    /// Changes smaller than so much are none, whatever the intervals say [default: 2 with three
    /// rounds or more on both sides, else 5]
    #[arg(long, value_name = "PERCENT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub threshold: Option<u32>,
    /// Where the comparison goes.
    #[command(flatten)]
    pub output: Output,
}
