//! What a loop tells its handler.

use crate::actions::Actions;
use roost_protocol::time::{Instant, Now};
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Names one socket of one loop for the socket's whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    /// Its place in the loop's tables: small, reused, good as an index.
    pub slot: u32,
    /// Changes each time the slot is reused.
    pub generation: u32,
}

/// Names one listener of one loop. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u32);

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A listener took a connection.
    Opened {
        /// The new socket.
        socket: SocketId,
        /// Which listener took it.
        listener: ListenerId,
        /// Who connects. `io_uring` asks the kernel only if `Accepting::tells_peers` says so; of
        /// a Unix socket there is nothing to tell.
        peer: Option<SocketAddr>,
    },
    /// A connection that was asked for stands.
    Connected {
        /// The new socket.
        socket: SocketId,
        /// What `connect` was given.
        token: u64,
    },
    /// A connection that was asked for cannot be had.
    ConnectFailed {
        /// What `connect` was given.
        token: u64,
        /// Why, as the system says it.
        error: io::Error,
    },
    /// Bytes came.
    Received {
        /// From whom.
        socket: SocketId,
        /// The loop's own buffer, valid during the call. The handler may change it in place.
        bytes: &'a mut [u8],
    },
    /// A whole buffer went out (to the kernel; the peer may not have it yet).
    Sent {
        /// To whom.
        socket: SocketId,
        /// The buffer, for reuse.
        buffer: Vec<u8>,
    },
    /// The last event of a socket.
    Closed {
        /// Which one.
        socket: SocketId,
        /// Who ended it and how.
        cause: CloseCause,
    },
    /// A file operation ended.
    FileDone {
        /// What the action was given.
        token: u64,
        /// Bytes read or written (0 for a plain sync), or the error's number. A write that came
        /// out short is an error: `ENOSPC`.
        result: Result<u32, i32>,
        /// The buffer, for reuse; after a read it is as long as what was read.
        buffer: Vec<u8>,
    },
    /// Somebody called `Waker::wake`, once or more often.
    Woken,
    /// At least every `Settings::tick_ms`, roughly.
    Tick,
    /// Descriptors or slots ran out. The listener goes on by itself when there is room again;
    /// until then connections wait in the kernel's queue.
    ListenerPaused {
        /// Which listener.
        listener: ListenerId,
        /// What ran out.
        reason: Limit,
    },
}

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause {
    /// The handler asked for it.
    Requested,
    /// The peer ended its direction in order.
    Eof,
    /// The peer, or something between, threw the connection away.
    Reset,
    /// The peer did not acknowledge for too long.
    TimedOut,
    /// Another error of the system, by its number.
    Error(i32),
}

impl CloseCause {
    /// What an error number of a receive or a send means for the connection.
    pub(crate) const fn from_errno(errno: i32) -> Self {
        match errno {
            libc::ECONNRESET | libc::EPIPE => Self::Reset,
            // The kernel names what it heard of the way meanwhile, if it heard anything.
            libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN => {
                Self::TimedOut
            }
            other => Self::Error(other),
        }
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => write!(f, "closed by us"),
            Self::Eof => write!(f, "closed by the peer"),
            Self::Reset => write!(f, "reset by the peer"),
            Self::TimedOut => write!(f, "the peer stopped answering"),
            Self::Error(errno) => write!(f, "{}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

/// What ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `Settings::sockets_max`.
    Sockets {
        /// Its value.
        max: u32,
    },
    /// Descriptors of this process.
    Descriptors {
        /// The soft limit now.
        max: u64,
    },
    /// Files of the whole machine, or of a ring's table (`ENFILE`).
    Files,
    /// Memory of the kernel, by the error's number.
    Memory(i32),
    /// Nothing we know: another error of accepting, by its number.
    Other(i32),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sockets { max } => {
                write!(f, "all {max} sockets of this loop are taken; raise its sockets_max")
            }
            Self::Descriptors { max } => write!(
                f,
                "all {max} descriptors of this process are taken; raise RLIMIT_NOFILE \
                 (ulimit -n, or LimitNOFILE= of the service)"
            ),
            Self::Files => {
                write!(f, "the machine has no more file handles; raise the sysctl fs.file-max")
            }
            Self::Memory(errno) => write!(
                f,
                "the kernel has no memory for another socket ({}); \
                 look at the sysctl net.ipv4.tcp_mem",
                io::Error::from_raw_os_error(*errno)
            ),
            Self::Other(errno) => {
                write!(f, "accepting failed: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

/// Whether the loop goes on after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchFlow {
    /// It does.
    Continue,
    /// It does, and has another turn at this time, though nothing happened.
    WakeBy(Instant),
    /// `run` performs the queued actions, submits them and returns. Their answers come when it
    /// is called again.
    Stop,
}

/// What a loop drives.
pub trait Handler {
    /// Something happened. `now` was read at the start of the turn.
    fn on_event(&mut self, now: Now, event: Event<'_>, actions: &mut Actions);

    /// All events of this turn were delivered; what is in `actions` is performed next.
    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow;
}
