//! The header of a segment: who it is, written when it is made, and its opening, written with its
//! first commit.

use crate::layout::{
    BLOCK_BYTES, HEADER_BYTES, OPENING_AT, VERSION, block_is_whole, crc, put, seal_block, u32_at,
    u64_at, usize_of,
};
use crate::position::SegmentId;
use crate::record::Mask;

const MAGIC: [u8; 8] = *b"RoostSeg";
const OPENING_MAGIC: [u8; 8] = *b"RoostOpn";
const OPENING_BYTES: usize = 32;
const OPENING: usize = 512;

/// Who a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) segment: SegmentId,
    pub(crate) salt: u64,
    /// Says the form of its records.
    pub(crate) version: u32,
    /// Whether the file was another segment before: what lies behind its records is not zeros.
    pub(crate) recycled: bool,
}

/// What a segment follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opening {
    /// The segment before it in the log of its run, if there is one.
    pub(crate) previous: Option<SegmentId>,
    /// Where the records of that one end.
    pub(crate) previous_length: u64,
}

/// What reading a header found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeaderFault {
    /// It is not a segment, or damaged.
    Bad,
    /// It is of a newer version.
    Newer(u32),
}

/// The bytes a new segment begins with.
pub(crate) fn write_identity(identity: &Identity) -> Vec<u8> {
    let mut bytes = vec![0; usize_of(OPENING_AT)];
    put(&mut bytes, 8, &MAGIC);
    put(&mut bytes, 16, &identity.version.to_le_bytes());
    put(&mut bytes, 20, &HEADER_BYTES.to_le_bytes());
    put(&mut bytes, 24, &identity.segment.0.to_le_bytes());
    put(&mut bytes, 32, &identity.segment.run().to_le_bytes());
    put(&mut bytes, 36, &u32::from(identity.segment.shard()).to_le_bytes());
    put(&mut bytes, 40, &identity.salt.to_le_bytes());
    put(&mut bytes, 48, &BLOCK_BYTES.to_le_bytes());
    put(&mut bytes, 52, &u32::from(identity.recycled).to_le_bytes());
    seal_block(&mut bytes, 0);
    bytes
}

/// Notes in the first bytes of a segment that its file was another one before.
pub(crate) fn mark_recycled(identity: &mut [u8]) {
    put(identity, 52, &1_u32.to_le_bytes());
    seal_block(&mut identity[..usize_of(OPENING_AT)], 0);
}

/// Who this segment is.
pub(crate) fn read_identity(bytes: &[u8]) -> Result<Identity, HeaderFault> {
    if bytes.len() < usize_of(HEADER_BYTES) || bytes[8..16] != MAGIC {
        return Err(HeaderFault::Bad);
    }
    let head = &bytes[..usize_of(OPENING_AT)];
    let version = u32_at(head, 16);
    if version > VERSION {
        return Err(HeaderFault::Newer(version));
    }
    if !block_is_whole(head, 0) {
        return Err(HeaderFault::Bad);
    }
    Ok(Identity {
        segment: SegmentId(u64_at(head, 24)),
        salt: u64_at(head, 40),
        version,
        recycled: u32_at(head, 52) != 0,
    })
}

/// Writes the opening and the rest of the header to the end of a buffer.
pub(crate) fn write_opening(buffer: &mut Vec<u8>, opening: &Opening, mask: Mask) {
    let start = buffer.len();
    buffer.resize(start + usize_of(HEADER_BYTES - OPENING_AT), 0);
    let room = &mut buffer[start..start + OPENING_BYTES];
    put(room, 8, &OPENING_MAGIC);
    put(room, 16, &opening.previous.map_or(0, |previous| previous.0).to_le_bytes());
    put(room, 24, &opening.previous_length.to_le_bytes());
    let sum = crc(&room[4..]) ^ mask.at(OPENING_AT).value;
    put(room, 0, &sum.to_le_bytes());
}

/// The opening, if a first commit wrote it whole.
pub(crate) fn read_opening(bytes: &[u8], mask: Mask) -> Option<Opening> {
    let room = bytes.get(OPENING..OPENING + OPENING_BYTES)?;
    if room[8..16] != OPENING_MAGIC || !block_is_whole(room, mask.at(OPENING_AT).value) {
        return None;
    }
    let previous = u64_at(room, 16);
    Some(Opening {
        previous: (previous != 0).then_some(SegmentId(previous)),
        previous_length: u64_at(room, 24),
    })
}
