//! Numbers of the format and the reading and writing of its integers. `FORMAT.md` has the tables.

/// The version this program writes; it refuses newer ones.
pub(crate) const VERSION: u32 = 3;
/// Bytes before the first record of a segment.
pub(crate) const HEADER_BYTES: u32 = 4096;
/// Where the opening, written with the first commit, begins.
pub(crate) const OPENING_AT: u32 = 512;
/// Bytes of an index block.
pub(crate) const BLOCK_BYTES: u32 = 4096;

/// The CRC-32C of some bytes.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(sum).expect("a CRC-32 has 32 bits")
}

/// Bytes at a place, as an array. The caller has checked that they are there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has N bytes")
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

pub(crate) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(array(bytes, at))
}

/// Overwrites the bytes at a place.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A 32-bit length as an index.
pub(crate) fn usize_of(value: u32) -> usize {
    usize::try_from(value).expect("usize has at least 32 bits")
}

/// A 64-bit offset as an index.
pub(crate) fn index_of(value: u64) -> usize {
    usize::try_from(value).expect("files are addressed with 64 bits")
}

/// A length in memory as 32 bits; what is counted here is bounded by a segment.
pub(crate) fn u32_of(value: usize) -> u32 {
    u32::try_from(value).expect("bounded by the size of a segment")
}

/// A length in memory as 64 bits.
pub(crate) fn u64_of(value: usize) -> u64 {
    u64::try_from(value).expect("usize has at most 64 bits")
}

/// Up to the next multiple of a block.
pub(crate) fn block_ceil(value: u64) -> u64 {
    value.div_ceil(u64::from(BLOCK_BYTES)) * u64::from(BLOCK_BYTES)
}

/// A block whose first four bytes are to be the checksum of the rest, masked.
pub(crate) fn seal_block(block: &mut [u8], mask: u32) {
    let sum = crc(&block[4..]) ^ mask;
    put(block, 0, &sum.to_le_bytes());
}

/// Whether such a block is as it was written.
pub(crate) fn block_is_whole(block: &[u8], mask: u32) -> bool {
    block.len() > 4 && u32_at(block, 0) == crc(&block[4..]) ^ mask
}

/// Appends an unsigned LEB128 varint.
pub(crate) fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    buffer.push(u8::try_from(value).expect("seven bits"));
}

/// Takes an unsigned LEB128 varint off the front; none if it does not end or is too long.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
