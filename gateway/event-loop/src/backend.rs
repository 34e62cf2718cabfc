//! Which backend this machine allows, found by trying it.

use crate::uring;
use std::fmt;
use std::io;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// `io_uring` where it works, epoll elsewhere.
    #[default]
    Auto,
    /// `io_uring` or an error.
    Uring,
    /// epoll, even where `io_uring` would work.
    Epoll,
}

/// A backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `io_uring`.
    Uring,
    /// epoll, through mio.
    Epoll,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// What was chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Give this to `EventLoop::new`.
    pub kind: Kind,
    /// For the log.
    pub reason: String,
}

/// `io_uring` was demanded and does not work here.
#[derive(Debug)]
pub struct ProbeError {
    /// What was missing.
    pub missing: String,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring cannot be used here: {} ({})", self.missing, self.source)
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Finds out what works. Takes some 100 microseconds.
pub fn probe(choice: Choice) -> Result<Probed, ProbeError> {
    if choice == Choice::Epoll {
        return Ok(Probed { kind: Kind::Epoll, reason: "epoll was asked for".to_owned() });
    }
    match (uring::probe(), choice) {
        (Ok(()), _) => {
            let reason = "io_uring has all that is needed".to_owned();
            Ok(Probed { kind: Kind::Uring, reason })
        }
        (Err(error), Choice::Auto) => {
            Ok(Probed { kind: Kind::Epoll, reason: format!("epoll, because {error}") })
        }
        (Err(error), Choice::Uring | Choice::Epoll) => Err(error),
    }
}
