//! Tables: sorted, immutable files. What a segment held is written once more by stream, so that a
//! conversation's records lie side by side. Where the pages with the newest are, and which streams
//! there are at all, stays in memory.

mod chunk;
pub(crate) mod former;
pub(crate) mod keys;
mod line;
mod page;
mod root;
mod scan;
mod writer;

pub(crate) use chunk::{ChunkFault, HEAD_MIN, Head, decode};
#[cfg(any(test, fuzzing))]
pub(crate) use line::mask;
pub(crate) use line::{ITEMS_EACH, Item, Line, NO_CHUNK, list_bytes, read_items};
pub(crate) use page::{PAGE_BYTES_MAX, Page};
pub use root::TableRoot;
pub(crate) use root::{HEADER_BYTES, Spot};
pub(crate) use scan::{Cursor, ReadTable};
pub(crate) use writer::{Facts, Piece, TableWriter, Voids};

/// Bytes of records that are put into one chunk, before compression.
pub(crate) const CHUNK_BYTES: usize = 16 << 10;
/// A page is ended when it has so many bytes: what a read fetches at least.
pub(crate) const PAGE_BYTES: usize = 8 << 10;
