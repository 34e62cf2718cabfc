//! One read: which files it needs, the newest first, and what of them goes into the answer. Pure;
//! `reading.rs` fetches for it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Damage;
use crate::index::Entry;
use crate::layout::{index_of, usize_of};
use crate::op::FetchPart;
use crate::position::{FileId, Position, ReadId, SegmentId, StreamId};
use crate::query::{Query, StoredRecord};
use crate::record::{Mask, RECORD_HEAD_MAX, Role, stored};
use crate::table::{ITEMS_EACH, Item, Line, NO_CHUNK, Spot, TableRoot};

/// Records closer than this are fetched as one range.
const GAP_MAX: u64 = 1024;
/// Bytes of records asked for in one fetch, roughly.
const FETCH_BYTES: u64 = 1 << 20;
/// Records of a segment asked for in one fetch: each may need a range of its own.
const FETCH_RECORDS: usize = 1024;
/// Blocks of a list of chunks read at once: 8,128 chunks, 127 MiB of one stream.
const LIST_BLOCKS: u32 = 64;
/// Tables that are asked for their lines at once, at most.
const TABLES_AT_ONCE: usize = 8;

/// What a read needs next.
pub(crate) enum Wanted {
    Nothing,
    Parts(Vec<FetchPart>),
    /// It was fetched before, with its line.
    Here(Bytes),
}

/// A part of a fetch under way, and its bytes if they are known already.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) part: FetchPart,
    pub(crate) known: Option<Vec<Bytes>>,
}

/// What the answer to a read's fetch holds.
#[derive(Debug)]
pub(crate) enum Awaited {
    Nothing,
    /// Of several tables, the newest first.
    Lines(Vec<(Arc<TableRoot>, Spot)>),
    List {
        root: Arc<TableRoot>,
        at: u64,
        first: u32,
    },
    Chunks {
        root: Arc<TableRoot>,
        items: Vec<Item>,
    },
    Records {
        segment: SegmentId,
        mask: Mask,
        entries: Vec<Entry>,
    },
}

/// Where records of the stream were found.
#[derive(Debug)]
enum Place {
    /// Matching entries in the query's order.
    Memory {
        segment: SegmentId,
        mask: Mask,
        entries: VecDeque<Entry>,
    },
    Table(Box<TablePlace>),
}

#[derive(Debug)]
struct TablePlace {
    root: Arc<TableRoot>,
    line: Line,
    /// Records with a seq below it are void.
    floor: u64,
    /// Chunks of the list whose items are still to be read: from `low` to before `high`.
    low: u32,
    high: u32,
    /// The newest chunk, if no list names it and it is still to come.
    last: Option<Item>,
    /// Chunks to fetch, in the query's order.
    items: VecDeque<Item>,
    /// What was fetched with the line, and its place.
    group: (u64, Bytes),
}

impl Place {
    /// The bytes of the only range, if they came with the line.
    fn group_bytes(&self, ranges: &[(u64, u32)]) -> Option<Bytes> {
        let Self::Table(place) = self else { return None };
        let (from, group) = &place.group;
        let &[(at, length)] = ranges else { return None };
        let begin = usize::try_from(at.checked_sub(*from)?).ok()?;
        let end = begin.checked_add(usize_of(length))?;
        (end <= group.len()).then(|| group.slice(begin..end))
    }
}

/// One read.
#[derive(Debug)]
pub(crate) struct Read {
    id: ReadId,
    query: Query,
    /// What must be durable before it looks.
    wait: Position,
    /// Tables to ask for the stream, the newest last.
    tables: Vec<Arc<TableRoot>>,
    /// Where records were found: while locating the newest first, then the next to read last.
    places: Vec<Place>,
    /// Records certainly found in places, for queries with a limit.
    found: usize,
    /// Records with a seq below it are void in what is located next.
    floor: u64,
    located: bool,
    records: Vec<StoredRecord>,
    bytes: usize,
    full: bool,
    awaited: Awaited,
    /// Tables are asked one after the other: some could not be read.
    singly: bool,
    /// What the fetch under way is for.
    pub(crate) fetching: Vec<Asked>,
}

