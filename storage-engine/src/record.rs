//! One record on disk: checksum, length, stream, numbers, body.

use bytes::Bytes;

use crate::layout::{crc, put, u32_at, u32_of, u64_at, u128_at, usize_of};
use crate::position::{SegmentId, StreamId};
use crate::query::StoredRecord;
use crate::store::NewRecord;

/// Bytes of a record before its body.
pub(crate) const RECORD_HEAD: usize = 52;

const SNAPSHOT: u8 = 1;
const TRIM: u8 = 2;
const DELETE: u8 = 4;
const CONTROL: u8 = 0x80;
/// What the body of a control record begins with, to find one behind damage.
const CONTROL_MAGIC: [u8; 8] = *b"RoostCmt";
/// Bytes of a control record.
pub(crate) const CONTROL_BYTES: usize = RECORD_HEAD + 24;

/// What the checksums of a segment are mixed with, so that no other segment's bytes pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mask(pub(crate) u32);

impl Mask {
    /// The mask of a segment; the salt is its run's random number.
    pub(crate) fn new(segment: SegmentId, salt: u64) -> Self {
        let mut bytes = [0; 16];
        put(&mut bytes, 0, &segment.0.to_le_bytes());
        put(&mut bytes, 8, &salt.to_le_bytes());
        Self(crc(&bytes))
    }

    /// The mask at a place.
    pub(crate) fn at(self, offset: u32) -> u32 {
        self.0 ^ offset.wrapping_mul(0x9e37_79b1)
    }
}

/// What a record is for the store itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Content.
    Plain,
    /// Content; loading may begin here.
    Snapshot,
    /// A mark: earlier records of the stream with a seq below the mark's are void.
    Trim,
    /// A mark: all earlier records of the stream are void.
    Delete,
}

impl Role {
    fn flags(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Snapshot => SNAPSHOT,
            Self::Trim => TRIM,
            Self::Delete => DELETE,
        }
    }

    fn of(flags: u8) -> Self {
        if flags & DELETE != 0 {
            Self::Delete
        } else if flags & TRIM != 0 {
            Self::Trim
        } else if flags & SNAPSHOT != 0 {
            Self::Snapshot
        } else {
            Self::Plain
        }
    }

    /// Whether it is the store's own and never shown.
    pub(crate) fn is_mark(self) -> bool {
        matches!(self, Self::Trim | Self::Delete)
    }
}

/// A record's fields, found whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) stream: StreamId,
    pub(crate) number: u64,
    pub(crate) seq: u64,
    pub(crate) stamp: u64,
    pub(crate) kind: u8,
    pub(crate) role: Role,
    pub(crate) length: u32,
    /// For a control record: what was durable before its commit.
    pub(crate) durable: Option<Durable>,
}

/// A place known durable: everything up to it was flushed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Durable {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u64,
}

impl Durable {
    /// Before anything was flushed.
    pub(crate) const NOTHING: Self = Self { segment: SegmentId(0), offset: 0 };
}

/// Writes a record to the end of a buffer; gives its bytes. No allocation if there is room.
pub(crate) fn write(
    buffer: &mut Vec<u8>,
    record: &NewRecord<'_>,
    role: Role,
    body: usize,
    mask: u32,
) -> u32 {
    let start = buffer.len();
    let length = u32_of(RECORD_HEAD + body);
    let mut head = [0; RECORD_HEAD];
    put(&mut head, 4, &length.to_le_bytes());
    put(&mut head, 8, &record.stream.0.to_le_bytes());
    put(&mut head, 24, &record.number.to_le_bytes());
    put(&mut head, 32, &record.seq.to_le_bytes());
    put(&mut head, 40, &record.stamp.to_le_bytes());
    head[48] = record.kind;
    head[49] = role.flags();
    buffer.extend_from_slice(&head);
    for part in record.body {
        buffer.extend_from_slice(part);
    }
    let sum = crc(&buffer[start + 4..]) ^ mask;
    put(buffer, start, &sum.to_le_bytes());
    length
}

/// Makes room for a control record at the end of a buffer.
pub(crate) fn reserve_control(buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&[0; CONTROL_BYTES]);
}

/// Fills the control record a buffer has room for.
pub(crate) fn write_control(room: &mut [u8], durable: Durable, mask: u32) {
    assert_eq!(room.len(), CONTROL_BYTES, "exactly the room reserved");
    room.fill(0);
    put(room, 4, &u32_of(CONTROL_BYTES).to_le_bytes());
    room[49] = CONTROL;
    put(room, RECORD_HEAD, &CONTROL_MAGIC);
    put(room, RECORD_HEAD + 8, &durable.segment.0.to_le_bytes());
    put(room, RECORD_HEAD + 16, &durable.offset.to_le_bytes());
    let sum = crc(&room[4..]) ^ mask;
    put(room, 0, &sum.to_le_bytes());
}

/// The record that these bytes begin with, if it is whole.
pub(crate) fn parse(bytes: &[u8], mask: u32) -> Option<Found> {
    if bytes.len() < RECORD_HEAD {
        return None;
    }
    let length = u32_at(bytes, 4);
    let end = usize_of(length);
    if end < RECORD_HEAD || end > bytes.len() || crc(&bytes[4..end]) ^ mask != u32_at(bytes, 0) {
        return None;
    }
    let flags = bytes[49];
    let control = flags & CONTROL != 0;
    if control && (end != CONTROL_BYTES || bytes[RECORD_HEAD..][..8] != CONTROL_MAGIC) {
        return None;
    }
    let durable = control.then(|| Durable {
        segment: SegmentId(u64_at(bytes, RECORD_HEAD + 8)),
        offset: u64_at(bytes, RECORD_HEAD + 16),
    });
    Some(Found {
        stream: StreamId(u128_at(bytes, 8)),
        number: u64_at(bytes, 24),
        seq: u64_at(bytes, 32),
        stamp: u64_at(bytes, 40),
        kind: bytes[48],
        role: Role::of(flags),
        length,
        durable,
    })
}

/// A record of a stream from exactly its bytes, if they are whole and the stream's.
pub(crate) fn stored(bytes: &Bytes, stream: StreamId, mask: u32) -> Option<StoredRecord> {
    let found = parse(bytes, mask)?;
    let shown = found.durable.is_none() && !found.role.is_mark();
    if found.stream != stream || !shown || usize_of(found.length) != bytes.len() {
        return None;
    }
    Some(StoredRecord {
        number: found.number,
        seq: found.seq,
        stamp: found.stamp,
        kind: found.kind,
        snapshot_start: found.role == Role::Snapshot,
        body: bytes.slice(RECORD_HEAD..),
    })
}

/// The furthest durable place that control records behind `from` name: what tells damage from a
/// torn tail. `bytes` is the whole segment.
pub(crate) fn claims_behind(bytes: &[u8], from: usize, mask: Mask) -> Durable {
    let mut furthest = Durable::NOTHING;
    let mut at = from;
    while at + CONTROL_BYTES <= bytes.len() {
        let magic = at + RECORD_HEAD;
        if bytes[magic] != CONTROL_MAGIC[0] || bytes[magic..magic + 8] != CONTROL_MAGIC {
            at += 1;
            continue;
        }
        let whole = parse(&bytes[at..at + CONTROL_BYTES], mask.at(u32_of(at)));
        furthest = whole.and_then(|found| found.durable).unwrap_or(furthest).max(furthest);
        at += 1;
    }
    furthest
}
