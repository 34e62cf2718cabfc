//! Writes a table: streams in order, each with its records from the oldest. Most of a stream, if it
//! is long, goes into chunks of its own; its newest records go into a page, beside those of other
//! streams. No more than a chunk of it is held.

use bytes::Bytes;

use super::chunk::{self, Draft, Listed, OfStream, Seqs};
use super::keys::{Key, Keys, separator};
use super::line::{Item, write_items};
use super::page::{PAGE_BYTES_MAX, PageDraft};
use super::root::{TableRoot, header};
use super::{CHUNK_BYTES, PAGE_BYTES};
use crate::filter;
use crate::layout::{BLOCK_BYTES, index_of, u32_of, u64_of, usize_of};
use crate::position::{StreamId, TableId};
use crate::record::{Fields, PIECE_HEAD_MAX, Role, mix, salt_of, write_piece};

/// Pieces of a stream that wait for the next ones: with more bytes the oldest become a chunk, so
/// that a page has at least half a chunk of the newest.
const WAITING_MAX: usize = CHUNK_BYTES + CHUNK_BYTES / 2;
/// A page that would get more bytes with the next stream is ended before it.
const PAGE_FULL: usize = PAGE_BYTES + PAGE_BYTES / 2;
/// Bytes that compressed and other heads may have, by far.
const HEADS_MAX: usize = 16 << 10;
const _: () = assert!(PAGE_FULL + WAITING_MAX + HEADS_MAX <= PAGE_BYTES_MAX, "pages are small");

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

