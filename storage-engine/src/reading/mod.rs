//! Reading: find the segments that hold what is asked, list the records there, fetch them, check
//! them. A read has one fetch under way at most; what is in memory needs none.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::{DiskError, ReadError};
use crate::index::{Entry, SegmentIndex};
use crate::layout::{BLOCK_BYTES, u64_of, usize_of};
use crate::op::StoreOp;
use crate::position::{FetchId, Position, ReadId, SegmentId};
use crate::query::{Query, StoredRecord};
use crate::record::{Mask, RECORD_HEAD, stored};
use crate::sealed::{Line, SealedRoot};
use crate::store::{Store, StoreEvent};

/// Records closer than this are fetched as one range.
const GAP_MAX: u64 = 1024;
/// Bytes of records asked for in one fetch, roughly.
const FETCH_BYTES: u64 = 1 << 20;
/// List items looked at first; doubled each time they do not suffice.
const WINDOW: u32 = 255;

/// The segments of earlier runs, and all sealed ones.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) old: BTreeMap<SegmentId, OldSegment>,
    pub(crate) sealed: BTreeMap<SegmentId, SealedRoot>,
}

/// A segment of an earlier run that is not sealed; the index has this store's streams only.
#[derive(Debug)]
pub(crate) struct OldSegment {
    pub(crate) length: u64,
    pub(crate) mask: Mask,
    pub(crate) index: SegmentIndex,
}

/// All reads under way.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    reads: u64,
    fetches: u64,
    waiting: Vec<Read>,
    fetching: BTreeMap<FetchId, Read>,
    pub(crate) ready: Vec<StoreEvent>,
}

/// One read.
#[derive(Debug)]
struct Read {
    id: ReadId,
    query: Query,
    /// What must be durable before it looks.
    wait: Position,
    /// Segments to look into, the newest last.
    segments: Vec<SegmentId>,
    /// Where records were found, the next to list last.
    places: Vec<Place>,
    /// Records certainly found in places.
    found: usize,
    located: bool,
    chosen: Vec<Chosen>,
    chosen_bytes: usize,
    listed: bool,
    records: Vec<StoredRecord>,
    /// How many of `chosen` are fetched.
    fetched: usize,
    awaited: Awaited,
}

/// What an answer to a read's fetch holds.
#[derive(Debug)]
enum Awaited {
    Nothing,
    Line { segment: SegmentId, at: u64 },
    Items { place: Box<SealedPlace>, first: u32, end: u32 },
    Records { count: usize, ranges: Vec<(u64, u32)> },
}

#[derive(Debug)]
enum Place {
    /// Matching entries in the query's order.
    Memory {
        segment: SegmentId,
        mask: Mask,
        entries: Vec<Entry>,
    },
    Sealed(Box<SealedPlace>),
}

#[derive(Debug)]
struct SealedPlace {
    root: SealedRoot,
    line: Line,
    /// The stretch of the stream's items that is still to be listed.
    low: u32,
    high: u32,
    window: u32,
}

#[derive(Clone, Copy, Debug)]
struct Chosen {
    segment: SegmentId,
    mask: Mask,
    offset: u32,
    length: u32,
}

impl Store {
    /// Reads of a stream. Answered by exactly one `StoreEvent::Read`, in a later `handle` or, if
    /// nothing need be fetched, in `take_ready`. What is appended but not durable is waited for.
    pub fn read(&mut self, query: Query, ops: &mut Vec<StoreOp>) -> ReadId {
        self.reading.reads += 1;
        self.stats.reads += 1;
        let id = ReadId(self.reading.reads);
        let read = Read::new(id, query, self.last_position(&query));
        if self.failed.is_some() {
            self.finish_read(id, Err(ReadError::Stopped));
        } else if read.wait > self.durable() {
            self.reading.waiting.push(read);
        } else {
            self.begin_read(read, ops);
        }
        id
    }

