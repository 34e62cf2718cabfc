//! All a store asks of a disk, and the answers. Each op is answered by exactly one done.

use bytes::Bytes;

use crate::error::DiskError;
use crate::position::{CommitId, FetchId, SegmentId};
use crate::sealed::SealedRoot;

/// Bytes for one segment. Empty bytes: only flush it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitPart {
    /// The segment to write to.
    pub segment: SegmentId,
    /// The place of the first byte.
    pub offset: u64,
    /// What to write.
    pub bytes: Vec<u8>,
}

/// What the store asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreOp {
    /// Write all parts completely; then, if `sync`, flush (fdatasync) each segment named.
    Commit {
        /// Names the answer.
        id: CommitId,
        /// What to write, at most one part a segment.
        parts: Vec<CommitPart>,
        /// Whether to flush before answering.
        sync: bool,
    },
    /// Read these ranges of a segment.
    Fetch {
        /// Names the answer.
        id: FetchId,
        /// The segment to read.
        segment: SegmentId,
        /// (offset, bytes) of each range; each is answered completely.
        ranges: Vec<(u64, u32)>,
    },
    /// Make a segment file: `bytes` zeros but for the header, flushed, under its active name.
    Create {
        /// The segment to make.
        segment: SegmentId,
        /// What it begins with.
        header: Vec<u8>,
        /// The size of the file.
        bytes: u64,
    },
    /// Give a segment its index and its sealed name: see [`SealedRoot::seal`].
    Seal {
        /// The segment to seal.
        segment: SegmentId,
        /// Where its records end.
        length: u64,
    },
    /// Read the root of a sealed segment: see [`SealedRoot::load`].
    OpenSealed {
        /// The segment to open.
        segment: SegmentId,
    },
}

/// What a disk answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreDone {
    /// A commit ended.
    Committed {
        /// The op's id.
        id: CommitId,
        /// Whether everything asked for was done. A short write is an error.
        outcome: Result<(), DiskError>,
        /// The parts' buffers, given back for reuse.
        buffers: Vec<Vec<u8>>,
    },
    /// A fetch ended.
    Fetched {
        /// The op's id.
        id: FetchId,
        /// One buffer for each range, in order and complete.
        outcome: Result<Vec<Bytes>, DiskError>,
    },
    /// A segment was made, or not.
    Created {
        /// The op's segment.
        segment: SegmentId,
        /// `Full` is tried again; anything else is final.
        outcome: Result<(), DiskError>,
    },
    /// A segment was sealed, or not.
    Sealed {
        /// The op's segment.
        segment: SegmentId,
        /// Its root.
        outcome: Result<SealedRoot, DiskError>,
    },
    /// A sealed segment was opened, or not.
    SealedOpened {
        /// The op's segment.
        segment: SegmentId,
        /// Its root.
        outcome: Result<SealedRoot, DiskError>,
    },
}

impl StoreOp {
    /// The answer to an op that was not performed.
    #[must_use]
    pub fn refuse(self, error: DiskError) -> StoreDone {
        match self {
            Self::Commit { id, parts, sync: _ } => {
                let buffers = parts.into_iter().map(|part| part.bytes).collect();
                StoreDone::Committed { id, outcome: Err(error), buffers }
            }
            Self::Fetch { id, .. } => StoreDone::Fetched { id, outcome: Err(error) },
            Self::Create { segment, .. } => StoreDone::Created { segment, outcome: Err(error) },
            Self::Seal { segment, .. } => StoreDone::Sealed { segment, outcome: Err(error) },
            Self::OpenSealed { segment } => {
                StoreDone::SealedOpened { segment, outcome: Err(error) }
            }
        }
    }
}
