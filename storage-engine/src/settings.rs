//! What a store can be told to do differently, with bounds.

use crate::layout::BLOCK_BYTES;

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
    /// Microseconds from the beginning of a commit to that of the next one, at least, unless much
    /// gathers. A commit costs the processor as much as some tens of records; 0 begins each as soon
    /// as it can.
    pub commit_interval_us: u64,
    /// When an append counts.
    pub durability: Durability,
    /// Milliseconds until what failed for want of room is tried again.
    pub retry_ms: u64,
    /// Tables that may hold records of one stream; with more, some are merged.
    pub tables_a_stream_max: usize,
    /// Whether sealing compresses what gets smaller by it.
    pub compress: bool,
    /// Bytes kept free on the disk for a segment of [`Settings::segment_bytes`], so that sealing
    /// ends although the disk is full; smaller segments keep less, in proportion. A segment is made
    /// only when this is there. 0: none is kept, and sealing may wait for room.
    pub reserve_bytes: u64,
    /// Milliseconds until a deletion has given its space back, after it was sealed.
    pub erase_after_ms: u64,
    /// Milliseconds in which less than [`Settings::segment_bytes`] is sealed, after which tables
    /// are merged further than they must be, so that a cold stream is in one or two files.
    pub idle_merge_ms: u64,
    /// Milliseconds in which fewer than [`Settings::rest_records`] were appended: then memory is
    /// given back that only busy times need, and the segment being written is sealed before it is
    /// full if its index takes much memory: [`Settings::rest_index_bytes`], or a quarter of it is
    /// written and records of [`Settings::rest_streams`] are in it.
    pub rest_after_ms: u64,
    /// As many records are many, and so are as many reads: with fewer, what was read and is not
    /// used again is not kept for longer than [`Settings::rest_after_ms`].
    pub rest_records: u64,
    /// As many streams are many, once a quarter of a segment is written.
    pub rest_streams: usize,
    /// Bytes of the index of a segment, room for more included, that are too many to keep while
    /// little is written. Sealing it costs a file, so it is not for a little.
    pub rest_index_bytes: usize,
    /// Bytes that the tables of the folder may take before the oldest records with a seq go; 0 is
    /// no bound.
    pub retain_bytes: u64,
    /// Bytes of tables that a store keeps in memory after it read them.
    pub cache_bytes: usize,
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
        wanted.clamp(Self::MIN_SEGMENT_BYTES, Self::MAX_SEGMENT_BYTES).next_multiple_of(BLOCK_BYTES)
    }

    /// The reserve for a segment of so many bytes.
    #[must_use]
    pub fn reserve_for(&self, segment_bytes: u64) -> u64 {
        let whole = u128::from(self.bytes_of(2));
        let part = u128::from(self.reserve_bytes) * u128::from(segment_bytes);
        u64::try_from(part.div_ceil(whole)).unwrap_or(u64::MAX)
    }
}

impl Settings {
    /// What a store is told if nobody says otherwise.
    pub const DEFAULT: Self = Self {
        segment_bytes: 64 << 20,
        first_segment_bytes: 4 << 20,
        batch_max_bytes: 8 << 20,
        commit_interval_us: 0,
        durability: Durability::Fsync,
        retry_ms: 1000,
        tables_a_stream_max: 4,
        compress: true,
        reserve_bytes: 72 << 20,
        erase_after_ms: 3_600_000,
        idle_merge_ms: 600_000,
        rest_after_ms: 10_000,
        rest_records: 1_000,
        rest_streams: 1_000,
        rest_index_bytes: 1 << 20,
        retain_bytes: 0,
        cache_bytes: 8 << 20,
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}
