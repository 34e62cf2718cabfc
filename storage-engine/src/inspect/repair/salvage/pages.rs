//! What is whole in a damaged table: chunks, lists of them, and pages with directories.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kept, Piece};
use crate::error::DiskError;
use crate::inspect::lines::Window;
use crate::inspect::look::Look;
use crate::layout::{u32_at, u64_at, u128_at};
use crate::position::StreamId;
use crate::table::{
    HEAD_MIN, HEADER_BYTES, Head, ITEMS_EACH, Line, PAGE_BYTES_MAX, Page, TableRoot, Voids, decode,
    list_bytes, read_items,
};

/// Bytes from which it is told what may lie there.
const PROBE_BYTES: u64 = 32;

/// A walk through the file.
struct Walk<'a> {
    window: &'a mut Window,
    end: u64,
    /// Where the root says that pages are.
    pages: BTreeSet<u64>,
    /// Where pages and lists say that chunks are, and where what they name next to it begins.
    named: BTreeSet<u64>,
    pieces: Vec<Piece>,
    lines: BTreeMap<StreamId, Line>,
    chained: bool,
}

/// What lies at a place, and its bytes.
enum Object {
    Directory(u64),
    List(u64),
    Chunk(Piece, Option<Line>),
    Nothing,
}

/// Reads a table's file from its beginning to its end: its streams, and how many have marks.
pub(super) fn walk(
    look: &mut dyn Look,
    window: &mut Window,
    root: Option<&TableRoot>,
) -> Result<(BTreeMap<StreamId, Kept>, u64), DiskError> {
    let end = root.map_or(window.size, |root| root.end.min(window.size));
    let places = |root: &TableRoot| (0..root.pages()).map(|page| root.page_range(page).0).collect();
    let mut walk = Walk {
        window,
        end,
        pages: root.map(places).unwrap_or_default(),
        named: BTreeSet::new(),
        pieces: Vec::new(),
        lines: BTreeMap::new(),
        chained: true,
    };
    walk.run(look)?;
    Ok(walk.into_streams())
}

impl Walk<'_> {
    fn run(&mut self, look: &mut dyn Look) -> Result<(), DiskError> {
        let mut at = HEADER_BYTES;
        while at < self.end {
            at += match self.object(look, at)? {
                // Their checksums know their place: whatever a client wrote is none.
                Object::Directory(bytes) | Object::List(bytes) => {
                    self.chained = true;
                    bytes
                }
                Object::Chunk(piece, line) => {
                    let chained = self.chained || self.named.contains(&at);
                    self.chained = chained;
                    self.pieces.push(Piece { chained, ..piece });
                    if let Some(line) = line.filter(|_| chained) {
                        self.lines.insert(piece.stream, line);
                    }
                    u64::from(piece.stored)
                }
                Object::Nothing => self.skip(look, at)?,
            };
        }
        Ok(())
    }

    fn object(&mut self, look: &mut dyn Look, at: u64) -> Result<Object, DiskError> {
        let probe = self.window.get(look, at, PROBE_BYTES.min(self.end - at))?;
        if let Some(bytes) = Head::bytes_said(&probe).filter(|&bytes| bytes <= self.end - at) {
            let bytes = self.window.get(look, at, bytes)?;
            if let Some(head) = Head::parse(&bytes)
                && u64::from(head.bytes()) <= self.end - at
            {
                let (stored, stream) = (head.bytes(), head.stream);
                let piece = Piece { at, stored, stream, chained: false, headless: None };
                return Ok(Object::Chunk(piece, head.line(at)));
            }
        }
        if probe.len() < 16 {
            return Ok(Object::Nothing);
        }
        let (first, second) = (u32_at(&probe, 4), u64_at(&probe, 8));
        let list = if (1..=ITEMS_EACH).contains(&first) { u64::from(list_bytes(first)) } else { 0 };
        if second == 0 && list > 0 && list <= self.end - at {
            let block = self.window.get(look, at, list)?;
            if let Ok(items) = read_items(&block, at) {
                self.named.extend(items.iter().map(|item| item.offset));
                return Ok(Object::List(list));
            }
        }
        let page = u64::from(first);
        let possible = page <= self.end - at && first as usize <= PAGE_BYTES_MAX;
        if possible {
            let bytes = self.window.get(look, at, page)?;
            if let Some(page) = Page::parse(&bytes, at) {
                self.named.extend(page.places());
                return Ok(Object::Directory(u64::from(page.directory_bytes())));
            }
        }
        Ok(Object::Nothing)
    }

    /// Bytes to go on after damage.
    fn skip(&mut self, look: &mut dyn Look, at: u64) -> Result<u64, DiskError> {
        if self.named.contains(&at) {
            // A chunk with a damaged head: up to what is named next.
            let next = self.named.range(at + 1..).chain(self.pages.range(at + 1..)).min().copied();
            let bytes = next.unwrap_or(self.end).min(self.end) - at;
            self.headless(look, at, bytes)?;
            self.chained = next.is_some();
            return Ok(bytes);
        }
        if self.pages.contains(&at) {
            let directory = self.lost_directory(look, at)?;
            self.chained = directory.is_some();
            return Ok(directory.unwrap_or(1));
        }
        self.chained = false;
        Ok(1)
    }

    /// What is left of a chunk whose head is damaged.
    fn headless(&mut self, look: &mut dyn Look, at: u64, bytes: u64) -> Result<(), DiskError> {
        let Ok(stored) = u32::try_from(bytes) else { return Ok(()) };
        let chunk = self.window.get(look, at, bytes)?;
        if chunk.len() < HEAD_MIN {
            return Ok(());
        }
        let stream = StreamId(u128_at(&chunk, 8));
        if !decode(&chunk, stream, &mut Vec::new()).is_empty() {
            let piece = Piece { at, stored, stream, chained: true, headless: None };
            self.pieces.push(piece);
        }
        Ok(())
    }

    /// Bytes of a damaged directory where a page is: both the number of streams and the place of
    /// the first chunk say it. A chunk begins there, or it is not believed.
    fn lost_directory(&mut self, look: &mut dyn Look, at: u64) -> Result<Option<u64>, DiskError> {
        let probe = self.window.get(look, at, PROBE_BYTES.min(self.end - at))?;
        let said = |place| probe.get(place..).and_then(|bytes| bytes.first_chunk());
        let (Some(&streams), Some(&first)) = (said(8), said(12)) else { return Ok(None) };
        let by_streams = 12 + 2 * u64::from(u16::from_le_bytes(streams));
        for bytes in [by_streams, u64::from(u16::from_le_bytes(first))] {
            let inside = bytes > 12 && bytes < self.end - at;
            if inside && matches!(self.object(look, at + bytes)?, Object::Chunk(..)) {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    fn into_streams(self) -> (BTreeMap<StreamId, Kept>, u64) {
        let mut streams: BTreeMap<StreamId, Kept> = BTreeMap::new();
        for piece in self.pieces {
            if piece.chained || self.named.contains(&piece.at) {
                streams.entry(piece.stream).or_default().pieces.push(piece);
            }
        }
        let mut marks = 0;
        for (stream, line) in self.lines {
            let kept = streams.entry(stream).or_default();
            kept.voids = Voids { floor: line.floor, deletes: line.deletes };
            kept.said = Some(u64::from(line.count));
            marks += u64::from(kept.voids != Voids::default());
        }
        (streams, marks)
    }
}