    /// Moves what happened without an answer from the disk.
    pub fn take_ready(&mut self, events: &mut Vec<StoreEvent>) {
        events.append(&mut self.reading.ready);
    }

    /// The end of the stream's last record of this run.
    fn last_position(&self, query: &Query) -> Position {
        if let Query::Replay { .. } = query {
            return Position(0);
        }
        let last = self.live().find_map(|segment| {
            let entry = segment.index.newest_first(query.stream()).next()?;
            Some(segment.position(&entry))
        });
        last.unwrap_or_default()
    }

    pub(crate) fn resume_waiting(&mut self, ops: &mut Vec<StoreOp>) {
        let durable = self.durable();
        let all = core::mem::take(&mut self.reading.waiting);
        let (now, later) = all.into_iter().partition(|read| read.wait <= durable);
        self.reading.waiting = later;
        let now: Vec<Read> = now;
        for read in now {
            self.begin_read(read, ops);
        }
    }

    pub(crate) fn stop_waiting(&mut self) {
        for read in core::mem::take(&mut self.reading.waiting) {
            self.finish_read(read.id, Err(ReadError::Stopped));
        }
    }

    fn finish_read(&mut self, id: ReadId, result: Result<Vec<StoredRecord>, ReadError>) {
        self.reading.ready.push(StoreEvent::Read { id, result });
    }

    fn begin_read(&mut self, mut read: Read, ops: &mut Vec<StoreOp>) {
        let stream = read.query.stream();
        let held = &self.held;
        let old = held.old.iter().filter(|(_, old)| old.index.holds(stream)).map(|(&id, _)| id);
        read.segments.extend(old);
        if !matches!(read.query, Query::Replay { .. }) {
            let possible = |root: &SealedRoot| root.directory_block(stream).is_some();
            let sealed = held.sealed.iter().filter(|(_, root)| possible(root)).map(|(&id, _)| id);
            read.segments.extend(sealed);
            let live = self.live().filter(|segment| segment.index.holds(stream));
            read.segments.extend(live.map(|segment| segment.id()));
        }
        read.segments.sort_unstable();
        read.located = read.limit() == 0;
        self.advance(read, ops);
    }

    /// Goes on until something must be fetched or the read ends.
    fn advance(&mut self, mut read: Read, ops: &mut Vec<StoreOp>) {
        loop {
            if !read.located {
                let Some(segment) = read.segments.pop() else {
                    read.end_locating();
                    continue;
                };
                if let Some(at) = self.locate(&mut read, segment) {
                    read.awaited = Awaited::Line { segment, at };
                    return self.fetch(read, segment, vec![(at, BLOCK_BYTES)], ops);
                }
            } else if !read.listed {
                if let Some((segment, range)) = read.list_next() {
                    return self.fetch(read, segment, vec![range], ops);
                }
            } else if read.fetched < read.chosen.len() {
                let (segment, ranges) = read.next_records();
                return self.fetch(read, segment, ranges, ops);
            } else {
                return self.finish_read(read.id, Ok(read.records));
            }
        }
    }

    fn fetch(
        &mut self,
        read: Read,
        segment: SegmentId,
        ranges: Vec<(u64, u32)>,
        ops: &mut Vec<StoreOp>,
    ) {
        self.reading.fetches += 1;
        self.stats.fetches += 1;
        let id = FetchId(self.reading.fetches);
        self.reading.fetching.insert(id, read);
        ops.push(StoreOp::Fetch { id, segment, ranges });
    }

    /// Looks into a segment: what is in memory is added to the read; for a sealed segment gives
    /// the place of the directory block to fetch.
    fn locate(&self, read: &mut Read, segment: SegmentId) -> Option<u64> {
        let stream = read.query.stream();
        let durable = self.durable();
        if let Some(old) = self.held.old.get(&segment) {
            read.add_memory(segment, old.mask, old.index.newest_first(stream));
        } else if let Some(live) = self.live().find(|live| live.id() == segment) {
            let entries = live.index.newest_first(stream);
            let shown = entries.filter(|entry| live.position(entry) <= durable);
            read.add_memory(segment, live.mask(), shown);
        } else {
            return self.held.sealed.get(&segment)?.directory_block(stream);
        }
        None
    }

