//! A piece: a record without its stream, the same bytes in a segment and in a table. What lies
//! around it says whose it is; its checksum covers that too.

use super::Role;
use crate::layout::{crc, put, take_varint, u32_at, u64_at, u64_of};
use crate::position::StreamId;

/// Bytes of a piece before its body, at most: checksum, length, flags, kind, number, seq, stamp.
pub(crate) const PIECE_HEAD_MAX: usize = 4 + 5 + 2 + 10 + 10 + 8;
/// No piece has fewer bytes: checksum, length, flags, kind.
pub(crate) const PIECE_MIN: usize = 7;

const SNAPSHOT: u8 = 1;
const TRIM: u8 = 2;
const DELETE: u8 = 4;
const NUMBER: u8 = 8;
const SEQ: u8 = 16;
const STAMP: u8 = 32;
pub(super) const CONTROL: u8 = 128;

/// What a piece says beside its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fields {
    pub(crate) number: u64,
    pub(crate) seq: u64,
    pub(crate) stamp: u64,
    pub(crate) kind: u8,
    pub(crate) role: Role,
    pub(crate) control: bool,
}

/// A piece found whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FoundPiece {
    pub(crate) fields: Fields,
    /// Where its body begins, and where it ends: bytes from its first one.
    pub(crate) body: usize,
    pub(crate) end: usize,
}

