//! Tables: sorted, immutable files. What a segment held is written once more by stream, so that a
//! conversation's records lie side by side. Blocks of lines (leaves) lie between the records they
//! tell of; where the leaves are, and which streams there are at all, stays in memory.

mod chunk;
mod leaf;
mod root;
mod scan;
mod writer;

pub(crate) use chunk::{CHUNK_HEAD, Chunk, ChunkFault, Piece, decode, encode};
pub(crate) use leaf::{Item, LEAF_BYTES, Line, NO_CHUNK, read_items, read_leaf, read_line_of};
pub(crate) use root::HEADER_BYTES;
pub use root::TableRoot;
pub(crate) use scan::{Cursor, Entry, ReadTable, chunk_bytes};
pub(crate) use writer::{Facts, TableWriter, Voids};

/// Bytes of records that are put into one chunk, before compression.
pub(crate) const CHUNK_BYTES: usize = 16 << 10;
