//! Accepting: a bounded number per listener and turn, and waiting when something runs out.

use super::Turn;
use super::socket::Sockets;
use crate::event::{Event, Limit, ListenerId};
use crate::listener::{AcceptError, Listening};
use mio::net::{TcpStream, UnixListener};
use mio::{Interest, Registry, Token};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Listeners' tokens have this bit; sockets' generations never reach it.
const LISTENER_BIT: usize = 1 << 62;

#[derive(Debug)]
enum Inner {
    Tcp(mio::net::TcpListener),
    Unix(UnixListener),
}

impl Inner {
    /// Takes a socket over, and is told when it has something.
    fn registered(socket: Listening, registry: &Registry, token: Token) -> io::Result<Self> {
        match socket {
            Listening::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let mut inner = mio::net::TcpListener::from_std(listener);
                registry.register(&mut inner, token, Interest::READABLE)?;
                Ok(Self::Tcp(inner))
            }
            Listening::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let mut inner = UnixListener::from_std(listener);
                registry.register(&mut inner, token, Interest::READABLE)?;
                Ok(Self::Unix(inner))
            }
        }
    }

    /// The next connection, and who it is. What a loop does with a stream is the same for both
    /// kinds, so a Unix one goes by the type of the other.
    fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((stream, Some(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok((TcpStream::from(OwnedFd::from(stream)), None))
            }
        }
    }
}

#[derive(Debug)]
struct Listener {
    inner: Inner,
    /// Connections may wait in the kernel's queue.
    ready: bool,
    /// The handler wants none.
    paused: bool,
    /// Something ran out, which was told.
    limited: Option<Limit>,
    /// Try again although something ran out.
    retry: bool,
}

/// All listeners of a loop, by id; closed ones leave a hole.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    listeners: Vec<Option<Listener>>,
    /// Which one `next_ready` looks at.
    cursor: usize,
}

impl Listeners {
    pub(super) fn add(&mut self, registry: &Registry, socket: Listening) -> io::Result<ListenerId> {
        let id = self.listeners.len();
        let inner = Inner::registered(socket, registry, Token(LISTENER_BIT | id))?;
        let listener = Listener { inner, ready: true, paused: false, limited: None, retry: false };
        self.listeners.push(Some(listener));
        Ok(ListenerId(u32::try_from(id).expect("fewer listeners than descriptors")))
    }

    pub(super) fn from_token(token: Token) -> Option<ListenerId> {
        let id = token.0 & !LISTENER_BIT;
        (token.0 & LISTENER_BIT != 0).then(|| ListenerId(u32::try_from(id).unwrap_or(u32::MAX)))
    }

    pub(super) fn note_ready(&mut self, id: ListenerId) {
        if let Some(listener) = self.get_mut(id) {
            listener.ready = true;
        }
    }

    pub(super) fn set_paused(&mut self, id: ListenerId, paused: bool) {
        if let Some(listener) = self.get_mut(id) {
            listener.paused = paused;
        }
    }

    pub(super) fn close(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(id.0 as usize) {
            *listener = None;
        }
    }

    /// There may be room again: whoever waits for it tries.
    pub(super) fn retry(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            listener.retry |= listener.limited.is_some();
        }
    }

    pub(super) fn has_work(&self, sockets_full: bool) -> bool {
        let waiting = |listener: &Listener| listener.wants_accept() && !sockets_full;
        self.listeners.iter().flatten().any(waiting)
    }

    /// Each listener with something to accept once a turn.
    pub(super) fn next_ready(&mut self) -> Option<ListenerId> {
        while self.cursor < self.listeners.len() {
            let id = self.cursor;
            self.cursor += 1;
            if self.listeners[id].as_ref().is_some_and(Listener::wants_accept) {
                return Some(ListenerId(u32::try_from(id).expect("ids are small")));
            }
        }
        self.cursor = 0;
        None
    }

    /// Takes `most` connections, so that those there are still have their turn.
    pub(super) fn accept(
        &mut self,
        id: ListenerId,
        most: u32,
        registry: &Registry,
        sockets: &mut Sockets,
        turn: &mut Turn<'_>,
    ) {
        let Some(listener) = self.get_mut(id) else { return };
        listener.retry = false;
        for _ in 0..most {
            if sockets.is_full() {
                listener.limit(id, Limit::Sockets { max: sockets.max() }, turn);
                return;
            }
            match listener.inner.accept() {
                Ok((stream, peer)) => {
                    listener.limited = None;
                    let socket = sockets.open(stream, false);
                    let token = Sockets::token(socket);
                    let stream = sockets.stream(socket).expect("it was just opened");
                    if let Err(error) = registry.register(stream, token, Interest::READABLE) {
                        sockets.close(socket);
                        let errno = error.raw_os_error().unwrap_or(libc::ENOMEM);
                        listener.limit(id, Limit::Memory(errno), turn);
                        return;
                    }
                    turn.tell_opened(socket, id, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (listener.ready, listener.limited) = (false, None);
                    return;
                }
                Err(error) => match AcceptError::from_errno(error.raw_os_error().unwrap_or(0)) {
                    AcceptError::Retry => {}
                    AcceptError::Pause(reason) => {
                        listener.limit(id, reason, turn);
                        return;
                    }
                },
            }
        }
    }

    fn get_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.listeners.get_mut(id.0 as usize)?.as_mut()
    }
}

impl Listener {
    const fn wants_accept(&self) -> bool {
        self.ready && !self.paused && (self.limited.is_none() || self.retry)
    }

    /// Waits for room, and says so once.
    fn limit(&mut self, id: ListenerId, reason: Limit, turn: &mut Turn<'_>) {
        if self.limited.replace(reason).is_none() {
            turn.tell(Event::ListenerPaused { listener: id, reason });
        }
    }
}
