//! The names of things: streams, segments, places in the log, and questions under way.

use core::fmt;

/// A stream: what belongs together and is read together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u128);

impl StreamId {
    /// Partitions there are; a stream's partition never changes.
    pub const PARTITIONS: u16 = 1024;

    /// The stream's partition: its first ten bits.
    #[must_use]
    pub fn partition(self) -> u16 {
        u16::try_from(self.0 >> 118).expect("ten bits fit sixteen")
    }
}

/// A segment file. Ordered as its records are: a stream lives in one shard's log in each run, so
/// (segment, offset) is the order of a stream's records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// The segment with this ordinal (24 bits, from 1) of a shard's log in a run.
    #[must_use]
    pub fn new(run: u32, shard: u8, ordinal: u32) -> Self {
        assert!(ordinal < 1 << 24, "an ordinal has 24 bits");
        Self(u64::from(run) << 32 | u64::from(shard) << 24 | u64::from(ordinal))
    }

    /// The start of the process that wrote it.
    #[must_use]
    pub fn run(self) -> u32 {
        u32::try_from(self.0 >> 32).expect("32 bits are left")
    }

    /// The shard that wrote it.
    #[must_use]
    pub fn shard(self) -> u8 {
        u8::try_from(self.0 >> 24 & 0xff).expect("masked to 8 bits")
    }

    /// Its place in the log of its run and shard, from 1.
    #[must_use]
    pub fn ordinal(self) -> u32 {
        u32::try_from(self.0 & 0xff_ffff).expect("masked to 24 bits")
    }

    /// The file while it is made: it does not count yet.
    #[must_use]
    pub fn new_name(self) -> String {
        format!("{:016x}.new", self.0)
    }

    /// The file while it is written, and until it is sealed.
    #[must_use]
    pub fn active_name(self) -> String {
        format!("{:016x}.active", self.0)
    }

    /// The file that version 1 gave an index: read, never written.
    #[must_use]
    pub fn sealed_name(self) -> String {
        format!("{:016x}.sealed", self.0)
    }

    /// The file when nothing in it counts any more: its space is used again.
    #[must_use]
    pub fn spare_name(self) -> String {
        format!("{:016x}.spare", self.0)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A table: a sorted, immutable file. Numbered as they are made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableId(pub u64);

impl TableId {
    /// The file while it is written: it does not count yet.
    #[must_use]
    pub fn building_name(self) -> String {
        format!("{:016x}.building", self.0)
    }

    /// The file once it is whole.
    #[must_use]
    pub fn table_name(self) -> String {
        format!("{:016x}.table", self.0)
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A file that holds records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileId {
    /// A segment of a log.
    Segment(SegmentId),
    /// A table.
    Table(TableId),
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => f.write_str(&segment.active_name()),
            Self::Table(table) => f.write_str(&table.table_name()),
        }
    }
}

/// The end of a record, in bytes this store appended in this run; 0 lies before everything. Dies
/// with the run and is never stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

/// A commit under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CommitId(pub u64);

/// A fetch under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FetchId(pub u64);

/// A read under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);
