//! Reading: find the files that hold what is asked, and fetch from one after the other until there
//! is enough. What is not sealed is found in memory; a table is asked for the stream's line, then
//! for its chunks; several tables are asked at once if each will hardly have enough by itself. A
//! read has one fetch under way at most; what the cache has needs none. How a read decides what it
//! needs is in `read.rs`.

mod cache;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Damage, DiskError, ReadError};
use crate::index::SegmentIndex;
use crate::op::{FetchPart, StoreOp};
use crate::position::{FetchId, FileId, Position, ReadId, SegmentId};
use crate::query::{Query, StoredRecord};
use crate::record::Mask;
use crate::store::{Store, StoreEvent};
use crate::table::{Spot, TableRoot, read_items};
use crate::view::View;
use cache::Cache;
use read::{Asked, Awaited, Read, Wanted};

/// The segments of earlier runs, and the tables.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) old: BTreeMap<SegmentId, OldSegment>,
    pub(crate) view: View,
}

/// A segment of an earlier run that is not sealed; the index has this store's streams only.
#[derive(Debug)]
pub(crate) struct OldSegment {
    pub(crate) length: u64,
    pub(crate) mask: Mask,
    pub(crate) index: SegmentIndex,
}

/// All reads under way.
#[derive(Debug)]
pub(crate) struct Reading {
    reads: u64,
    fetches: u64,
    waiting: Vec<Read>,
    fetching: BTreeMap<FetchId, Read>,
    pub(crate) cache: Cache,
    pub(crate) ready: Vec<StoreEvent>,
}

impl Reading {
    pub(crate) fn new(cache_bytes: usize) -> Self {
        Self {
            reads: 0,
            fetches: 0,
            waiting: Vec::new(),
            fetching: BTreeMap::new(),
            cache: Cache::new(cache_bytes),
            ready: Vec::new(),
        }
    }

    /// The last read that was begun.
    pub(crate) fn last_read(&self) -> ReadId {
        ReadId(self.reads)
    }

