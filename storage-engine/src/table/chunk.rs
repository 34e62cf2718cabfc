//! A chunk: some records of one stream. Its head says whose they are and where each one begins, so
//! that each can be read though its neighbours are damaged; the head of a stream's last chunk is
//! the stream's line, too. The records are compressed if that pays.

use bytes::Bytes;

use super::line::{Item, Line, NO_CHUNK, list_bytes};
use crate::layout::{crc, put, put_varint, take_varint, u32_at, u32_of, u64_of, u128_at, usize_of};
use crate::position::StreamId;
use crate::query::StoredRecord;
use crate::record::{FoundPiece, PIECE_MIN, Role, parse_piece, salt_of};

/// Bytes of a head before what varies.
pub(crate) const HEAD_MIN: usize = 24;
/// The place of the head's length, of its flags and of the stream.
const HEAD_BYTES_AT: usize = 4;
const FLAGS_AT: usize = 6;
const MARK_AT: usize = 7;
const STREAM_AT: usize = 8;
/// What stands at `MARK_AT`: most bytes that are no head are seen at once.
const MARK: u8 = 0xc5;

const LZ4: u8 = 1;
const DELETES: u8 = 2;
const FLOOR: u8 = 4;
const SNAPSHOT: u8 = 8;
const LISTED: u8 = 16;
const ALL_FLAGS: u8 = LZ4 | DELETES | FLOOR | SNAPSHOT | LISTED;
/// No compressed payload is smaller than this part of what it was.
const LZ4_MOST: usize = 255;
/// Compressing must save this part at least.
const SAVED_PART: usize = 8;

/// Records counted by their seqs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Seqs {
    /// Records with a seq.
    pub(crate) count: u32,
    /// Smallest and largest, 0 if there is none.
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Seqs {
    pub(crate) fn add(&mut self, seq: u64) {
        if seq > 0 {
            self.count = self.count.saturating_add(1);
            self.first = if self.first == 0 { seq } else { self.first.min(seq) };
            self.last = self.last.max(seq);
        }
    }

    fn join(self, other: Self) -> Self {
        let first = match (self.first, other.first) {
            (0, first) | (first, 0) => first,
            (one, other) => one.min(other),
        };
        Self {
            count: self.count.saturating_add(other.count),
            first,
            last: self.last.max(other.last),
        }
    }
}

/// The chunks of a stream that a list names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) list_at: u64,
    pub(crate) chunks: u32,
    /// Bytes of them; they end where the list begins.
    pub(crate) bytes: u64,
    pub(crate) count: u32,
    pub(crate) seqs: Seqs,
}

/// What the head of a stream's last chunk says of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct OfStream {
    pub(crate) floor: u64,
    pub(crate) deletes: bool,
    /// The chunk with the last record at which loading may begin.
    pub(crate) snapshot: Option<u32>,
    pub(crate) listed: Option<Listed>,
}

/// What is to become a chunk: pieces one behind the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) stream: StreamId,
    pub(crate) pieces: &'a [u8],
    /// Bytes of each.
    pub(crate) sizes: &'a [u32],
    pub(crate) seqs: Seqs,
    pub(crate) of_stream: OfStream,
}

/// What is wrong with a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChunkFault {
    /// The place of the damage, counted from the chunk's first byte.
    pub(crate) at: u64,
}

/// Writes one chunk to the end of a buffer; gives its bytes, and whether compressing paid.
pub(crate) fn encode(buffer: &mut Vec<u8>, draft: &Draft<'_>, compress: bool) -> (u32, bool) {
    let start = buffer.len();
    let small = compress.then(|| lz4_flex::block::compress(draft.pieces));
    let pays = |small: &Vec<u8>| small.len() + draft.pieces.len() / SAVED_PART < draft.pieces.len();
    let small = small.filter(pays);
    let payload = small.as_deref().unwrap_or(draft.pieces);
    buffer.resize(start + HEAD_MIN, 0);
    put(&mut buffer[start..], STREAM_AT, &draft.stream.0.to_le_bytes());
    put_varint(buffer, u64_of(draft.sizes.len()));
    put_varint(buffer, u64_of(payload.len()));
    put_seqs(buffer, draft.seqs);
    let mut flags = put_of_stream(buffer, &draft.of_stream);
    if small.is_some() {
        flags |= LZ4;
        put_varint(buffer, u64_of(draft.pieces.len()));
    }
    for &size in draft.sizes {
        put_varint(buffer, u64::from(size));
    }
    let head = u16::try_from(buffer.len() - start).expect("a chunk has some hundred records");
    let room = &mut buffer[start..];
    put(room, HEAD_BYTES_AT, &head.to_le_bytes());
    room[FLAGS_AT] = flags;
    room[MARK_AT] = MARK;
    let sum = crc(&room[4..]);
    put(room, 0, &sum.to_le_bytes());
    buffer.extend_from_slice(payload);
    (u32_of(buffer.len() - start), small.is_some())
}

