//! In place of the peers, in a build without them.

use super::contestant::Contestant;
use super::engine::{Engine, Failure};
use std::path::Path;

/// None.
pub(super) const BUILT: &[Contestant] = &[];

pub(super) fn open(peer: Contestant, _: &Path, _: u64) -> Result<Box<dyn Engine>, Failure> {
    Err(format!("{}: build this program with --features peers", peer.name()).into())
}

pub(super) const fn settings(_: Contestant) -> &'static str {
    ""
}

pub(super) const fn sqlite_version() -> String {
    String::new()
}
