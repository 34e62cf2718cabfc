//! `roost drain`: asks the server of a data folder to stop, and waits until it has.

use super::lock_note::{LOCK, LockNote};
use crate::args::DrainArgs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;

/// Sends SIGTERM, unless the server is stopping already, and waits. Gives the process that ended.
///
/// # Errors
/// No server runs there, it cannot be signalled, or it did not end in time.
pub fn run(args: &DrainArgs) -> Result<u32, DrainError> {
    let path = args.data.join(LOCK);
    let failed = |source| DrainError::Unreadable { path: path.clone(), source };
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DrainError::NobodyRuns { data: args.data.clone() });
        }
        Err(error) => return Err(failed(error)),
    };
    // A shared lock that is had for a moment keeps nobody out but a server that starts just now.
    match lock.try_lock_shared() {
        Ok(()) => return Err(DrainError::NobodyRuns { data: args.data.clone() }),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let text = fs::read_to_string(&path).map_err(failed)?;
    let no_process = || DrainError::NoProcess { path: path.clone() };
    let note = LockNote::parse(&text).ok_or_else(no_process)?;
    if !note.is_of_here() {
        return Err(DrainError::Elsewhere { path });
    }
    let pid = Pid::from_raw(note.pid).ok_or_else(no_process)?;
    let signal = |error: Errno| DrainError::Signal { pid: pid.as_raw_pid(), source: error.into() };
    // Readable when the process has ended (pidfd_open(2)).
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(signal)?;
    // If it ended meanwhile its number may be another's by now.
    if lock.try_lock_shared().is_ok() {
        return Err(DrainError::NobodyRuns { data: args.data.clone() });
    }
    // A second signal would end it at once, with all who are still being told to leave.
    if !note.is_draining {
        pidfd_send_signal(&process, Signal::TERM).map_err(signal)?;
    }
    let ended = PollFd::new(&process, PollFlags::IN);
    let wait = Timespec { tv_sec: i64::try_from(args.wait_s).unwrap_or(i64::MAX), tv_nsec: 0 };
    if poll(&mut [ended], Some(&wait)).map_err(signal)? == 0 {
        return Err(DrainError::StillRuns { pid: pid.as_raw_pid(), wait_s: args.wait_s });
    }
    Ok(pid.as_raw_pid().unsigned_abs())
}

/// Why the server was not drained.
#[derive(Debug)]
pub enum DrainError {
    /// Nobody holds the folder.
    NobodyRuns {
        /// Which folder.
        data: PathBuf,
    },
    /// The lock file cannot be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock file names no process.
    NoProcess {
        /// Which file.
        path: PathBuf,
    },
    /// The server runs where its process has another number, or on another machine.
    Elsewhere {
        /// Which file says so.
        path: PathBuf,
    },
    /// The signal could not be sent.
    Signal {
        /// To whom.
        pid: i32,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time.
    StillRuns {
        /// Which process.
        pid: i32,
        /// How long that was.
        wait_s: u64,
    },
}

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyRuns { data } => {
                write!(f, "no server runs on {}; is --data right?", data.display())
            }
            Self::Unreadable { path, source } => {
                write!(f, "cannot read {}: {source}", path.display())
            }
            Self::NoProcess { path } => write!(
                f,
                "{} names no process; send SIGTERM to the server yourself",
                path.display()
            ),
            Self::Elsewhere { path } => write!(
                f,
                "{} is held by a server in another container, or on another machine; run this \
                 there, or send SIGTERM to the server yourself",
                path.display()
            ),
            Self::Signal { pid, source } => write!(
                f,
                "cannot signal process {pid}: {source}; run this where it runs, as its user"
            ),
            Self::StillRuns { pid, wait_s } => write!(
                f,
                "process {pid} still runs after {wait_s} s; wait (limits.drain_ms bounds it), or \
                 send it another SIGTERM to end it at once"
            ),
        }
    }
}

impl std::error::Error for DrainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } | Self::Signal { source, .. } => Some(source),
            Self::NobodyRuns { .. }
            | Self::NoProcess { .. }
            | Self::Elsewhere { .. }
            | Self::StillRuns { .. } => None,
        }
    }
}
