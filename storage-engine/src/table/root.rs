//! What of a table stays in memory: where its pages are, a filter of its streams, and what the
//! store must know to choose and merge it.

use bytes::Bytes;

use super::chunk::{self, ChunkFault};
use super::former;
use super::keys::{Keys, Packing};
use super::line::Line;
use super::page::Page;
use crate::error::DiskError;
use crate::filter;
use crate::layout::{
    BLOCK_BYTES, VERSION, block_ceil, block_is_whole, crc, put, seal_block, u32_at, u32_of, u64_at,
    u64_of, u128_at, usize_of,
};
use crate::position::{StreamId, TableId};
use crate::query::StoredRecord;

const MAGIC: [u8; 8] = *b"RoostTab";
/// Bytes before the first chunk.
pub(crate) const HEADER_BYTES: u64 = 64;
/// No stream takes less of a table.
const LINE_BYTES_MIN: u64 = 24;
/// The first version with pages.
const PAGES_FROM: u32 = 3;
/// Bytes of a leaf with the chunks of its streams that are read at once.
const GROUP_MAX: u64 = 96 << 10;

/// What of a table stays in memory: some ten bytes for a page of 8 KiB, and 12 bits a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableRoot {
    pub(crate) id: TableId,
    /// The numbers of the oldest and the newest sealing whose records are in it.
    pub(crate) low: u64,
    pub(crate) high: u64,
    /// Where records and pages end.
    pub(crate) end: u64,
    pub(crate) streams: u64,
    pub(crate) records: u64,
    /// Lines that void records of older files.
    pub(crate) marks: u64,
    /// Smallest and largest stamp of its records, 0 if none has one.
    pub(crate) min_stamp: u64,
    pub(crate) max_stamp: u64,
    pub(crate) bitmap: Bytes,
    pub(crate) keys: Keys,
    pub(crate) filter: Bytes,
}