impl Read {
    pub(crate) fn new(id: ReadId, query: Query, wait: Position) -> Self {
        let mut read = Self {
            id,
            query,
            wait,
            tables: Vec::new(),
            places: Vec::new(),
            found: 0,
            floor: 0,
            located: false,
            records: Vec::new(),
            bytes: 0,
            full: false,
            awaited: Awaited::Nothing,
            singly: false,
            fetching: Vec::new(),
        };
        read.located = read.limit() == 0;
        read
    }

    pub(crate) fn id(&self) -> ReadId {
        self.id
    }

    pub(crate) fn query(&self) -> &Query {
        &self.query
    }

    pub(crate) fn stream(&self) -> StreamId {
        self.query.stream()
    }

    pub(crate) fn wait(&self) -> Position {
        self.wait
    }

    pub(crate) fn take_awaited(&mut self) -> Awaited {
        core::mem::replace(&mut self.awaited, Awaited::Nothing)
    }

    /// Whether tables are still to be asked.
    pub(crate) fn is_locating(&self) -> bool {
        !self.located
    }

    /// Asks the tables that could not be read at once one after the other; false if it was one.
    pub(crate) fn ask_singly(&mut self) -> bool {
        let Awaited::Lines(lines) = &self.awaited else { return false };
        if lines.len() < 2 {
            return false;
        }
        self.tables.extend(lines.iter().rev().map(|(root, _)| Arc::clone(root)));
        self.awaited = Awaited::Nothing;
        self.fetching.clear();
        self.singly = true;
        true
    }

    /// The tables to ask for lines next, the newest first: as many as will have enough records, by
    /// what their streams have on average. One that has all of them spares the older ones a read;
    /// else asking all takes as long as one.
    fn next_lines(&mut self) -> Vec<(Arc<TableRoot>, Spot)> {
        let mut wanted = match self.query {
            Query::Before { limit, .. } if !self.singly => limit.saturating_sub(self.found),
            // What these need is often in the newest table, however little that is.
            Query::Before { .. }
            | Query::Load { .. }
            | Query::LoadWithRecent { .. }
            | Query::After { .. }
            | Query::Replay { .. } => 1,
        };
        let mut lines = Vec::new();
        while wanted > 0 && lines.len() < TABLES_AT_ONCE {
            let Some(root) = self.tables.pop() else { break };
            if let Some(spot) = root.spot_of(self.stream()) {
                let mean = root.records().div_ceil(root.streams().max(1));
                wanted = wanted.saturating_sub(index_of(mean.max(1)));
                lines.push((root, spot));
            }
        }
        lines
    }

    fn limit(&self) -> usize {
        match self.query {
            Query::Load { .. } | Query::LoadWithRecent { .. } | Query::Replay { .. } => usize::MAX,
            Query::Before { limit, .. } | Query::After { limit, .. } => limit,
        }
    }

    fn max_bytes(&self) -> usize {
        match self.query {
            Query::Load { .. } | Query::LoadWithRecent { .. } | Query::Replay { .. } => usize::MAX,
            Query::Before { max_bytes, .. } | Query::After { max_bytes, .. } => max_bytes,
        }
    }

    /// Whether a record is asked for.
    fn wants(&self, seq: u64, floor: u64) -> bool {
        let void = seq > 0 && seq < floor;
        !void
            && match self.query {
                Query::Load { .. } | Query::LoadWithRecent { .. } | Query::Replay { .. } => true,
                Query::Before { seq: end, .. } => seq > 0 && seq < end,
                Query::After { seq: last, .. } => seq > last,
            }
    }

    /// Adds what a segment in memory holds; stops locating when older files are not needed.
    pub(crate) fn add_memory(
        &mut self,
        segment: SegmentId,
        mask: Mask,
        newest_first: impl Iterator<Item = Entry>,
    ) {
        if self.located {
            return;
        }
        let mut entries = VecDeque::new();
        let mut enough = false;
        for entry in newest_first {
            match entry.role {
                Role::Delete => enough = true,
                Role::Trim => self.floor = self.floor.max(entry.seq),
                Role::Plain | Role::Snapshot => {
                    let wanted = self.wants(entry.seq, self.floor);
                    if wanted {
                        entries.push_back(entry);
                    }
                    enough = self.is_enough_with(&entry, wanted);
                }
            }
            if enough {
                break;
            }
        }
        if !matches!(self.query, Query::Before { .. }) {
            entries.make_contiguous().reverse();
        }
        if !entries.is_empty() {
            self.places.push(Place::Memory { segment, mask, entries });
        }
        if enough {
            self.end_locating();
        }
    }

