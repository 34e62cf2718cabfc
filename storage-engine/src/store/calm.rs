//! What a store does while hardly anything is written: it gives back memory that only busy times
//! need, and seals the segment being written before it is full if its index takes much.

use std::sync::Arc;

use super::tending::Obstacle;
use super::{Making, Store};
use crate::index::SegmentIndex;
use crate::layout::{HEADER_BYTES, u64_of};

/// A buffer for commits that is kept all the same.
const BUFFER_KEPT_BYTES: usize = 64 << 10;

/// How much was written and read lately.
#[derive(Debug, Default)]
pub(super) struct Calm {
    /// When the present stretch began, and how many records and reads there were then.
    since_ms: u64,
    records: u64,
    reads: u64,
    /// Whether the last stretch had few records.
    is_calm: bool,
    /// The segment being written is to be sealed, as soon as that can be.
    rolls: bool,
}

impl Calm {
    pub(super) fn is_calm(&self) -> bool {
        self.is_calm
    }

    /// Whether the next segment is needed though this one has room.
    pub(super) fn wants_next(&self) -> bool {
        self.rolls
    }

    /// The segment being written is another one now, whatever the reason.
    pub(super) fn rolled(&mut self) {
        self.rolls = false;
    }
}

impl Store {
    /// Bytes of memory, roughly, for finding what is not sealed.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        let live = self.live().map(|segment| segment.index.memory_bytes());
        let old = self.held.old.values().map(|old| old.index.memory_bytes());
        let spare = self.spare_indices.iter().map(SegmentIndex::memory_bytes);
        u64_of(live.chain(old).chain(spare).sum())
    }

    /// Whether a batch is gathered or under way.
    fn is_committing(&self) -> bool {
        !self.gathered.is_empty() || self.in_flight.is_some()
    }

    pub(super) fn is_quarter_written(&self) -> bool {
        self.active.end > self.active.capacity / 4
    }

    /// Looks at how much was done since it last did, and does what there is time for.
    pub(super) fn rest(&mut self) {
        if self.now_ms.saturating_sub(self.calm.since_ms) >= self.settings.rest_after_ms {
            self.begin_stretch();
        }
        let next_is_made = self.next.as_ref().is_some_and(|next| next.making == Making::Ready);
        if self.calm.rolls && next_is_made && !self.is_committing() && self.may_roll() {
            self.roll();
        }
    }

    fn begin_stretch(&mut self) {
        let few = self.settings.rest_records;
        let (records, reads) = (self.stats.records, self.stats.reads);
        let is_calm = records - self.calm.records < few;
        if is_calm {
            self.give_back();
        }
        if reads - self.calm.reads < few {
            self.reading.cache.age();
        }
        let rolls = is_calm && self.is_worth_sealing();
        self.calm = Calm { since_ms: self.now_ms, records, reads, is_calm, rolls };
    }

    fn is_worth_sealing(&self) -> bool {
        let index = &self.active.index;
        let is_large = index.memory_bytes() >= self.settings.rest_index_bytes;
        let has_many = self.is_quarter_written() && index.len() >= self.settings.rest_streams;
        self.active.end > HEADER_BYTES && (is_large || has_many) && self.may_roll()
    }

    /// Only while nothing waits to be sealed: else a segment that cannot be sealed, or a full disk,
    /// would cost a file for every pause.
    fn may_roll(&self) -> bool {
        self.active.making == Making::Ready
            && self.rolled.is_empty()
            && self.held.old.is_empty()
            && self.tending.obstacle == Obstacle::Nothing
            && !self.full
    }

    /// Gives back what only much writing needs. Indices go to another thread.
    fn give_back(&mut self) {
        self.spare.retain(|buffer| buffer.capacity() <= BUFFER_KEPT_BYTES);
        let left = &mut self.tending.left.indices;
        left.extend(self.spare_indices.drain(..).map(Arc::new));
        for live in self.next.as_mut().into_iter().chain([&mut self.active]) {
            let is_large = live.index.memory_bytes() >= self.settings.rest_index_bytes;
            if is_large && live.index.is_empty() {
                let index = core::mem::replace(&mut live.index, SegmentIndex::new());
                left.push(Arc::new(index));
            }
        }
    }
}
