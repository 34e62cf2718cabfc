//! What a table says of a stream: its line. And of a stream with several chunks: the list of them.

use crate::layout::{
    BLOCK_BYTES, block_is_whole, put, seal_block, u32_at, u32_of, u64_at, u64_of, usize_of,
};
use crate::position::StreamId;

/// Bytes of a block of a list; the last one ends behind its last item.
pub(crate) const LIST_BLOCK_BYTES: u32 = BLOCK_BYTES;
/// Items in a block of a list.
pub(crate) const ITEMS_EACH: u32 = 127;
const HEAD: usize = 16;
const ITEM_BYTES: usize = 32;
/// In place of a chunk's number.
pub(crate) const NO_CHUNK: u32 = u32::MAX;

/// What a table holds of a stream. Its chunks are numbered from the oldest: first those that a list
/// names, then the one that the line itself names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) stream: StreamId,
    /// The place of the first chunk of the list; the others follow it.
    pub(crate) offset: u64,
    /// Bytes of all chunks of the list.
    pub(crate) bytes: u64,
    /// Smallest and largest seq, 0 if none.
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// Records of older files with a seq below it are void.
    pub(crate) floor: u64,
    /// Where the list of chunks is, and its bytes; 0 if there is none.
    pub(crate) list_at: u64,
    pub(crate) list_bytes: u32,
    /// Records, and those with a seq.
    pub(crate) count: u32,
    pub(crate) sequenced: u32,
    /// Chunks that the list names.
    pub(crate) listed: u32,
    /// The newest chunk, if no list names it.
    pub(crate) last: Option<Item>,
    /// The chunk with the last record at which loading may begin, or `NO_CHUNK`.
    pub(crate) snapshot: u32,
    /// All records of older files are void.
    pub(crate) deletes: bool,
}

/// One chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    pub(crate) offset: u64,
    pub(crate) stored: u32,
    pub(crate) count: u32,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
}

impl Line {
    /// How many chunks it has.
    pub(crate) fn chunks(&self) -> u32 {
        self.listed.saturating_add(u32::from(self.last.is_some()))
    }

    /// Bytes of all of them.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.last.map_or(0, |last| u64::from(last.stored)))
    }

    /// The place of the first one.
    pub(crate) fn begin(&self) -> u64 {
        self.last.filter(|_| self.listed == 0).map_or(self.offset, |last| last.offset)
    }

    /// Where blocks of its list lie: from the block that names a chunk to the one before `end`.
    pub(crate) fn list_range(&self, (from, to): (u32, u32)) -> (u64, u32) {
        let begin = from.saturating_mul(LIST_BLOCK_BYTES);
        let end = to.saturating_mul(LIST_BLOCK_BYTES).min(self.list_bytes);
        (self.list_at.saturating_add(u64::from(begin)), end.saturating_sub(begin))
    }
}

/// A block's checksum is mixed with its place, so that a block read from elsewhere does not pass.
pub(crate) fn mask(at: u64) -> u32 {
    let folded = (at ^ at >> 32) & 0xffff_ffff;
    u32::try_from(folded).expect("masked to 32 bits").wrapping_mul(0x9e37_79b1)
}

/// The entries of a block, if it is whole.
pub(super) fn entries(block: &[u8], at: u64, each: usize) -> Option<&[u8]> {
    if block.len() < HEAD || !block_is_whole(block, mask(at)) {
        return None;
    }
    let end = HEAD + usize_of(u32_at(block, 4)).checked_mul(each)?;
    block.get(HEAD..end)
}

/// Bytes of a list of so many chunks; none fits a file if it has more than a damaged line may
/// claim.
pub(crate) fn list_bytes(items: u32) -> u32 {
    let (full, rest) = (items / ITEMS_EACH, items % ITEMS_EACH);
    let rest = if rest == 0 { 0 } else { u32_of(HEAD) + rest * u32_of(ITEM_BYTES) };
    full.saturating_mul(LIST_BLOCK_BYTES).saturating_add(rest)
}

/// Writes the list of a stream's chunks, which will lie at `at`.
pub(crate) fn write_items(buffer: &mut Vec<u8>, at: u64, items: &[Item]) {
    for (turn, some) in items.chunks(usize_of(ITEMS_EACH)).enumerate() {
        let at = at + u64_of(turn) * u64::from(LIST_BLOCK_BYTES);
        let start = buffer.len();
        buffer.resize(start + usize_of(list_bytes(u32_of(some.len()))), 0);
        let block = &mut buffer[start..];
        put(block, 4, &u32_of(some.len()).to_le_bytes());
        for (item, room) in some.iter().zip(block[HEAD..].chunks_exact_mut(ITEM_BYTES)) {
            put(room, 0, &item.offset.to_le_bytes());
            put(room, 8, &item.stored.to_le_bytes());
            put(room, 12, &item.count.to_le_bytes());
            put(room, 16, &item.first_seq.to_le_bytes());
            put(room, 24, &item.last_seq.to_le_bytes());
        }
        seal_block(block, mask(at));
    }
}

/// All items of a whole list; else the place of the damaged block.
pub(crate) fn read_items(list: &[u8], at: u64) -> Result<Vec<Item>, u64> {
    let mut items = Vec::new();
    let blocks = list.chunks(usize_of(LIST_BLOCK_BYTES));
    for (turn, block) in blocks.enumerate() {
        let at = at + u64_of(turn) * u64::from(LIST_BLOCK_BYTES);
        for item in entries(block, at, ITEM_BYTES).ok_or(at)?.chunks_exact(ITEM_BYTES) {
            items.push(Item {
                offset: u64_at(item, 0),
                stored: u32_at(item, 8),
                count: u32_at(item, 12),
                first_seq: u64_at(item, 16),
                last_seq: u64_at(item, 24),
            });
        }
    }
    Ok(items)
}