    /// Whether nothing older than this entry is needed.
    fn is_enough_with(&mut self, entry: &Entry, wanted: bool) -> bool {
        match self.query {
            Query::Load { .. } | Query::LoadWithRecent { .. } => entry.role == Role::Snapshot,
            Query::Before { limit, .. } => {
                self.found += usize::from(wanted);
                self.found >= limit
            }
            Query::After { seq, .. } => entry.seq > 0 && entry.seq <= seq.saturating_add(1),
            Query::Replay { .. } => false,
        }
    }

    /// Notes the tables that may hold the stream, given newest first.
    pub(crate) fn add_tables<'a>(&mut self, tables: impl Iterator<Item = &'a Arc<TableRoot>>) {
        if !self.located {
            self.tables = tables.cloned().collect();
            self.tables.reverse();
        }
    }

    /// Adds what a table holds; stops locating when older ones are not needed.
    pub(crate) fn add_line(&mut self, root: &Arc<TableRoot>, line: &Line, group: (u64, Bytes)) {
        let floor = self.floor;
        self.floor = floor.max(line.floor);
        let (mut low, high) = (0, line.listed);
        let mut enough = line.deletes;
        let mut useful = line.chunks() > 0;
        match self.query {
            Query::Load { .. } | Query::LoadWithRecent { .. } => {
                let snapshot = line.snapshot != NO_CHUNK;
                low = if snapshot { line.snapshot.min(high) } else { 0 };
                enough |= snapshot;
            }
            Query::Before { seq, limit, .. } => {
                useful &= line.sequenced > 0 && line.first_seq < seq && line.last_seq >= floor;
                if useful {
                    self.found = self.found.saturating_add(certain(line, seq, floor));
                    enough |= self.found >= limit || line.first_seq <= floor;
                }
            }
            Query::After { seq, .. } => {
                let any = line.sequenced > 0;
                useful &= any && line.last_seq > seq && line.last_seq >= floor;
                enough |= any && line.first_seq <= seq.saturating_add(1);
            }
            Query::Replay { .. } => {}
        }
        if useful {
            let last = line.last.filter(|last| self.needs(last, floor));
            let (root, items) = (Arc::clone(root), VecDeque::new());
            let place = TablePlace { root, line: *line, floor, low, high, last, items, group };
            self.places.push(Place::Table(Box::new(place)));
        }
        if enough {
            self.end_locating();
        }
    }

    /// Whether a chunk may have records that are asked for.
    fn needs(&self, item: &Item, floor: u64) -> bool {
        match self.query {
            Query::Load { .. } | Query::LoadWithRecent { .. } | Query::Replay { .. } => true,
            Query::Before { seq, .. } => {
                item.first_seq > 0 && item.first_seq < seq && item.last_seq >= floor
            }
            Query::After { seq, .. } => item.last_seq > seq && item.last_seq >= floor,
        }
    }

    /// Puts the place to read next last.
    fn end_locating(&mut self) {
        self.located = true;
        self.tables.clear();
        if matches!(self.query, Query::Before { .. }) {
            self.places.reverse();
        }
    }

    /// What it needs now; the answer goes to what `take_awaited` says.
    pub(crate) fn next(&mut self) -> Wanted {
        if !self.located {
            let lines = self.next_lines();
            if !lines.is_empty() {
                let parts = lines.iter().map(|(root, spot)| FetchPart {
                    file: FileId::Table(root.id()),
                    ranges: vec![(spot.from, spot.bytes)],
                });
                let parts = parts.collect();
                self.awaited = Awaited::Lines(lines);
                return Wanted::Parts(parts);
            }
            self.end_locating();
        }
        let descending = matches!(self.query, Query::Before { .. });
        while !self.full {
            let left = self.limit() - self.records.len();
            let bytes_left = self.max_bytes().saturating_sub(self.bytes);
            let Some(mut place) = self.places.pop() else { break };
            let next = match &mut place {
                Place::Memory { segment, mask, entries } => {
                    next_of_memory((*segment, *mask), entries, left, bytes_left)
                }
                Place::Table(place) => next_of_table(place, descending, left),
            };
            if let Some((file, awaited, ranges)) = next {
                let here = place.group_bytes(&ranges);
                self.places.push(place);
                self.awaited = awaited;
                return match here {
                    Some(bytes) => Wanted::Here(bytes),
                    None => Wanted::Parts(vec![FetchPart { file, ranges }]),
                };
            }
        }
        Wanted::Nothing
    }

    /// Takes items of a table's list, the first of which is the chunk with number `first`.
    pub(crate) fn add_items(&mut self, first: u32, items: &[Item]) {
        let descending = matches!(self.query, Query::Before { .. });
        let Some(Place::Table(place)) = self.places.last() else { return };
        let end = first.saturating_add(u32::try_from(items.len()).unwrap_or(u32::MAX));
        let within = (first..).zip(items);
        let within = within.filter(|(chunk, _)| (place.low..place.high).contains(chunk));
        let chosen = within.map(|(_, item)| *item).filter(|item| self.needs(item, place.floor));
        let mut chosen: VecDeque<Item> = chosen.collect();
        let Some(Place::Table(place)) = self.places.last_mut() else { return };
        if descending {
            chosen.make_contiguous().reverse();
            place.items = chosen;
            place.high = place.high.min(first);
        } else {
            place.items = chosen;
            // A list that ends early must not be asked for ever.
            place.low = if items.is_empty() { place.high } else { place.low.max(end) };
        }
    }

    /// Takes chunks of a table out of the bytes fetched for them.
    pub(crate) fn take_chunks(
        &mut self,
        root: &TableRoot,
        items: &[Item],
        buffers: &[Bytes],
        damage: &mut Vec<Damage>,
    ) {
        let floor = match self.places.last() {
            Some(Place::Table(place)) => place.floor,
            Some(Place::Memory { .. }) | None => 0,
        };
        let begin = items.iter().map(|item| item.offset).min().unwrap_or(0);
        for item in items {
            let at = usize::try_from(item.offset - begin).unwrap_or(usize::MAX);
            let end = at.saturating_add(usize_of(item.stored));
            let chunk =
                buffers.first().filter(|all| end <= all.len()).map(|all| all.slice(at..end));
            let mut faults = Vec::new();
            let chunk = chunk.unwrap_or_default();
            let mut records = root.decode(&chunk, self.stream(), &mut faults);
            damage.extend(faults.iter().map(|fault| Damage {
                file: FileId::Table(root.id()),
                offset: item.offset + fault.at,
                stream: Some(self.stream()),
            }));
            if matches!(self.query, Query::Before { .. }) {
                records.reverse();
            }
            for record in records {
                if self.wants(record.seq, floor) {
                    self.push(record);
                }
            }
        }
    }

    /// Takes records of a segment out of the ranges fetched for them.
    pub(crate) fn take_records(
        &mut self,
        (segment, mask): (SegmentId, Mask),
        entries: &[Entry],
        (ranges, buffers): (&[(u64, u32)], &[Bytes]),
        damage: &mut Vec<Damage>,
    ) {
        let stream = self.stream();
        for entry in entries {
            let offset = u64::from(entry.offset);
            let after = ranges.partition_point(|&(start, _)| start <= offset);
            let bytes = after.checked_sub(1).and_then(|range| {
                let from = usize::try_from(offset - ranges[range].0).ok()?;
                let end = from + usize_of(entry.length);
                let buffer = buffers.get(range)?;
                (end <= buffer.len()).then(|| buffer.slice(from..end))
            });
            let mask = mask.at(entry.offset);
            match bytes.and_then(|bytes| stored(&bytes, stream, mask)) {
                Some(record) => self.push(record),
                None => damage.push(Damage {
                    file: FileId::Segment(segment),
                    offset,
                    stream: Some(stream),
                }),
            }
        }
    }

    /// Takes a record into the answer, or ends the read when it is full.
    fn push(&mut self, record: StoredRecord) {
        let bytes = self.bytes.saturating_add(record.body.len());
        let fits = self.records.is_empty() || bytes <= self.max_bytes();
        if self.full || !fits {
            self.full = true;
            return;
        }
        self.bytes = bytes;
        self.records.push(record);
        self.full = self.records.len() >= self.limit();
    }

    /// The answer.
    pub(crate) fn into_records(mut self) -> Vec<StoredRecord> {
        if let Query::Load { .. } = self.query
            && let Some(snapshot) = self.records.iter().rposition(|record| record.snapshot_start)
        {
            // A chunk may begin before the snapshot in it.
            self.records.drain(..snapshot);
        }
        self.records
    }
}

