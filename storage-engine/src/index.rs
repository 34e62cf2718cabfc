//! Where the records of an unsealed segment lie: an arena of entries, and for each stream its
//! last one. Adding allocates only when the arena or the map grows.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::layout::{u32_of, usize_of};
use crate::position::StreamId;

const NONE: u32 = u32::MAX;

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    previous: u32,
    pub(crate) snapshot: bool,
}

impl Entry {
    /// An entry that stands for itself.
    pub(crate) fn alone(seq: u64, offset: u32, length: u32) -> Self {
        Self { seq, offset, length, previous: NONE, snapshot: false }
    }

    /// Where the record ends in its segment.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

/// The index of one segment.
#[derive(Debug)]
pub(crate) struct SegmentIndex {
    entries: Vec<Entry>,
    last: HashMap<StreamId, u32, FixedState>,
}

impl SegmentIndex {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            last: HashMap::with_hasher(FixedState::with_seed(0x526f_6f73_7453_746f)),
        }
    }

    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.last.clear();
    }

    pub(crate) fn add(&mut self, stream: StreamId, mut entry: Entry, snapshot: bool) {
        let place = u32_of(self.entries.len());
        entry.previous = self.last.insert(stream, place).unwrap_or(NONE);
        entry.snapshot = snapshot;
        self.entries.push(entry);
    }

    pub(crate) fn holds(&self, stream: StreamId) -> bool {
        self.last.contains_key(&stream)
    }

    /// The records of a stream, newest first.
    pub(crate) fn newest_first(&self, stream: StreamId) -> impl Iterator<Item = Entry> + '_ {
        let first = self.last.get(&stream).copied().unwrap_or(NONE);
        let at = |place: u32| self.entries.get(usize_of(place)).copied();
        core::iter::successors(at(first), move |entry| at(entry.previous))
    }

    /// Its streams, in no particular order: the caller sorts.
    pub(crate) fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.last.keys().copied()
    }
}
