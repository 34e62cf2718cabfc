//! The two rules between a shard and its driver, seen from outside: sends and commits begin only
//! at the end of a batch, one at a time, and nobody is named after `Closed`.

use crate::host::Waiting;
use crate::trace::Broken;
use roost_gateway::ids::EdgeId;
use roost_gateway::shard::Output;
use roost_storage_engine::{StoreDone, StoreOp};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish that may be outstanding")]
struct Edge {
    sending: bool,
    paused: bool,
    closing: bool,
    /// `Closed` was taken in this batch: what the batch wished before may still name it.
    gone: bool,
}

/// What is outstanding between one shard and its driver.
#[derive(Debug)]
pub(crate) struct Contract {
    edges: BTreeMap<EdgeId, Edge>,
    committing: bool,
    store_ops: u64,
}

impl Contract {
    pub(crate) const fn new() -> Self {
        Self { edges: BTreeMap::new(), committing: false, store_ops: 0 }
    }

    /// An input is about to be taken.
    pub(crate) fn input(&mut self, input: &Waiting) {
        match input {
            Waiting::Opened(edge) => {
                self.edges.insert(*edge, Edge::default());
            }
            Waiting::Sent(edge, _) => {
                if let Some(known) = self.edges.get_mut(edge) {
                    known.sending = false;
                }
            }
            Waiting::Closed(edge) => {
                if let Some(known) = self.edges.get_mut(edge) {
                    known.gone = true;
                }
            }
            Waiting::Stored(done) => {
                self.store_ops = self.store_ops.saturating_sub(1);
                if matches!(done, StoreDone::Committed { .. }) {
                    self.committing = false;
                }
            }
            Waiting::Tick
            | Waiting::Received(..)
            | Waiting::Arrived(..)
            | Waiting::Slots(..)
            | Waiting::Drain => {}
        }
    }

    /// A batch ended with these outputs, of which the first so many came before `end_batch`.
    pub(crate) fn batch(&mut self, outputs: &[Output], begun: usize) -> Result<(), Broken> {
        for (place, output) in outputs.iter().enumerate() {
            self.output(output)?;
            let early = place < begun;
            match output {
                Output::Store(StoreOp::Commit { .. }) if early => {
                    return Err(Broken::new("a commit began before the batch ended"));
                }
                Output::Send { edge, .. } if early => {
                    // Only the last words to a connection that is being ended.
                    let closes =
                        |later: &Output| matches!(later, Output::Close { edge: e } if e == edge);
                    if !outputs[place..].iter().any(closes) {
                        return Err(Broken::new("a send began before the batch ended"));
                    }
                }
                Output::Send { .. }
                | Output::Close { .. }
                | Output::Abort { .. }
                | Output::Pause { .. }
                | Output::Resume { .. }
                | Output::PauseAccepting { .. }
                | Output::ResumeAccepting { .. }
                | Output::Forward { .. }
                | Output::Store(_)
                | Output::Report(_)
                | Output::Drained => {}
            }
        }
        self.edges.retain(|_, edge| !edge.gone);
        Ok(())
    }

    fn output(&mut self, output: &Output) -> Result<(), Broken> {
        match output {
            Output::Send { edge, buffer } => {
                let known = self.edge(*edge, "sends to")?;
                if !known.gone && (known.sending || known.closing) {
                    return Err(Broken::new("two sends are outstanding on one connection"));
                }
                known.sending = true;
                if buffer.is_empty() {
                    return Err(Broken::new("a send of nothing"));
                }
            }
            Output::Close { edge } => {
                let known = self.edge(*edge, "closes")?;
                if std::mem::replace(&mut known.closing, true) {
                    return Err(Broken::new("a connection is closed twice"));
                }
            }
            Output::Abort { edge } => self.edge(*edge, "aborts")?.closing = true,
            Output::Pause { edge } => {
                if std::mem::replace(&mut self.edge(*edge, "pauses")?.paused, true) {
                    return Err(Broken::new("a connection is paused twice"));
                }
            }
            Output::Resume { edge } => {
                if !std::mem::replace(&mut self.edge(*edge, "resumes")?.paused, false) {
                    return Err(Broken::new("a connection is resumed that was not paused"));
                }
            }
            Output::Store(op) => {
                self.store_ops += 1;
                let commit = matches!(op, StoreOp::Commit { .. });
                if commit && std::mem::replace(&mut self.committing, true) {
                    return Err(Broken::new("two commits are under way"));
                }
            }
            Output::PauseAccepting { .. }
            | Output::ResumeAccepting { .. }
            | Output::Forward { .. }
            | Output::Report(_)
            | Output::Drained => {}
        }
        Ok(())
    }

    fn edge(&mut self, edge: EdgeId, what: &str) -> Result<&mut Edge, Broken> {
        // A slot's next connection may have come in the same batch: generations tell them apart.
        let unknown = || Broken::new(format!("the shard {what} {edge:?}, which is closed"));
        self.edges.get_mut(&edge).ok_or_else(unknown)
    }
}
