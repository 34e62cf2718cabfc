//! One record of a segment: its stream, and a piece with checksum, length, numbers and body.

mod piece;
mod wide;

use bytes::Bytes;

use crate::layout::{crc, put, u32_of, u64_at, u128_at, usize_of};
use crate::position::{SegmentId, StreamId};
use crate::query::StoredRecord;
use crate::store::NewRecord;

pub(crate) use piece::{
    Fields, FoundPiece, PIECE_HEAD_MAX, PIECE_MIN, end_of, mix, parse as parse_piece, salt_of,
    seal, write as write_piece,
};

const STREAM_BYTES: usize = 16;
/// Bytes of a record before its body, at most.
pub(crate) const RECORD_HEAD_MAX: usize = STREAM_BYTES + PIECE_HEAD_MAX;
/// What the body of a control record begins with, to find one behind damage.
const CONTROL_MAGIC: [u8; 8] = *b"RoostCmt";
/// Bytes of a control record before its body: stream, checksum, length, flags, kind.
const CONTROL_HEAD: usize = STREAM_BYTES + PIECE_MIN;
/// Bytes of a control record.
pub(crate) const CONTROL_BYTES: usize = CONTROL_HEAD + 24;
/// The first version with narrow records.
const NARROW_FROM: u32 = 3;

/// How records lie in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// Versions 1 and 2.
    Wide,
    /// Since version 3.
    Narrow,
}

impl Form {
    /// The form of a segment's records.
    pub(crate) fn of(version: u32) -> Self {
        if version < NARROW_FROM { Self::Wide } else { Self::Narrow }
    }

    /// Bytes of a control record.
    pub(crate) fn control_bytes(self) -> usize {
        match self {
            Self::Wide => wide::CONTROL_BYTES,
            Self::Narrow => CONTROL_BYTES,
        }
    }
}

/// What the checksums of a segment are mixed with, so that no other segment's bytes pass, and the
/// form of its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mask {
    value: u32,
    pub(crate) form: Form,
}

/// The mask at a place of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Masked {
    pub(crate) value: u32,
    form: Form,
}

impl Mask {
    /// The mask of a segment; the salt is its run's random number.
    pub(crate) fn new(segment: SegmentId, salt: u64, form: Form) -> Self {
        let mut bytes = [0; 16];
        put(&mut bytes, 0, &segment.0.to_le_bytes());
        put(&mut bytes, 8, &salt.to_le_bytes());
        Self { value: crc(&bytes), form }
    }

    /// The mask at a place.
    pub(crate) fn at(self, offset: u32) -> Masked {
        Masked { value: self.value ^ offset.wrapping_mul(0x9e37_79b1), form: self.form }
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
    /// Where its body begins.
    pub(crate) body: u32,
    /// For a control record: what was durable before its commit.
    pub(crate) durable: Option<Durable>,
}

/// A place known durable: everything up to it was flushed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
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
    mask: Masked,
) -> u32 {
    assert_eq!(mask.form, Form::Narrow, "new segments have narrow records");
    let NewRecord { stream, number, seq, stamp, kind, .. } = *record;
    buffer.extend_from_slice(&stream.0.to_le_bytes());
    let fields = Fields { number, seq, stamp, kind, role, control: false };
    let salt = salt_of(stream) ^ mask.value;
    u32_of(STREAM_BYTES + write_piece(buffer, &fields, record.body, body, salt))
}

/// Makes room for a control record at the end of a buffer.
pub(crate) fn reserve_control(buffer: &mut Vec<u8>, form: Form) {
    buffer.resize(buffer.len() + form.control_bytes(), 0);
}

/// Fills the control record a buffer has room for.
pub(crate) fn write_control(room: &mut [u8], durable: Durable, mask: Masked) {
    assert_eq!(room.len(), mask.form.control_bytes(), "exactly the room reserved");
    room.fill(0);
    let body = room.len() - 24;
    put(room, body, &CONTROL_MAGIC);
    put(room, body + 8, &durable.segment.0.to_le_bytes());
    put(room, body + 16, &durable.offset.to_le_bytes());
    match mask.form {
        Form::Wide => wide::seal_control(room, mask.value),
        Form::Narrow => {
            room[STREAM_BYTES + 4] = 26;
            room[STREAM_BYTES + 5] = piece::CONTROL;
            seal(&mut room[STREAM_BYTES..], salt_of(StreamId(0)) ^ mask.value);
        }
    }
}

/// The record that these bytes begin with, if it is whole.
pub(crate) fn parse(bytes: &[u8], mask: Masked) -> Option<Found> {
    match mask.form {
        Form::Wide => wide::parse(bytes, mask.value),
        Form::Narrow => parse_narrow(bytes, mask.value),
    }
}

fn parse_narrow(bytes: &[u8], mask: u32) -> Option<Found> {
    let (head, piece) = bytes.split_at_checked(STREAM_BYTES)?;
    let stream = StreamId(u128_at(head, 0));
    let found = parse_piece(piece, salt_of(stream) ^ mask)?;
    let Fields { number, seq, stamp, kind, role, control } = found.fields;
    let body = &piece[found.body..found.end];
    if control && (stream.0 != 0 || body.len() != 24 || body[..8] != CONTROL_MAGIC) {
        return None;
    }
    let durable =
        control.then(|| Durable { segment: SegmentId(u64_at(body, 8)), offset: u64_at(body, 16) });
    let length = u32::try_from(STREAM_BYTES + found.end).ok()?;
    let body = u32_of(STREAM_BYTES + found.body);
    Some(Found { stream, number, seq, stamp, kind, role, length, body, durable })
}

/// The piece of a narrow record, as it is in tables but for its mask.
pub(crate) fn piece_of(record: &[u8]) -> &[u8] {
    &record[STREAM_BYTES..]
}

/// Changes the checksum of a whole record that was moved.
pub(crate) fn moved(record: &mut [u8], from: Masked, to: Masked) {
    let sum = match from.form {
        Form::Wide => record,
        Form::Narrow => &mut record[STREAM_BYTES..],
    };
    mix(sum, from.value ^ to.value);
}

/// The length of the record that may begin here, without looking at its checksum; none if none
/// does.
pub(crate) fn plausible(bytes: &[u8], form: Form) -> Option<usize> {
    match form {
        Form::Wide => wide::plausible(bytes),
        Form::Narrow => Some(STREAM_BYTES + end_of(bytes.get(STREAM_BYTES..)?)?),
    }
}

/// A record of a stream from exactly its bytes, if they are whole and the stream's.
pub(crate) fn stored(bytes: &Bytes, stream: StreamId, mask: Masked) -> Option<StoredRecord> {
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
        body: bytes.slice(usize_of(found.body)..),
    })
}

/// The furthest durable place that control records behind `from` name: what tells damage from a
/// torn tail. `bytes` is the whole segment.
pub(crate) fn claims_behind(bytes: &[u8], from: usize, mask: Mask) -> Durable {
    let mut furthest = Durable::NOTHING;
    let whole = mask.form.control_bytes();
    let head = whole - 24;
    let mut at = from;
    while at + whole <= bytes.len() {
        let magic = at + head;
        if bytes[magic] != CONTROL_MAGIC[0] || bytes[magic..magic + 8] != CONTROL_MAGIC {
            at += 1;
            continue;
        }
        let found = parse(&bytes[at..at + whole], mask.at(u32_of(at)));
        furthest = found.and_then(|found| found.durable).unwrap_or(furthest).max(furthest);
        at += 1;
    }
    furthest
}
