//! What can be read of a stream.

use bytes::Bytes;

use crate::position::StreamId;

/// A question about one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query {
    /// From the last record with `snapshot_start` (it included) to the end, oldest first; the
    /// whole stream if there is none.
    Load {
        /// The stream to read.
        stream: StreamId,
    },
    /// The same, and before it what was stored beside the record it begins with and came with it,
    /// if there is anything: who loads a stream often wants what it had last. Of records with a
    /// seq none is missing between.
    LoadWithRecent {
        /// The stream to read.
        stream: StreamId,
    },
    /// Records with 0 < their seq < `seq`, newest first.
    Before {
        /// The stream to read.
        stream: StreamId,
        /// The first seq that is not wanted.
        seq: u64,
        /// Records at most.
        limit: usize,
        /// Bytes of bodies at most; one record is given in any case.
        max_bytes: usize,
    },
    /// Records with their seq > `seq`, oldest first.
    After {
        /// The stream to read.
        stream: StreamId,
        /// The last seq that is not wanted.
        seq: u64,
        /// Records at most.
        limit: usize,
        /// Bytes of bodies at most; one record is given in any case.
        max_bytes: usize,
    },
    /// All its records in segments of earlier runs that were not sealed at open, oldest first.
    Replay {
        /// The stream to read.
        stream: StreamId,
    },
}

impl Query {
    /// The stream asked about.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        match *self {
            Self::Load { stream }
            | Self::LoadWithRecent { stream }
            | Self::Before { stream, .. }
            | Self::After { stream, .. }
            | Self::Replay { stream } => stream,
        }
    }
}

/// A record as it was appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredRecord {
    /// The dense number of its stream, 0 if it has none.
    pub number: u64,
    /// The second number that only some carry, 0 if it has none.
    pub seq: u64,
    /// The writer's time, 0 if it has none.
    pub stamp: u64,
    /// What it is, for the writer to know.
    pub kind: u8,
    /// Whether loading may begin here.
    pub snapshot_start: bool,
    /// The content.
    pub body: Bytes,
}