fn put_seqs(buffer: &mut Vec<u8>, seqs: Seqs) {
    put_varint(buffer, u64::from(seqs.count));
    if seqs.count > 0 {
        put_varint(buffer, seqs.first);
        put_varint(buffer, seqs.last - seqs.first);
    }
}

fn put_of_stream(buffer: &mut Vec<u8>, of_stream: &OfStream) -> u8 {
    let mut flags = if of_stream.deletes { DELETES } else { 0 };
    if of_stream.floor > 0 {
        flags |= FLOOR;
        put_varint(buffer, of_stream.floor);
    }
    if let Some(chunk) = of_stream.snapshot {
        flags |= SNAPSHOT;
        put_varint(buffer, u64::from(chunk));
    }
    if let Some(listed) = of_stream.listed {
        flags |= LISTED;
        put_varint(buffer, listed.list_at);
        put_varint(buffer, u64::from(listed.chunks));
        put_varint(buffer, listed.bytes);
        put_varint(buffer, u64::from(listed.count));
        put_seqs(buffer, listed.seqs);
    }
    flags
}

/// A chunk's head, found whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) stream: StreamId,
    pub(crate) count: u32,
    /// Bytes of the head, and of what follows it.
    head: usize,
    stored: usize,
    /// Bytes of the records; others than `stored` if they are compressed.
    pieces: usize,
    compressed: bool,
    seqs: Seqs,
    of_stream: OfStream,
    sizes: &'a [u8],
}

impl Head<'_> {
    /// Bytes that a head says it has which begins so; none if it cannot be one.
    pub(crate) fn bytes_said(begin: &[u8]) -> Option<u64> {
        let marked = begin.len() >= HEAD_MIN && begin[MARK_AT] == MARK;
        let said = u16::from_le_bytes([*begin.get(HEAD_BYTES_AT)?, *begin.get(HEAD_BYTES_AT + 1)?]);
        (marked && usize::from(said) >= HEAD_MIN).then_some(u64::from(said))
    }

    /// The stream that a head says it is of which begins so; whether it is damaged is not asked.
    pub(crate) fn stream_said(begin: &[u8]) -> Option<StreamId> {
        (begin.len() >= HEAD_MIN).then(|| StreamId(u128_at(begin, STREAM_AT)))
    }
}

