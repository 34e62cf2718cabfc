//! A sealed segment: immutable, with an index at its end. The root of that index stays in memory;
//! the rest is fetched block by block.

use bytes::Bytes;

use crate::error::DiskError;
use crate::filter;
use crate::index::Entry;
use crate::layout::{
    BLOCK_BYTES, VERSION, block_is_whole, crc, index_of, put, seal_block, u32_at, u32_of, u64_at,
    u64_of, u128_at, usize_of,
};
use crate::position::{SegmentId, StreamId};
use crate::record::Mask;

const MAGIC: [u8; 8] = *b"RoostEnd";
/// Bytes of a block before its lines.
pub(crate) const BLOCK_HEAD: usize = 16;
/// Bytes of a directory line.
pub(crate) const LINE_BYTES: usize = 48;
/// Directory lines in a block.
pub(crate) const LINES_EACH: usize = 85;
/// Bytes of a list entry.
pub(crate) const ITEM_BYTES: usize = 16;
/// List entries in a block.
pub(crate) const ITEMS_EACH: u32 = 255;
const KEY_BYTES: usize = 16;
const NO_SNAPSHOT: u32 = u32::MAX;

/// The root of a sealed segment's index. Cheap to clone: the shards share it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedRoot {
    pub(crate) segment: SegmentId,
    pub(crate) salt: u64,
    pub(crate) length: u64,
    pub(crate) directory_at: u64,
    pub(crate) list_at: u64,
    pub(crate) root_at: u64,
    pub(crate) items: u32,
    pub(crate) max_stamp: u64,
    pub(crate) bitmap: Bytes,
    pub(crate) keys: Bytes,
    pub(crate) filter: Bytes,
}

/// What a sealed segment holds of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) stream: StreamId,
    /// Records of the stream, at least 1.
    pub(crate) count: u32,
    /// Those with a seq.
    pub(crate) sequenced: u32,
    /// The last record with a snapshot start, counted from the stream's first.
    pub(crate) snapshot: Option<u32>,
    /// The place of the stream's first item in the list.
    pub(crate) first_item: u32,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
}

impl SealedRoot {
    /// The segment it belongs to.
    #[must_use]
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    /// Reads the root of a sealed file of so many bytes; `read` gives (offset, bytes) of it.
    ///
    /// # Errors
    /// `Corrupt` or `Newer` if it is not what was sealed, and whatever `read` answers.
    pub fn load(
        segment: SegmentId,
        file_bytes: u64,
        read: &mut dyn FnMut(u64, u32) -> Result<Vec<u8>, DiskError>,
    ) -> Result<Self, DiskError> {
        let footer_at = file_bytes
            .checked_sub(u64::from(BLOCK_BYTES))
            .ok_or(DiskError::Corrupt { offset: file_bytes })?;
        let damaged = DiskError::Corrupt { offset: footer_at };
        let footer = read(footer_at, BLOCK_BYTES)?;
        if footer.len() != usize_of(BLOCK_BYTES) || footer[8..16] != MAGIC {
            return Err(damaged);
        }
        let version = u32_at(&footer, 16);
        if version > VERSION {
            return Err(DiskError::Newer { version });
        }
        if !block_is_whole(&footer, 0) || u64_at(&footer, 24) != segment.0 {
            return Err(damaged);
        }
        let (keys, filter) = (usize_of(u32_at(&footer, 72)), usize_of(u32_at(&footer, 84)));
        let root_at = u64_at(&footer, 64);
        let root_bytes = keys * KEY_BYTES + filter;
        let fetched = u32::try_from(root_bytes).map_err(|_too_many| damaged)?;
        let root = Bytes::from(read(root_at, fetched)?);
        if root.len() != root_bytes || crc(&root) != u32_at(&footer, 88) {
            return Err(DiskError::Corrupt { offset: root_at });
        }
        Ok(Self {
            segment,
            salt: u64_at(&footer, 32),
            length: u64_at(&footer, 40),
            directory_at: u64_at(&footer, 48),
            list_at: u64_at(&footer, 56),
            root_at,
            items: u32_at(&footer, 76),
            max_stamp: u64_at(&footer, 104),
            bitmap: Bytes::copy_from_slice(&footer[128..128 + filter::BITMAP_BYTES]),
            keys: root.slice(..keys * KEY_BYTES),
            filter: root.slice(keys * KEY_BYTES..),
        })
    }

    /// The last block of the file.
    pub(crate) fn footer(&self) -> Vec<u8> {
        let mut root = self.keys.to_vec();
        root.extend_from_slice(&self.filter);
        let keys = u32_of(self.keys.len() / KEY_BYTES);
        let mut footer = vec![0; usize_of(BLOCK_BYTES)];
        put(&mut footer, 8, &MAGIC);
        put(&mut footer, 16, &VERSION.to_le_bytes());
        put(&mut footer, 24, &self.segment.0.to_le_bytes());
        put(&mut footer, 32, &self.salt.to_le_bytes());
        put(&mut footer, 40, &self.length.to_le_bytes());
        put(&mut footer, 48, &self.directory_at.to_le_bytes());
        put(&mut footer, 56, &self.list_at.to_le_bytes());
        put(&mut footer, 64, &self.root_at.to_le_bytes());
        put(&mut footer, 72, &keys.to_le_bytes());
        put(&mut footer, 76, &self.items.to_le_bytes());
        put(&mut footer, 84, &u32_of(self.filter.len()).to_le_bytes());
        put(&mut footer, 88, &crc(&root).to_le_bytes());
        put(&mut footer, 104, &self.max_stamp.to_le_bytes());
        put(&mut footer, 128, &self.bitmap);
        seal_block(&mut footer, 0);
        footer
    }

