//! `roost store`: looks at what is stored, with or without a server on it; only `repair` changes
//! something, and only when there is none.

pub mod args;
mod export;
mod inspect;
mod print;
mod progress;
mod repair;
mod stats;
mod verify;

use args::{PlaceArgs, StoreArgs, StoreCommand};
use roost_storage_engine::disk::{FolderError, Holder, LookError, LookFolder};
use roost_storage_engine::inspect::InspectError;
use std::fmt;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;

/// What there is to say in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nothing is damaged, or not any more.
    Whole,
    /// Something is.
    Damaged,
}

/// Does what is asked and prints what it found.
///
/// # Errors
/// The store could not be looked at, or not be repaired.
pub fn run(args: &StoreArgs, out: &mut impl Write) -> Result<Finding, StoreToolError> {
    let out = &mut BufWriter::new(out);
    let found = match &args.what {
        StoreCommand::Inspect { place, stream } => match stream.stream() {
            Some(stream) => inspect::stream(place, stream, out),
            None => inspect::all(place, out),
        },
        StoreCommand::Verify { place } => verify::run(place, out),
        StoreCommand::Stats { place } => stats::run(place, out),
        StoreCommand::Export { place, stream, bodies } => {
            export::run(place, stream.stream(), *bodies, out)
        }
        StoreCommand::Repair { place, dry_run, cut_at_holes } => {
            repair::run(place, *dry_run, *cut_at_holes, out)
        }
    };
    let found = found.and_then(|found| {
        out.flush().map_err(StoreToolError::Output)?;
        Ok(found)
    });
    match found {
        // Whoever reads has seen enough.
        Err(StoreToolError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            Ok(Finding::Whole)
        }
        other => other,
    }
}

/// A store that is looked at.
struct Site {
    path: PathBuf,
    folder: LookFolder,
    holder: Holder,
}

impl Site {
    fn open(place: &PlaceArgs) -> Result<Self, StoreToolError> {
        let path = path_of(place);
        let folder = LookFolder::open(&path).map_err(StoreToolError::Look)?;
        let holder = folder.holder().map_err(StoreToolError::Look)?;
        Ok(Self { path, folder, holder })
    }

    fn error(&self, error: InspectError) -> StoreToolError {
        StoreToolError::Inspect { path: self.path.clone(), error }
    }

    /// Where it is and whether a server runs on it.
    fn title(&self) -> String {
        let path = self.path.display();
        match self.holder {
            Holder::Nobody => format!("store in {path}, stopped"),
            Holder::Process(Some(process)) => format!("store in {path}, live: process {process}"),
            Holder::Process(None) => format!("store in {path}, live"),
        }
    }

    /// The same for machines.
    fn facts(&self) -> serde_json::Map<String, serde_json::Value> {
        let (live, process) = match self.holder {
            Holder::Nobody => (false, None),
            Holder::Process(process) => (true, process),
        };
        let mut facts = serde_json::Map::new();
        facts.insert("store".to_owned(), self.path.display().to_string().into());
        facts.insert("live".to_owned(), live.into());
        facts.insert("process".to_owned(), process.into());
        facts
    }
}

/// Where the store of a data folder is.
fn path_of(place: &PlaceArgs) -> PathBuf {
    place.data.join("store")
}

/// Prints a line of JSON: the facts of the site and more.
fn print_json(
    out: &mut impl Write,
    mut facts: serde_json::Map<String, serde_json::Value>,
    more: serde_json::Value,
) -> Result<(), StoreToolError> {
    if let serde_json::Value::Object(more) = more {
        facts.extend(more);
    }
    let line = serde_json::Value::Object(facts);
    writeln!(out, "{line}").map_err(StoreToolError::Output)
}

/// Why a store was not looked at, or not repaired. Each says what helps.
#[derive(Debug)]
pub enum StoreToolError {
    /// The folder cannot be read.
    Look(LookError),
    /// The folder cannot be locked.
    Folder(FolderError),
    /// The store cannot be read, or not be repaired.
    Inspect {
        /// The store's folder.
        path: PathBuf,
        /// Why.
        error: InspectError,
    },
    /// Nobody reads what is printed.
    Output(io::Error),
    /// The system gives no random bytes.
    Random(String),
}

impl fmt::Display for StoreToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(error) => error.fmt(f),
            Self::Folder(error) => error.fmt(f),
            Self::Inspect { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
            Self::Random(what) => write!(f, "the system gives no random bytes: {what}"),
        }
    }
}

impl std::error::Error for StoreToolError {}
