//! Merges tables into one, a slice at a time: older and newer records of a stream come together,
//! what marks void and what snapshots stand for is left out.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Damage, DiskError};
use crate::layout::u64_of;
use crate::position::{FileId, StreamId};
use crate::query::StoredRecord;
use crate::table::{
    ChunkFault, Cursor, Entry, Item, Line, NO_CHUNK, Piece, ReadTable, TableRoot, TableWriter,
    Voids, chunk_bytes, decode, encode,
};

/// A merge under way.
#[derive(Debug)]
pub(crate) struct Merge {
    /// Oldest first.
    pub(crate) inputs: Vec<Arc<TableRoot>>,
    cursors: Vec<Cursor>,
    pub(crate) writer: TableWriter,
    /// Nothing older is left for marks to void.
    bottom: bool,
    pub(crate) retained_from: u64,
    pub(crate) damage: Vec<Damage>,
}

impl Merge {
    pub(crate) fn new(
        inputs: Vec<Arc<TableRoot>>,
        writer: TableWriter,
        bottom: bool,
        retained_from: u64,
    ) -> Self {
        let cursors = inputs.iter().map(|_input| Cursor::new()).collect();
        Self { inputs, cursors, writer, bottom, retained_from, damage: Vec::new() }
    }

    /// Takes streams until so many bytes wait to be written. Answers whether all were taken.
    pub(crate) fn step(&mut self, bytes: usize, read: ReadTable<'_>) -> Result<bool, DiskError> {
        while self.writer.waiting_bytes() < bytes {
            let mut next: Option<StreamId> = None;
            for (cursor, root) in self.cursors.iter_mut().zip(&self.inputs) {
                if let Some(line) = cursor.peek(root, &mut *read)? {
                    next = Some(next.map_or(line.stream, |next| next.min(line.stream)));
                }
            }
            let Some(stream) = next else { return Ok(true) };
            let mut entries = Vec::new();
            for (place, (cursor, root)) in self.cursors.iter_mut().zip(&self.inputs).enumerate() {
                let line = cursor.peek(root, &mut *read)?;
                if line.is_some_and(|line| line.stream == stream)
                    && let Some(entry) = cursor.take(root, &mut *read)?
                {
                    entries.push((place, entry));
                }
            }
            self.add(stream, entries);
        }
        Ok(false)
    }

    /// Adds one stream, its parts from the oldest.
    fn add(&mut self, stream: StreamId, mut entries: Vec<(usize, Entry)>) {
        // What newer parts void of older ones.
        let mut floor = 0;
        let mut deletes = false;
        let mut floors = Vec::with_capacity(entries.len());
        let mut first = 0;
        for (place, (_, entry)) in entries.iter().enumerate().rev() {
            floors.push(floor);
            floor = floor.max(entry.line.floor);
            if entry.line.deletes {
                deletes = true;
                first = place;
                break;
            }
        }
        floors.reverse();
        entries.drain(..first);
        let voids = if self.bottom { Voids::default() } else { Voids { floor, deletes } };
        if let [(place, entry)] = &entries[..]
            && (floors[0] == 0)
            && (entry.line.floor, entry.line.deletes) == (voids.floor, voids.deletes)
            && self.retained_from <= self.inputs[*place].min_stamp
        {
            let root = &self.inputs[*place];
            self.writer.note_stamp(root.min_stamp);
            self.writer.note_stamp(root.max_stamp);
            return self.writer.add_whole(&entry.line, &entry.items, &entry.chunks);
        }
        match self.records(stream, &entries, &floors) {
            Some(records) => self.add_records(stream, voids, &records),
            None => self.add_damaged(stream, voids, (&entries, &floors)),
        }
    }

    /// All records that are not void; none if some cannot be read.
    fn records(
        &mut self,
        stream: StreamId,
        entries: &[(usize, Entry)],
        floors: &[u64],
    ) -> Option<Vec<StoredRecord>> {
        let mut records = Vec::new();
        let mut whole = true;
        for ((place, entry), &floor) in entries.iter().zip(floors) {
            for item in &entry.items {
                let mut faults = Vec::new();
                match chunk_bytes(entry, item) {
                    Some(chunk) => {
                        let found = decode(&chunk, stream, &mut faults);
                        let kept = |record: &StoredRecord| record.seq == 0 || record.seq >= floor;
                        records.extend(found.into_iter().filter(kept));
                    }
                    None => faults.push(ChunkFault { at: 0 }),
                }
                whole &= faults.is_empty();
                let file = FileId::Table(self.inputs[*place].id);
                self.damage.extend(faults.iter().map(|fault| Damage {
                    file,
                    offset: item.offset + fault.at,
                    stream: Some(stream),
                }));
            }
        }
        whole.then_some(records)
    }

