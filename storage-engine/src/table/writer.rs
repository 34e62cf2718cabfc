//! Writes a table: streams in order, each with its chunks, and what is known of them behind.

use bytes::Bytes;

use super::CHUNK_BYTES;
use super::chunk::{self, Piece};
use super::leaf::{Item, LINES_EACH, Line, NO_CHUNK, write_items, write_leaf};
use super::root::{HEADER_BYTES, TableRoot, header};
use crate::filter;
use crate::layout::{index_of, u32_of, u64_of};
use crate::position::{StreamId, TableId};

/// A leaf is ended when the chunks before it have so many bytes, so that merging reads in steps.
const GROUP_BYTES: u64 = 4 << 20;
/// Bytes a record has in a chunk beside its body, at most.
const RECORD_BYTES: usize = 40;

/// What a table is told of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) id: TableId,
    pub(crate) low: u64,
    pub(crate) high: u64,
    /// Streams there will be at most.
    pub(crate) streams_max: u64,
    pub(crate) compress: bool,
}

/// What a stream's line says beside what its records say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Voids {
    pub(crate) floor: u64,
    pub(crate) deletes: bool,
}

/// A table that is being written. What is ready to be written is taken from it now and then.
#[derive(Debug)]
pub(crate) struct TableWriter {
    facts: Facts,
    /// Not taken yet; its first byte lies at `at`.
    buffer: Vec<u8>,
    at: u64,
    lines: Vec<Line>,
    /// Where the chunks of these lines begin.
    group_at: u64,
    keys: Vec<u8>,
    filter: Vec<u8>,
    bitmap: [u8; filter::BITMAP_BYTES],
    streams: u64,
    records: u64,
    marks: u64,
    min_stamp: u64,
    max_stamp: u64,
}

impl TableWriter {
    pub(crate) fn new(facts: Facts) -> Self {
        let filter = filter::empty(index_of(facts.streams_max));
        Self {
            facts,
            buffer: header(facts.id),
            at: 0,
            lines: Vec::with_capacity(LINES_EACH),
            group_at: HEADER_BYTES,
            keys: Vec::new(),
            filter,
            bitmap: [0; filter::BITMAP_BYTES],
            streams: 0,
            records: 0,
            marks: 0,
            min_stamp: 0,
            max_stamp: 0,
        }
    }

    /// Where the next byte goes.
    fn end(&self) -> u64 {
        self.at + u64_of(self.buffer.len())
    }

    /// Bytes that wait to be taken.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Takes what is ready: where it goes, and the bytes.
    pub(crate) fn take_ready(&mut self) -> (u64, Vec<u8>) {
        let at = self.at;
        let bytes = core::mem::take(&mut self.buffer);
        self.at += u64_of(bytes.len());
        (at, bytes)
    }

    /// Adds a stream, in order of streams, with its records from the oldest.
    pub(crate) fn add(&mut self, stream: StreamId, voids: Voids, pieces: &[Piece<'_>]) {
        let offset = self.end();
        let mut items = Vec::new();
        let mut snapshot = NO_CHUNK;
        let mut from = 0;
        while from < pieces.len() {
            let some = &pieces[from..from + chunk_length(&pieces[from..])];
            let at = self.end();
            let stored = chunk::encode(&mut self.buffer, stream, some, self.facts.compress);
            if some.iter().any(|piece| piece.snapshot) {
                snapshot = u32_of(items.len());
            }
            let (first_seq, last_seq) = seqs(some.iter().map(|piece| piece.seq));
            let count = u32_of(some.len());
            items.push(Item { offset: at, stored, count, first_seq, last_seq });
            from += some.len();
        }
        for piece in pieces {
            self.note_stamp(piece.stamp);
        }
        let (first_seq, last_seq) = seqs(pieces.iter().map(|piece| piece.seq));
        let sequenced = pieces.iter().filter(|piece| piece.seq > 0).count();
        let line = Line {
            stream,
            offset,
            bytes: self.end() - offset,
            first_seq,
            last_seq,
            floor: voids.floor,
            list_at: 0,
            count: u32_of(pieces.len()),
            sequenced: u32_of(sequenced),
            chunks: u32_of(items.len()),
            snapshot,
            deletes: voids.deletes,
        };
        self.end_stream(line, &items);
    }

    /// Adds a stream of another table as it is there: the bytes of its chunks, one behind the
    /// other.
    pub(crate) fn add_whole(&mut self, line: &Line, items: &[Item], chunks: &Bytes) {
        let offset = self.end();
        self.buffer.extend_from_slice(chunks);
        let moved: Vec<Item> = items
            .iter()
            .map(|item| Item { offset: item.offset - line.offset + offset, ..*item })
            .collect();
        self.end_stream(Line { offset, list_at: 0, ..*line }, &moved);
    }

    /// Stamps of records that are added as they are.
    pub(crate) fn note_stamp(&mut self, stamp: u64) {
        if stamp > 0 {
            self.max_stamp = self.max_stamp.max(stamp);
            self.min_stamp = if self.min_stamp == 0 { stamp } else { self.min_stamp.min(stamp) };
        }
    }

    fn end_stream(&mut self, mut line: Line, items: &[Item]) {
        if items.len() > 1 {
            line.list_at = self.end();
            write_items(&mut self.buffer, line.list_at, items);
        }
        filter::mark_partition(&mut self.bitmap, line.stream);
        filter::add(&mut self.filter, line.stream);
        self.streams += 1;
        self.records += u64::from(line.count);
        self.marks += u64::from(line.floor > 0 || line.deletes);
        self.lines.push(line);
        if self.lines.len() == LINES_EACH || self.end() - self.group_at >= GROUP_BYTES {
            self.end_leaf();
        }
    }

    fn end_leaf(&mut self) {
        let Some(first) = self.lines.first() else { return };
        let at = self.end();
        self.keys.extend_from_slice(&first.stream.0.to_le_bytes());
        self.keys.extend_from_slice(&at.to_le_bytes());
        write_leaf(&mut self.buffer, at, &self.lines);
        self.lines.clear();
        self.group_at = self.end();
    }

    /// Ends the table: its root, and the last bytes of the file in `take_ready`.
    pub(crate) fn finish(&mut self) -> TableRoot {
        self.end_leaf();
        let root = TableRoot {
            id: self.facts.id,
            low: self.facts.low,
            high: self.facts.high,
            end: self.end(),
            streams: self.streams,
            records: self.records,
            marks: self.marks,
            min_stamp: self.min_stamp,
            max_stamp: self.max_stamp,
            bitmap: Bytes::copy_from_slice(&self.bitmap),
            keys: Bytes::from(core::mem::take(&mut self.keys)),
            filter: Bytes::from(core::mem::take(&mut self.filter)),
        };
        self.buffer.extend_from_slice(&root.tail());
        root
    }
}

/// How many records go into the next chunk.
fn chunk_length(pieces: &[Piece<'_>]) -> usize {
    let mut bytes = 0;
    let fits = pieces.iter().take_while(|piece| {
        bytes += piece.body.len() + RECORD_BYTES;
        bytes <= CHUNK_BYTES
    });
    fits.count().max(1)
}

/// The smallest and the largest seq, 0 if there is none.
fn seqs(all: impl Iterator<Item = u64>) -> (u64, u64) {
    let there = all.filter(|&seq| seq > 0);
    there.fold((0, 0), |(first, last), seq| {
        (if first == 0 { seq } else { seq.min(first) }, seq.max(last))
    })
}
