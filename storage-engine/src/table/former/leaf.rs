//! Leaves of versions 1 and 2: blocks of lines of full width, behind their streams' chunks.

use crate::layout::{BLOCK_BYTES, u32_at, u64_at, u128_at, usize_of};
use crate::position::StreamId;
use crate::table::line::{ITEMS_EACH, Item, LIST_BLOCK_BYTES, Line, entries};

/// Bytes of a leaf.
pub(crate) const LEAF_BYTES: u32 = BLOCK_BYTES;
const LINE_BYTES: usize = 84;
const DELETES: u32 = 1;

fn line_of(bytes: &[u8]) -> Line {
    let (offset, chunk_bytes) = (u64_at(bytes, 16), u64_at(bytes, 24));
    let (first_seq, last_seq) = (u64_at(bytes, 32), u64_at(bytes, 40));
    let (count, chunks) = (u32_at(bytes, 64), u32_at(bytes, 72));
    let only = u32::try_from(chunk_bytes).ok().filter(|_| chunks == 1);
    let last = only.map(|stored| Item { offset, stored, count, first_seq, last_seq });
    let listed = if last.is_some() { 0 } else { chunks };
    // A damaged line may claim any number; no list is as long as this would become.
    let list_bytes = listed.div_ceil(ITEMS_EACH).saturating_mul(LIST_BLOCK_BYTES);
    Line {
        stream: StreamId(u128_at(bytes, 0)),
        offset,
        bytes: if last.is_some() { 0 } else { chunk_bytes },
        first_seq,
        last_seq,
        floor: u64_at(bytes, 48),
        list_at: u64_at(bytes, 56),
        list_bytes,
        count,
        sequenced: u32_at(bytes, 68),
        listed,
        last,
        snapshot: u32_at(bytes, 76),
        deletes: u32_at(bytes, 80) & DELETES != 0,
    }
}

fn lines(block: &[u8], at: u64) -> Option<&[u8]> {
    if block.len() == usize_of(LEAF_BYTES) { entries(block, at, LINE_BYTES) } else { None }
}

/// All lines of a leaf; none if it is damaged.
pub(crate) fn read_leaf(block: &[u8], at: u64) -> Option<Vec<Line>> {
    Some(lines(block, at)?.chunks_exact(LINE_BYTES).map(line_of).collect())
}

/// A stream's line in a leaf, if it has one; none if the leaf is damaged.
pub(crate) fn read_line_of(block: &[u8], at: u64, stream: StreamId) -> Option<Option<Line>> {
    let mut lines = lines(block, at)?.chunks_exact(LINE_BYTES);
    Some(lines.find(|line| u128_at(line, 0) == stream.0).map(line_of))
}
