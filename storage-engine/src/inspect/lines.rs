//! Reads a table's lines and chunks one after the other, and goes on behind damage.

use std::collections::VecDeque;

use bytes::Bytes;

use super::flaw::{Flaw, FlawKind};
use super::look::Look;
use super::snapshot::TableSeen;
use crate::error::DiskError;
use crate::layout::{index_of, u64_of};
use crate::position::StreamId;
use crate::query::StoredRecord;
use crate::table::{CHUNK_HEAD, Item, LEAF_BYTES, Line, TableRoot, decode, read_items, read_leaf};

/// Bytes read at once.
const READ_BYTES: u64 = 1 << 20;

/// Some bytes of a file, read ahead.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) name: String,
    pub(crate) size: u64,
    ahead: Bytes,
    at: u64,
}

impl Window {
    pub(crate) fn new(name: &str, size: u64) -> Self {
        Self { name: name.to_owned(), size, ahead: Bytes::new(), at: 0 }
    }

    /// Bytes of the file, all of them, or `Short`.
    pub(crate) fn get(
        &mut self,
        look: &mut dyn Look,
        at: u64,
        bytes: u64,
    ) -> Result<Bytes, DiskError> {
        let end = at.checked_add(bytes).filter(|&end| end <= self.size).ok_or(DiskError::Short)?;
        if at < self.at || end > self.at + u64_of(self.ahead.len()) {
            let wanted = bytes.max(READ_BYTES).min(self.size - at);
            let wanted = u32::try_from(wanted).map_err(|_too_many| DiskError::Short)?;
            self.ahead = Bytes::from(look.bytes(&self.name, at, wanted)?);
            self.at = at;
        }
        let from = index_of(at - self.at);
        Ok(self.ahead.slice(from..from + index_of(bytes)))
    }
}

/// A place among a table's lines.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub(crate) next_leaf: usize,
    lines: VecDeque<Line>,
    window: Window,
}

impl Lines {
    /// The lines from the leaf on that may have this stream.
    pub(crate) fn from(table: &TableSeen, root: &TableRoot, stream: StreamId) -> Self {
        let (mut low, mut high) = (0, root.leaves());
        while low < high {
            let middle = low.midpoint(high);
            if root.first_of(middle) <= stream {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Self {
            next_leaf: low.saturating_sub(1),
            lines: VecDeque::new(),
            window: Window::new(&table.name, root.end.min(table.file_bytes)),
        }
    }

    /// The line that comes next; none at the end. Damaged leaves are named and left out.
    pub(crate) fn peek(
        &mut self,
        look: &mut dyn Look,
        root: &TableRoot,
        flaws: &mut Vec<Flaw>,
    ) -> Option<Line> {
        while self.lines.is_empty() && self.next_leaf < root.leaves() {
            let at = root.leaf_at(self.next_leaf);
            self.next_leaf += 1;
            // Leaves are apart: only the block itself is read.
            let end = at.saturating_add(u64::from(LEAF_BYTES));
            let block = if end <= self.window.size {
                look.bytes(&self.window.name, at, LEAF_BYTES)
            } else {
                Err(DiskError::Corrupt { offset: at })
            };
            let lines = block
                .and_then(|block| read_leaf(&block, at).ok_or(DiskError::Corrupt { offset: at }));
            match lines {
                Ok(lines) => self.lines.extend(lines),
                Err(error) => {
                    flaws.push(Flaw::reading(&self.window.name, at, error, FlawKind::Leaf));
                }
            }
        }
        self.lines.front().copied()
    }

    pub(crate) fn pop(&mut self) {
        self.lines.pop_front();
    }
}

/// The chunks of a stream, as its line and list say. If the list is damaged the chunks themselves
/// say it; what they do not say is lost.
pub(crate) fn items_of(
    look: &mut dyn Look,
    window: &mut Window,
    line: &Line,
    flaws: &mut Vec<Flaw>,
) -> Vec<Item> {
    if line.chunks == 0 {
        return Vec::new();
    }
    if line.chunks == 1 {
        return line.only_chunk().into_iter().collect();
    }
    let name = window.name.clone();
    // Each chunk takes room: more than fit are not there.
    let possible = u64::from(line.chunks) <= line.bytes / u64_of(CHUNK_HEAD);
    let list = if possible {
        let bytes = u64::from(line.list_bytes());
        window.get(look, line.list_at, bytes)
    } else {
        Err(DiskError::Corrupt { offset: line.list_at })
    };
    let items = list.and_then(|list| {
        read_items(&list, line.list_at).map_err(|offset| DiskError::Corrupt { offset })
    });
    match items {
        Ok(items) => items,
        Err(error) => {
            let flaw = Flaw::reading(&name, line.list_at, error, FlawKind::List);
            flaws.push(flaw.of(line.stream));
            walk_heads(look, window, line)
        }
    }
}

/// The chunks of a stream, each found by the length of the one before.
fn walk_heads(look: &mut dyn Look, window: &mut Window, line: &Line) -> Vec<Item> {
    let mut items = Vec::new();
    let mut at = line.offset;
    let end = line.offset.saturating_add(line.bytes);
    while at < end {
        let Ok(head) = window.get(look, at, u64_of(CHUNK_HEAD)) else { break };
        let Some(chunk) = crate::table::Chunk::parse(&head, line.stream) else { break };
        let (stored, count) = (chunk.stored, chunk.count);
        items.push(Item { offset: at, stored, count, first_seq: 0, last_seq: 0 });
        at += u64::from(stored);
    }
    items
}

/// The whole records of a chunk; what is damaged is named.
pub(crate) fn records_of(
    look: &mut dyn Look,
    window: &mut Window,
    stream: StreamId,
    item: &Item,
    flaws: &mut Vec<Flaw>,
) -> Vec<StoredRecord> {
    let name = window.name.clone();
    let chunk = match window.get(look, item.offset, u64::from(item.stored)) {
        Ok(chunk) => chunk,
        Err(error) => {
            let flaw = Flaw::reading(&name, item.offset, error, FlawKind::Chunk);
            flaws.push(flaw.of(stream));
            return Vec::new();
        }
    };
    let mut faults = Vec::new();
    let records = decode(&chunk, stream, &mut faults);
    flaws.extend(faults.iter().map(|fault| {
        let kind = if fault.at == 0 { FlawKind::Chunk } else { FlawKind::ChunkRecord };
        Flaw::new(&name, item.offset + fault.at, kind).of(stream)
    }));
    records
}
