//! What a table says of its streams: a line for each, in blocks that lie behind the streams'
//! chunks; and for a stream with several chunks a list of them.

use crate::layout::{
    BLOCK_BYTES, block_is_whole, put, seal_block, u32_at, u32_of, u64_at, u64_of, u128_at, usize_of,
};
use crate::position::StreamId;

/// Bytes of a leaf, and of a block of a list.
pub(crate) const LEAF_BYTES: u32 = BLOCK_BYTES;
const HEAD: usize = 16;
const LINE_BYTES: usize = 84;
/// Lines in a leaf.
pub(crate) const LINES_EACH: usize = 48;
/// Bytes of an item of a list.
pub(crate) const ITEM_BYTES: usize = 32;
/// Items in a block of a list.
const ITEMS_EACH: usize = 127;
/// In place of a chunk's number.
pub(crate) const NO_CHUNK: u32 = u32::MAX;
const DELETES: u32 = 1;

/// What a table holds of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) stream: StreamId,
    /// The place of the first chunk; the others follow it.
    pub(crate) offset: u64,
    /// Bytes of all chunks.
    pub(crate) bytes: u64,
    /// Smallest and largest seq, 0 if none.
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// Records of older files with a seq below it are void.
    pub(crate) floor: u64,
    /// Where the list of chunks is; 0 if there is one chunk or none.
    pub(crate) list_at: u64,
    /// Records, and those with a seq.
    pub(crate) count: u32,
    pub(crate) sequenced: u32,
    pub(crate) chunks: u32,
    /// The chunk with the last record at which loading may begin, or `NO_CHUNK`.
    pub(crate) snapshot: u32,
    /// All records of older files are void.
    pub(crate) deletes: bool,
}

/// One chunk of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    pub(crate) offset: u64,
    pub(crate) stored: u32,
    pub(crate) count: u32,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
}

impl Line {
    /// Bytes of the list of chunks.
    pub(crate) fn list_bytes(&self) -> u32 {
        if self.chunks < 2 { 0 } else { list_bytes(usize_of(self.chunks)) }
    }

    /// The only chunk of a stream that has one, as an item.
    pub(crate) fn only_chunk(&self) -> Option<Item> {
        let stored = u32::try_from(self.bytes).ok()?;
        (self.chunks == 1).then_some(Item {
            offset: self.offset,
            stored,
            count: self.count,
            first_seq: self.first_seq,
            last_seq: self.last_seq,
        })
    }

    fn write(&self, room: &mut [u8]) {
        put(room, 0, &self.stream.0.to_le_bytes());
        let wide =
            [self.offset, self.bytes, self.first_seq, self.last_seq, self.floor, self.list_at];
        for (place, value) in wide.into_iter().enumerate() {
            put(room, 16 + place * 8, &value.to_le_bytes());
        }
        let flags = if self.deletes { DELETES } else { 0 };
        let narrow = [self.count, self.sequenced, self.chunks, self.snapshot, flags];
        for (place, value) in narrow.into_iter().enumerate() {
            put(room, 64 + place * 4, &value.to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Self {
        Self {
            stream: StreamId(u128_at(bytes, 0)),
            offset: u64_at(bytes, 16),
            bytes: u64_at(bytes, 24),
            first_seq: u64_at(bytes, 32),
            last_seq: u64_at(bytes, 40),
            floor: u64_at(bytes, 48),
            list_at: u64_at(bytes, 56),
            count: u32_at(bytes, 64),
            sequenced: u32_at(bytes, 68),
            chunks: u32_at(bytes, 72),
            snapshot: u32_at(bytes, 76),
            deletes: u32_at(bytes, 80) & DELETES != 0,
        }
    }
}

/// Bytes of a list of so many chunks.
fn list_bytes(chunks: usize) -> u32 {
    // A damaged line may claim any number; no list is as long as this would become.
    let blocks = u32::try_from(chunks.div_ceil(ITEMS_EACH)).unwrap_or(u32::MAX);
    blocks.saturating_mul(BLOCK_BYTES)
}

/// A block's checksum is mixed with its place, so that a block read from elsewhere does not pass.
fn mask(at: u64) -> u32 {
    let folded = (at ^ at >> 32) & 0xffff_ffff;
    u32::try_from(folded).expect("masked to 32 bits").wrapping_mul(0x9e37_79b1)
}

fn write_block(buffer: &mut Vec<u8>, at: u64, count: usize, fill: impl FnOnce(&mut [u8])) {
    let start = buffer.len();
    buffer.resize(start + usize_of(BLOCK_BYTES), 0);
    let block = &mut buffer[start..];
    put(block, 4, &u32_of(count).to_le_bytes());
    fill(&mut block[HEAD..]);
    seal_block(block, mask(at));
}

/// The entries of a block, if it is whole.
fn entries(block: &[u8], at: u64, each: usize) -> Option<&[u8]> {
    if block.len() != usize_of(BLOCK_BYTES) || !block_is_whole(block, mask(at)) {
        return None;
    }
    let end = HEAD + usize_of(u32_at(block, 4)).checked_mul(each)?;
    block.get(HEAD..end)
}

/// Writes a leaf that will lie at `at`.
pub(crate) fn write_leaf(buffer: &mut Vec<u8>, at: u64, lines: &[Line]) {
    write_block(buffer, at, lines.len(), |room| {
        for (line, room) in lines.iter().zip(room.chunks_exact_mut(LINE_BYTES)) {
            line.write(room);
        }
    });
}

/// All lines of a leaf; none if it is damaged.
pub(crate) fn read_leaf(block: &[u8], at: u64) -> Option<Vec<Line>> {
    Some(entries(block, at, LINE_BYTES)?.chunks_exact(LINE_BYTES).map(Line::read).collect())
}

/// A stream's line in a leaf, if it has one; none if the leaf is damaged.
pub(crate) fn read_line_of(block: &[u8], at: u64, stream: StreamId) -> Option<Option<Line>> {
    let lines = entries(block, at, LINE_BYTES)?;
    let line = lines.chunks_exact(LINE_BYTES).find(|line| u128_at(line, 0) == stream.0);
    Some(line.map(Line::read))
}

/// Writes the list of a stream's chunks, which will lie at `at`.
pub(crate) fn write_items(buffer: &mut Vec<u8>, at: u64, items: &[Item]) {
    for (turn, some) in items.chunks(ITEMS_EACH).enumerate() {
        let at = at + u64_of(turn) * u64::from(BLOCK_BYTES);
        write_block(buffer, at, some.len(), |room| {
            for (item, room) in some.iter().zip(room.chunks_exact_mut(ITEM_BYTES)) {
                put(room, 0, &item.offset.to_le_bytes());
                put(room, 8, &item.stored.to_le_bytes());
                put(room, 12, &item.count.to_le_bytes());
                put(room, 16, &item.first_seq.to_le_bytes());
                put(room, 24, &item.last_seq.to_le_bytes());
            }
        });
    }
}

/// All items of a whole list; else the place of the damaged block.
pub(crate) fn read_items(list: &[u8], at: u64) -> Result<Vec<Item>, u64> {
    let mut items = Vec::new();
    let blocks = list.chunks(usize_of(BLOCK_BYTES));
    for (turn, block) in blocks.enumerate() {
        let at = at + u64_of(turn) * u64::from(BLOCK_BYTES);
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