impl<'a> Head<'a> {
    /// The head that these bytes begin with, if it is whole.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < HEAD_MIN || bytes[MARK_AT] != MARK {
            return None;
        }
        let head =
            usize::from(u16::from_le_bytes([bytes[HEAD_BYTES_AT], bytes[HEAD_BYTES_AT + 1]]));
        let all = bytes.get(..head)?;
        let mut rest = all.get(HEAD_MIN..)?;
        if crc(&all[4..]) != u32_at(all, 0) {
            return None;
        }
        let flags = all[FLAGS_AT];
        let count = take_u32(&mut rest)?;
        let stored = usize_of(take_u32(&mut rest)?);
        let seqs = take_seqs(&mut rest)?;
        let of_stream = take_of_stream(&mut rest, flags)?;
        let compressed = flags & LZ4 != 0;
        let pieces = if compressed { usize_of(take_u32(&mut rest)?) } else { stored };
        let possible = flags & !ALL_FLAGS == 0
            && rest.len() >= usize_of(count)
            && pieces <= stored.saturating_mul(LZ4_MOST)
            && usize_of(count).checked_mul(PIECE_MIN)? <= pieces;
        let stream = StreamId(u128_at(all, STREAM_AT));
        let sizes = rest;
        possible.then_some(Self {
            stream,
            count,
            head,
            stored,
            pieces,
            compressed,
            seqs,
            of_stream,
            sizes,
        })
    }

    /// Bytes of the whole chunk.
    pub(crate) fn bytes(&self) -> u32 {
        u32::try_from(self.head + self.stored).unwrap_or(u32::MAX)
    }

    /// What it says of its stream, if it is the last chunk and lies at `at`; none if that cannot
    /// be.
    pub(crate) fn line(&self, at: u64) -> Option<Line> {
        let OfStream { floor, deletes, snapshot, listed } = self.of_stream;
        let listed_chunks = listed.map_or(0, |listed| listed.chunks);
        let listed_bytes = listed.map_or(0, |listed| listed.bytes);
        let list_at = listed.map_or(0, |listed| listed.list_at);
        let seqs = listed.map_or(self.seqs, |listed| listed.seqs.join(self.seqs));
        let last = (self.count > 0).then_some(Item {
            offset: at,
            stored: self.bytes(),
            count: self.count,
            first_seq: self.seqs.first,
            last_seq: self.seqs.last,
        });
        Some(Line {
            stream: self.stream,
            offset: list_at.checked_sub(listed_bytes)?,
            bytes: listed_bytes,
            first_seq: seqs.first,
            last_seq: seqs.last,
            floor,
            list_at,
            list_bytes: list_bytes(listed_chunks),
            count: listed.map_or(0, |listed| listed.count).checked_add(self.count)?,
            sequenced: seqs.count,
            listed: listed_chunks,
            last,
            snapshot: snapshot.unwrap_or(NO_CHUNK),
            deletes,
        })
    }

    /// As an item of a list.
    pub(crate) fn item(&self, at: u64) -> Item {
        Item {
            offset: at,
            stored: self.bytes(),
            count: self.count,
            first_seq: self.seqs.first,
            last_seq: self.seqs.last,
        }
    }
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_varint(rest)?).ok()
}

fn take_seqs(rest: &mut &[u8]) -> Option<Seqs> {
    let count = take_u32(rest)?;
    if count == 0 {
        return Some(Seqs::default());
    }
    let first = take_varint(rest)?;
    let last = first.checked_add(take_varint(rest)?)?;
    Some(Seqs { count, first, last })
}

fn take_of_stream(rest: &mut &[u8], flags: u8) -> Option<OfStream> {
    let floor = if flags & FLOOR != 0 { take_varint(rest)? } else { 0 };
    let snapshot = if flags & SNAPSHOT != 0 { Some(take_u32(rest)?) } else { None };
    let listed = if flags & LISTED != 0 {
        let list_at = take_varint(rest)?;
        let chunks = take_u32(rest)?;
        let bytes = take_varint(rest)?;
        let count = take_u32(rest)?;
        Some(Listed { list_at, chunks, bytes, count, seqs: take_seqs(rest)? })
    } else {
        None
    };
    Some(OfStream { floor, deletes: flags & DELETES != 0, snapshot, listed })
}

/// Gives the records of a chunk in their order. Each one that is damaged is named in `faults`; the
/// others are given. Bodies share the buffer, or its decompressed copy.
pub(crate) fn decode(
    bytes: &Bytes,
    stream: StreamId,
    faults: &mut Vec<ChunkFault>,
) -> Vec<StoredRecord> {
    let head = Head::parse(bytes);
    let sound = head.filter(|head| head.stream == stream && usize_of(head.bytes()) == bytes.len());
    let Some(head) = sound else {
        faults.push(ChunkFault { at: 0 });
        return if head.is_some() { Vec::new() } else { headless(bytes, stream) };
    };
    let stored = bytes.slice(head.head..);
    let pieces = if head.compressed {
        match lz4_flex::block::decompress(&stored, head.pieces) {
            Ok(pieces) if pieces.len() == head.pieces => Bytes::from(pieces),
            _ => {
                faults.push(ChunkFault { at: 0 });
                return Vec::new();
            }
        }
    } else {
        stored
    };
    let (salt, mut sizes, mut at) = (salt_of(stream), head.sizes, 0_usize);
    let mut records = Vec::with_capacity(usize_of(head.count));
    for _ in 0..head.count {
        let size = take_u32(&mut sizes).map_or(usize::MAX, usize_of);
        let end = at.saturating_add(size);
        let piece = pieces.get(at..end);
        let found = piece.and_then(|piece| parse_piece(piece, salt).filter(|one| one.end == size));
        match found.filter(is_content) {
            Some(found) => records.push(record_of(&pieces, at, &found)),
            None => {
                // Sizes that are damaged, too, may say that it begins anywhere.
                let begin = at.min(pieces.len());
                faults.push(ChunkFault { at: u64_of(head.head + begin) });
            }
        }
        at = end;
    }
    records
}

