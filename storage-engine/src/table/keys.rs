//! Where a table's pages are (leaves, in older tables): in memory, so it is packed. A page is found
//! by the first bytes of a stream that no page before it has; bytes that all have alike, and those
//! that tell nothing apart, are left out.

use bytes::Bytes;

use super::former::LEAF_BYTES;
use super::page::PAGE_BYTES_MAX;
use crate::layout::{u64_at, u128_at, usize_of};
use crate::position::StreamId;

const STREAM_BYTES: usize = 16;
const PLACE_BYTES: usize = 8;
/// A page's length is kept in units of so many bytes, rounded up, in one byte.
const LENGTH_UNIT: usize = 256;
const _: () = assert!(PAGE_BYTES_MAX / LENGTH_UNIT <= 256, "a page's length has a byte");

/// How a key is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Packing {
    /// Versions 1 and 2: stream (16 bytes), place (8), for leaves of one length.
    Full,
    /// `stream` bytes of the stream behind the first `skip`, `place` bytes of the place, one of the
    /// length; the bytes that are skipped are those of `prefix`.
    Packed { skip: u8, stream: u8, place: u8, prefix: u128 },
}

impl Packing {
    /// Whether numbers from a file can be those of a packing.
    pub(crate) fn of(skip: u8, stream: u8, place: u8, prefix: u128) -> Option<Self> {
        let within = usize::from(skip) + usize::from(stream) <= STREAM_BYTES;
        let possible = within && usize::from(place) <= PLACE_BYTES;
        possible.then_some(Self::Packed { skip, stream, place, prefix })
    }

    /// Bytes of a key.
    pub(crate) fn key_bytes(self) -> usize {
        match self {
            Self::Full => STREAM_BYTES + PLACE_BYTES,
            Self::Packed { stream, place, .. } => usize::from(stream) + usize::from(place) + 1,
        }
    }
}

/// A page, as it is when it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    /// Not after the page's first stream, and after the last one of the page before; of the first
    /// page its first stream.
    pub(crate) first: u128,
    pub(crate) place: u64,
    pub(crate) bytes: usize,
}

/// The keys of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Keys {
    pub(crate) packing: Packing,
    pub(crate) bytes: Bytes,
}

impl Keys {
    /// Of no page.
    pub(crate) fn none() -> Self {
        let packing = Packing::Packed { skip: 0, stream: 0, place: 0, prefix: 0 };
        Self { packing, bytes: Bytes::new() }
    }

    /// Packs them.
    pub(crate) fn pack(keys: &[Key]) -> Self {
        let Some((first, others)) = keys.split_first() else { return Self::none() };
        let prefix = first.first;
        let apart = others.iter().fold(0, |bits, key| bits | (key.first ^ prefix));
        let used = others.iter().fold(0, |bits, key| bits | key.first);
        let skip = usize_of(apart.leading_zeros()) / 8;
        let behind = STREAM_BYTES - usize_of(used.trailing_zeros().min(128)) / 8;
        let stream = behind.saturating_sub(skip);
        let last = keys.iter().map(|key| key.place).max().unwrap_or(0);
        let place = PLACE_BYTES - usize_of(last.leading_zeros()) / 8;
        let mut bytes = Vec::with_capacity(keys.len() * (stream + place + 1));
        for (page, key) in keys.iter().enumerate() {
            // Nothing is before the first page: any number will do that is not larger.
            let first = if page == 0 { 0 } else { key.first };
            let high_first = (skip..skip + stream).map(|byte| big_end_byte(first, byte));
            bytes.extend(high_first);
            bytes.extend_from_slice(&key.place.to_le_bytes()[..place]);
            let length = key.bytes.div_ceil(LENGTH_UNIT).saturating_sub(1);
            bytes.push(u8::try_from(length).expect("a page is small"));
        }
        let byte = |bytes: usize| u8::try_from(bytes).expect("at most sixteen");
        let kept = prefix & !low_bits(STREAM_BYTES - skip);
        let packing = Packing::Packed {
            skip: byte(skip),
            stream: byte(stream),
            place: byte(place),
            prefix: kept,
        };
        Self { packing, bytes: Bytes::from(bytes) }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.packing.key_bytes()
    }

    fn key(&self, page: usize) -> &[u8] {
        let bytes = self.packing.key_bytes();
        &self.bytes[page * bytes..(page + 1) * bytes]
    }

    /// No stream of the page is before this one, and none of the pages before it is not.
    pub(crate) fn first(&self, page: usize) -> StreamId {
        let key = self.key(page);
        StreamId(match self.packing {
            Packing::Full => u128_at(key, 0),
            Packing::Packed { skip, stream, prefix, .. } => {
                let behind = STREAM_BYTES - usize::from(skip) - usize::from(stream);
                let bits = u32::from(u8::try_from(8 * behind).expect("at most 128"));
                prefix | from_big_end(&key[..usize::from(stream)]).checked_shl(bits).unwrap_or(0)
            }
        })
    }