    /// What checksums of this segment are mixed with.
    pub(crate) fn mask(&self) -> Mask {
        Mask::new(self.segment, self.salt)
    }

    /// The directory block that has the stream's line if any has; none if surely none has.
    pub(crate) fn directory_block(&self, stream: StreamId) -> Option<u64> {
        let possible =
            filter::has_partition(&self.bitmap, stream) && filter::may_hold(&self.filter, stream);
        if !possible {
            return None;
        }
        let blocks = self.keys.len() / KEY_BYTES;
        let (mut low, mut high) = (0, blocks);
        while low < high {
            let middle = low.midpoint(high);
            if u128_at(&self.keys, middle * KEY_BYTES) <= stream.0 {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let block = low.checked_sub(1)?;
        Some(self.directory_at + u64_of(block) * u64::from(BLOCK_BYTES))
    }

    /// The line of a stream in its directory block.
    pub(crate) fn line(
        &self,
        block: &[u8],
        at: u64,
        stream: StreamId,
    ) -> Result<Option<Line>, u64> {
        let lines = self.lines_of(block, at, LINE_BYTES)?;
        let line = lines.chunks_exact(LINE_BYTES).find(|line| u128_at(line, 0) == stream.0);
        Ok(line.map(read_line))
    }

    /// The lines or items of a block, if it is whole.
    fn lines_of<'a>(&self, block: &'a [u8], at: u64, each: usize) -> Result<&'a [u8], u64> {
        let offset = u32::try_from(at).map_err(|_too_far| at)?;
        let full = block.len() == usize_of(BLOCK_BYTES);
        if !full || !block_is_whole(block, self.mask().at(offset)) {
            return Err(at);
        }
        let end = BLOCK_HEAD + usize_of(u32_at(block, 4)) * each;
        block.get(BLOCK_HEAD..end).ok_or(at)
    }

    /// The range of list blocks that hold the items from `first` to before `end`.
    pub(crate) fn list_range(&self, first: u32, end: u32) -> (u64, u32) {
        assert!(first < end, "an empty stretch of the list has no blocks");
        let (from, to) = (first / ITEMS_EACH, (end - 1) / ITEMS_EACH + 1);
        (self.list_at + u64::from(from) * u64::from(BLOCK_BYTES), (to - from) * BLOCK_BYTES)
    }

    /// The items from `first` to before `end` out of their blocks.
    pub(crate) fn items(&self, blocks: &[u8], first: u32, end: u32) -> Result<Vec<Entry>, u64> {
        let (at, _bytes) = self.list_range(first, end);
        let mut entries = Vec::with_capacity(usize_of(end - first));
        let mut number = first / ITEMS_EACH * ITEMS_EACH;
        let offsets = (0..).map(|turn: u64| at + turn * u64::from(BLOCK_BYTES));
        for (block, at) in blocks.chunks(usize_of(BLOCK_BYTES)).zip(offsets) {
            for item in self.lines_of(block, at, ITEM_BYTES)?.chunks_exact(ITEM_BYTES) {
                if number >= first && number < end {
                    entries.push(Entry::alone(u64_at(item, 8), u32_at(item, 0), u32_at(item, 4)));
                }
                number += 1;
            }
        }
        let complete = entries.len() == usize_of(end - first);
        if complete { Ok(entries) } else { Err(at) }
    }

    /// The stamp no record in it exceeds.
    pub(crate) fn max_stamp(&self) -> u64 {
        self.max_stamp
    }

    /// The bytes of the whole sealed file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        let root = u64_of(self.keys.len() + self.filter.len());
        crate::layout::block_ceil(self.root_at + root) + u64::from(BLOCK_BYTES)
    }
}

fn read_line(bytes: &[u8]) -> Line {
    let snapshot = u32_at(bytes, 24);
    Line {
        stream: StreamId(u128_at(bytes, 0)),
        count: u32_at(bytes, 16),
        sequenced: u32_at(bytes, 20),
        snapshot: (snapshot != NO_SNAPSHOT).then_some(snapshot),
        first_item: u32_at(bytes, 28),
        first_seq: u64_at(bytes, 32),
        last_seq: u64_at(bytes, 40),
    }
}

/// Writes a directory line.
pub(crate) fn write_line(room: &mut [u8], line: &Line) {
    put(room, 0, &line.stream.0.to_le_bytes());
    put(room, 16, &line.count.to_le_bytes());
    put(room, 20, &line.sequenced.to_le_bytes());
    put(room, 24, &line.snapshot.unwrap_or(NO_SNAPSHOT).to_le_bytes());
    put(room, 28, &line.first_item.to_le_bytes());
    put(room, 32, &line.first_seq.to_le_bytes());
    put(room, 40, &line.last_seq.to_le_bytes());
}

/// The bytes of a segment's records as an index.
pub(crate) fn records_end(length: u64, bytes: &[u8]) -> Option<usize> {
    let end = index_of(length);
    (end <= bytes.len()).then_some(end)
}
