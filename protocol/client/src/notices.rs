//! *Delivered* and *Read*: watermarks without an answer, so they are said again until they must
//! have arrived.

use crate::limits::{DELIVERED_AGAIN_MAX, NOTICE_INTERVAL};
use crate::record::Change;
use crate::session::{Effect, Session};
use crate::state::State;
use roost_protocol::ids::{ConversationId, KeyKind};
use roost_protocol::limits::MARKS_MAX;
use roost_protocol::time::Instant;
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
    /// What comes before is gathered for one frame.
    quiet_until: Option<Instant>,
}

impl Notices {
    pub(crate) fn is_idle(&self) -> bool {
        self.due.is_empty() && self.reads_due.is_empty()
    }

    /// When what was gathered is said.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.quiet_until.filter(|until| !self.is_idle() && *until > now)
    }

    pub(crate) fn delivered_due(&mut self, id: ConversationId) {
        self.due.insert(id, true);
    }

    pub(crate) fn read_due(&mut self, id: ConversationId) {
        self.reads_open.insert(id);
        self.reads_due.insert(id);
    }

    /// A stranger was accepted: what was held back is due.
    pub(crate) fn accepted(&mut self, id: ConversationId) {
        self.due.insert(id, true);
        if self.reads_open.contains(&id) {
            self.reads_due.insert(id);
        }
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
        self.quiet_until = None;
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

    /// Says what is due: at once when nothing was said lately, else gathered for a while.
    pub(crate) fn pump_notices(&mut self) {
        let now = self.now.monotonic;
        let quiet = self.notices.quiet_until.is_some_and(|until| until > now);
        if !quiet && !self.notices.is_idle() {
            self.say_notices();
        }
    }

    /// Says what is due without waiting.
    pub(crate) fn say_notices(&mut self) {
        let due = std::mem::take(&mut self.notices.due);
        let mut marks = Vec::new();
        for (id, moved) in due {
            let Some(up_to) = self.delivered_in(id) else { continue };
            marks.push(wire::Mark { conversation: id.to_wire(), seq: up_to, uncounted: 0 });
            if moved {
                self.notices.said.insert(id);
            }
            self.notices.moved.insert(id, self.notices.epoch);
        }
        let reads = self.reads_due();
        if !marks.is_empty() || !reads.is_empty() {
            self.notices.quiet_until = Some(self.now.monotonic + NOTICE_INTERVAL);
        }
        for marks in marks.chunks(MARKS_MAX) {
            let marks = marks.to_vec();
            self.transmit(0, Body::Delivered(wire::Delivered { marks }));
        }
        for marks in reads.chunks(MARKS_MAX) {
            let marks = marks.to_vec();
            self.transmit(0, Body::Read(wire::Read { marks }));
        }
    }

    /// Up to where *delivered* may be said; nothing to a stranger, who is not to know, and in
    /// channels, where nobody asks.
    fn delivered_in(&self, id: ConversationId) -> Option<u64> {
        let entry = self.state.conversations.get(&id)?;
        let told = entry.persisted > 0 && self.config.auto_delivered;
        (told && !entry.is_request() && id.kind() != KeyKind::Channel).then_some(entry.persisted)
    }

    fn reads_due(&mut self) -> Vec<wire::Mark> {
        let mut marks = Vec::new();
        for id in std::mem::take(&mut self.notices.reads_due) {
            let Some(entry) = self.state.conversations.get(&id) else { continue };
            if entry.is_request() {
                // It stays open, and is due when the stranger is accepted.
                continue;
            }
            let (seq, uncounted) = (entry.read, entry.read_uncounted);
            marks.push(wire::Mark { conversation: id.to_wire(), seq, uncounted });
            self.notices.reads_said.insert(id, (seq, self.notices.epoch));
        }
        marks
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