    /// The oldest read that has looked for files and waits for one.
    pub(crate) fn oldest_under_way(&self) -> Option<ReadId> {
        self.fetching.values().map(Read::id).min()
    }
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
        } else if read.wait() > self.durable() {
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
        let (now, later) = all.into_iter().partition(|read| read.wait() <= durable);
        self.reading.waiting = later;
        let now: Vec<Read> = now;
        for read in now {
            self.begin_read(read, ops);
        }
    }

    pub(crate) fn stop_waiting(&mut self) {
        for read in core::mem::take(&mut self.reading.waiting) {
            self.finish_read(read.id(), Err(ReadError::Stopped));
        }
    }

    fn finish_read(&mut self, id: ReadId, result: Result<Vec<StoredRecord>, ReadError>) {
        self.reading.ready.push(StoreEvent::Read { id, result });
    }

    /// Looks into everything that is in memory, the newest first, and notes which tables are to
    /// be asked.
    fn begin_read(&mut self, mut read: Read, ops: &mut Vec<StoreOp>) {
        let stream = read.stream();
        let durable = self.durable();
        if !matches!(read.query(), Query::Replay { .. }) {
            for live in self.live() {
                let entries = live.index.newest_first(stream);
                let shown = entries.filter(|entry| live.position(entry) <= durable);
                read.add_memory(live.id(), live.mask(), shown);
            }
        }
        for (&segment, old) in self.held.old.iter().rev() {
            read.add_memory(segment, old.mask, old.index.newest_first(stream));
        }
        if !matches!(read.query(), Query::Replay { .. }) {
            read.add_tables(self.held.view.tables_of(stream));
        }
        self.advance(read, ops);
    }

    /// Goes on until something must be fetched or the read ends.
    fn advance(&mut self, mut read: Read, ops: &mut Vec<StoreOp>) {
        loop {
            let parts = match read.next() {
                Wanted::Nothing => {
                    let id = read.id();
                    return self.finish_read(id, Ok(read.into_records()));
                }
                Wanted::Parts(parts) => parts,
                Wanted::Here(bytes) => match self.take(&mut read, &[], &[vec![bytes]]) {
                    Ok(_) => continue,
                    Err(error) => return self.finish_read(read.id(), Err(error)),
                },
            };
            let cache = &mut self.reading.cache;
            let asked = parts
                .into_iter()
                .map(|part| Asked { known: cache.all(part.file, &part.ranges), part });
            let asked: Vec<Asked> = asked.collect();
            let missing = asked.iter().filter(|one| one.known.is_none());
            let missing: Vec<FetchPart> = missing.map(|one| one.part.clone()).collect();
            if !missing.is_empty() {
                self.reading.fetches += 1;
                self.stats.fetches += 1;
                let id = FetchId(self.reading.fetches);
                read.fetching = asked;
                self.reading.fetching.insert(id, read);
                ops.push(StoreOp::Fetch { id, parts: missing });
                return;
            }
            self.stats.cache_hits += 1;
            if let Err(error) = self.take_asked(&mut read, asked, Vec::new()) {
                return self.finish_read(read.id(), Err(error));
            }
        }
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
            // An older table that cannot be read may not be needed.
            Err(error) if error != DiskError::Busy && read.ask_singly() => {
                return self.advance(read, ops);
            }
            Err(error) => return self.finish_read(read.id(), Err(ReadError::Disk(error))),
        };
        let asked = core::mem::take(&mut read.fetching);
        match self.take_asked(&mut read, asked, buffers) {
            Ok(()) => self.advance(read, ops),
            Err(error) => self.finish_read(read.id(), Err(error)),
        }
    }

    /// Gives a read what it asked for, of which `fetched` was not known; keeps it in the cache.
    fn take_asked(
        &mut self,
        read: &mut Read,
        asked: Vec<Asked>,
        fetched: Vec<Bytes>,
    ) -> Result<(), ReadError> {
        let (mut parts, mut fresh) = (Vec::new(), Vec::new());
        let mut fetched = fetched.into_iter();
        let mut buffers: Vec<Vec<Bytes>> = Vec::new();
        for Asked { part, known } in asked {
            fresh.push(known.is_none());
            let ranges = part.ranges.len();
            buffers.push(known.unwrap_or_else(|| fetched.by_ref().take(ranges).collect()));
            parts.push(part);
        }
        let damage = self.stats.corrupt;
        let looked_at = self.take(read, &parts, &buffers)?;
        // What was not as it should be is fetched again next time, and so is what nobody looked at.
        if self.stats.corrupt == damage {
            let all = parts.iter().zip(&buffers).zip(fresh).take(looked_at);
            for ((part, buffers), _) in all.filter(|(_, fresh)| *fresh) {
                let FileId::Table(table) = part.file else { continue };
                for (&(at, _), buffer) in part.ranges.iter().zip(buffers) {
                    self.reading.cache.keep(table, at, buffer);
                }
            }
        }
        Ok(())
    }

    /// Gives a read what it asked for; the answer is how many parts it looked at.
    fn take(
        &mut self,
        read: &mut Read,
        parts: &[FetchPart],
        buffers: &[Vec<Bytes>],
    ) -> Result<usize, ReadError> {
        let mut damage: Vec<Damage> = Vec::new();
        let first = buffers.first().map_or(&[][..], |buffers| buffers);
        let outcome = match read.take_awaited() {
            Awaited::Nothing => Ok(0),
            Awaited::Lines(lines) => take_lines(read, &lines, buffers),
            Awaited::List { root, at, first: chunk } => {
                let list = first.first().map_or(&[][..], |list| list);
                let items = read_items(list, at);
                items
                    .map(|items| read.add_items(chunk, &items))
                    .map(|()| 1)
                    .map_err(|at| (root, at))
            }
            Awaited::Chunks { root, items } => {
                read.take_chunks(&root, &items, first, &mut damage);
                Ok(1)
            }
            Awaited::Records { segment, mask, entries } => {
                let ranges = parts.first().map_or(&[][..], |part| &part.ranges);
                read.take_records((segment, mask), &entries, (ranges, first), &mut damage);
                Ok(1)
            }
        };
        for one in damage {
            self.damaged(one);
        }
        outcome.map_err(|(root, offset)| {
            let table = root.id();
            let stream = Some(read.stream());
            self.damaged(Damage { file: FileId::Table(table), offset, stream });
            ReadError::Index { table, offset }
        })
    }
}

/// Gives a read what tables say of its stream, the newest first, until it needs no older one;
/// the answer is how many it needed.
fn take_lines(
    read: &mut Read,
    lines: &[(Arc<TableRoot>, Spot)],
    buffers: &[Vec<Bytes>],
) -> Result<usize, (Arc<TableRoot>, u64)> {
    for (needed, ((root, spot), buffers)) in lines.iter().zip(buffers).enumerate() {
        if !read.is_locating() {
            return Ok(needed);
        }
        let group = buffers.first().cloned().unwrap_or_default();
        let line = root.line_of(spot, &group, read.stream());
        if let Some(line) = line.map_err(|at| (Arc::clone(root), at))? {
            read.add_line(root, &line, (spot.from, group));
        }
    }
    Ok(lines.len())
}
