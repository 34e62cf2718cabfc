//! `roost-bench store`: durable storage engines on the same disk, in one run.
//!
//! The way through: `args` says what is wanted; a part (`append`, `amplification`, `cold_read`,
//! `open`) hands `step`s to `child` processes, each of which opens one `contestant` on a folder of
//! the `place`, gives it a `workload` and watches the `device`; a `sheet` gathers what they found.
//! `roost` is all that this program knows of our engine, `peers` all that it knows of others.

pub mod amplification;
pub mod append;
pub mod args;
mod bare;
pub mod build;
pub mod child;
pub mod cold_read;
pub mod contestant;
pub mod device;
pub mod engine;
pub mod hold;
pub mod natural;
#[cfg(not(feature = "light-peers"))]
mod no_peers;
pub mod open;
#[cfg(feature = "light-peers")]
mod peers;
pub mod place;
pub mod roost;
pub mod sheet;
pub mod step;
pub mod workload;

#[cfg(not(feature = "light-peers"))]
use no_peers as peers;

use crate::report::Report;
use args::Part;
use engine::Failure;
use sheet::Sheet;

/// Measures what was asked for.
///
/// # Errors
/// A step failed, the disk cannot be used, or a signal came. What was written is removed.
pub fn run(part: &Part) -> Result<Report, Failure> {
    let mut sheet = Sheet::default();
    if !matches!(part, Part::Step { .. }) {
        child::watch_signals()?;
    }
    match part {
        Part::Append(args) => append::run(args, &mut sheet)?,
        Part::Amplification(args) => amplification::run(args, &mut sheet)?,
        Part::ColdRead(args) => cold_read::run(args, &mut sheet)?,
        Part::Open(args) => open::run(args, &mut sheet)?,
        Part::Step { order } => step::perform(order)?,
    }
    Ok(sheet.into_report())
}
