//! Chunks of version 2: some records of one stream, checksummed as a whole and each by itself,
//! compressed or not. Each record can be read though its neighbours are damaged.

use bytes::Bytes;

use crate::layout::{crc, put, take_varint, u32_at, u32_of, u64_at, u64_of, u128_at, usize_of};
use crate::position::StreamId;
use crate::query::StoredRecord;
use crate::table::ChunkFault;

/// Bytes before the payload.
pub(crate) const CHUNK_HEAD: usize = 40;
const BASE_BYTES: usize = 24;
const SNAPSHOT: u8 = 1;
const RAW: u8 = 0;
const LZ4: u8 = 1;
/// No payload is larger: a record has at most a segment's bytes.
const PAYLOAD_MAX: usize = 1 << 30;

/// What a chunk's head says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chunk {
    pub(crate) stream: StreamId,
    /// Bytes of the chunk in the file, with its head.
    pub(crate) stored: u32,
    payload: u32,
    pub(crate) count: u32,
    codec: u8,
}

impl Chunk {
    /// The head of a chunk of this stream, if the bytes can be one.
    pub(crate) fn parse(bytes: &[u8], stream: StreamId) -> Option<Self> {
        if bytes.len() < CHUNK_HEAD {
            return None;
        }
        let chunk = Self {
            stored: u32_at(bytes, 4),
            payload: u32_at(bytes, 8),
            count: u32_at(bytes, 12),
            codec: bytes[16],
            stream: StreamId(u128_at(bytes, 24)),
        };
        let possible = usize_of(chunk.stored) >= CHUNK_HEAD
            && usize_of(chunk.payload) <= PAYLOAD_MAX
            && usize_of(chunk.payload) >= BASE_BYTES + usize_of(chunk.count).saturating_mul(4)
            && chunk.stream == stream
            && chunk.codec <= LZ4
            && (chunk.codec != RAW || chunk.stored == chunk.payload + u32_of(CHUNK_HEAD));
        possible.then_some(chunk)
    }
}

/// What the checksum of each record is mixed with: what it means depends on the chunk's stream and
/// on the numbers that its own are counted from.
fn salt_of(stream: StreamId, bases: &[u8]) -> u32 {
    let mut bytes = [0; 16 + BASE_BYTES];
    put(&mut bytes, 0, &stream.0.to_le_bytes());
    put(&mut bytes, 16, bases);
    crc(&bytes)
}

/// Gives the records of a chunk in their order. Each one that is damaged is named in `faults`; the
/// others are given. Bodies share the buffer, or its decompressed copy.
pub(crate) fn decode(
    bytes: &Bytes,
    stream: StreamId,
    faults: &mut Vec<ChunkFault>,
) -> Vec<StoredRecord> {
    let whole = Chunk::parse(bytes, stream)
        .filter(|chunk| usize_of(chunk.stored) == bytes.len())
        .map(|chunk| (chunk, crc(&bytes[4..]) == u32_at(bytes, 0)));
    let Some((chunk, sound)) = whole else {
        faults.push(ChunkFault { at: 0 });
        return Vec::new();
    };
    let payload = match chunk.codec {
        RAW => bytes.slice(CHUNK_HEAD..),
        _compressed if !sound => {
            faults.push(ChunkFault { at: 0 });
            return Vec::new();
        }
        _compressed => {
            let size = usize_of(chunk.payload);
            match lz4_flex::block::decompress(&bytes[CHUNK_HEAD..], size) {
                Ok(payload) if payload.len() == size => Bytes::from(payload),
                _ => {
                    faults.push(ChunkFault { at: 0 });
                    return Vec::new();
                }
            }
        }
    };
    let before = faults.len();
    let records = records_of(&payload, &chunk, faults);
    if !sound && faults.len() == before {
        // The records are whole: the damage is in the head.
        faults.push(ChunkFault { at: 0 });
    }
    records
}

