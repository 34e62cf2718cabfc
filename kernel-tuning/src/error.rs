//! What can go wrong, each with what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a command ended without its result.
#[derive(Debug)]
pub(crate) enum Error {
    /// A file cannot be read.
    Read { path: PathBuf, source: io::Error },
    /// A file cannot be written.
    Write { path: PathBuf, source: io::Error },
    /// A file is no archive of facts, no report of a probe, or no undo file.
    NotFacts { path: PathBuf, source: serde_json::Error },
    /// An archive of a newer version.
    Schema { path: PathBuf, found: u32, known: u32 },
    /// A goal that no machine can have.
    Goal(String),
    /// There is no setting of that name.
    NoSuchSetting { name: String, near: Vec<&'static str> },
    /// Not the super-user.
    NotRoot { what: &'static str },
    /// Values of the kernel cannot be written here.
    ReadOnly,
    /// A change failed; what was changed before it is as it was.
    Change { what: String, source: io::Error, restored: bool },
    /// A value is neither what we found nor what we wrote.
    Foreign { what: Vec<String> },
    /// There is no undo file.
    NothingToUndo { path: PathBuf },
    /// Another one is at it.
    Busy { path: PathBuf },
    /// The probe cannot begin, or ended early.
    Probe(String),
    /// There is no such process, or it is not ours to look at.
    Process { pid: u32, source: io::Error },
    /// The terminal does not do what is needed.
    Terminal(io::Error),
    /// Output cannot be written.
    Output(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => {
                write!(f, "cannot read {}: {source}; is the path right?", path.display())
            }
            Self::Write { path, source } => write!(
                f,
                "cannot write {}: {source}; nothing was changed; choose a folder that you may \
                 write",
                path.display()
            ),
            Self::NotFacts { path, source } => write!(
                f,
                "{} is not a file of roost-tune: {source}; make one with roost-tune collect --out, \
                 or roost-tune probe --out",
                path.display()
            ),
            Self::Schema { path, found, known } => write!(
                f,
                "{} has layout {found}, this program knows 1 to {known}; use the version that \
                 made it, or collect again",
                path.display()
            ),
            Self::Goal(text) => f.write_str(text),
            Self::NoSuchSetting { name, near } if near.is_empty() => {
                write!(f, "no setting is called {name}; roost-tune explain lists them all")
            }
            Self::NoSuchSetting { name, near } => {
                write!(f, "no setting is called {name}; did you mean {}?", near.join(", "))
            }
            Self::NotRoot { what } => {
                write!(f, "{what} needs root; run it with sudo. Nothing was changed")
            }
            Self::ReadOnly => f.write_str(
                "/proc/sys is read-only here, as in most containers, so no value of the kernel can \
                 be changed from inside; nothing was changed. Set them on the host, or use --emit \
                 docker or --emit kubernetes",
            ),
            Self::Change { what, source, restored: true } => write!(
                f,
                "{what}: {source}; what was changed before it has its old value again. Find out \
                 who forbids it, or leave it out with --skip"
            ),
            Self::Change { what, source, restored: false } => write!(
                f,
                "{what}: {source}; and what was changed before it could not all be put back: run \
                 roost-tune undo"
            ),
            Self::Foreign { what } => write!(
                f,
                "somebody else changed since: {}; nothing was changed. roost-tune undo --force \
                 puts them back all the same",
                what.join("; ")
            ),
            Self::NothingToUndo { path } => {
                write!(f, "there is no {}: nothing was applied, or it was undone", path.display())
            }
            Self::Busy { path } => {
                write!(f, "another roost-tune holds {}; wait until it is done", path.display())
            }
            Self::Probe(text) => f.write_str(text),
            Self::Process { pid, source } => {
                write!(f, "process {pid} cannot be looked at: {source}; is it running, and yours?")
            }
            Self::Terminal(source) => write!(
                f,
                "the terminal cannot show a live view: {source}; use watch --once or watch --json"
            ),
            Self::Output(source) => write!(f, "cannot write the output: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Change { source, .. }
            | Self::Process { source, .. }
            | Self::Terminal(source)
            | Self::Output(source) => Some(source),
            Self::NotFacts { source, .. } => Some(source),
            Self::Schema { .. }
            | Self::Goal(_)
            | Self::NoSuchSetting { .. }
            | Self::NotRoot { .. }
            | Self::ReadOnly
            | Self::Foreign { .. }
            | Self::NothingToUndo { .. }
            | Self::Busy { .. }
            | Self::Probe(_) => None,
        }
    }
}

impl From<io::Error> for Error {
    /// For output only: errors of files say their path.
    fn from(source: io::Error) -> Self {
        Self::Output(source)
    }
}