    pub(crate) fn fetched(
        &mut self,
        id: FetchId,
        outcome: Result<Vec<Bytes>, DiskError>,
        ops: &mut Vec<StoreOp>,
    ) {
        let mut read = self.reading.fetching.remove(&id).expect("an answer follows a question");
        let buffers = match outcome {
            Ok(buffers) => buffers,
            Err(error) => return self.finish_read(read.id, Err(ReadError::Disk(error))),
        };
        let awaited = core::mem::replace(&mut read.awaited, Awaited::Nothing);
        let taken = match awaited {
            Awaited::Nothing => Ok(()),
            Awaited::Line { segment, at } => self.take_line(&mut read, segment, at, &buffers),
            Awaited::Items { place, first, end } => read.take_items(place, first, end, &buffers),
            Awaited::Records { count, ranges } => {
                self.take_records(&mut read, count, &ranges, &buffers);
                Ok(())
            }
        };
        match taken {
            Ok(()) => self.advance(read, ops),
            Err((segment, offset)) => {
                self.corrupt(segment, offset);
                self.finish_read(read.id, Err(ReadError::Index { segment, offset }));
            }
        }
    }

    fn corrupt(&mut self, segment: SegmentId, offset: u64) {
        self.stats.corrupt += 1;
        self.reading.ready.push(StoreEvent::Corrupt { segment, offset });
    }

    fn take_line(
        &self,
        read: &mut Read,
        segment: SegmentId,
        at: u64,
        buffers: &[Bytes],
    ) -> Result<(), (SegmentId, u64)> {
        let root = self.held.sealed.get(&segment).expect("sealed segments stay");
        let block = buffers.first().ok_or((segment, at))?;
        let line = root.line(block, at, read.query.stream()).map_err(|at| (segment, at))?;
        if let Some(line) = line {
            read.add_sealed(root, line);
        }
        Ok(())
    }

    fn take_records(
        &mut self,
        read: &mut Read,
        count: usize,
        ranges: &[(u64, u32)],
        buffers: &[Bytes],
    ) {
        let stream = read.query.stream();
        for chosen in &read.chosen[read.fetched..read.fetched + count] {
            let offset = u64::from(chosen.offset);
            let after = ranges.partition_point(|&(start, _)| start <= offset);
            let bytes = after.checked_sub(1).and_then(|range| {
                let from = usize::try_from(offset - ranges[range].0).ok()?;
                let end = from + usize_of(chosen.length);
                let buffer = buffers.get(range)?;
                (end <= buffer.len()).then(|| buffer.slice(from..end))
            });
            let mask = chosen.mask.at(chosen.offset);
            match bytes.and_then(|bytes| stored(&bytes, stream, mask)) {
                Some(record) => read.records.push(record),
                None => self.corrupt(chosen.segment, offset),
            }
        }
        read.fetched += count;
    }
}

impl Read {
    fn new(id: ReadId, query: Query, wait: Position) -> Self {
        Self {
            id,
            query,
            wait,
            segments: Vec::new(),
            places: Vec::new(),
            found: 0,
            located: false,
            chosen: Vec::new(),
            chosen_bytes: 0,
            listed: false,
            records: Vec::new(),
            fetched: 0,
            awaited: Awaited::Nothing,
        }
    }

    fn limit(&self) -> usize {
        match self.query {
            Query::Load { .. } | Query::Replay { .. } => usize::MAX,
            Query::Before { limit, .. } | Query::After { limit, .. } => limit,
        }
    }

