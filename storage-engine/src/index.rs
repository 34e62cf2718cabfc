//! Where the records of an unsealed segment lie: an arena of entries, and for each stream its
//! last one. Adding allocates only when the arena or the map grows.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::layout::{u32_of, usize_of};
use crate::position::StreamId;
use crate::record::Role;

const NONE: u32 = u32::MAX;

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    previous: u32,
    pub(crate) role: Role,
}

impl Entry {
    /// An entry that stands for itself.
    pub(crate) fn alone(seq: u64, offset: u32, length: u32, role: Role) -> Self {
        Self { seq, offset, length, previous: NONE, role }
    }

    /// Where the record ends in its segment.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

/// A stream as two halves: with a place beside it that makes 24 bytes, where a 128-bit number would
/// make 32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key([u64; 2]);

impl Key {
    fn of(stream: StreamId) -> Self {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("masked");
        Self([half(stream.0 >> 64), half(stream.0)])
    }

    fn stream(self) -> StreamId {
        StreamId(u128::from(self.0[0]) << 64 | u128::from(self.0[1]))
    }
}

/// The index of one segment.
#[derive(Debug)]
pub(crate) struct SegmentIndex {
    entries: Vec<Entry>,
    last: HashMap<Key, u32, FixedState>,
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

    pub(crate) fn add(&mut self, stream: StreamId, mut entry: Entry) {
        let place = u32_of(self.entries.len());
        entry.previous = self.last.insert(Key::of(stream), place).unwrap_or(NONE);
        self.entries.push(entry);
    }

    /// How many streams it has.
    pub(crate) fn len(&self) -> usize {
        self.last.len()
    }

    /// The records of a stream, newest first.
    pub(crate) fn newest_first(&self, stream: StreamId) -> impl Iterator<Item = Entry> + '_ {
        let first = self.last.get(&Key::of(stream)).copied().unwrap_or(NONE);
        let at = |place: u32| self.entries.get(usize_of(place)).copied();
        core::iter::successors(at(first), move |entry| at(entry.previous))
    }

    /// Its streams, in no particular order: the caller sorts.
    pub(crate) fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.last.keys().map(|key| key.stream())
    }
}
