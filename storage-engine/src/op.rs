//! All a store asks of a disk, and the answers. Each op is answered by exactly one done.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::DiskError;
use crate::index::SegmentIndex;
use crate::keeper::Tended;
use crate::position::{CommitId, FetchId, FileId, SegmentId};
use crate::view::View;

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

/// Ranges to read of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchPart {
    /// The file. A table may be gone from the folder; it is readable all the same while the asker
    /// holds a view with it.
    pub file: FileId,
    /// (offset, bytes) of each range.
    pub ranges: Vec<(u64, u32)>,
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
    /// Read ranges of one or several files: all at once, so that it takes as long as the slowest.
    Fetch {
        /// Names the answer.
        id: FetchId,
        /// What to read; each range is answered completely.
        parts: Vec<FetchPart>,
    },
    /// Make a segment file: the header and then zeros, or a spare file with the header marked as
    /// recycled; flushed, under its active name. Only beside a reserve as large as asked: if there
    /// is no room for both the answer is `Full`.
    Create {
        /// The segment to make.
        segment: SegmentId,
        /// What it begins with.
        header: Vec<u8>,
        /// The size of the file.
        bytes: u64,
        /// Bytes that the reserve must have; 0: none is kept.
        reserve_bytes: u64,
    },
    /// Let the keeper write a segment's records into a table: see [`crate::Keeper::seal`].
    Seal {
        /// The segment to seal.
        segment: SegmentId,
        /// Where its records end.
        length: u64,
        /// Milliseconds over which the work may be spread, so that it leaves the disk to others; 0
        /// is at once, and others follow.
        within_ms: u64,
    },
    /// Tell the keeper that this store does not read an absorbed segment any more.
    Retire {
        /// The segment.
        segment: SegmentId,
    },
    /// Let the keeper do a slice of its work: see [`crate::Keeper::tend`]. The answer may be held
    /// back, so that the work leaves room for others.
    Tend {
        /// The time of the batch that asks.
        now_ms: u64,
        /// What the table of a segment of this store may take at most.
        sealing_bytes: u64,
    },
    /// Let old records go: see [`crate::Keeper::retain_from`]. Answered by a view.
    Retain {
        /// The smallest stamp to keep.
        stamp: u64,
    },
    /// Answer with the view as it is.
    Look,
    /// Give back memory that the store does not need any more. Answered by a view.
    Forget {
        /// The memory.
        left: Left,
    },
}

/// Memory that a store has no use for. Much of it takes longer to give back than a thread that
/// serves may be held, so the op goes to another one, which drops it; then the files of tables that
/// nobody reads any more can be closed, too.
#[derive(Clone, Debug, Default)]
pub struct Left {
    pub(crate) indices: Vec<Arc<SegmentIndex>>,
    pub(crate) views: Vec<View>,
}

impl Left {
    pub(crate) fn is_empty(&self) -> bool {
        self.indices.is_empty() && self.views.is_empty()
    }
}

/// What is left means nothing: two of it are the same.
impl PartialEq for Left {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Left {}

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
        /// One buffer for each range of all parts, in order and complete.
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
        /// The view that has its records.
        outcome: Result<View, DiskError>,
    },
    /// The keeper knows that a segment is not read any more.
    Retired {
        /// The op's segment.
        segment: SegmentId,
    },
    /// The keeper did some work, or could not.
    Tended {
        /// What it did, and the view since.
        outcome: Result<(Tended, View), DiskError>,
    },
    /// The tables have changed. Also comes unasked.
    Viewed {
        /// The view.
        view: View,
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
            Self::Retire { segment } => StoreDone::Retired { segment },
            Self::Tend { .. } => StoreDone::Tended { outcome: Err(error) },
            Self::Retain { .. } | Self::Look | Self::Forget { .. } => {
                StoreDone::Viewed { view: View::default() }
            }
        }
    }
}
