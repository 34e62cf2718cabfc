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
use crate::table::former::{CHUNK_HEAD, Chunk};
use crate::table::{HEAD_MIN, Head, Item, Line, TableRoot, read_items};

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
    next_page: usize,
    lines: VecDeque<Line>,
    window: Window,
}

impl Lines {
    /// The lines from the page on that may have this stream.
    pub(crate) fn from(table: &TableSeen, root: &TableRoot, stream: StreamId) -> Self {
        Self {
            next_page: root.keys.find(stream).unwrap_or(0),
            lines: VecDeque::new(),
            window: Window::new(&table.name, root.end.min(table.file_bytes)),
        }
    }

    /// The line that comes next; none at the end. What is damaged is named and left out.
    pub(crate) fn peek(
        &mut self,
        look: &mut dyn Look,
        root: &TableRoot,
        flaws: &mut Vec<Flaw>,
    ) -> Option<Line> {
        while self.lines.is_empty() && self.next_page < root.pages() {
            let (at, bytes) = root.page_range(self.next_page);
            self.next_page += 1;
            let name = &self.window.name;
            // Leaves are apart: only the block itself is read.
            let page = if root.has_leaves() {
                look.bytes(name, at, bytes).map(Bytes::from)
            } else {
                self.window.get(look, at, u64::from(bytes))
            };
            let lines = page
                .and_then(|page| root.lines_of(&page, at).ok_or(DiskError::Corrupt { offset: at }));
            match lines {
                Ok((lines, _end)) => {
                    for line in lines {
                        match line {
                            Ok(line) => self.lines.push_back(line),
                            Err(at) => {
                                flaws.push(Flaw::new(&self.window.name, at, FlawKind::Chunk));
                            }
                        }
                    }
                }
                Err(error) => {
                    flaws.push(Flaw::reading(&self.window.name, at, error, FlawKind::Page));
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
    (root, line): (&TableRoot, &Line),
    flaws: &mut Vec<Flaw>,
) -> Vec<Item> {
    let mut all =
        if line.listed > 0 { listed(look, window, (root, line), flaws) } else { Vec::new() };
    all.extend(line.last);
    all
}

fn listed(
    look: &mut dyn Look,
    window: &mut Window,
    (root, line): (&TableRoot, &Line),
    flaws: &mut Vec<Flaw>,
) -> Vec<Item> {
    let name = window.name.clone();
    // Each chunk takes room: more than fit are not there.
    let possible = u64::from(line.listed) <= line.bytes / u64_of(HEAD_MIN);
    let list = if possible {
        window.get(look, line.list_at, u64::from(line.list_bytes))
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
            walk_heads(look, window, root, line)
        }
    }
}

/// The chunks of a stream's list, each found by the length of the one before.
fn walk_heads(
    look: &mut dyn Look,
    window: &mut Window,
    root: &TableRoot,
    line: &Line,
) -> Vec<Item> {
    let mut items = Vec::new();
    let mut at = line.offset;
    let end = line.offset.saturating_add(line.bytes);
    while at < end {
        let Some(item) = head_at(look, window, (at, root.has_leaves()), line.stream) else { break };
        items.push(item);
        at += u64::from(item.stored);
    }
    items
}

/// The chunk of a stream that lies at a place.
fn head_at(
    look: &mut dyn Look,
    window: &mut Window,
    (at, former): (u64, bool),
    stream: StreamId,
) -> Option<Item> {
    if former {
        let head = window.get(look, at, u64_of(CHUNK_HEAD)).ok()?;
        let chunk = Chunk::parse(&head, stream)?;
        let (stored, count) = (chunk.stored, chunk.count);
        return Some(Item { offset: at, stored, count, first_seq: 0, last_seq: 0 });
    }
    let begin = window.get(look, at, u64_of(HEAD_MIN)).ok()?;
    let bytes = window.get(look, at, Head::bytes_said(&begin)?).ok()?;
    let head = Head::parse(&bytes).filter(|head| head.stream == stream)?;
    Some(head.item(at))
}

/// The whole records of a chunk; what is damaged is named.
pub(crate) fn records_of(
    look: &mut dyn Look,
    window: &mut Window,
    (root, stream): (&TableRoot, StreamId),
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
    let records = root.decode(&chunk, stream, &mut faults);
    flaws.extend(faults.iter().map(|fault| {
        let kind = if fault.at == 0 { FlawKind::Chunk } else { FlawKind::ChunkRecord };
        Flaw::new(&name, item.offset + fault.at, kind).of(stream)
    }));
    records
}