/// A fetch that a place needs: of which file, for what, which ranges.
type Next = Option<(FileId, Awaited, Vec<(u64, u32)>)>;

/// Records of a line that a `Before` certainly gets.
fn certain(line: &Line, seq: u64, floor: u64) -> usize {
    let sequenced = u64::from(line.sequenced);
    // A damaged line may have them the wrong way round.
    let apart = line.last_seq.checked_sub(line.first_seq);
    let within = if apart == Some(sequenced.saturating_sub(1)) {
        // None is missing, so they can be counted.
        let (first, end) = (line.first_seq.max(floor), line.last_seq.saturating_add(1).min(seq));
        end.saturating_sub(first)
    } else if line.first_seq < floor {
        0
    } else if line.last_seq < seq {
        sequenced
    } else {
        1
    };
    usize::try_from(within).unwrap_or(usize::MAX)
}

fn next_of_memory(
    (segment, mask): (SegmentId, Mask),
    entries: &mut VecDeque<Entry>,
    left: usize,
    bytes_left: usize,
) -> Next {
    let mut bytes = 0_u64;
    let mut bodies = 0_usize;
    let count = entries.iter().take(left.min(FETCH_RECORDS)).take_while(|entry| {
        bodies = bodies.saturating_add(usize_of(entry.length).saturating_sub(RECORD_HEAD_MAX));
        let fits = bytes == 0 || (bytes < FETCH_BYTES && bodies <= bytes_left);
        bytes += u64::from(entry.length);
        fits
    });
    let count = count.count();
    let some: Vec<Entry> = entries.drain(..count).collect();
    if some.is_empty() {
        return None;
    }
    let mut places: Vec<_> =
        some.iter().map(|entry| (u64::from(entry.offset), entry.length)).collect();
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
    let awaited = Awaited::Records { segment, mask, entries: some };
    Some((FileId::Segment(segment), awaited, ranges))
}