/// What the checksums of a stream's pieces are mixed with, so that no other stream's pass. Each bit
/// of the stream changes it.
pub(crate) fn salt_of(stream: StreamId) -> u32 {
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("masked");
    let low = half(stream.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let high = half(stream.0 >> 64).rotate_left(32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mixed = low.wrapping_add(high);
    u32::try_from(mixed >> 32).expect("32 bits are left")
}

/// Writes a piece to the end of a buffer, its body in parts of `body_bytes` together; gives its
/// bytes. No allocation if there is room.
pub(crate) fn write(
    buffer: &mut Vec<u8>,
    fields: &Fields,
    body: &[&[u8]],
    body_bytes: usize,
    salt: u32,
) -> usize {
    let start = buffer.len();
    let mut head = [0; PIECE_HEAD_MAX];
    let mut head_bytes = 0;
    let mut push = |bytes: &[u8]| {
        put(&mut head, head_bytes, bytes);
        head_bytes += bytes.len();
    };
    let mut flags = flags_of(fields.role) | if fields.control { CONTROL } else { 0 };
    for (value, flag) in [(fields.number, NUMBER), (fields.seq, SEQ), (fields.stamp, STAMP)] {
        flags |= if value > 0 { flag } else { 0 };
    }
    push(&[flags, fields.kind]);
    if fields.number > 0 {
        varint(fields.number, &mut push);
    }
    if fields.seq > 0 {
        varint(folded(fields.seq, fields.number), &mut push);
    }
    if fields.stamp > 0 {
        push(&fields.stamp.to_le_bytes());
    }
    buffer.extend_from_slice(&[0; 4]);
    varint(u64_of(head_bytes + body_bytes), &mut |bytes| buffer.extend_from_slice(bytes));
    buffer.extend_from_slice(&head[..head_bytes]);
    for part in body {
        buffer.extend_from_slice(part);
    }
    seal(&mut buffer[start..], salt);
    buffer.len() - start
}

/// Writes the checksum of a piece.
pub(crate) fn seal(piece: &mut [u8], salt: u32) {
    let sum = crc(&piece[4..]) ^ salt;
    put(piece, 0, &sum.to_le_bytes());
}

/// Changes what a piece's checksum is mixed with.
pub(crate) fn mix(piece: &mut [u8], with: u32) {
    let sum = u32_at(piece, 0) ^ with;
    put(piece, 0, &sum.to_le_bytes());
}

fn varint(mut value: u64, push: &mut impl FnMut(&[u8])) {
    while value >= 0x80 {
        push(&[u8::try_from(value & 0x7f).expect("seven bits") | 0x80]);
        value >>= 7;
    }
    push(&[u8::try_from(value).expect("seven bits")]);
}

/// How far a seq is from its record's number, small in either direction.
fn folded(seq: u64, number: u64) -> u64 {
    let distance = seq.wrapping_sub(number).cast_signed();
    ((distance << 1) ^ (distance >> 63)).cast_unsigned()
}

fn unfolded(folded: u64, number: u64) -> u64 {
    let distance = (folded >> 1) ^ (folded & 1).wrapping_neg();
    number.wrapping_add(distance)
}

fn flags_of(role: Role) -> u8 {
    match role {
        Role::Plain => 0,
        Role::Snapshot => SNAPSHOT,
        Role::Trim => TRIM,
        Role::Delete => DELETE,
    }
}

fn role_of(flags: u8) -> Option<Role> {
    match flags & (SNAPSHOT | TRIM | DELETE) {
        0 => Some(Role::Plain),
        SNAPSHOT => Some(Role::Snapshot),
        TRIM => Some(Role::Trim),
        DELETE => Some(Role::Delete),
        _ => None,
    }
}

/// Where the piece ends that may begin here, without looking at its checksum; none if there is
/// none or it goes on behind these bytes.
pub(crate) fn end_of(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes.get(4..)?;
    let length = usize::try_from(take_varint(&mut rest)?).ok()?;
    let begin = bytes.len() - rest.len();
    let end = begin.checked_add(length)?;
    (length >= 2 && end <= bytes.len()).then_some(end)
}

/// The piece that these bytes begin with, if it is whole.
pub(crate) fn parse(bytes: &[u8], salt: u32) -> Option<FoundPiece> {
    let end = end_of(bytes)?;
    let piece = &bytes[..end];
    if crc(&piece[4..]) ^ salt != u32_at(piece, 0) {
        return None;
    }
    let mut rest = &piece[4..];
    take_varint(&mut rest)?;
    let (&[flags, kind], mut rest) = rest.split_first_chunk()?;
    let number = if flags & NUMBER != 0 { take_varint(&mut rest)? } else { 0 };
    let seq = if flags & SEQ != 0 { unfolded(take_varint(&mut rest)?, number) } else { 0 };
    let mut stamp = 0;
    if flags & STAMP != 0 {
        let (bytes, behind) = rest.split_at_checked(8)?;
        stamp = u64_at(bytes, 0);
        rest = behind;
    }
    let role = role_of(flags)?;
    let fields = Fields { number, seq, stamp, kind, role, control: flags & CONTROL != 0 };
    Some(FoundPiece { fields, body: end - rest.len(), end })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);

    fn fields(number: u64, seq: u64, stamp: u64) -> Fields {
        Fields { number, seq, stamp, kind: 7, role: Role::Plain, control: false }
    }

    #[test]
    fn gives_what_was_put_in() {
        let far = u64::MAX;
        let all = [(0, 0, 0), (1, 1, 1), (5, 0, 9), (0, 5, 0), (far, 1, far), (1, far, 3)];
        for (number, seq, stamp) in all {
            for role in [Role::Plain, Role::Snapshot, Role::Trim, Role::Delete] {
                let fields = Fields { role, ..fields(number, seq, stamp) };
                let mut buffer = Vec::new();
                let bytes = write(&mut buffer, &fields, &[b"he", b"llo"], 5, 99);
                let found = parse(&buffer, 99).unwrap();
                assert_eq!((found.fields, found.end), (fields, bytes));
                assert_eq!(&buffer[found.body..found.end], b"hello");
                assert!(found.body <= PIECE_HEAD_MAX);
            }
        }
    }

    #[test]
    fn a_usual_message_has_few_bytes_beside_its_body() {
        let mut buffer = Vec::new();
        let bytes = write(&mut buffer, &fields(300, 298, 1 << 60), &[&[9; 100]], 100, 0);
        assert_eq!(bytes - 100, 4 + 1 + 2 + 2 + 1 + 8);
    }

    #[test]
    fn a_flipped_bit_or_another_stream_is_seen() {
        let mut buffer = Vec::new();
        write(&mut buffer, &fields(3, 3, 3), &[b"body"], 4, salt_of(STREAM));
        for bit in 0..buffer.len() * 8 {
            let mut damaged = buffer.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&damaged, salt_of(STREAM)), None, "bit {bit}");
        }
        for bit in 0..128 {
            assert_eq!(parse(&buffer, salt_of(StreamId(STREAM.0 ^ 1 << bit))), None, "bit {bit}");
        }
    }

    #[test]
    fn hostile_bytes_are_none() {
        for length in 0..40 {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                assert_eq!(parse(&vec![byte; length], 0), None);
            }
        }
    }
}
