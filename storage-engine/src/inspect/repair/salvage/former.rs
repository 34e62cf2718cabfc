//! What is whole in a damaged table of version 2: chunks lie before the leaf that tells of them.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::{Kept, Piece};
use crate::error::DiskError;
use crate::inspect::lines::Window;
use crate::inspect::look::Look;
use crate::layout::{crc, put, u32_at, u32_of, u64_at, u64_of, u128_at, usize_of};
use crate::position::StreamId;
use crate::query::StoredRecord;
use crate::table::former::{self, CHUNK_HEAD, Chunk, LEAF_BYTES, read_leaf};
use crate::table::{HEADER_BYTES, Item, Line, TableRoot, Voids, read_items};

/// A walk through the file.
#[derive(Debug)]
struct Walk<'a> {
    streams: BTreeMap<StreamId, Kept>,
    marks: u64,
    window: &'a mut Window,
    end: u64,
    leaves: Option<Vec<u64>>,
    group: Vec<Piece>,
    items: Vec<Item>,
    chained: bool,
}

/// What lies at a place.
enum Object {
    Chunk(Piece),
    Leaf(Vec<Line>),
    List(Vec<Item>),
    Nothing,
}

/// Reads a table's file from its beginning to its end: its streams, and how many have marks.
pub(super) fn walk(
    look: &mut dyn Look,
    window: &mut Window,
    root: Option<&TableRoot>,
) -> Result<(BTreeMap<StreamId, Kept>, u64), DiskError> {
    let end = root.map_or(window.size, |root| root.end.min(window.size));
    let leaves = root.map(|root| (0..root.pages()).map(|leaf| root.page_range(leaf).0).collect());
    let mut walk = Walk {
        streams: BTreeMap::new(),
        marks: 0,
        window,
        end,
        leaves,
        group: Vec::new(),
        items: Vec::new(),
        chained: true,
    };
    walk.run(look)?;
    Ok((walk.streams, walk.marks))
}