    /// Leaves out what a later snapshot stands for: state, and messages that are too old.
    fn add_records(&mut self, stream: StreamId, voids: Voids, records: &[StoredRecord]) {
        let snapshot = records.iter().rposition(|record| record.snapshot_start).unwrap_or(0);
        let from = self.retained_from;
        let kept = records.iter().enumerate().filter(|(place, record)| {
            let old = record.stamp > 0 && record.stamp < from;
            *place >= snapshot || (record.seq > 0 && !old)
        });
        let pieces: Vec<Piece<'_>> = kept.map(|(_, record)| piece_of(record)).collect();
        if !pieces.is_empty() || voids != Voids::default() {
            self.writer.add(stream, voids, &pieces);
        }
    }

    /// Chunks that cannot be read go on as they are: what is left of them stays for a repair. Of
    /// the others what is void is left out.
    fn add_damaged(
        &mut self,
        stream: StreamId,
        voids: Voids,
        (entries, floors): (&[(usize, Entry)], &[u64]),
    ) {
        let mut chunks = Vec::new();
        let mut items = Vec::new();
        let mut line = Line {
            stream,
            offset: 0,
            bytes: 0,
            first_seq: 0,
            last_seq: 0,
            floor: voids.floor,
            list_at: 0,
            count: 0,
            sequenced: 0,
            chunks: 0,
            snapshot: NO_CHUNK,
            deletes: voids.deletes,
        };
        for ((place, entry), &floor) in entries.iter().zip(floors) {
            if entry.line.snapshot != NO_CHUNK {
                line.snapshot = line.chunks.saturating_add(entry.line.snapshot);
            }
            for item in &entry.items {
                let bytes = chunk_bytes(entry, item).unwrap_or_default();
                let offset = u64_of(chunks.len());
                let trimmed = trimmed(&bytes, stream, floor);
                let bytes = trimmed.as_deref().unwrap_or(&bytes);
                let stored = u32::try_from(bytes.len()).unwrap_or(item.stored);
                items.push(Item { offset, stored, ..*item });
                chunks.extend_from_slice(bytes);
            }
            line.count = line.count.saturating_add(entry.line.count);
            line.sequenced = line.sequenced.saturating_add(entry.line.sequenced);
            line.chunks = line.chunks.saturating_add(entry.line.chunks);
            line.last_seq = line.last_seq.max(entry.line.last_seq);
            if line.first_seq == 0 {
                line.first_seq = entry.line.first_seq;
            }
            let root = &self.inputs[*place];
            self.writer.note_stamp(root.min_stamp);
            self.writer.note_stamp(root.max_stamp);
        }
        line.bytes = u64_of(chunks.len());
        self.writer.add_whole(&line, &items, &Bytes::from(chunks));
    }
}

/// A chunk anew without what is void; none if nothing is, or if it cannot be read.
fn trimmed(chunk: &Bytes, stream: StreamId, floor: u64) -> Option<Vec<u8>> {
    let mut faults = Vec::new();
    let records = decode(chunk, stream, &mut faults);
    let kept = |record: &&StoredRecord| record.seq == 0 || record.seq >= floor;
    if !faults.is_empty() || records.iter().all(|record| kept(&record)) {
        return None;
    }
    let pieces: Vec<Piece<'_>> = records.iter().filter(kept).map(piece_of).collect();
    let mut anew = Vec::new();
    encode(&mut anew, stream, &pieces, true);
    Some(anew)
}

/// A record as it goes into a chunk.
pub(crate) fn piece_of(record: &StoredRecord) -> Piece<'_> {
    Piece {
        number: record.number,
        seq: record.seq,
        stamp: record.stamp,
        kind: record.kind,
        snapshot: record.snapshot_start,
        body: &record.body,
    }
}