    fn max_bytes(&self) -> usize {
        match self.query {
            Query::Load { .. } | Query::Replay { .. } => usize::MAX,
            Query::Before { max_bytes, .. } | Query::After { max_bytes, .. } => max_bytes,
        }
    }

    /// Adds what a segment in memory holds; stops locating when older ones are not needed.
    fn add_memory(
        &mut self,
        segment: SegmentId,
        mask: Mask,
        newest_first: impl Iterator<Item = Entry>,
    ) {
        let mut entries = Vec::new();
        let mut enough = false;
        match self.query {
            Query::Load { .. } => {
                for entry in newest_first {
                    entries.push(entry);
                    enough = entry.snapshot;
                    if enough {
                        break;
                    }
                }
            }
            Query::Before { seq, limit, .. } => {
                let wanted = newest_first.filter(|entry| entry.seq > 0 && entry.seq < seq);
                entries.extend(wanted.take(limit - self.found));
                self.found += entries.len();
                enough = self.found >= limit;
            }
            Query::After { seq, .. } => {
                for entry in newest_first.filter(|entry| entry.seq > 0) {
                    enough = entry.seq <= seq.saturating_add(1);
                    if entry.seq > seq {
                        entries.push(entry);
                    }
                    if enough {
                        break;
                    }
                }
            }
            Query::Replay { .. } => entries.extend(newest_first),
        }
        if !matches!(self.query, Query::Before { .. }) {
            entries.reverse();
            entries.truncate(self.limit());
        }
        self.places.push(Place::Memory { segment, mask, entries });
        if enough {
            self.end_locating();
        }
    }

    /// Adds what a sealed segment holds; stops locating when older ones are not needed.
    fn add_sealed(&mut self, root: &SealedRoot, line: Line) {
        let (mut low, mut high) = (0, line.count);
        // Where each record has a seq and none is missing, a seq is a place.
        let dense = line.sequenced == line.count
            && line.last_seq.checked_sub(line.first_seq) == Some(u64::from(line.count - 1));
        let place_of = |seq: u64| {
            let place = seq.saturating_sub(line.first_seq).min(u64::from(line.count));
            u32::try_from(place).expect("at most the count")
        };
        let mut enough = false;
        match self.query {
            Query::Load { .. } => {
                low = line.snapshot.unwrap_or(0);
                enough = line.snapshot.is_some();
            }
            Query::Before { seq, limit, .. } => {
                if line.sequenced == 0 || line.first_seq >= seq {
                    return;
                }
                high = if dense { place_of(seq) } else { high };
                self.found += if dense {
                    usize_of(high)
                } else if line.last_seq < seq {
                    usize_of(line.sequenced)
                } else {
                    1
                };
                self.found = self.found.min(limit);
                enough = self.found >= limit;
            }
            Query::After { seq, .. } => {
                if line.sequenced == 0 {
                    return;
                }
                enough = line.first_seq <= seq.saturating_add(1);
                low = if dense { place_of(seq.saturating_add(1)) } else { low };
                if line.last_seq <= seq {
                    return self.end_locating();
                }
            }
            Query::Replay { .. } => {}
        }
        let root = root.clone();
        let place = SealedPlace { root, line, low, high, window: WINDOW };
        self.places.push(Place::Sealed(Box::new(place)));
        if enough {
            self.end_locating();
        }
    }

    /// Puts the place to list next last.
    fn end_locating(&mut self) {
        self.located = true;
        if matches!(self.query, Query::Before { .. }) {
            self.places.reverse();
        }
    }

    /// Lists the next place: what is in memory at once, else gives the range to fetch.
    fn list_next(&mut self) -> Option<(SegmentId, (u64, u32))> {
        match self.places.pop() {
            None => self.listed = true,
            Some(Place::Memory { segment, mask, entries }) => {
                for entry in entries {
                    self.choose(segment, mask, &entry);
                }
            }
            Some(Place::Sealed(place)) if place.low < place.high => {
                let (first, end) = self.window(&place);
                let (first, end) = (place.line.first_item + first, place.line.first_item + end);
                let segment = place.root.segment();
                let range = place.root.list_range(first, end);
                self.awaited = Awaited::Items { place, first, end };
                return Some((segment, range));
            }
            Some(Place::Sealed(_)) => {}
        }
        None
    }