impl Walk<'_> {
    fn run(&mut self, look: &mut dyn Look) -> Result<(), DiskError> {
        let mut at = HEADER_BYTES;
        while at < self.end {
            match self.object(look, at)? {
                Object::Chunk(piece) => {
                    at += u64::from(piece.stored);
                    self.group.push(Piece { chained: self.chained, ..piece });
                }
                Object::Leaf(lines) => {
                    at += u64::from(LEAF_BYTES);
                    self.end_group(look, &lines)?;
                }
                Object::List(items) => {
                    at += u64::from(LEAF_BYTES);
                    self.items.extend(items);
                }
                Object::Nothing if self.is_leaf_at(at) => {
                    // A damaged leaf: the next chunks follow it.
                    at += u64::from(LEAF_BYTES);
                    self.end_group(look, &[])?;
                }
                Object::Nothing => {
                    self.chained = false;
                    at += 1;
                }
            }
        }
        self.end_group(look, &[])
    }

    fn is_leaf_at(&self, at: u64) -> bool {
        self.leaves.as_ref().is_some_and(|leaves| leaves.binary_search(&at).is_ok())
    }

    fn object(&mut self, look: &mut dyn Look, at: u64) -> Result<Object, DiskError> {
        let head = u64_of(CHUNK_HEAD);
        if self.end - at < head {
            return Ok(Object::Nothing);
        }
        let bytes = self.window.get(look, at, head)?;
        if self.may_be_leaf(&bytes, at) {
            let block = self.window.get(look, at, u64::from(LEAF_BYTES))?;
            if let Ok(items) = read_items(&block, at)
                && items.iter().all(|item| is_before(item.offset, item.stored.into(), at))
            {
                return Ok(Object::List(items));
            }
            if let Some(lines) = read_leaf(&block, at)
                && lines.iter().all(|line| is_line(line, at))
                && (self.leaves.is_none() || self.is_leaf_at(at))
            {
                return Ok(Object::Leaf(lines));
            }
        }
        let Some(piece) = self.may_be_chunk(&bytes, at) else { return Ok(Object::Nothing) };
        let chunk = self.window.get(look, at, u64::from(piece.stored))?;
        if crc(&chunk[4..]) == u32_at(&chunk, 0) {
            return Ok(Object::Chunk(piece));
        }
        // Its head may be right and a record damaged: then something whole follows it.
        let behind = at + u64::from(piece.stored);
        let follows = self.chained && (self.is_whole(look, behind)? || self.is_leaf_at(behind));
        Ok(if follows { Object::Chunk(piece) } else { Object::Nothing })
    }

    fn may_be_leaf(&self, head: &[u8], at: u64) -> bool {
        self.end - at >= u64::from(LEAF_BYTES)
            && (1..128).contains(&u32_at(head, 4))
            && u64_at(head, 8) == 0
    }

    fn may_be_chunk(&self, head: &[u8], at: u64) -> Option<Piece> {
        if head[17..24].iter().any(|&byte| byte != 0) {
            return None;
        }
        let stream = StreamId(u128_at(head, 24));
        let chunk = Chunk::parse(head, stream)?;
        let fits = u64::from(chunk.stored) <= self.end - at;
        let stored = chunk.stored;
        fits.then_some(Piece { at, stored, stream, chained: false, headless: None })
    }

    /// Whether something begins here whose checksum is right.
    fn is_whole(&mut self, look: &mut dyn Look, at: u64) -> Result<bool, DiskError> {
        let head = u64_of(CHUNK_HEAD);
        if at >= self.end || self.end - at < head {
            return Ok(at == self.end);
        }
        let bytes = self.window.get(look, at, head)?;
        if self.may_be_leaf(&bytes, at) {
            let block = self.window.get(look, at, u64::from(LEAF_BYTES))?;
            if read_items(&block, at).is_ok() {
                return Ok(true);
            }
        }
        let Some(piece) = self.may_be_chunk(&bytes, at) else { return Ok(false) };
        let chunk = self.window.get(look, at, u64::from(piece.stored))?;
        Ok(crc(&chunk[4..]) == u32_at(&chunk, 0))
    }

    /// What came since the last leaf belongs to the streams of this one, or to streams whose lines
    /// are lost.
    fn end_group(&mut self, look: &mut dyn Look, lines: &[Line]) -> Result<(), DiskError> {
        let group = core::mem::take(&mut self.group);
        let items = core::mem::take(&mut self.items);
        let mut by_stream: BTreeMap<StreamId, Vec<Piece>> = BTreeMap::new();
        for piece in group {
            by_stream.entry(piece.stream).or_default().push(piece);
        }
        for line in lines {
            let found = by_stream.remove(&line.stream).unwrap_or_default();
            let (begin, end) = (line.begin(), line.begin().saturating_add(line.chunk_bytes()));
            let mut pieces: Vec<Piece> =
                found.into_iter().filter(|one| (begin..end).contains(&one.at)).collect();
            let of_line = |item: &&Item| (begin..end).contains(&item.offset);
            let listed = items.iter().filter(of_line).copied();
            let named: Vec<Item> = listed.chain(line.last).collect();
            let is_named = |one: &Piece| named.iter().any(|item| item.offset == one.at);
            pieces.retain(|one| one.chained || named.is_empty() || is_named(one));
            for item in &named {
                if !pieces.iter().any(|one| one.at == item.offset) {
                    pieces.extend(self.headless(look, line.stream, item)?);
                }
            }
            pieces.sort_by_key(|one| one.at);
            let voids = Voids { floor: line.floor, deletes: line.deletes };
            self.marks += u64::from(voids != Voids::default());
            let said = Some(u64::from(line.count));
            self.streams.insert(line.stream, Kept { voids, pieces, said });
        }
        for (stream, mut pieces) in by_stream {
            pieces.retain(|one| one.chained);
            if !pieces.is_empty() {
                self.streams.entry(stream).or_default().pieces.append(&mut pieces);
            }
        }
        self.chained = true;
        Ok(())
    }

    /// A chunk whose head is damaged, if some of its records can be read all the same.
    fn headless(
        &mut self,
        look: &mut dyn Look,
        stream: StreamId,
        item: &Item,
    ) -> Result<Option<Piece>, DiskError> {
        let fits = item.offset.checked_add(u64::from(item.stored)).is_some_and(|e| e <= self.end);
        if !fits || usize_of(item.stored) < CHUNK_HEAD {
            return Ok(None);
        }
        let headless = Some(item.count);
        let piece = Piece { at: item.offset, stored: item.stored, stream, chained: true, headless };
        let some = !records_of(look, self.window, &piece)?.is_empty();
        Ok(some.then_some(piece))
    }
}

/// The whole records of a chunk.
pub(super) fn records_of(
    look: &mut dyn Look,
    window: &mut Window,
    piece: &Piece,
) -> Result<Vec<StoredRecord>, DiskError> {
    let mut chunk = window.get(look, piece.at, u64::from(piece.stored))?;
    if let Some(count) = piece.headless {
        chunk = with_head(&chunk, piece.stream, count);
    }
    Ok(former::decode(&chunk, piece.stream, &mut Vec::new()))
}

/// Whether a chunk may lie there before the block that names it.
fn is_before(offset: u64, bytes: u64, at: u64) -> bool {
    let whole = offset >= HEADER_BYTES && bytes >= u64_of(CHUNK_HEAD);
    whole && offset.checked_add(bytes).is_some_and(|end| end <= at)
}

/// Whether this can be a line of a leaf at this place.
fn is_line(line: &Line, at: u64) -> bool {
    let end = line.begin().checked_add(line.chunk_bytes());
    line.begin() >= HEADER_BYTES && end.is_some_and(|end| end <= at)
}

/// A chunk that is not compressed with the head it should have.
fn with_head(chunk: &Bytes, stream: StreamId, count: u32) -> Bytes {
    let mut bytes = BytesMut::from(&chunk[..]);
    bytes[..CHUNK_HEAD].fill(0);
    let stored = u32_of(chunk.len());
    put(&mut bytes, 4, &stored.to_le_bytes());
    put(&mut bytes, 8, &(stored - u32_of(CHUNK_HEAD)).to_le_bytes());
    put(&mut bytes, 12, &count.to_le_bytes());
    put(&mut bytes, 24, &stream.0.to_le_bytes());
    bytes.freeze()
}
