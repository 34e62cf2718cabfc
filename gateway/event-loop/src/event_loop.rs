//! The loop as its owner sees it: one of two backends.

use crate::backend::Kind;
use crate::event::{Handler, ListenerId};
use crate::listener::Listening;
use crate::settings::{Accepting, Settings};
use crate::wake::Waker;
use crate::{epoll, listener, uring};
use std::io;
use std::net::SocketAddr;

/// Sockets, file writes and time for the thread that made it. It must run there.
#[derive(Debug)]
pub struct EventLoop {
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Uring(Box<uring::Uring>),
    Epoll(Box<epoll::Epoll>),
}

impl EventLoop {
    /// Makes a loop for this thread.
    pub fn new(kind: Kind, settings: &Settings) -> io::Result<Self> {
        let backend = match kind {
            Kind::Uring => Backend::Uring(Box::new(uring::Uring::new(settings)?)),
            Kind::Epoll => Backend::Epoll(Box::new(epoll::Epoll::new(settings)?)),
        };
        Ok(Self { backend })
    }

    /// Which backend it runs on.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.backend {
            Backend::Uring(_) => Kind::Uring,
            Backend::Epoll(_) => Kind::Epoll,
        }
    }

    /// How many rings there are for sockets: one at first, more while a crowd needs them. None on
    /// epoll.
    #[must_use]
    pub const fn rings(&self) -> usize {
        match &self.backend {
            Backend::Uring(uring) => uring.rings(),
            Backend::Epoll(_) => 0,
        }
    }

    /// Whether a thread that comes first does the writes of files
    /// (`Settings::writes_come_first`).
    #[must_use]
    pub const fn writes_come_first(&self) -> bool {
        match &self.backend {
            Backend::Uring(uring) => uring.writes_come_first(),
            Backend::Epoll(_) => false,
        }
    }

    /// Wakes this loop, from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        match &self.backend {
            Backend::Uring(uring) => uring.waker(),
            Backend::Epoll(epoll) => epoll.waker(),
        }
    }

    /// Listens on `addr`, with `backlog` connections waiting at most (the kernel caps it at the
    /// sysctl `net.core.somaxconn`). Says where, for a port of 0.
    pub fn listen(
        &mut self,
        addr: SocketAddr,
        backlog: u32,
        reuse_port: bool,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        let listener = listener::listen(addr, backlog, reuse_port)?;
        let addr = listener.local_addr()?;
        Ok((self.adopt_listener(listener.into(), Accepting::default())?, addr))
    }

    /// Takes over a socket that listens already. Several loops may each have a duplicate of the
    /// same one; then it should be gentle with all of them.
    pub fn adopt_listener(
        &mut self,
        socket: Listening,
        accepting: Accepting,
    ) -> io::Result<ListenerId> {
        socket.prepare()?;
        match &mut self.backend {
            Backend::Uring(uring) => uring.adopt_listener(socket, accepting),
            Backend::Epoll(epoll) => epoll.adopt_listener(socket),
        }
    }

    /// Takes turns until the handler says `Stop`, and may be called again after that. An error
    /// means that the loop itself cannot go on; errors of single sockets are events.
    pub fn run(&mut self, handler: &mut dyn Handler) -> io::Result<()> {
        match &mut self.backend {
            Backend::Uring(uring) => uring.run(handler),
            Backend::Epoll(epoll) => epoll.run(handler),
        }
    }
}
