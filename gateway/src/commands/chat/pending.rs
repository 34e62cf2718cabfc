//! What waits for the flush at the end of a turn.

use super::names::Name;
use super::state_entries::{Batch, Owner, Unprinted};
use roost_client::Session;

/// What the session asked for in this turn.
#[derive(Default)]
pub(super) struct Pending {
    /// What goes into the state file first.
    pub(super) batch: Batch,
    /// Goes to the person last.
    pub(super) lines: Unprinted,
    /// Some of the lines tell of stored things.
    pub(super) is_stored: bool,
    /// In this order.
    pub(super) effects: Vec<Effect>,
}

/// Something to do.
pub(super) enum Effect {
    Connect,
    Transmit(Vec<u8>),
    Disconnect,
    NeedToken,
}

impl Pending {
    pub(super) const fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.lines.text.is_empty() && self.effects.is_empty()
    }
}

/// Everything a state file has to hold.
pub(super) fn compacted(
    owner: &Owner,
    session: &Session,
    names: impl Iterator<Item = Name>,
) -> Batch {
    let mut batch = Batch::default();
    batch.owner(owner);
    for name in names {
        batch.name(&name);
    }
    for record in session.snapshot() {
        batch.session(&record);
    }
    batch
}
