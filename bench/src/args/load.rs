//! How is written: what all scenarios with messages take.

use crate::scenario::load::Pace;
use clap::Args as ClapArgs;

/// How is written.
#[derive(Debug, Clone, ClapArgs)]
pub struct LoadArgs {
    /// Open loop: so many messages a second in all, each timed from when it was due [default:
    /// depends on the scenario, see --help]
    #[arg(long, value_name = "N", conflicts_with = "window")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Option<u32>,
    /// Closed loop instead: messages of a conversation that may be on their way; the next goes when
    /// one was acknowledged and is with every reader. Its writers share them
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    pub window: Option<u32>,
    /// Bytes of a message's body; the first 16 are for checking
    #[arg(long, value_name = "N", default_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub body_bytes: u32,
}

impl LoadArgs {
    /// An open loop, unless a window is given.
    #[must_use]
    pub fn pace(&self, default_rate: u32) -> Pace {
        self.window.map_or_else(|| Pace::Rate(self.rate.unwrap_or(default_rate)), Pace::Window)
    }
}
