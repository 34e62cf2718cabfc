//! What a store can be told to do differently, with bounds.

/// When an append counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Each commit is flushed to the disk before it counts.
    Fsync,
    /// A commit counts when it is written; it is flushed at least this often.
    Interval {
        /// Milliseconds between flushes: what a power cut may take.
        ms: u64,
    },
}

/// The settings of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bytes of a segment file, at most [`Settings::MAX_SEGMENT_BYTES`].
    pub segment_bytes: u32,
    /// Bytes of the first segment of each shard in each run, so that a start is quick.
    pub first_segment_bytes: u32,
    /// Bytes gathered while a commit is under way; past it appends answer busy.
    pub batch_max_bytes: usize,
    /// When an append counts.
    pub durability: Durability,
    /// Milliseconds until what failed for want of room is tried again.
    pub retry_ms: u64,
}

impl Settings {
    /// The largest segment: offsets have 32 bits, and recovery holds one in memory.
    pub const MAX_SEGMENT_BYTES: u32 = 1 << 30;
    /// The smallest segment: its header and a little.
    pub const MIN_SEGMENT_BYTES: u32 = 8 << 10;

    /// The bytes a segment with this ordinal gets.
    #[must_use]
    pub fn bytes_of(&self, ordinal: u32) -> u32 {
        let wanted = if ordinal <= 1 { self.first_segment_bytes } else { self.segment_bytes };
        wanted.clamp(Self::MIN_SEGMENT_BYTES, Self::MAX_SEGMENT_BYTES)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            first_segment_bytes: 4 << 20,
            batch_max_bytes: 8 << 20,
            durability: Durability::Fsync,
            retry_ms: 1000,
        }
    }
}