fn records_of(payload: &Bytes, chunk: &Chunk, faults: &mut Vec<ChunkFault>) -> Vec<StoredRecord> {
    let count = usize_of(chunk.count);
    let bases = [u64_at(payload, 0), u64_at(payload, 8), u64_at(payload, 16)];
    let salt = salt_of(chunk.stream, &payload[..BASE_BYTES]);
    let begin = BASE_BYTES + count * 4;
    let mut records = Vec::with_capacity(count);
    let mut at = begin;
    for place in 0..count {
        let end = begin.saturating_add(usize_of(u32_at(payload, BASE_BYTES + place * 4)));
        let record = record_at(payload, at, end, bases, salt);
        match record {
            Some(record) => records.push(record),
            None => faults.push(ChunkFault { at: u64_of(CHUNK_HEAD + at) }),
        }
        // A damaged end must not hide the next record: it begins where this one should end.
        at = if (begin..=payload.len()).contains(&end) { end } else { at };
    }
    records
}

fn record_at(
    payload: &Bytes,
    at: usize,
    end: usize,
    bases: [u64; 3],
    salt: u32,
) -> Option<StoredRecord> {
    let bytes = payload.get(at..end)?;
    if bytes.len() < 9 || crc(&bytes[4..]) ^ salt != u32_at(bytes, 0) {
        return None;
    }
    let (kind, flags) = (bytes[4], bytes[5]);
    let mut rest = &bytes[6..];
    let mut fields = [0; 3];
    for (field, base) in fields.iter_mut().zip(bases) {
        let value = take_varint(&mut rest)?;
        *field = if value == 0 { 0 } else { base.checked_add(value - 1)? };
    }
    let [number, seq, stamp] = fields;
    let body = payload.slice(end - rest.len()..end);
    Some(StoredRecord { number, seq, stamp, kind, snapshot_start: flags & SNAPSHOT != 0, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::put_varint;

    const STREAM: StreamId = StreamId(77);

    #[derive(Clone, Copy, Debug)]
    struct Piece<'a> {
        number: u64,
        seq: u64,
        stamp: u64,
        kind: u8,
        snapshot: bool,
        body: &'a [u8],
    }

    /// As version 2 wrote a chunk.
    fn encode(buffer: &mut Vec<u8>, stream: StreamId, pieces: &[Piece<'_>], compress: bool) -> u32 {
        let start = buffer.len();
        buffer.resize(start + CHUNK_HEAD, 0);
        let base = |field: fn(&Piece<'_>) -> u64| {
            pieces.iter().map(field).filter(|&value| value > 0).min().unwrap_or(0)
        };
        let bases = [base(|one| one.number), base(|one| one.seq), base(|one| one.stamp)];
        for value in bases {
            buffer.extend_from_slice(&value.to_le_bytes());
        }
        let salt = salt_of(stream, &buffer[start + CHUNK_HEAD..]);
        let ends = buffer.len();
        buffer.resize(ends + pieces.len() * 4, 0);
        let records = buffer.len();
        for (place, piece) in pieces.iter().enumerate() {
            let at = buffer.len();
            buffer.extend_from_slice(&[0; 4]);
            buffer.push(piece.kind);
            buffer.push(if piece.snapshot { SNAPSHOT } else { 0 });
            for (value, base) in [piece.number, piece.seq, piece.stamp].into_iter().zip(bases) {
                put_varint(buffer, if value == 0 { 0 } else { (value - base).saturating_add(1) });
            }
            buffer.extend_from_slice(piece.body);
            let sum = crc(&buffer[at + 4..]) ^ salt;
            put(buffer, at, &sum.to_le_bytes());
            let end = u32_of(buffer.len() - records);
            put(buffer, ends + place * 4, &end.to_le_bytes());
        }
        let payload = buffer.len() - start - CHUNK_HEAD;
        let codec = if compress && squeeze(buffer, start + CHUNK_HEAD) { LZ4 } else { RAW };
        let stored = u32_of(buffer.len() - start);
        let head = &mut buffer[start..];
        put(head, 4, &stored.to_le_bytes());
        put(head, 8, &u32_of(payload).to_le_bytes());
        put(head, 12, &u32_of(pieces.len()).to_le_bytes());
        head[16] = codec;
        put(head, 24, &stream.0.to_le_bytes());
        let sum = crc(&head[4..]);
        put(head, 0, &sum.to_le_bytes());
        stored
    }

    /// Compresses the payload if that saves an eighth; bodies are often ciphertext.
    fn squeeze(buffer: &mut Vec<u8>, from: usize) -> bool {
        let small = lz4_flex::block::compress(&buffer[from..]);
        let pays = small.len() + (buffer.len() - from) / 8 <= buffer.len() - from;
        if pays {
            buffer.truncate(from);
            buffer.extend_from_slice(&small);
        }
        pays
    }

    fn pieces(bodies: &[Vec<u8>]) -> Vec<Piece<'_>> {
        let numbered = (5..).zip(bodies);
        numbered
            .map(|(number, body)| Piece {
                number,
                seq: if number % 3 == 0 { 0 } else { number * 2 },
                stamp: 1 << 60 | number,
                kind: 9,
                snapshot: number == 6,
                body,
            })
            .collect()
    }

    fn chunk_of(bodies: &[Vec<u8>], compress: bool) -> Bytes {
        let mut buffer = Vec::new();
        let stored = encode(&mut buffer, STREAM, &pieces(bodies), compress);
        assert_eq!(usize_of(stored), buffer.len());
        Bytes::from(buffer)
    }

    /// Bytes that no compressor makes smaller.
    fn noise(seed: u64, bytes: usize) -> Vec<u8> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
            state.to_be_bytes()[0]
        };
        (0..bytes).map(next).collect()
    }

    #[test]
    fn gives_what_was_put_in() {
        let bodies = [b"hello".to_vec(), Vec::new(), vec![1; 70_000], noise(3, 200)];
        for compress in [false, true] {
            let chunk = chunk_of(&bodies, compress);
            let mut faults = Vec::new();
            let records = decode(&chunk, STREAM, &mut faults);
            assert!(faults.is_empty());
            for (record, piece) in records.iter().zip(pieces(&bodies)) {
                assert_eq!(record.number, piece.number);
                assert_eq!(record.seq, piece.seq);
                assert_eq!(record.stamp, piece.stamp);
                assert_eq!(record.kind, piece.kind);
                assert_eq!(record.snapshot_start, piece.snapshot);
                assert_eq!(record.body, piece.body);
            }
            assert_eq!(records.len(), bodies.len());
            assert_eq!(chunk.len() < 10_000, compress);
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        let bodies = [noise(1, 400), noise(2, 400)];
        assert_eq!(chunk_of(&bodies, true), chunk_of(&bodies, false));
    }

    #[test]
    fn any_flipped_bit_is_seen_and_hides_at_most_two_records() {
        let bodies = [noise(1, 60), noise(2, 60), noise(3, 60), noise(4, 60)];
        let whole = chunk_of(&bodies, false);
        let expected = decode(&whole, STREAM, &mut Vec::new());
        for at in 0..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[at / 8] ^= 1 << (at % 8);
            let mut faults = Vec::new();
            let records = decode(&Bytes::from(damaged), STREAM, &mut faults);
            assert!(!faults.is_empty(), "bit {at}");
            assert!(records.iter().all(|record| expected.contains(record)), "bit {at}");
            if at >= (CHUNK_HEAD + BASE_BYTES) * 8 {
                assert!(records.len() >= 2, "bit {at}");
            }
        }
    }

    #[test]
    fn hostile_heads_are_faults() {
        for length in 0..80 {
            let mut faults = Vec::new();
            let bytes = Bytes::from(vec![0xff; length]);
            assert!(decode(&bytes, STREAM, &mut faults).is_empty());
            assert_eq!(faults, [ChunkFault { at: 0 }]);
        }
    }
}
