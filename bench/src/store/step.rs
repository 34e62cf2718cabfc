//! The steps of measurements: what a child is told, and what it answers.

use super::contestant::Contestant;
use super::engine::Failure;
use super::{append, build, child, cold_read, natural, open};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::PathBuf;

/// What a child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// With whom.
    pub contestant: Contestant,
    /// On which folder.
    pub folder: PathBuf,
    /// Cache, if it is a peer.
    pub cache_bytes: u64,
    /// What.
    pub task: Task,
}

/// What a child can do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Task {
    /// Batch after batch.
    Append(append::Settings),
    /// Many writers, each appends again as soon as its record is durable. Ours only.
    Natural(natural::Settings),
    /// The call alone, without its IO. Ours only.
    Call(natural::Settings),
    /// A store with a workload in it.
    Build(build::Settings),
    /// Conversations that are in no cache.
    ColdRead(cold_read::Settings),
    /// Append until killed.
    AppendUntilKilled(open::Settings),
    /// Open, once.
    Open(open::Settings),
}

/// Does as it was told and writes the answer to the standard output.
///
/// # Errors
/// Whatever went wrong.
pub fn perform(order: &str) -> Result<(), Failure> {
    child::end_with_parent()?;
    let order: Order = serde_json::from_str(order)?;
    let answer = match &order.task {
        Task::Append(settings) => serde_json::to_string(&append::measure(&order, settings)?)?,
        Task::Natural(settings) => serde_json::to_string(&natural::measure(&order, settings)?)?,
        Task::Call(settings) => serde_json::to_string(&natural::measure_call(&order, settings)?)?,
        Task::Build(settings) => serde_json::to_string(&build::perform(&order, settings)?)?,
        Task::ColdRead(settings) => serde_json::to_string(&cold_read::measure(&order, settings)?)?,
        Task::Open(settings) => serde_json::to_string(&open::measure(&order, settings)?)?,
        Task::AppendUntilKilled(settings) => return open::append_until_killed(&order, settings),
    };
    io::stdout().write_all(answer.as_bytes())?;
    Ok(())
}