    /// The stretch of a place's items to look at next.
    fn window(&self, place: &SealedPlace) -> (u32, u32) {
        match self.query {
            Query::Load { .. } | Query::Replay { .. } => (place.low, place.high),
            Query::Before { .. } => {
                (place.high.saturating_sub(place.window).max(place.low), place.high)
            }
            Query::After { .. } => (place.low, (place.low + place.window).min(place.high)),
        }
    }

    fn take_items(
        &mut self,
        mut place: Box<SealedPlace>,
        first: u32,
        end: u32,
        buffers: &[Bytes],
    ) -> Result<(), (SegmentId, u64)> {
        let segment = place.root.segment();
        let (at, bytes) = place.root.list_range(first, end);
        let blocks = buffers.first().filter(|blocks| blocks.len() == usize_of(bytes));
        let items = place.root.items(blocks.ok_or((segment, at))?, first, end);
        let mut items = items.map_err(|at| (segment, at))?;
        match self.query {
            Query::Load { .. } | Query::Replay { .. } => place.low = place.high,
            Query::Before { seq, .. } => {
                items.retain(|item| item.seq > 0 && item.seq < seq);
                items.reverse();
                place.high = first - place.line.first_item;
            }
            Query::After { seq, .. } => {
                items.retain(|item| item.seq > seq);
                place.low = end - place.line.first_item;
            }
        }
        let mask = place.root.mask();
        for item in items {
            self.choose(segment, mask, &item);
        }
        place.window = place.window.saturating_mul(2);
        if !self.listed {
            self.places.push(Place::Sealed(place));
        }
        Ok(())
    }

    /// Takes a record into the answer, or ends listing when it is full.
    fn choose(&mut self, segment: SegmentId, mask: Mask, entry: &Entry) {
        let body = usize_of(entry.length).saturating_sub(RECORD_HEAD);
        let bytes = self.chosen_bytes.saturating_add(body);
        let fits = self.chosen.is_empty() || bytes <= self.max_bytes();
        if self.listed || self.chosen.len() >= self.limit() || !fits {
            self.listed = true;
            return;
        }
        self.chosen_bytes = bytes;
        self.chosen.push(Chosen { segment, mask, offset: entry.offset, length: entry.length });
        self.listed = self.chosen.len() == self.limit();
    }

    /// The next records to fetch: some of one segment, near ones as one range.
    fn next_records(&mut self) -> (SegmentId, Vec<(u64, u32)>) {
        let rest = &self.chosen[self.fetched..];
        let segment = rest[0].segment;
        let mut bytes = 0;
        let some = rest.iter().take_while(|chosen| {
            let fits = chosen.segment == segment && bytes < FETCH_BYTES;
            bytes += u64::from(chosen.length);
            fits
        });
        let mut places: Vec<_> =
            some.map(|chosen| (u64::from(chosen.offset), chosen.length)).collect();
        let count = places.len();
        places.sort_unstable();
        let mut ranges: Vec<(u64, u32)> = Vec::new();
        for (offset, length) in places {
            let end = offset + u64::from(length);
            if let Some((start, bytes)) = ranges.last_mut()
                && offset <= *start + u64::from(*bytes) + GAP_MAX
            {
                *bytes = u32::try_from(end - *start).expect("within one segment");
            } else {
                ranges.push((offset, length));
            }
        }
        assert!(u64_of(count) > 0, "each fetch moves the read on");
        self.awaited = Awaited::Records { count, ranges: ranges.clone() };
        (segment, ranges)
    }
}
