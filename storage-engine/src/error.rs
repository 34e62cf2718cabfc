//! What can fail: one enum per boundary.

use core::fmt;

use crate::position::{FileId, SegmentId, StreamId, TableId};

/// Why an append was not taken, or why the store stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// The disk is full. Reads go on; `Room` tells when it is over.
    Full,
    /// As much as may wait is waiting. Try again after the next commit.
    Busy,
    /// The record does not fit a segment or a batch, and never will.
    TooLarge,
    /// A write or flush failed: final. The process must exit and look at the disk afresh.
    Failed(DiskError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the disk is full"),
            Self::Busy => f.write_str("too much waits for the disk"),
            Self::TooLarge => f.write_str("the record is too large for a segment"),
            Self::Failed(error) => write!(f, "the store stopped: {error}"),
        }
    }
}

impl core::error::Error for StoreError {}

/// What a disk answers when it could not do as asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// No room on the device.
    Full,
    /// The system's error code.
    Io {
        /// The value of errno.
        code: i32,
    },
    /// There is no such file.
    Missing,
    /// The file ended before what was asked for.
    Short,
    /// Too many requests wait; ask again.
    Busy,
    /// The bytes are not what was written.
    Corrupt {
        /// The place in the file.
        offset: u64,
    },
    /// The file was written by a newer version.
    Newer {
        /// The version it names.
        version: u32,
    },
    /// The (simulated) process stopped.
    Stopped,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no room on the device"),
            Self::Io { code } => write!(f, "system error {code}"),
            Self::Missing => f.write_str("no such file"),
            Self::Short => f.write_str("the file is too short"),
            Self::Busy => f.write_str("too many requests wait for the disk"),
            Self::Corrupt { offset } => write!(f, "corrupt at byte {offset}"),
            Self::Newer { version } => write!(f, "written in format {version}, newer than this"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl core::error::Error for DiskError {}

/// Damage that was met in bytes that were durable. Neighbours are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The damaged file.
    pub file: FileId,
    /// The place in it.
    pub offset: u64,
    /// The stream whose record it was, if that is known.
    pub stream: Option<StreamId>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}", self.file, self.offset)?;
        match self.stream {
            Some(stream) => write!(f, " (stream {:032x})", stream.0),
            None => Ok(()),
        }
    }
}

/// Why a read has no records to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// The disk could not fetch.
    Disk(DiskError),
    /// A block that tells where records are is damaged; they cannot be found.
    Index {
        /// The damaged table.
        table: TableId,
        /// The place of the damaged block.
        offset: u64,
    },
    /// The store stopped after a failed flush.
    Stopped,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(f, "reading failed: {error}"),
            Self::Index { table, offset } => {
                write!(f, "the index of {} is damaged at byte {offset}", table.table_name())
            }
            Self::Stopped => f.write_str("the store stopped"),
        }
    }
}

impl core::error::Error for ReadError {}

/// Why a data folder was not opened. Each says which file, what is wrong and what helps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The folder's operations failed.
    Folder {
        /// The segment, if one was being read.
        segment: Option<SegmentId>,
        /// What failed.
        error: DiskError,
    },
    /// Bytes that were durable are damaged.
    Corrupt {
        /// The damaged segment.
        segment: SegmentId,
        /// The first byte that is not as it was written.
        offset: u64,
        /// Whether the file is a sealed one.
        sealed: bool,
    },
    /// A table cannot be used.
    Table {
        /// The table.
        table: TableId,
        /// What is wrong with it.
        error: DiskError,
    },
    /// A segment that others name is not there.
    Missing {
        /// The segment that is gone.
        segment: SegmentId,
    },
    /// A segment that the catalogue knows nothing of.
    Unknown {
        /// The segment nobody named.
        segment: SegmentId,
    },
    /// There are segments and no catalogue.
    NoCatalogue,
    /// The catalogue is damaged.
    BadCatalogue,
    /// Written by a newer version.
    Newer {
        /// The segment, or none for the catalogue.
        segment: Option<SegmentId>,
        /// The version it names.
        version: u32,
    },
    /// No more runs can be numbered.
    RunsExhausted,
    /// A store needs at least one shard.
    NoShards,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RESTORE: &str = "restore the folder from a backup or another copy of the disk";
        const REPAIR: &str = "restore the folder from a backup or another copy of the disk, or \
             save what is whole with `roost store repair`";
        match self {
            Self::Folder { segment: Some(segment), error } => {
                write!(f, "{segment}: {error}; check the disk and the rights of the folder")
            }
            Self::Folder { segment: None, error } => {
                write!(f, "the data folder: {error}; check the disk and the rights of the folder")
            }
            Self::Corrupt { segment, offset, sealed } => {
                let name = if *sealed { segment.sealed_name() } else { segment.active_name() };
                write!(f, "{name}: bytes that were durable are damaged at byte {offset}; {REPAIR}")
            }
            Self::Table { table, error: DiskError::Newer { version } } => write!(
                f,
                "{}: written in format {version}, this program knows {}; use a newer program",
                table.table_name(),
                crate::layout::VERSION
            ),
            Self::Table {
                table,
                error: error @ (DiskError::Corrupt { .. } | DiskError::Short),
            } => {
                write!(
                    f,
                    "{}: {error}; `roost store repair` saves what is whole",
                    table.table_name()
                )
            }
            Self::Table { table, error: DiskError::Missing } => {
                write!(f, "{}: the file is missing; {RESTORE}", table.table_name())
            }
            Self::Table { table, error } => write!(
                f,
                "{}: {error}; check the disk and the rights of the folder",
                table.table_name()
            ),
            Self::Missing { segment } => {
                write!(f, "{}: the file is missing; {REPAIR}", segment.active_name())
            }
            Self::Unknown { segment } => write!(
                f,
                "{}: the catalogue does not know this file; the folder mixes files of several \
                 times: {RESTORE}",
                segment.active_name()
            ),
            Self::NoCatalogue => {
                write!(f, "catalogue: missing although there are segments; {RESTORE}")
            }
            Self::BadCatalogue => write!(f, "catalogue: the file is damaged; {RESTORE}"),
            Self::Newer { segment, version } => {
                match segment {
                    Some(segment) => write!(f, "{segment}: ")?,
                    None => f.write_str("catalogue: ")?,
                }
                write!(
                    f,
                    "written in format {version}, this program knows {}; use a newer program",
                    crate::layout::VERSION
                )
            }
            Self::RunsExhausted => f.write_str("catalogue: no more starts can be numbered"),
            Self::NoShards => f.write_str("a store needs at least one shard; set shards to 1"),
        }
    }
}

impl core::error::Error for OpenError {}
