//! Reads a table from its beginning to its end, in steps: for merging, verifying, exporting.

use std::collections::VecDeque;

use bytes::Bytes;

use super::leaf::{Item, LEAF_BYTES, Line, read_items, read_leaf};
use super::root::{HEADER_BYTES, TableRoot};
use crate::error::DiskError;
use crate::layout::{index_of, u64_of};
use crate::position::TableId;

/// Bytes read at once.
const READ_BYTES: u64 = 512 << 10;

/// How a cursor reads: gives exactly these bytes of a table.
pub(crate) type ReadTable<'a> = &'a mut dyn FnMut(TableId, u64, u32) -> Result<Vec<u8>, DiskError>;

/// A stream of a table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) line: Line,
    /// Its chunks, one behind the other.
    pub(crate) items: Vec<Item>,
    /// Their bytes.
    pub(crate) chunks: Bytes,
}

/// A place in a table.
#[derive(Debug)]
pub(crate) struct Cursor {
    next_leaf: usize,
    lines: VecDeque<Line>,
    /// Bytes read ahead, and the place of their first.
    ahead: Bytes,
    ahead_at: u64,
    /// Where the chunks of the next leaf begin.
    group_at: u64,
}

impl Cursor {
    pub(crate) fn new() -> Self {
        Self {
            next_leaf: 0,
            lines: VecDeque::new(),
            ahead: Bytes::new(),
            ahead_at: 0,
            group_at: HEADER_BYTES,
        }
    }

    /// The line that comes next; none at the end.
    pub(crate) fn peek(
        &mut self,
        root: &TableRoot,
        read: ReadTable<'_>,
    ) -> Result<Option<Line>, DiskError> {
        while self.lines.is_empty() && self.next_leaf < root.leaves() {
            let at = root.leaf_at(self.next_leaf);
            // The chunks come first in the file: read from there on, up to the leaf.
            let from = self.group_at.min(at);
            let whole = at + u64::from(LEAF_BYTES) - from;
            let block = if whole <= READ_BYTES {
                self.bytes(root, from, whole, read)?.slice(index_of(at - from)..)
            } else {
                Bytes::from(read(root.id, at, LEAF_BYTES)?)
            };
            let lines = read_leaf(&block, at).ok_or(DiskError::Corrupt { offset: at })?;
            self.lines.extend(lines);
            self.next_leaf += 1;
            self.group_at = at + u64::from(LEAF_BYTES);
        }
        Ok(self.lines.front().copied())
    }

    /// Takes the next stream, with the bytes of all its chunks.
    pub(crate) fn take(
        &mut self,
        root: &TableRoot,
        read: ReadTable<'_>,
    ) -> Result<Option<Entry>, DiskError> {
        let Some(line) = self.peek(root, &mut *read)? else { return Ok(None) };
        let chunks = self.bytes(root, line.offset, line.bytes, &mut *read)?;
        let items = match line.only_chunk() {
            Some(item) => vec![item],
            None if line.chunks == 0 => Vec::new(),
            None => {
                let list = self.bytes(root, line.list_at, u64::from(line.list_bytes()), read)?;
                let items = read_items(&list, line.list_at);
                items.map_err(|offset| DiskError::Corrupt { offset })?
            }
        };
        self.lines.pop_front();
        Ok(Some(Entry { line, items, chunks }))
    }

    /// Bytes of the file, read ahead as far as one read goes.
    fn bytes(
        &mut self,
        root: &TableRoot,
        at: u64,
        bytes: u64,
        read: ReadTable<'_>,
    ) -> Result<Bytes, DiskError> {
        let ahead_end = self.ahead_at + u64_of(self.ahead.len());
        let damaged = DiskError::Corrupt { offset: at };
        if at < self.ahead_at || at.checked_add(bytes).ok_or(damaged)? > ahead_end {
            let wanted = bytes.max(READ_BYTES).min(root.end.saturating_sub(at));
            if wanted < bytes {
                return Err(damaged);
            }
            self.ahead = read_all(root.id, (at, wanted), read)?;
            self.ahead_at = at;
        }
        let from = index_of(at - self.ahead_at);
        let to = from + index_of(bytes);
        if to > self.ahead.len() {
            return Err(DiskError::Short);
        }
        Ok(self.ahead.slice(from..to))
    }
}

/// Bytes of a table, however many, in reads of at most a GiB.
fn read_all(
    table: TableId,
    (at, bytes): (u64, u64),
    read: ReadTable<'_>,
) -> Result<Bytes, DiskError> {
    const MOST: u64 = 1 << 30;
    if bytes < MOST {
        let bytes = u32::try_from(bytes).expect("less than a GiB");
        return Ok(Bytes::from(read(table, at, bytes)?));
    }
    let mut all = Vec::new();
    while u64_of(all.len()) < bytes {
        let some = u32::try_from((bytes - u64_of(all.len())).min(MOST)).expect("at most a GiB");
        all.extend_from_slice(&read(table, at + u64_of(all.len()), some)?);
    }
    Ok(Bytes::from(all))
}

/// The bytes of one chunk among those of its stream; none if the list does not fit them.
pub(crate) fn chunk_bytes(entry: &Entry, item: &Item) -> Option<Bytes> {
    let from = usize::try_from(item.offset.checked_sub(entry.line.offset)?).ok()?;
    let to = from.checked_add(usize::try_from(item.stored).ok()?)?;
    (to <= entry.chunks.len()).then(|| entry.chunks.slice(from..to))
}