/// What to read for the line of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    /// The place of the page.
    pub(crate) page_at: u64,
    /// Bytes to read, and from where on: in older tables the chunks lie before their leaf.
    pub(crate) from: u64,
    pub(crate) bytes: u32,
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
        let root = u64_of(self.keys.bytes.len() + self.filter.len());
        block_ceil(self.end + root) + u64::from(BLOCK_BYTES)
    }

    /// Bytes it takes in memory, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        u64_of(size_of::<Self>() + self.keys.bytes.len() + self.filter.len() + self.bitmap.len())
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
        let packing = packing_of(&footer, version).ok_or(damaged)?;
        let pages = usize_of(u32_at(&footer, 96));
        let key_bytes = pages.checked_mul(packing.key_bytes()).ok_or(damaged)?;
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
            keys: Keys { packing, bytes: root.slice(..key_bytes) },
            filter: root.slice(key_bytes..),
        };
        if loaded.is_consistent() { Ok(loaded) } else { Err(damaged) }
    }

    /// Whether what it says of itself can be: others count with it.
    fn is_consistent(&self) -> bool {
        let mut from = HEADER_BYTES;
        let places = (0..self.pages()).all(|page| {
            let at = self.keys.place(page);
            let least = if self.has_leaves() { u64::from(self.keys.bytes_of(page)) } else { 1 };
            let fits = at >= from && at <= self.end.saturating_sub(least);
            from = at.saturating_add(least);
            fits
        });
        let ordered = self.low <= self.high && self.min_stamp <= self.max_stamp;
        // Each stream takes room.
        let streams = self.end / LINE_BYTES_MIN;
        places && ordered && self.streams <= streams && self.marks <= self.streams
    }

    /// The last bytes of the file, from where records and pages end.
    pub(crate) fn tail(&self) -> Vec<u8> {
        let mut tail = Vec::new();
        tail.extend_from_slice(&self.keys.bytes);
        tail.extend_from_slice(&self.filter);
        let sum = crc(&tail);
        let root_bytes = tail.len();
        let padded = block_ceil(self.end + u64_of(root_bytes)) - self.end;
        tail.resize(usize::try_from(padded).expect("the root is in memory"), 0);
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
        put(&mut footer, 96, &u32_of(self.pages()).to_le_bytes());
        put(&mut footer, 100, &u32_of(root_bytes).to_le_bytes());
        put(&mut footer, 104, &sum.to_le_bytes());
        if let Packing::Packed { skip, stream, place, prefix } = self.keys.packing {
            put(&mut footer, 108, &[skip, stream, place]);
            put(&mut footer, 112, &prefix.to_le_bytes());
        }
        put(&mut footer, 128, &self.bitmap);
        seal_block(&mut footer, 0);
        tail.extend_from_slice(&footer);
        tail
    }

    /// Pages there are.
    pub(crate) fn pages(&self) -> usize {
        self.keys.len()
    }

    /// Whether its lines are in leaves, as version 2 had them.
    pub(crate) fn has_leaves(&self) -> bool {
        self.keys.packing == Packing::Full
    }

    /// The place of a page, and bytes to read for it.
    pub(crate) fn page_range(&self, page: usize) -> (u64, u32) {
        let at = self.keys.place(page);
        let left = self.end.saturating_sub(at);
        let bytes = u64::from(self.keys.bytes_of(page));
        (at, u32::try_from(bytes.min(left)).unwrap_or(0))
    }

    /// Whether a stream may have a line here; if not, it surely has none.
    pub(crate) fn may_hold(&self, stream: StreamId) -> bool {
        filter::has_partition(&self.bitmap, stream) && filter::may_hold(&self.filter, stream)
    }

    /// The page that has the stream's line if any has; none if surely none has.
    pub(crate) fn page_of(&self, stream: StreamId) -> Option<usize> {
        if self.may_hold(stream) { self.keys.find(stream) } else { None }
    }

    /// What to read for the line of a stream that the table may hold; none if surely none is here.
    pub(crate) fn spot_of(&self, stream: StreamId) -> Option<Spot> {
        let page = self.keys.find(stream)?;
        let (page_at, bytes) = self.page_range(page);
        let mut spot = Spot { page_at, from: page_at, bytes };
        if self.has_leaves() {
            let before = page.checked_sub(1).map(|before| self.page_range(before));
            let group = before.map_or(HEADER_BYTES, |(at, bytes)| at + u64::from(bytes));
            let whole = (page_at + u64::from(bytes)).saturating_sub(group);
            if group <= page_at && whole <= GROUP_MAX {
                let bytes = u32::try_from(whole).expect("at most a group");
                spot = Spot { page_at, from: group, bytes };
            }
        }
        Some(spot)
    }

    /// The line of a stream in what was read of its spot; the place of damage if that hides it.
    pub(crate) fn line_of(
        &self,
        spot: &Spot,
        bytes: &[u8],
        stream: StreamId,
    ) -> Result<Option<Line>, u64> {
        let at = spot.page_at;
        let begin = usize::try_from(at - spot.from).unwrap_or(usize::MAX);
        let page = bytes.get(begin..).ok_or(at)?;
        if self.has_leaves() {
            return former::read_line_of(page, at, stream).ok_or(at);
        }
        Page::parse(page, at).ok_or(at)?.line_of(stream)
    }

    /// The lines of a page, in order; in place of each one that is damaged the place of the damage.
    /// None if the page's directory is damaged. Beside them where the page ends.
    pub(crate) fn lines_of(&self, bytes: &[u8], at: u64) -> Option<(Vec<Result<Line, u64>>, u64)> {
        if self.has_leaves() {
            let lines = former::read_leaf(bytes, at)?;
            return Some((lines.into_iter().map(Ok).collect(), at + u64_of(bytes.len())));
        }
        let page = Page::parse(bytes, at)?;
        Some((page.lines().collect(), at + u64::from(page.bytes())))
    }

    /// Gives the records of a chunk in their order, and names those that are damaged.
    pub(crate) fn decode(
        &self,
        chunk: &Bytes,
        stream: StreamId,
        faults: &mut Vec<ChunkFault>,
    ) -> Vec<StoredRecord> {
        if self.has_leaves() {
            former::decode(chunk, stream, faults)
        } else {
            chunk::decode(chunk, stream, faults)
        }
    }
}

fn packing_of(footer: &[u8], version: u32) -> Option<Packing> {
    if version < PAGES_FROM {
        return Some(Packing::Full);
    }
    Packing::of(footer[108], footer[109], footer[110], u128_at(footer, 112))
}
