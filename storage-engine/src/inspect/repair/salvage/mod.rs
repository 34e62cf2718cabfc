//! What is whole in a damaged table, found by what lies there: chunks say whose they are, pages and
//! lists where chunks are. Nothing the root says is needed.
//!
//! A chunk counts if it follows another one without a gap, or if something names its place: bytes
//! in the middle of damage may be a client's, made to look like a chunk.

mod former;
mod pages;

use std::collections::BTreeMap;

use crate::error::DiskError;
use crate::inspect::lines::Window;
use crate::inspect::look::Look;
use crate::layout::u32_at;
use crate::position::StreamId;
use crate::query::StoredRecord;
use crate::table::{HEADER_BYTES, TableRoot, Voids, decode};

/// The first version with pages.
const PAGES_FROM: u32 = 3;

/// A chunk, or what is left of one.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: u64,
    stored: u32,
    stream: StreamId,
    /// Whether it follows what comes before it without a gap, or is named.
    chained: bool,
    /// Its head is damaged; how many records it should have.
    headless: Option<u32>,
}

/// A stream of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) voids: Voids,
    pieces: Vec<Piece>,
    /// Records that it should have, if its line could be read.
    said: Option<u64>,
}

/// What there is of a table.
#[derive(Debug)]
pub(super) struct Salvage {
    pub(super) streams: BTreeMap<StreamId, Kept>,
    /// Lines with marks that were read.
    pub(super) marks: u64,
    window: Window,
    has_leaves: bool,
}

impl Salvage {
    /// Reads a table's file from its beginning to its end.
    pub(super) fn of(
        look: &mut dyn Look,
        name: &str,
        size: u64,
        root: Option<&TableRoot>,
    ) -> Result<Self, DiskError> {
        let mut window = Window::new(name, size);
        let has_leaves = match root {
            Some(root) => root.has_leaves(),
            None => {
                let header = window.get(look, 0, HEADER_BYTES.min(size))?;
                // If the version is damaged it is more likely a new table.
                header.len() >= 20 && (1..PAGES_FROM).contains(&u32_at(&header, 16))
            }
        };
        let (streams, marks) = if has_leaves {
            former::walk(look, &mut window, root)?
        } else {
            pages::walk(look, &mut window, root)?
        };
        Ok(Self { streams, marks, window, has_leaves })
    }

    /// The whole records of a stream, and how many it had if that is known.
    pub(super) fn records(
        &mut self,
        look: &mut dyn Look,
        stream: StreamId,
    ) -> Result<(Vec<StoredRecord>, Option<u64>), DiskError> {
        let Some(kept) = self.streams.get(&stream).cloned() else { return Ok((Vec::new(), None)) };
        let mut records = Vec::new();
        for piece in &kept.pieces {
            if self.has_leaves {
                records.append(&mut former::records_of(look, &mut self.window, piece)?);
            } else {
                let chunk = self.window.get(look, piece.at, u64::from(piece.stored))?;
                records.append(&mut decode(&chunk, piece.stream, &mut Vec::new()));
            }
        }
        Ok((records, kept.said))
    }
}
