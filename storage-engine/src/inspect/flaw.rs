//! What can be wrong with a store that is looked at, and why it cannot be looked at.

use core::fmt;

use crate::error::DiskError;
use crate::layout::VERSION;
use crate::position::StreamId;

/// Something that is not as it was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Flaw {
    /// The file.
    pub file: String,
    /// The place in it.
    pub offset: u64,
    /// Whose it is, if that is known.
    pub stream: Option<StreamId>,
    /// What is wrong there.
    pub kind: FlawKind,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FlawKind {
    /// The catalogue: without it nothing says which files count.
    Catalogue,
    /// The first bytes of a file do not say what it is.
    Identity,
    /// A segment's opening is damaged: what it follows is not known.
    Opening,
    /// A record of a segment is damaged, or lies behind bytes that are.
    Record,
    /// The file is not there.
    Missing,
    /// The catalogue does not know the file.
    Unknown,
    /// The file ends early.
    Short,
    /// The last bytes of a file, which say where all else is.
    Footer,
    /// A table's list of its leaves, or its filter.
    Root,
    /// A block that says where streams are.
    Page,
    /// A list of a stream's chunks.
    List,
    /// Some records of a stream, stored together.
    Chunk,
    /// One record of a chunk.
    ChunkRecord,
    /// What is said of a stream's chunks is not what they are.
    Mismatch,
    /// Streams that are not in order, or not where the root says.
    Order,
    /// Numbers of the footer that are not what the table holds.
    Total,
    /// The file was written by a newer version.
    Newer(u32),
    /// The disk gave an error.
    Disk(i32),
}

impl FlawKind {
    /// A word for machines; it stays the same.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Catalogue => "catalogue",
            Self::Identity => "identity",
            Self::Opening => "opening",
            Self::Record => "record",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Short => "short",
            Self::Footer => "footer",
            Self::Root => "root",
            Self::Page => "page",
            Self::List => "list",
            Self::Chunk => "chunk",
            Self::ChunkRecord => "chunk_record",
            Self::Mismatch => "mismatch",
            Self::Order => "order",
            Self::Total => "total",
            Self::Newer(_) => "newer",
            Self::Disk(_) => "disk",
        }
    }
}

impl fmt::Display for FlawKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalogue => f.write_str("damaged, and only it says which files count"),
            Self::Identity => f.write_str("the first bytes do not say what file this is"),
            Self::Opening => f.write_str("the opening of the segment is damaged"),
            Self::Record => f.write_str("a record that was durable is damaged"),
            Self::Missing => f.write_str("the file is missing"),
            Self::Unknown => f.write_str("the catalogue does not know the file"),
            Self::Short => f.write_str("the file ends early"),
            Self::Footer => f.write_str("the footer is damaged"),
            Self::Root => f.write_str("the list of leaves or the filter is damaged"),
            Self::Page => f.write_str("a page is damaged: its streams cannot be found"),
            Self::List => f.write_str("a stream's list of chunks is damaged"),
            Self::Chunk => f.write_str("a chunk of records is damaged"),
            Self::ChunkRecord => f.write_str("a record in a chunk is damaged"),
            Self::Mismatch => f.write_str("a stream's chunks are not what its line says"),
            Self::Order => f.write_str("streams are not in order"),
            Self::Total => f.write_str("the footer's numbers are not those of the table"),
            Self::Newer(version) => write!(f, "written in format {version}, newer than {VERSION}"),
            Self::Disk(code) => write!(f, "system error {code}"),
        }
    }
}

impl Flaw {
    pub(crate) fn new(file: &str, offset: u64, kind: FlawKind) -> Self {
        Self { file: file.to_owned(), offset, stream: None, kind }
    }

    pub(crate) fn of(self, stream: StreamId) -> Self {
        Self { stream: Some(stream), ..self }
    }

    /// What a failed read says of a file.
    pub(crate) fn reading(file: &str, offset: u64, error: DiskError, corrupt: FlawKind) -> Self {
        match error {
            DiskError::Corrupt { offset } => Self::new(file, offset, corrupt),
            DiskError::Missing => Self::new(file, 0, FlawKind::Missing),
            DiskError::Short => Self::new(file, offset, FlawKind::Short),
            DiskError::Newer { version } => Self::new(file, 0, FlawKind::Newer(version)),
            DiskError::Io { code } => Self::new(file, offset, FlawKind::Disk(code)),
            DiskError::Full | DiskError::Busy | DiskError::Stopped => {
                Self::new(file, offset, FlawKind::Disk(0))
            }
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.kind)?;
        match self.stream {
            Some(stream) => write!(f, " (stream {:032x})", stream.0),
            None => Ok(()),
        }
    }
}

/// Why a store cannot be looked at, or not repaired. Each says which file and what helps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InspectError {
    /// The folder holds no store.
    NoStore,
    /// There are segments or tables and no catalogue.
    NoCatalogue,
    /// The catalogue is damaged.
    BadCatalogue,
    /// A file was written by a newer version.
    Newer {
        /// The file.
        file: String,
        /// The version it names.
        version: u32,
    },
    /// The folder or a file cannot be read or written.
    Disk {
        /// The file, or the folder.
        file: String,
        /// What failed.
        error: DiskError,
    },
    /// The store changes faster than it can be looked at.
    Restless,
    /// The place of a table among the others cannot be told: its footer is gone.
    NoPlace {
        /// The table's file.
        file: String,
    },
    /// Starts are numbered, and there are no more numbers.
    RunsExhausted,
    /// Whoever asked for records wants no more.
    Stopped,
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BACKUP: &str = "restore the folder from a backup or another copy of the disk";
        match self {
            Self::NoStore => f.write_str(
                "there is no store here; name the folder that the server was started with (--data)",
            ),
            Self::NoCatalogue => write!(
                f,
                "catalogue: missing although there are records; only it knows which files count: \
                 {BACKUP}"
            ),
            Self::BadCatalogue => write!(
                f,
                "catalogue: the file is damaged; only it knows which files count: {BACKUP}"
            ),
            Self::Newer { file, version } => write!(
                f,
                "{file}: written in format {version}, this program knows {VERSION}; use a newer \
                 program"
            ),
            Self::Disk { file, error: DiskError::Full } => {
                write!(f, "{file}: no room on the device; make room and try again")
            }
            Self::Disk { file, error } => {
                write!(f, "{file}: {error}; check the disk and the rights of the folder")
            }
            Self::Restless => f.write_str(
                "the store changes faster than it can be read; try again, or stop the server",
            ),
            Self::NoPlace { file } => write!(
                f,
                "{file}: its footer is damaged and nothing else says how old its records are; \
                 {BACKUP}, or move the file out of the folder and repair again to go on without it"
            ),
            Self::RunsExhausted => f.write_str("catalogue: no more starts can be numbered"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl core::error::Error for InspectError {}