    /// Where a page lies.
    pub(crate) fn place(&self, page: usize) -> u64 {
        let key = self.key(page);
        match self.packing {
            Packing::Full => u64_at(key, STREAM_BYTES),
            Packing::Packed { stream, place, .. } => {
                let from = usize::from(stream);
                let mut bytes = [0; PLACE_BYTES];
                bytes[..usize::from(place)].copy_from_slice(&key[from..from + usize::from(place)]);
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// Bytes to read for a page: it has no more.
    pub(crate) fn bytes_of(&self, page: usize) -> u32 {
        match self.packing {
            Packing::Full => LEAF_BYTES,
            Packing::Packed { .. } => {
                let units = self.key(page).last().copied().map_or(0, u32::from) + 1;
                units * u32::try_from(LENGTH_UNIT).expect("a small number")
            }
        }
    }

    /// The page that has the line of a stream, if one has.
    pub(crate) fn find(&self, stream: StreamId) -> Option<usize> {
        let Packing::Packed { skip, stream: told, prefix, .. } = self.packing else {
            return self.last_until(|page| self.first(page) <= stream);
        };
        let (skip, told) = (usize::from(skip), usize::from(told));
        let common = stream.0 & !low_bits(STREAM_BYTES - skip);
        if common != prefix {
            return if common < prefix { None } else { self.len().checked_sub(1) };
        }
        // The bytes as they are kept sort as the numbers do, and need not be unpacked.
        let all = stream.0.to_be_bytes();
        let wanted = &all[skip..skip + told];
        self.last_until(|page| &self.key(page)[..told] <= wanted)
    }

    /// The last page of those from the first on of which something is so.
    fn last_until(&self, is_so: impl Fn(usize) -> bool) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if is_so(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }
}

/// What tells a stream from the one before it, as few bytes as possible; the rest is 0.
pub(crate) fn separator(before: Option<StreamId>, stream: StreamId) -> u128 {
    let Some(before) = before else { return stream.0 };
    let same = usize_of((before.0 ^ stream.0).leading_zeros()) / 8;
    stream.0 & !low_bits(STREAM_BYTES.saturating_sub(same + 1))
}

/// So many bytes of ones, at the low end.
fn low_bits(bytes: usize) -> u128 {
    if bytes == 0 { 0 } else { u128::MAX >> (8 * (STREAM_BYTES - bytes)) }
}

fn from_big_end(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u128::from(byte))
}

/// A byte of a number, counted from its high end: the order in which streams are sorted.
fn big_end_byte(number: u128, byte: usize) -> u8 {
    let bits = number >> (8 * (STREAM_BYTES - 1 - byte)) & 0xff;
    u8::try_from(bits).expect("masked to a byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of these streams each, packed and looked through.
    fn check(pages: &[Vec<u128>]) -> Keys {
        let mut keys = Vec::new();
        let mut before = None;
        for (place, page) in (1..).zip(pages) {
            let first = separator(before, StreamId(page[0]));
            keys.push(Key { first, place: place * 1000, bytes: 700 });
            before = page.last().map(|&last| StreamId(last));
        }
        let packed = Keys::pack(&keys);
        assert_eq!(packed.len(), pages.len());
        for (place, page) in pages.iter().enumerate() {
            for &stream in page {
                assert_eq!(packed.find(StreamId(stream)), Some(place), "{stream:x}");
            }
            assert_eq!(packed.place(place), (u64::try_from(place).unwrap() + 1) * 1000);
            assert_eq!(packed.bytes_of(place), 768);
        }
        let streams = pages.iter().flatten();
        let near = streams.flat_map(|&one| [one.wrapping_sub(1), one.wrapping_add(1), !one]);
        for stream in near.chain([0, u128::MAX]).map(StreamId) {
            let unpacked = (0..packed.len()).rev().find(|&page| packed.first(page) <= stream);
            assert_eq!(packed.find(stream), unpacked, "{stream:?}");
        }
        packed
    }

    #[test]
    fn hashed_streams_take_few_bytes() {
        let spread = |number: u128| (number << 104) | ((number * 0x9e37_79b9_7f4a_7c15) >> 3);
        let pages: Vec<Vec<u128>> =
            (0..1000).map(|page| (0..7).map(|one| spread(page * 7 + one)).collect()).collect();
        let packed = check(&pages);
        assert!(packed.packing.key_bytes() <= 3 + 3 + 1, "{:?}", packed.packing);
    }

    #[test]
    fn streams_that_differ_at_their_end_only_are_found() {
        check(&(0..300).map(|page| vec![page * 3, page * 3 + 1, page * 3 + 2]).collect::<Vec<_>>());
        check(&[vec![0], vec![1], vec![u128::MAX]]);
        check(&[vec![u128::MAX - 1], vec![u128::MAX]]);
        check(&[vec![5]]);
    }

    #[test]
    fn streams_that_begin_alike_are_found_and_others_told_apart() {
        let alike = 0xabcd << 112;
        check(&(1..300).map(|page| vec![alike | page << 90]).collect::<Vec<_>>());
        check(&[vec![alike, alike | 1], vec![alike | 2]]);
    }

    #[test]
    fn a_stream_between_pages_belongs_to_one_of_them() {
        let packed = check(&[vec![10 << 100], vec![20 << 100], vec![30 << 100]]);
        assert_eq!(packed.find(StreamId(15 << 100)), Some(0));
        assert_eq!(packed.find(StreamId(u128::MAX)), Some(2));
        assert_eq!(Keys::none().find(StreamId(1)), None);
    }
}
