//! A Bloom filter: which sealed segments need not be asked for a stream.

use crate::layout::{u64_of, usize_of};
use crate::position::StreamId;

const BITS_EACH: usize = 12;
const PROBES: u64 = 5;
const BYTES_MIN: usize = 8;
/// A large filter has a multiple of so many bytes: it can be folded by 2, 3, 4, 5 and so on.
const FOLDABLE_BYTES: usize = 60;
/// Where this is little beside the rest.
const FOLDABLE_FROM_BYTES: usize = 1 << 10;

/// Bytes that so many streams need.
fn bytes_for(streams: usize) -> usize {
    (streams * BITS_EACH).div_ceil(8).max(BYTES_MIN)
}

/// The bytes of an empty filter for at most so many streams.
pub(crate) fn empty(streams: usize) -> Vec<u8> {
    let bytes = bytes_for(streams);
    let whole = if bytes < FOLDABLE_FROM_BYTES { BYTES_MIN } else { FOLDABLE_BYTES };
    vec![0; bytes.next_multiple_of(whole)]
}

/// Makes a filter a half, a third and so on of what it is, if that is enough for the streams that
/// there are in the end: tables that are merged may have most of their streams in common. A bit of
/// a filter is a remainder by its length, so where the length is a multiple of another one, its
/// parts laid over each other are the filter of that length.
pub(crate) fn fold(filter: &mut Vec<u8>, streams: usize) {
    let most = filter.len() / bytes_for(streams);
    let Some(parts) =
        (2..=most.min(FOLDABLE_BYTES)).rev().find(|n| filter.len().is_multiple_of(*n))
    else {
        return;
    };
    let part_bytes = filter.len() / parts;
    let (first, others) = filter.split_at_mut(part_bytes);
    for other in others.chunks_exact(part_bytes) {
        first.iter_mut().zip(other).for_each(|(byte, other)| *byte |= other);
    }
    filter.truncate(part_bytes);
    filter.shrink_to_fit();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: u64) -> StreamId {
        StreamId(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(number))
    }

    /// Of streams that are not there, those of which the filter cannot tell, in thousandths.
    fn wrong(filter: &[u8], streams: u64) -> u64 {
        let others = streams..streams + 20_000;
        let taken_in = others.filter(|&number| may_hold(filter, stream(number))).count();
        u64_of(taken_in) / 20
    }

    #[test]
    fn a_folded_filter_knows_all_its_streams_and_few_others() {
        const STREAMS: u64 = 10_000;
        let needed = bytes_for(10_000);
        for (foreseen, most) in [(10_000, 101), (15_000, 151), (20_000, 101), (43_000, 110)] {
            let mut filter = empty(foreseen);
            for number in 0..STREAMS {
                add(&mut filter, stream(number));
            }
            fold(&mut filter, 10_000);
            assert!((0..STREAMS).all(|number| may_hold(&filter, stream(number))), "{foreseen}");
            let bytes = filter.len();
            assert!(bytes >= needed && bytes <= needed * most / 100, "{bytes} for {foreseen}");
            assert_eq!(filter.capacity(), bytes);
            assert!(wrong(&filter, STREAMS) <= 10, "{foreseen}: {}", wrong(&filter, STREAMS));
        }
    }

    #[test]
    fn a_small_filter_folds_too() {
        for streams in 0..200 {
            let mut filter = empty(200);
            (0..streams).for_each(|number| add(&mut filter, stream(number)));
            fold(&mut filter, usize::try_from(streams).unwrap());
            let needed = bytes_for(usize::try_from(streams).unwrap());
            assert!(filter.len() >= needed);
            assert!(filter.len() < empty(200).len() || needed * 2 > filter.len(), "{streams}");
            assert!((0..streams).all(|number| may_hold(&filter, stream(number))), "{streams}");
        }
    }
}