fn is_content(found: &FoundPiece) -> bool {
    !found.fields.control && !found.fields.role.is_mark()
}

fn record_of(pieces: &Bytes, at: usize, found: &FoundPiece) -> StoredRecord {
    let fields = &found.fields;
    StoredRecord {
        number: fields.number,
        seq: fields.seq,
        stamp: fields.stamp,
        kind: fields.kind,
        snapshot_start: fields.role == Role::Snapshot,
        body: pieces.slice(at + found.body..at + found.end),
    }
}

/// The records of a chunk whose head is damaged: where it says that they begin they may begin, and
/// each says where it ends. What lies inside a body is not looked at: it may be a client's.
fn headless(bytes: &Bytes, stream: StreamId) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    if bytes.len() < HEAD_MIN || bytes[FLAGS_AT] & LZ4 != 0 {
        return records;
    }
    let begin = u16::from_le_bytes([bytes[HEAD_BYTES_AT], bytes[HEAD_BYTES_AT + 1]]);
    let (salt, mut at) = (salt_of(stream), usize::from(begin));
    while let Some(found) = bytes.get(at..).and_then(|rest| parse_piece(rest, salt)) {
        if is_content(&found) {
            records.push(record_of(bytes, at, &found));
        }
        at += found.end;
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Fields, write_piece};

    const STREAM: StreamId = StreamId(77 << 100);

    /// Bytes that no compressor makes smaller.
    fn noise(seed: u64, bytes: usize) -> Vec<u8> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
            state.to_be_bytes()[0]
        };
        (0..bytes).map(next).collect()
    }

    fn fields(number: u64) -> Fields {
        let seq = if number.is_multiple_of(3) { 0 } else { number * 2 };
        let role = if number == 6 { Role::Snapshot } else { Role::Plain };
        Fields { number, seq, stamp: 1 << 60 | number, kind: 9, role, control: false }
    }

    fn chunk_of(bodies: &[Vec<u8>], compress: bool, of_stream: OfStream) -> Bytes {
        let (mut pieces, mut sizes, mut seqs) = (Vec::new(), Vec::new(), Seqs::default());
        for (number, body) in (5..).zip(bodies) {
            let fields = fields(number);
            seqs.add(fields.seq);
            let salt = salt_of(STREAM);
            sizes.push(u32_of(write_piece(&mut pieces, &fields, &[body], body.len(), salt)));
        }
        let draft = Draft { stream: STREAM, pieces: &pieces, sizes: &sizes, seqs, of_stream };
        let mut buffer = Vec::new();
        let (stored, _smaller) = encode(&mut buffer, &draft, compress);
        assert_eq!(usize_of(stored), buffer.len());
        Bytes::from(buffer)
    }

    #[test]
    fn gives_what_was_put_in() {
        let bodies = [b"hello".to_vec(), Vec::new(), vec![1; 70_000], noise(3, 200)];
        for compress in [false, true] {
            let chunk = chunk_of(&bodies, compress, OfStream::default());
            let mut faults = Vec::new();
            let records = decode(&chunk, STREAM, &mut faults);
            assert!(faults.is_empty());
            for ((number, record), body) in (5..).zip(&records).zip(&bodies) {
                let fields = fields(number);
                assert_eq!((record.number, record.seq), (number, fields.seq));
                assert_eq!((record.stamp, record.kind), (fields.stamp, 9));
                assert_eq!(record.snapshot_start, number == 6);
                assert_eq!(record.body, body);
            }
            assert_eq!(records.len(), bodies.len());
            assert_eq!(chunk.len() < 10_000, compress);
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        let bodies = [noise(1, 400), noise(2, 400)];
        let of_stream = OfStream::default();
        assert_eq!(chunk_of(&bodies, true, of_stream), chunk_of(&bodies, false, of_stream));
    }

    #[test]
    fn the_head_says_what_the_stream_has() {
        let seqs = Seqs { count: 30, first: 2, last: 90 };
        let listed = Listed { list_at: 9000, chunks: 130, bytes: 5000, count: 40, seqs };
        let of_stream =
            OfStream { floor: 3, deletes: true, snapshot: Some(130), listed: Some(listed) };
        let chunk = chunk_of(&[noise(1, 50), noise(2, 50)], false, of_stream);
        let line = Head::parse(&chunk).unwrap().line(20_000).unwrap();
        assert_eq!((line.count, line.sequenced, line.listed), (42, 31, 130));
        assert_eq!((line.first_seq, line.last_seq), (2, 90));
        assert_eq!((line.offset, line.bytes, line.list_at), (4000, 5000, 9000));
        assert_eq!(line.list_bytes, 4096 + 16 + 3 * 32);
        assert_eq!((line.floor, line.deletes, line.snapshot), (3, true, 130));
        let stored = u32_of(chunk.len());
        let last = Item { offset: 20_000, stored, count: 2, first_seq: 10, last_seq: 10 };
        assert_eq!(line.last, Some(last));
        assert_eq!((line.chunks(), line.chunk_bytes()), (131, 5000 + u64::from(stored)));
    }

    #[test]
    fn any_flipped_bit_is_seen_and_hides_one_record() {
        let bodies = [noise(1, 60), noise(2, 60), noise(3, 60), noise(4, 60)];
        let whole = chunk_of(&bodies, false, OfStream::default());
        let head = Head::parse(&whole).unwrap().head;
        let expected = decode(&whole, STREAM, &mut Vec::new());
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut faults = Vec::new();
            let records = decode(&Bytes::from(damaged), STREAM, &mut faults);
            assert!(!faults.is_empty(), "bit {bit}");
            assert!(records.iter().all(|record| expected.contains(record)), "bit {bit}");
            // Without the head each record says where the next one is; its length and flags say
            // where the first one is.
            let lost = if bit / 8 >= head { 1 } else { 0 };
            let may_hide_all = (HEAD_BYTES_AT..=FLAGS_AT).contains(&(bit / 8));
            assert!(records.len() == 4 - lost || may_hide_all, "bit {bit}: {}", records.len());
        }
    }

    #[test]
    fn sizes_that_lie_leave_damage_in_its_chunk() {
        // Three sizes of two bytes each, in whose place is one that no file has.
        let bodies = [noise(1, 200), noise(2, 200), noise(3, 200)];
        let mut chunk = chunk_of(&bodies, false, OfStream::default()).to_vec();
        let head = Head::parse(&chunk).unwrap().head;
        put(&mut chunk, head - 6, &[0xff, 0xff, 0xff, 0xff, 0xff, 7]);
        let sum = crc(&chunk[4..head]);
        put(&mut chunk, 0, &sum.to_le_bytes());
        let (mut faults, end) = (Vec::new(), u64_of(chunk.len()));
        assert!(decode(&Bytes::from(chunk), STREAM, &mut faults).is_empty());
        assert_eq!(faults.len(), 3);
        assert!(faults.iter().all(|fault| fault.at <= end), "{faults:?}");
    }

    #[test]
    fn hostile_heads_are_faults() {
        for byte in [0, MARK, 0xff] {
            for length in 0..80 {
                let mut faults = Vec::new();
                let bytes = Bytes::from(vec![byte; length]);
                assert!(decode(&bytes, STREAM, &mut faults).is_empty());
                assert_eq!(faults, [ChunkFault { at: 0 }]);
            }
        }
    }
}
