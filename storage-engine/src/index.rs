//! Where the records of an unsealed segment lie: entries, and for each stream its last one. Both
//! grow a little at a time, however many there are: nothing is ever moved or cleared as a whole, so
//! that no append and no end of a batch holds the thread that serves for long.

use core::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use crate::layout::usize_of;
use crate::position::StreamId;
use crate::record::Role;

const NONE: u32 = u32::MAX;
/// Entries that lie side by side.
const CHUNK_ENTRIES: usize = 2048;
/// Streams of a part on average, at most; the largest has little more than twice as many.
const PART_STREAMS: usize = 256;
/// Parts that are cleared at once: each may take a look into memory that was not used for long.
const PARTS_CLEARED: usize = 64;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key([u64; 2]);

impl Key {
    fn of(stream: StreamId) -> Self {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("masked");
        Self([half(stream.0 >> 64), half(stream.0)])
    }

    fn stream(self) -> StreamId {
        StreamId(u128::from(self.0[0]) << 64 | u128::from(self.0[1]))
    }

    fn hash(self) -> u64 {
        FixedState::with_seed(0x526f_6f73_7453_746f).hash_one(self.0)
    }
}

/// A stream's last entry.
#[derive(Clone, Copy, Debug)]
struct Last {
    key: Key,
    place: u32,
}

/// The index of one segment.
#[derive(Debug)]
pub(crate) struct SegmentIndex {
    /// All but the last one in use are full.
    chunks: Vec<Vec<Entry>>,
    entries: u32,
    /// The streams' last entries by parts of their hashes. When there are too many for the parts,
    /// one more takes half of what one has: see [`part_of`].
    parts: Vec<HashTable<Last>>,
    streams: usize,
    /// Parts that were cleared since [`SegmentIndex::clear_some`] began.
    cleared: usize,
}

/// The part of a hash, of so many. With a power of two it goes by that many bits; of others, those
/// that the next power of two would put behind the last part are still with their other half.
fn part_of(hash: u64, parts: usize) -> usize {
    let whole = parts.next_power_of_two();
    // Not the bits that a part itself goes by, which are at both ends.
    let bits = u32::try_from(hash >> 24 & u64::from(u32::MAX)).expect("masked");
    let part = usize_of(bits) & (whole - 1);
    if part < parts { part } else { part - whole / 2 }
}

impl SegmentIndex {
    pub(crate) fn new() -> Self {
        let (chunks, parts) = (Vec::new(), vec![HashTable::new()]);
        Self { chunks, entries: 0, parts, streams: 0, cleared: 0 }
    }

    /// Forgets some of it and keeps the memory: to be called until it is empty. Until then nothing
    /// may be added.
    pub(crate) fn clear_some(&mut self) {
        let to = self.parts.len().min(self.cleared + PARTS_CLEARED);
        self.parts[self.cleared..to].iter_mut().for_each(HashTable::clear);
        self.cleared = to;
        if to == self.parts.len() {
            self.chunks.iter_mut().for_each(Vec::clear);
            (self.entries, self.streams, self.cleared) = (0, 0, 0);
        }
    }

