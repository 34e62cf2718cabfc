//! Tables of version 2: read for ever, not written any more.

mod chunk;
mod leaf;

pub(crate) use chunk::{CHUNK_HEAD, Chunk, decode};
pub(crate) use leaf::{LEAF_BYTES, read_leaf, read_line_of};
