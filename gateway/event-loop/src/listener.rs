//! Listening sockets, and what an accept's error means.

use crate::event::Limit;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

/// Binds and listens. With `reuse_port` several loops can each have one on the same address.
pub(crate) fn listen(addr: SocketAddr, backlog: u32, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from(socket))
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listening {
    /// For TCP.
    Tcp(TcpListener),
    /// For programs of this machine, at a path.
    Unix(UnixListener),
}

impl Listening {
    /// Accepted sockets inherit `TCP_NODELAY` from the listener, which saves a call for each of
    /// them.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => socket2::SockRef::from(listener).set_tcp_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }
}

impl From<TcpListener> for Listening {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listening {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// What to do after an accept failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// The connection was gone before it was taken; the next may be fine.
    Retry,
    /// Something ran out: wait.
    Pause(Limit),
}

impl AcceptError {
    pub(crate) fn from_errno(errno: i32) -> Self {
        match errno {
            libc::EMFILE => Self::Pause(Limit::Descriptors { max: descriptors_max() }),
            libc::ENFILE => Self::Pause(Limit::Files),
            libc::ENOMEM | libc::ENOBUFS => Self::Pause(Limit::Memory(errno)),
            // Errors of the one connection, which accept hands over; see accept(2).
            libc::ECONNABORTED
            | libc::EINTR
            | libc::EAGAIN
            | libc::EPERM
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
            | libc::ETIMEDOUT => Self::Retry,
            // Trying an unknown error again at once could go on for ever.
            other => Self::Pause(Limit::Other(other)),
        }
    }
}

/// The soft limit of descriptors of this process.
pub(crate) fn descriptors_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}