    /// Whether nothing is in it, and all of it is cleared.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub(crate) fn add(&mut self, stream: StreamId, mut entry: Entry) {
        let key = Key::of(stream);
        let hash = key.hash();
        let place = self.entries;
        let part = part_of(hash, self.parts.len());
        let slot = self.parts[part].entry(hash, |last| last.key == key, |last| last.key.hash());
        match slot {
            Slot::Occupied(mut last) => {
                entry.previous = core::mem::replace(&mut last.get_mut().place, place);
            }
            Slot::Vacant(slot) => {
                slot.insert(Last { key, place });
                self.streams += 1;
            }
        }
        self.push(entry);
        if self.streams > self.parts.len() * PART_STREAMS {
            self.split();
        }
    }

    fn push(&mut self, entry: Entry) {
        let chunk = usize_of(self.entries) / CHUNK_ENTRIES;
        if chunk == self.chunks.len() {
            // The first one grows: a segment may have few records.
            let entries = if chunk == 0 { 0 } else { CHUNK_ENTRIES };
            self.chunks.push(Vec::with_capacity(entries));
        }
        self.chunks[chunk].push(entry);
        self.entries += 1;
    }

    /// One more part, with half of the streams of one that has twice as many as it should.
    fn split(&mut self) {
        let parts = self.parts.len() + 1;
        let from = parts - 1 - parts.next_power_of_two() / 2;
        let mut new = HashTable::with_capacity(self.parts[from].len() / 2);
        let goes = |last: &mut Last| part_of(last.key.hash(), parts) != from;
        for last in self.parts[from].extract_if(goes) {
            new.insert_unique(last.key.hash(), last, |last| last.key.hash());
        }
        self.parts.push(new);
    }

    /// Roughly what it takes, room for more included.
    pub(crate) fn memory_bytes(&self) -> usize {
        let chunks = self.chunks.iter().map(Vec::capacity).sum::<usize>() * size_of::<Entry>();
        // A place in a table has a byte beside it.
        let places = self.parts.iter().map(HashTable::capacity).sum::<usize>();
        chunks + places * (size_of::<Last>() + 1)
    }

    /// How many streams it has.
    pub(crate) fn len(&self) -> usize {
        self.streams
    }

    /// The records of a stream, newest first.
    pub(crate) fn newest_first(&self, stream: StreamId) -> impl Iterator<Item = Entry> + '_ {
        let key = Key::of(stream);
        let hash = key.hash();
        let part = &self.parts[part_of(hash, self.parts.len())];
        let last = part.find(hash, |last| last.key == key);
        let at = |place: u32| {
            let place = usize_of(place);
            self.chunks.get(place / CHUNK_ENTRIES)?.get(place % CHUNK_ENTRIES).copied()
        };
        let first = last.map_or(NONE, |last| last.place);
        core::iter::successors(at(first), move |entry| at(entry.previous))
    }

    /// Its streams, in no particular order: the caller sorts.
    pub(crate) fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.parts.iter().flatten().map(|last| last.key.stream())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams that one call may move or forget: some ten microseconds. Not in terms of the
    /// constants above, for then any of these would do.
    const MOVED_MAX: usize = 2048;
    const FORGOTTEN_MAX: usize = 64 << 10;

    fn entry(seq: u64) -> Entry {
        Entry::alone(seq, 0, 1, Role::Plain)
    }

    fn stream(number: u64) -> StreamId {
        StreamId(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | 7)
    }

    /// Streams that were moved by the last `add`, at most: of the part that was split, and of the
    /// part that the stream went to, which may have grown.
    fn moved_at_most(index: &SegmentIndex, of: StreamId, parts_before: usize) -> usize {
        let parts = index.parts.len();
        let split = if parts > parts_before {
            let from = parts - 1 - parts.next_power_of_two() / 2;
            index.parts[from].len() + index.parts[parts - 1].len()
        } else {
            0
        };
        split + index.parts[part_of(Key::of(of).hash(), parts)].len()
    }

    #[test]
    fn whatever_it_holds_an_append_moves_little() {
        const STREAMS: u64 = 1 << 19;
        let mut index = SegmentIndex::new();
        let mut most = 0;
        for number in 0..STREAMS {
            let parts = index.parts.len();
            index.add(stream(number), entry(number));
            assert!(index.parts.len() <= parts + 1, "at most one part is split at a time");
            most = most.max(moved_at_most(&index, stream(number), parts));
        }
        assert!(most <= MOVED_MAX, "{most} streams moved by one append");
        assert!(index.chunks.iter().all(|chunk| chunk.capacity() <= CHUNK_ENTRIES));
        assert_eq!(u64::try_from(index.len()), Ok(STREAMS));
        for number in (0..STREAMS).step_by(997) {
            let found: Vec<u64> = index.newest_first(stream(number)).map(|one| one.seq).collect();
            assert_eq!(found, [number]);
        }
        assert_eq!(index.newest_first(stream(STREAMS)).count(), 0);
        assert_eq!(u64::try_from(index.streams().count()), Ok(STREAMS));
    }

    #[test]
    fn the_records_of_a_stream_come_newest_first_across_chunks_and_parts() {
        let mut index = SegmentIndex::new();
        for seq in 0..20_000 {
            index.add(stream(seq % 3000), entry(seq));
        }
        for number in 0..3000 {
            let found: Vec<u64> = index.newest_first(stream(number)).map(|one| one.seq).collect();
            let expected: Vec<u64> = (0..20_000).filter(|seq| seq % 3000 == number).rev().collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn it_is_cleared_a_little_at_a_time_and_used_again_without_new_memory() {
        let mut index = SegmentIndex::new();
        let fill = |index: &mut SegmentIndex| {
            for number in 0..100_000 {
                index.add(stream(number), entry(number));
            }
        };
        fill(&mut index);
        let memory = |index: &SegmentIndex| (index.parts.len(), index.chunks.len());
        let before = memory(&index);
        let mut calls = 0;
        while !index.is_empty() {
            let there = index.streams().count();
            index.clear_some();
            let forgotten = there - index.streams().count();
            assert!(forgotten <= FORGOTTEN_MAX, "{forgotten} streams forgotten by one call");
            calls += 1;
        }
        assert_eq!(calls, before.0.div_ceil(PARTS_CLEARED));
        assert_eq!((index.len(), index.streams().count()), (0, 0));
        assert_eq!(index.newest_first(stream(1)).count(), 0);
        fill(&mut index);
        assert_eq!(memory(&index), before);
        assert_eq!(index.len(), 100_000);
    }
}
