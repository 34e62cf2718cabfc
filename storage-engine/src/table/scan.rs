//! Reads a table from its beginning to its end, in steps: for merging. Of a long stream no more is
//! held than a chunk and the list of its chunks.

use std::collections::VecDeque;

use bytes::Bytes;

use super::line::{Item, Line, read_items};
use super::root::{HEADER_BYTES, TableRoot};
use crate::error::DiskError;
use crate::layout::{index_of, u64_of, usize_of};
use crate::position::{StreamId, TableId};

/// Bytes read at once.
const READ_BYTES: u64 = 512 << 10;

/// How a cursor reads: gives exactly these bytes of a table.
pub(crate) type ReadTable<'a> = &'a mut dyn FnMut(TableId, u64, u32) -> Result<Vec<u8>, DiskError>;

/// A place in a table.
#[derive(Debug)]
pub(crate) struct Cursor {
    next_page: usize,
    lines: VecDeque<Line>,
    /// The last stream of these lines: what comes is behind it, or the table is damaged.
    last: Option<StreamId>,
    /// The page that these lines are of, and its place.
    page: Bytes,
    page_at: u64,
    /// Bytes read ahead, and the place of their first.
    ahead: Bytes,
    ahead_at: u64,
    /// Where the chunks of the next page begin.
    group_at: u64,
    /// Chunks of the stream that was begun, which are still to come.
    items: VecDeque<Item>,
}

impl Cursor {
    pub(crate) fn new() -> Self {
        Self {
            next_page: 0,
            lines: VecDeque::new(),
            last: None,
            page: Bytes::new(),
            page_at: 0,
            ahead: Bytes::new(),
            ahead_at: 0,
            group_at: HEADER_BYTES,
            items: VecDeque::new(),
        }
    }

    /// The line that comes next; none at the end.
    pub(crate) fn peek(
        &mut self,
        root: &TableRoot,
        read: ReadTable<'_>,
    ) -> Result<Option<Line>, DiskError> {
        while self.lines.is_empty() && self.next_page < root.pages() {
            let (at, bytes) = root.page_range(self.next_page);
            // The chunks come first in the file: read from there on, up to the page.
            let from = self.group_at.min(at);
            let whole = at + u64::from(bytes) - from;
            self.page = if whole <= READ_BYTES {
                self.bytes(root, from, whole, read)?.slice(index_of(at - from)..)
            } else {
                Bytes::from(read(root.id, at, bytes)?)
            };
            self.page_at = at;
            let damaged = DiskError::Corrupt { offset: at };
            let (lines, end) = root.lines_of(&self.page, at).ok_or(damaged)?;
            for line in lines {
                let line = line.map_err(|offset| DiskError::Corrupt { offset })?;
                if self.last.is_some_and(|last| last >= line.stream) {
                    return Err(damaged);
                }
                self.last = Some(line.stream);
                self.lines.push_back(line);
            }
            self.next_page += 1;
            self.group_at = end;
        }
        Ok(self.lines.front().copied())
    }

    /// Takes the next line; its chunks are what `chunk` gives.
    pub(crate) fn begin(
        &mut self,
        root: &TableRoot,
        read: ReadTable<'_>,
    ) -> Result<Option<Line>, DiskError> {
        let Some(line) = self.peek(root, &mut *read)? else { return Ok(None) };
        self.items.clear();
        if line.listed > 0 {
            let (at, bytes) = (line.list_at, u64::from(line.list_bytes));
            let list = self.bytes(root, at, bytes, read)?;
            let items = read_items(&list, at).map_err(|offset| DiskError::Corrupt { offset })?;
            self.items.extend(items);
        }
        self.items.extend(line.last);
        self.lines.pop_front();
        Ok(Some(line))
    }

    /// The chunk with this number of the line that was begun, which stays to be given.
    pub(crate) fn look_at(
        &mut self,
        root: &TableRoot,
        chunk: u32,
        read: ReadTable<'_>,
    ) -> Result<Option<(Item, Bytes)>, DiskError> {
        let Some(&item) = self.items.get(usize_of(chunk)) else { return Ok(None) };
        Ok(Some((item, self.chunk_at(root, &item, read)?)))
    }

    /// The next chunk of the line that was begun, and its bytes; none after the last.
    pub(crate) fn chunk(
        &mut self,
        root: &TableRoot,
        read: ReadTable<'_>,
    ) -> Result<Option<(Item, Bytes)>, DiskError> {
        let Some(item) = self.items.pop_front() else { return Ok(None) };
        Ok(Some((item, self.chunk_at(root, &item, read)?)))
    }

    fn chunk_at(
        &mut self,
        root: &TableRoot,
        item: &Item,
        read: ReadTable<'_>,
    ) -> Result<Bytes, DiskError> {
        let stored = u64::from(item.stored);
        let in_page = item.offset.checked_sub(self.page_at).and_then(|from| {
            let end = from.checked_add(stored)?;
            (end <= u64_of(self.page.len())).then(|| index_of(from)..index_of(end))
        });
        match in_page {
            Some(range) => Ok(self.page.slice(range)),
            None => self.bytes(root, item.offset, stored, read),
        }
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
        let end = at.checked_add(bytes).ok_or(damaged)?;
        if at < self.ahead_at || end > ahead_end {
            let wanted = bytes.max(READ_BYTES).min(root.end.saturating_sub(at));
            let wanted = u32::try_from(wanted).map_err(|_too_many| damaged)?;
            if u64::from(wanted) < bytes {
                return Err(damaged);
            }
            self.ahead = Bytes::from(read(root.id, at, wanted)?);
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