/// A record on its way into a table; the bytes are borrowed from where they lay.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// As it lies in a segment: its checksum is mixed with this mask.
    Whole { bytes: &'a [u8], mask: u32, fields: Fields },
    /// What it says.
    Parts { fields: Fields, body: &'a [u8] },
    /// What could not be read: it stays damaged, so that nobody takes the stream for whole.
    Damaged,
}

/// Whether compressing is worth a try: bodies are often ciphertext, and trying costs more than all
/// else that is done with a record. After each try in vain twice as many chunks are left alone.
#[derive(Debug, Default)]
struct Trying {
    wanted: bool,
    /// Chunks left alone after the last try in vain, and those of them to come.
    left_alone: u32,
    to_come: u32,
}

impl Trying {
    /// Chunks left alone at most.
    const MOST: u32 = 64;

    fn tries(&mut self) -> bool {
        let tries = self.to_come == 0;
        self.to_come = self.to_come.saturating_sub(1);
        self.wanted && tries
    }

    fn note(&mut self, smaller: bool) {
        self.left_alone = if smaller { 0 } else { (self.left_alone * 2).clamp(1, Self::MOST) };
        self.to_come = self.left_alone;
    }
}

/// The stream that is being written.
#[derive(Debug, Default)]
struct Current {
    stream: Option<StreamId>,
    salt: u32,
    /// Pieces that wait, their bytes and seqs, and whether loading may begin there.
    pieces: Vec<u8>,
    sizes: Vec<u32>,
    seqs: Vec<u64>,
    snapshots: Vec<bool>,
    /// Its chunks so far, which a list will name.
    items: Vec<Item>,
    listed_count: u32,
    listed_seqs: Seqs,
    /// The chunk with the last record at which loading may begin.
    snapshot: Option<u32>,
}

/// A table that is being written. What is ready is written to the file now and then.
#[derive(Debug)]
pub(crate) struct TableWriter {
    facts: Facts,
    compress: Trying,
    /// Not written yet; its first byte lies at `at`.
    buffer: Vec<u8>,
    at: u64,
    page: PageDraft,
    current: Current,
    last: Option<StreamId>,
    /// The last stream of the page before.
    before: Option<StreamId>,
    keys: Vec<Key>,
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
        Self {
            facts,
            compress: Trying { wanted: facts.compress, ..Trying::default() },
            buffer: header(facts.id),
            at: 0,
            page: PageDraft::default(),
            current: Current::default(),
            last: None,
            before: None,
            keys: Vec::new(),
            filter: filter::empty(index_of(facts.streams_max)),
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

    /// Bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// What is ready to be written, and where it goes: whole blocks at a whole block's place.
    pub(crate) fn ready(&self) -> (u64, &[u8]) {
        let blocks = self.buffer.len() / usize_of(BLOCK_BYTES);
        (self.at, &self.buffer[..blocks * usize_of(BLOCK_BYTES)])
    }

    /// Forgets what was ready.
    pub(crate) fn written(&mut self) {
        let bytes = self.ready().1.len();
        self.buffer.copy_within(bytes.., 0);
        self.buffer.truncate(self.buffer.len() - bytes);
        self.at += u64_of(bytes);
    }

    /// Begins a stream, in order of streams. Its records follow, from the oldest, then
    /// `end_stream`.
    pub(crate) fn begin_stream(&mut self, stream: StreamId) {
        assert!(self.current.stream.is_none(), "the stream before was ended");
        assert!(self.last.is_none_or(|last| last < stream), "streams come in their order");
        self.current.stream = Some(stream);
        self.current.salt = salt_of(stream);
    }

    /// Adds the next record of the stream.
    pub(crate) fn add(&mut self, piece: &Piece<'_>) {
        let begin = self.current.pieces.len();
        let fields = self.current.take(piece);
        let (seq, snapshot) = match fields {
            Some(fields) => {
                self.note_stamp(fields.stamp);
                (fields.seq, fields.role == Role::Snapshot)
            }
            None => (0, false),
        };
        let bytes = self.current.pieces.len() - begin;
        self.current.sizes.push(u32_of(bytes));
        self.current.seqs.push(seq);
        self.current.snapshots.push(snapshot);
        let waiting = self.current.sizes.len();
        if bytes > CHUNK_BYTES {
            // A large record is alone in its chunk.
            self.end_chunk(waiting - 1);
            self.end_chunk(1);
        } else if self.current.pieces.len() > WAITING_MAX {
            let mut sum = 0;
            let fit = self.current.sizes.iter().take_while(|&&size| {
                sum += usize_of(size);
                sum <= CHUNK_BYTES
            });
            let fit = fit.count().max(1);
            self.end_chunk(fit);
        }
    }

    /// Puts the oldest records that wait into a chunk which a list will name.
    fn end_chunk(&mut self, records: usize) {
        if records == 0 {
            return;
        }
        if self.current.items.is_empty() {
            // Between two pages lie chunks of the second one's streams only.
            self.end_page();
        }
        let offset = self.end();
        let current = &mut self.current;
        let bytes: usize = current.sizes[..records].iter().map(|&size| usize_of(size)).sum();
        let mut seqs = Seqs::default();
        for &seq in &current.seqs[..records] {
            seqs.add(seq);
            current.listed_seqs.add(seq);
        }
        if current.snapshots[..records].contains(&true) {
            current.snapshot = Some(u32_of(current.items.len()));
        }
        let draft = Draft {
            stream: current.stream.expect("a stream was begun"),
            pieces: &current.pieces[..bytes],
            sizes: &current.sizes[..records],
            seqs,
            of_stream: OfStream::default(),
        };
        let stored = put_chunk(&mut self.buffer, &draft, &mut self.compress);
        let count = u32_of(records);
        let (first_seq, last_seq) = (seqs.first, seqs.last);
        current.items.push(Item { offset, stored, count, first_seq, last_seq });
        current.listed_count = current.listed_count.saturating_add(count);
        current.pieces.drain(..bytes);
        current.sizes.drain(..records);
        current.seqs.drain(..records);
        current.snapshots.drain(..records);
    }

    /// Ends the stream. One without records and voids leaves nothing.
    pub(crate) fn end_stream(&mut self, voids: Voids) {
        let stream = self.current.stream.take().expect("a stream was begun");
        let count = u32_of(self.current.sizes.len()).saturating_add(self.current.listed_count);
        if count == 0 && voids == Voids::default() {
            return;
        }
        let listed = self.put_list();
        let current = &mut self.current;
        let mut seqs = Seqs::default();
        for &seq in &current.seqs {
            seqs.add(seq);
        }
        if current.snapshots.contains(&true) {
            current.snapshot = Some(listed.map_or(0, |listed| listed.chunks));
        }
        let (floor, deletes) = (voids.floor, voids.deletes);
        let of_stream = OfStream { floor, deletes, snapshot: current.snapshot, listed };
        if self.page.bytes() + current.pieces.len() > PAGE_FULL {
            self.end_page();
        }
        let current = &mut self.current;
        self.page.begin(stream);
        let (pieces, sizes) = (&current.pieces, &current.sizes);
        let draft = Draft { stream, pieces, sizes, seqs, of_stream };
        put_chunk(&mut self.page.chunks, &draft, &mut self.compress);
        current.forget();
        filter::mark_partition(&mut self.bitmap, stream);
        filter::add(&mut self.filter, stream);
        self.streams += 1;
        self.records += u64::from(count);
        self.marks += u64::from(voids.floor > 0 || voids.deletes);
        self.last = Some(stream);
        if self.page.bytes() >= PAGE_BYTES {
            self.end_page();
        }
    }

    fn put_list(&mut self) -> Option<Listed> {
        let (list_at, current) = (self.end(), &self.current);
        let first = current.items.first()?;
        write_items(&mut self.buffer, list_at, &current.items);
        Some(Listed {
            list_at,
            chunks: u32_of(current.items.len()),
            bytes: list_at - first.offset,
            count: current.listed_count,
            seqs: current.listed_seqs,
        })
    }

    fn end_page(&mut self) {
        let Some(first) = self.page.first else { return };
        let (place, bytes) = (self.end(), self.page.bytes());
        self.keys.push(Key { first: separator(self.before, first), place, bytes });
        self.page.write(&mut self.buffer, place);
        self.before = self.last;
    }

    fn note_stamp(&mut self, stamp: u64) {
        if stamp > 0 {
            self.max_stamp = self.max_stamp.max(stamp);
            self.min_stamp = if self.min_stamp == 0 { stamp } else { self.min_stamp.min(stamp) };
        }
    }

    /// Ends the table: its root. All that is left of the file is ready then.
    pub(crate) fn finish(&mut self) -> TableRoot {
        self.end_page();
        filter::fold(&mut self.filter, index_of(self.streams));
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
            keys: Keys::pack(&core::mem::take(&mut self.keys)),
            filter: Bytes::from(core::mem::take(&mut self.filter)),
        };
        self.buffer.extend_from_slice(&root.tail());
        root
    }
}

impl Current {
    /// Writes a piece behind those that wait; what it says, if it is whole.
    fn take(&mut self, piece: &Piece<'_>) -> Option<Fields> {
        match *piece {
            Piece::Whole { bytes, mask, fields } => {
                let begin = self.pieces.len();
                self.pieces.extend_from_slice(bytes);
                mix(&mut self.pieces[begin..], mask);
                Some(fields)
            }
            Piece::Parts { fields, body } => {
                self.pieces.reserve(PIECE_HEAD_MAX + body.len());
                write_piece(&mut self.pieces, &fields, &[body], body.len(), self.salt);
                Some(fields)
            }
            Piece::Damaged => {
                let nothing = Fields {
                    number: 0,
                    seq: 0,
                    stamp: 0,
                    kind: 0,
                    role: Role::Plain,
                    control: true,
                };
                write_piece(&mut self.pieces, &nothing, &[], 0, !self.salt);
                None
            }
        }
    }

    fn forget(&mut self) {
        self.pieces.clear();
        self.sizes.clear();
        self.seqs.clear();
        self.snapshots.clear();
        self.items.clear();
        self.listed_count = 0;
        self.listed_seqs = Seqs::default();
        self.snapshot = None;
    }
}

fn put_chunk(buffer: &mut Vec<u8>, draft: &Draft<'_>, compress: &mut Trying) -> u32 {
    let tries = !draft.pieces.is_empty() && compress.tries();
    let (stored, smaller) = chunk::encode(buffer, draft, tries);
    if tries {
        compress.note(smaller);
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of the filter of a table that expected so many streams and got others.
    fn filter_bytes(streams_max: u64, streams: u32) -> usize {
        let facts = Facts { id: TableId(1), low: 1, high: 2, streams_max, compress: false };
        let mut writer = TableWriter::new(facts);
        let fields =
            Fields { number: 0, seq: 0, stamp: 0, kind: 0, role: Role::Plain, control: false };
        for stream in 0..streams {
            writer.begin_stream(StreamId(u128::from(stream) << 96 | 7));
            writer.add(&Piece::Parts { fields, body: b"body" });
            writer.end_stream(Voids::default());
        }
        writer.finish().filter.len()
    }

    #[test]
    fn a_merge_of_tables_with_the_same_streams_has_the_filter_of_one() {
        let alone = filter_bytes(2_000, 2_000);
        assert_eq!(filter_bytes(4_000, 2_000), alone);
        assert_eq!(filter_bytes(4_000, 4_000), 2 * alone, "none in common");
    }
}
