//! What of a table stays in memory: where its leaves are, a filter of its streams, and what the
//! store must know to choose and merge it.

use bytes::Bytes;

use super::leaf::{LEAF_BYTES, LINES_EACH};
use crate::error::DiskError;
use crate::filter;
use crate::layout::{
    BLOCK_BYTES, VERSION, block_ceil, block_is_whole, crc, put, seal_block, u32_at, u32_of, u64_at,
    u64_of, u128_at, usize_of,
};
use crate::position::{StreamId, TableId};

const MAGIC: [u8; 8] = *b"RoostTab";
/// Bytes before the first chunk.
pub(crate) const HEADER_BYTES: u64 = 64;
/// Bytes that the root has for each leaf: its first stream and its place.
pub(crate) const KEY_BYTES: usize = 24;

/// What of a table stays in memory: 24 bytes for 48 streams, and 12 bits a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableRoot {
    pub(crate) id: TableId,
    /// The numbers of the oldest and the newest sealing whose records are in it.
    pub(crate) low: u64,
    pub(crate) high: u64,
    /// Where records and leaves end.
    pub(crate) end: u64,
    pub(crate) streams: u64,
    pub(crate) records: u64,
    /// Lines that void records of older files.
    pub(crate) marks: u64,
    /// Smallest and largest stamp of its records, 0 if none has one.
    pub(crate) min_stamp: u64,
    pub(crate) max_stamp: u64,
    pub(crate) bitmap: Bytes,
    pub(crate) keys: Bytes,
    pub(crate) filter: Bytes,
}

/// The first bytes of the file.
pub(crate) fn header(id: TableId) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(HEADER_BYTES).expect("a small number")];
    put(&mut bytes, 8, &MAGIC);
    put(&mut bytes, 16, &VERSION.to_le_bytes());
    put(&mut bytes, 24, &id.0.to_le_bytes());
    seal_block(&mut bytes, 0);
    bytes
}

impl TableRoot {
    /// The table it belongs to.
    #[must_use]
    pub fn id(&self) -> TableId {
        self.id
    }

    /// Streams it has a line for.
    #[must_use]
    pub fn streams(&self) -> u64 {
        self.streams
    }

