//! A Bloom filter: which sealed segments need not be asked for a stream.

use crate::layout::{u64_of, usize_of};
use crate::position::StreamId;

const BITS_EACH: usize = 12;
const PROBES: u64 = 5;

/// The bytes of an empty filter for so many streams.
pub(crate) fn empty(streams: usize) -> Vec<u8> {
    vec![0; (streams * BITS_EACH).div_ceil(8).max(8)]
}

/// The bits of a stream in a filter of so many bytes. Part of the format.
fn probes(stream: StreamId, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let low = u64::try_from(stream.0 & u128::from(u64::MAX)).expect("masked to 64 bits");
    let high = u64::try_from(stream.0 >> 64).expect("64 bits are left");
    let step = (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let start = (low ^ high.rotate_left(23)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = u64_of(bytes) * 8;
    (0..PROBES).map(move |turn| {
        let mixed = start.wrapping_add(step.wrapping_mul(turn));
        let bit = (mixed ^ mixed >> 31) % bits;
        let byte = usize::try_from(bit / 8).expect("an index into the filter");
        (byte, 1 << (bit % 8))
    })
}

pub(crate) fn add(filter: &mut [u8], stream: StreamId) {
    for (byte, bit) in probes(stream, filter.len()) {
        filter[byte] |= bit;
    }
}

/// False only if the stream was not added.
pub(crate) fn may_hold(filter: &[u8], stream: StreamId) -> bool {
    !filter.is_empty() && probes(stream, filter.len()).all(|(byte, bit)| filter[byte] & bit != 0)
}

/// The bytes of the partition bitmap.
pub(crate) const BITMAP_BYTES: usize = 128;

pub(crate) fn mark_partition(bitmap: &mut [u8], stream: StreamId) {
    let partition = stream.partition();
    bitmap[usize_of(u32::from(partition / 8))] |= 1 << (partition % 8);
}

pub(crate) fn has_partition(bitmap: &[u8], stream: StreamId) -> bool {
    let partition = stream.partition();
    bitmap[usize_of(u32::from(partition / 8))] & 1 << (partition % 8) != 0
}
