//! *Delivered* and *Read*: watermarks without an answer, so they are said again until they must
//! have arrived.

use crate::limits::DELIVERED_AGAIN_MAX;
use crate::record::Change;
use crate::session::{Effect, Session, id_bytes};
use crate::state::State;
use roost_protocol::ids::ConversationId;
use roost_protocol::limits::MARKS_MAX;
use roost_protocol::wire::{self, client_frame::Body};
use std::collections::{BTreeMap, BTreeSet};

/// What is to be said, and what may have been lost.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// *Delivered* to say; whether it moved since it was last said.
    due: BTreeMap<ConversationId, bool>,
    /// Moved and said on this connection.
    said: BTreeSet<ConversationId>,
    /// Said in this epoch, and no Sync was answered since that was asked after it.
    moved: BTreeMap<ConversationId, u64>,
    reads_due: BTreeSet<ConversationId>,
    /// Read marks the server may not know, all of them persisted.
    reads_open: BTreeSet<ConversationId>,
    /// Said on this connection: the seq and the epoch.
    reads_said: BTreeMap<ConversationId, (u64, u64)>,
    /// Counts the Syncs asked for.
    epoch: u64,
}

impl Notices {
    pub(crate) fn is_idle(&self) -> bool {
        self.due.is_empty() && self.reads_due.is_empty()
    }

    pub(crate) fn delivered_due(&mut self, id: ConversationId) {
        self.due.insert(id, true);
    }

    pub(crate) fn read_due(&mut self, id: ConversationId) {
        self.reads_open.insert(id);
        self.reads_due.insert(id);
    }

    pub(crate) fn open_read(&mut self, id: ConversationId) {
        self.reads_open.insert(id);
    }

    /// A new connection: whatever the last one may have lost is said again; with `recent` also
    /// what another run of the server may have forgotten.
    pub(crate) fn welcomed(&mut self, state: &State, recent: bool) {
        for id in std::mem::take(&mut self.said).into_iter().chain(self.moved.keys().copied()) {
            self.due.entry(id).or_insert(false);
        }
        if recent {
            for id in state.recent().take(DELIVERED_AGAIN_MAX) {
                self.due.entry(id).or_insert(false);
            }
        }
        self.reads_due.extend(&self.reads_open);
    }

    pub(crate) fn disconnected(&mut self) {
        self.reads_said.clear();
    }

    /// A Sync is asked for: its answer will prove what was said before.
    pub(crate) const fn begin_barrier(&mut self) -> u64 {
        self.epoch = self.epoch.saturating_add(1);
        self.epoch
    }
}

impl Session {
    /// The person has seen everything up to `seq`.
    pub(crate) fn mark_read(&mut self, id: ConversationId, seq: u64) {
        let Some(entry) = self.state.conversations.get(&id) else { return };
        if seq <= entry.read {
            return;
        }
        let uncounted = entry.steps.at(seq).min(seq);
        self.change(Change::ReadMark { conversation: id, seq, uncounted, pending: true });
        self.persist.effects.push(Effect::ReadMark(id));
    }

    pub(crate) fn pump_notices(&mut self) {
        let due = std::mem::take(&mut self.notices.due);
        let mut marks = Vec::new();
        for (id, moved) in due {
            let up_to = self.state.conversations.get(&id).map_or(0, |entry| entry.persisted);
            if up_to == 0 || !self.config.auto_delivered {
                continue;
            }
            marks.push(wire::Mark { conversation: id_bytes(id), seq: up_to, uncounted: 0 });
            if moved {
                self.notices.said.insert(id);
            }
            self.notices.moved.insert(id, self.notices.epoch);
        }
        for marks in marks.chunks(MARKS_MAX) {
            let delivered = wire::Delivered { marks: marks.to_vec() };
            self.transmit(0, Body::Delivered(delivered));
        }
        self.pump_reads();
    }

    fn pump_reads(&mut self) {
        let mut marks = Vec::new();
        for id in std::mem::take(&mut self.notices.reads_due) {
            let Some(entry) = self.state.conversations.get(&id) else { continue };
            let (seq, uncounted) = (entry.read, entry.read_uncounted);
            marks.push(wire::Mark { conversation: id_bytes(id), seq, uncounted });
            self.notices.reads_said.insert(id, (seq, self.notices.epoch));
        }
        for marks in marks.chunks(MARKS_MAX) {
            let read = wire::Read { marks: marks.to_vec() };
            self.transmit(0, Body::Read(read));
        }
    }

    /// A Sync was answered: what was said before it was asked for has arrived.
    pub(crate) fn settle_notices(&mut self, barrier: u64) {
        self.notices.moved.retain(|_, epoch| *epoch >= barrier);
        let said = std::mem::take(&mut self.notices.reads_said);
        for (id, (seq, epoch)) in said {
            if epoch >= barrier {
                self.notices.reads_said.insert(id, (seq, epoch));
                continue;
            }
            let Some(entry) = self.state.conversations.get(&id) else { continue };
            if entry.read == seq && entry.read_pending {
                let uncounted = entry.read_uncounted;
                self.notices.reads_open.remove(&id);
                let pending = false;
                self.change(Change::ReadMark { conversation: id, seq, uncounted, pending });
            }
        }
    }
}