    /// Records in it.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        block_ceil(self.end + u64_of(self.keys.len() + self.filter.len())) + u64::from(BLOCK_BYTES)
    }

    /// Bytes it takes in memory, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        u64_of(size_of::<Self>() + self.keys.len() + self.filter.len() + self.bitmap.len())
    }

    /// Reads the root of a file of so many bytes; `read` gives (offset, bytes) of it.
    ///
    /// # Errors
    /// `Corrupt` or `Newer` if it is not what was written, and whatever `read` answers.
    pub fn load(
        id: TableId,
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
        if !block_is_whole(&footer, 0) || u64_at(&footer, 24) != id.0 {
            return Err(damaged);
        }
        let end = u64_at(&footer, 48);
        let leaves = usize_of(u32_at(&footer, 96));
        let key_bytes = leaves.checked_mul(KEY_BYTES).ok_or(damaged)?;
        let root_bytes = u32_at(&footer, 100);
        let room = footer_at.checked_sub(end).ok_or(damaged)?;
        if u64::from(root_bytes) > room || usize_of(root_bytes) < key_bytes {
            return Err(damaged);
        }
        let root = Bytes::from(read(end, root_bytes)?);
        if root.len() != usize_of(root_bytes) || crc(&root) != u32_at(&footer, 104) {
            return Err(DiskError::Corrupt { offset: end });
        }
        let loaded = Self {
            id,
            low: u64_at(&footer, 32),
            high: u64_at(&footer, 40),
            end,
            streams: u64_at(&footer, 56),
            records: u64_at(&footer, 64),
            marks: u64_at(&footer, 72),
            min_stamp: u64_at(&footer, 80),
            max_stamp: u64_at(&footer, 88),
            bitmap: Bytes::copy_from_slice(&footer[128..128 + filter::BITMAP_BYTES]),
            keys: root.slice(..key_bytes),
            filter: root.slice(key_bytes..),
        };
        if loaded.is_consistent() { Ok(loaded) } else { Err(damaged) }
    }

    /// Whether what it says of itself can be: others count with it.
    fn is_consistent(&self) -> bool {
        let lines = u64_of(self.leaves()).saturating_mul(u64_of(LINES_EACH));
        let mut from = HEADER_BYTES;
        let places = (0..self.leaves()).all(|leaf| {
            let at = self.leaf_at(leaf);
            let fits = at >= from && at <= self.end.saturating_sub(u64::from(LEAF_BYTES));
            from = at.saturating_add(u64::from(LEAF_BYTES));
            fits
        });
        let ordered = self.low <= self.high && self.min_stamp <= self.max_stamp;
        places && ordered && self.streams <= lines && self.marks <= self.streams
    }

    /// What follows records and leaves in the file.
    pub(crate) fn tail(&self) -> Vec<u8> {
        let mut tail = Vec::with_capacity(self.keys.len() + self.filter.len() + 8192);
        tail.extend_from_slice(&self.keys);
        tail.extend_from_slice(&self.filter);
        let root_bytes = tail.len();
        let sum = crc(&tail);
        let padded = block_ceil(self.end + u64_of(root_bytes)) - self.end;
        tail.resize(usize::try_from(padded).expect("a root fits memory"), 0);
        let mut footer = vec![0; usize_of(BLOCK_BYTES)];
        put(&mut footer, 8, &MAGIC);
        put(&mut footer, 16, &VERSION.to_le_bytes());
        let wide = [
            self.id.0,
            self.low,
            self.high,
            self.end,
            self.streams,
            self.records,
            self.marks,
            self.min_stamp,
            self.max_stamp,
        ];
        for (place, value) in wide.into_iter().enumerate() {
            put(&mut footer, 24 + place * 8, &value.to_le_bytes());
        }
        put(&mut footer, 96, &u32_of(self.leaves()).to_le_bytes());
        put(&mut footer, 100, &u32_of(root_bytes).to_le_bytes());
        put(&mut footer, 104, &sum.to_le_bytes());
        put(&mut footer, 128, &self.bitmap);
        seal_block(&mut footer, 0);
        tail.extend_from_slice(&footer);
        tail
    }

    /// Leaves there are.
    pub(crate) fn leaves(&self) -> usize {
        self.keys.len() / KEY_BYTES
    }

    /// The place of a leaf.
    pub(crate) fn leaf_at(&self, leaf: usize) -> u64 {
        u64_at(&self.keys, leaf * KEY_BYTES + 16)
    }

    /// The first stream of a leaf.
    pub(crate) fn first_of(&self, leaf: usize) -> StreamId {
        StreamId(u128_at(&self.keys, leaf * KEY_BYTES))
    }

    /// Where the chunks of a leaf's streams begin.
    pub(crate) fn group_at(&self, leaf: usize) -> u64 {
        let before = leaf.checked_sub(1);
        before.map_or(HEADER_BYTES, |before| self.leaf_at(before) + u64::from(LEAF_BYTES))
    }

    /// Whether a stream may have a line here; if not, it surely has none.
    pub(crate) fn may_hold(&self, stream: StreamId) -> bool {
        self.leaf_of(stream).is_some()
    }

    /// The leaf that has the stream's line if any has; none if surely none has.
    pub(crate) fn leaf_of(&self, stream: StreamId) -> Option<usize> {
        let possible =
            filter::has_partition(&self.bitmap, stream) && filter::may_hold(&self.filter, stream);
        if !possible {
            return None;
        }
        let (mut low, mut high) = (0, self.leaves());
        while low < high {
            let middle = low.midpoint(high);
            if u128_at(&self.keys, middle * KEY_BYTES) <= stream.0 {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }
}
