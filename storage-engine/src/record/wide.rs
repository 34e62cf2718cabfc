//! Records of versions 1 and 2: every number has its full width.

use super::{CONTROL_MAGIC, Durable, Found, Role};
use crate::layout::{crc, put, u32_at, u32_of, u64_at, u128_at, usize_of};
use crate::position::{SegmentId, StreamId};

/// Bytes of a record before its body.
pub(super) const HEAD: usize = 52;
/// Bytes of a control record.
pub(super) const CONTROL_BYTES: usize = HEAD + 24;

const SNAPSHOT: u8 = 1;
const TRIM: u8 = 2;
const DELETE: u8 = 4;
const CONTROL: u8 = 0x80;

fn role_of(flags: u8) -> Role {
    if flags & DELETE != 0 {
        Role::Delete
    } else if flags & TRIM != 0 {
        Role::Trim
    } else if flags & SNAPSHOT != 0 {
        Role::Snapshot
    } else {
        Role::Plain
    }
}

/// Makes a control record of room that has its body.
pub(super) fn seal_control(room: &mut [u8], mask: u32) {
    put(room, 4, &u32_of(CONTROL_BYTES).to_le_bytes());
    room[49] = CONTROL;
    let sum = crc(&room[4..]) ^ mask;
    put(room, 0, &sum.to_le_bytes());
}

/// The length that the record has which may begin here, without looking at its checksum.
pub(super) fn plausible(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < HEAD || bytes[50] != 0 || bytes[51] != 0 {
        return None;
    }
    let known = matches!(bytes[49], 0 | SNAPSHOT | TRIM | DELETE | CONTROL);
    let length = usize_of(u32_at(bytes, 4));
    (known && (HEAD..=bytes.len()).contains(&length)).then_some(length)
}

/// The record that these bytes begin with, if it is whole.
pub(super) fn parse(bytes: &[u8], mask: u32) -> Option<Found> {
    if bytes.len() < HEAD {
        return None;
    }
    let length = u32_at(bytes, 4);
    let end = usize_of(length);
    if end < HEAD || end > bytes.len() || crc(&bytes[4..end]) ^ mask != u32_at(bytes, 0) {
        return None;
    }
    let flags = bytes[49];
    let control = flags & CONTROL != 0;
    if control && (end != CONTROL_BYTES || bytes[HEAD..][..8] != CONTROL_MAGIC) {
        return None;
    }
    let durable = control.then(|| Durable {
        segment: SegmentId(u64_at(bytes, HEAD + 8)),
        offset: u64_at(bytes, HEAD + 16),
    });
    Some(Found {
        stream: StreamId(u128_at(bytes, 8)),
        number: u64_at(bytes, 24),
        seq: u64_at(bytes, 32),
        stamp: u64_at(bytes, 40),
        kind: bytes[48],
        role: role_of(flags),
        length,
        body: u32_of(HEAD),
        durable,
    })
}