fn next_of_table(place: &mut TablePlace, descending: bool, left: usize) -> Next {
    let file = FileId::Table(place.root.id());
    let root = Arc::clone(&place.root);
    let listed = place.low < place.high;
    if place.items.is_empty() && (descending || !listed) {
        // The newest chunk comes before those of the list, or after them.
        place.items.extend(place.last.take());
    }
    if place.items.is_empty() {
        if !listed {
            return None;
        }
        let (low, high) = (place.low / ITEMS_EACH, (place.high - 1) / ITEMS_EACH + 1);
        let (from, to) = if descending {
            (high.saturating_sub(LIST_BLOCKS).max(low), high)
        } else {
            (low, high.min(low + LIST_BLOCKS))
        };
        let (at, bytes) = place.line.list_range((from, to));
        let awaited = Awaited::List { root, at, first: from * ITEMS_EACH };
        return Some((file, awaited, vec![(at, bytes)]));
    }
    let mut items: Vec<Item> = Vec::new();
    let (mut bytes, mut records) = (0_u64, 0_usize);
    while let Some(item) = place.items.front() {
        let adjacent = items.last().is_none_or(|last| {
            let (one, other) = if descending { (item, last) } else { (last, item) };
            one.offset.saturating_add(u64::from(one.stored)) == other.offset
        });
        let more = bytes < FETCH_BYTES && records < left && adjacent;
        if !items.is_empty() && !more {
            break;
        }
        bytes += u64::from(item.stored);
        records = records.saturating_add(usize_of(item.count));
        items.extend(place.items.pop_front());
    }
    let begin = items.iter().map(|item| item.offset).min().unwrap_or(0);
    let length = u32::try_from(bytes).expect("a chunk has at most a segment's bytes");
    Some((file, Awaited::Chunks { root, items }, vec![(begin, length)]))
}
