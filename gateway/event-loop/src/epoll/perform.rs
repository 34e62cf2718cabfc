//! Performing actions: connect, send until it would block, receive, close.

use super::socket::Sockets;
use super::{Epoll, FileThread, Outcome, Turn};
use crate::actions::{Action, Actions, FileAction};
use crate::clock;
use crate::event::{CloseCause, Event, SocketId};
use crate::sends::SendIndex;
use mio::Interest;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

impl Epoll {
    pub(super) fn perform_all(&mut self, actions: &mut Actions) {
        let mut queue = std::mem::take(actions.queue_mut());
        for action in queue.drain(..) {
            self.perform(action);
        }
        actions.queue_again(queue);
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send { socket, buffer } => self.send(socket, buffer),
            Action::Close(socket) => self.close(socket),
            Action::Abort(socket) => self.abort(socket),
            Action::Pause(socket) => {
                if let Some(slot) = self.sockets.get_mut(socket) {
                    slot.paused = !slot.lingering;
                }
            }
            Action::Resume(socket) => self.resume(socket),
            Action::Connect { token, local, remote } => self.connect(token, local, remote),
            Action::File(file) => self.start_file(file),
            Action::PauseListener(listener) => self.listeners.set_paused(listener, true),
            Action::ResumeListener(listener) => self.listeners.set_paused(listener, false),
            Action::CloseListener(listener) => self.listeners.close(listener),
        }
    }

    /// Reads until there is nothing, the socket's share of the turn is used up, or it ends.
    pub(super) fn receive(&mut self, socket: SocketId, turn: &mut Turn<'_>) {
        for _ in 0..self.receives_per_turn {
            let Some(slot) = self.sockets.get_mut(socket) else { return };
            slot.queued = false;
            if slot.paused {
                slot.missed = true;
                return;
            }
            if slot.lingering {
                return self.discard(socket);
            }
            if slot.ended || slot.closing {
                return;
            }
            let stream = slot.stream.as_mut().expect("an open slot has a stream");
            match stream.read(&mut self.receive_buffer) {
                Ok(0) => {
                    slot.ended = true;
                    self.ended.push(socket);
                    return;
                }
                Ok(count) => {
                    let short = count < self.receive_buffer.len() && !slot.hung_up;
                    let bytes = &mut self.receive_buffer[..count];
                    turn.tell(Event::Received { socket, bytes });
                    if short {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.finish(socket, cause_of(&error));
                    return;
                }
            }
        }
        self.want_receive(socket);
    }

    /// Reads once from a socket that lingers, for nobody.
    fn discard(&mut self, socket: SocketId) {
        let Some(stream) = self.sockets.stream(socket) else { return };
        match stream.read(&mut self.receive_buffer) {
            Ok(count) if count > 0 && self.lingering.discard(socket, count) => {
                self.want_receive(socket);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.want_receive(socket),
            Ok(_) | Err(_) => self.finish(socket, CloseCause::Requested),
        }
    }

    fn resume(&mut self, socket: SocketId) {
        let Some(slot) = self.sockets.get_mut(socket) else { return };
        slot.paused = false;
        if std::mem::take(&mut slot.missed) {
            self.want_receive(socket);
        }
    }

    fn send(&mut self, socket: SocketId, buffer: Vec<u8>) {
        let Some(slot) = self.sockets.get_mut(socket) else { return };
        if slot.closing || slot.connecting {
            return;
        }
        assert!(!slot.send.is_some(), "a socket has at most one send outstanding");
        slot.send = self.sends.insert(buffer);
        if self.write_some(socket) == Some(false) {
            self.set_interest(socket, Interest::READABLE | Interest::WRITABLE);
        }
    }

    pub(super) fn go_on_sending(&mut self, socket: SocketId) {
        let sending = self.sockets.get_mut(socket).is_some_and(|slot| slot.send.is_some());
        if sending && self.write_some(socket) == Some(true) {
            self.set_interest(socket, Interest::READABLE);
        }
    }

    /// Writes until all is out (true), the kernel takes no more (false) or the socket failed.
    fn write_some(&mut self, socket: SocketId) -> Option<bool> {
        let slot = self.sockets.get_mut(socket)?;
        let stream = slot.stream.as_mut()?;
        let unsent = self.sends.get_mut(slot.send);
        while !unsent.rest().is_empty() {
            match stream.write(unsent.rest()) {
                Ok(count) => unsent.done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.finish(socket, cause_of(&error));
                    return None;
                }
            }
        }
        let buffer = self.sends.remove(std::mem::replace(&mut slot.send, SendIndex::NONE));
        let closing = slot.closing;
        self.outcomes.push_back(Outcome::Sent { socket, buffer });
        if closing {
            self.linger(socket);
            return None;
        }
        Some(true)
    }

    fn set_interest(&mut self, socket: SocketId, interest: Interest) {
        let Some(stream) = self.sockets.stream(socket) else { return };
        let token = Sockets::token(socket);
        if let Err(error) = self.poll.registry().reregister(stream, token, interest) {
            self.finish(socket, cause_of(&error));
        }
    }

    fn close(&mut self, socket: SocketId) {
        let Some(slot) = self.sockets.get_mut(socket) else { return };
        if slot.closing {
            return;
        }
        slot.closing = true;
        if !slot.send.is_some() {
            self.linger(socket);
        }
    }

    /// The last word is out: our direction ends, and the socket waits for the peer's end.
    fn linger(&mut self, socket: SocketId) {
        let Some(slot) = self.sockets.get_mut(socket) else { return };
        let stream = slot.stream.as_ref().expect("an open slot has a stream");
        if slot.ended || slot.connecting || stream.shutdown(Shutdown::Write).is_err() {
            return self.finish(socket, CloseCause::Requested);
        }
        slot.lingering = true;
        slot.paused = false;
        self.lingering.begin(socket, clock::now().monotonic);
        self.want_receive(socket);
    }

    fn abort(&mut self, socket: SocketId) {
        let Some(stream) = self.sockets.stream(socket) else { return };
        // Without a wait for unsent data the kernel answers with a reset. If it cannot be set, the
        // close is an orderly one, which is no harm.
        if let Err(error) = SockRef::from(&*stream).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a socket closes in order where a reset was asked for");
        }
        self.finish(socket, CloseCause::Requested);
    }

    /// A paused socket reads nothing, so its error is asked for.
    pub(super) fn close_failed(&mut self, socket: SocketId) {
        let Some(stream) = self.sockets.stream(socket) else { return };
        let cause = match stream.take_error() {
            Ok(Some(error)) => cause_of(&error),
            Ok(None) | Err(_) => CloseCause::Reset,
        };
        self.finish(socket, cause);
    }

    /// Ends a socket: its slot is free, its outstanding send is dropped, `Closed` follows.
    pub(super) fn finish(&mut self, socket: SocketId, cause: CloseCause) {
        let Some(slot) = self.sockets.get_mut(socket) else { return };
        let cause = if slot.closing { CloseCause::Requested } else { cause };
        if slot.send.is_some() {
            drop(self.sends.remove(slot.send));
        }
        if slot.lingering {
            self.lingering.end(socket);
        }
        drop(self.sockets.close(socket));
        self.listeners.retry();
        self.outcomes.push_back(Outcome::Closed { socket, cause });
    }

    fn start_file(&mut self, file: FileAction) {
        let start = || FileThread::start(self.waker.clone()).expect("one more thread can be had");
        self.files.get_or_insert_with(start).ask(file);
    }

    fn connect(&mut self, token: u64, local: Option<SocketAddr>, remote: SocketAddr) {
        if let Err(error) = self.start_connect(token, local, remote) {
            self.outcomes.push_back(Outcome::ConnectFailed { token, error });
        }
    }

    fn start_connect(
        &mut self,
        token: u64,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> io::Result<()> {
        if self.sockets.is_full() {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let domain = Domain::for_address(remote);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(local) = local {
            socket.set_reuse_address(local.port() != 0)?;
            socket.bind(&local.into())?;
        }
        match socket.connect(&remote.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let stream = mio::net::TcpStream::from_std(socket.into());
        let socket = self.sockets.open(stream, true);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let stream = self.sockets.stream(socket).expect("it was just opened");
        if let Err(error) = self.poll.registry().register(stream, Sockets::token(socket), interest)
        {
            drop(self.sockets.close(socket));
            return Err(error);
        }
        self.connecting.insert(socket.slot, token);
        Ok(())
    }

    /// Readiness of a socket that connects: it stands, it failed, or neither yet.
    pub(super) fn finish_connect(&mut self, socket: SocketId) {
        let Some(stream) = self.sockets.stream(socket) else { return };
        let error = match (stream.take_error(), stream.peer_addr()) {
            (Ok(None), Ok(_)) => None,
            (Ok(None), Err(error)) if error.kind() == io::ErrorKind::NotConnected => return,
            (Ok(Some(error)) | Err(error), _) | (_, Err(error)) => Some(error),
        };
        let token = self.connecting.remove(&socket.slot).expect("a connecting socket has a token");
        if let Some(error) = error {
            drop(self.sockets.close(socket));
            self.outcomes.push_back(Outcome::ConnectFailed { token, error });
            return;
        }
        self.sockets.get_mut(socket).expect("it has a stream").connecting = false;
        self.outcomes.push_back(Outcome::Connected { socket, token });
        // This also reports again what is readable already.
        self.set_interest(socket, Interest::READABLE);
    }
}

fn cause_of(error: &io::Error) -> CloseCause {
    CloseCause::from_errno(error.raw_os_error().unwrap_or(libc::EIO))
}
