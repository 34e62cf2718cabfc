//! What a handler asks of its loop.

use crate::clock;
use crate::event::{ListenerId, SocketId};
use roost_protocol::time::{Duration, Instant};
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// Actions for which room is kept from turn to turn.
const QUEUE_ROOM: usize = 4_096;

/// Queued while events are delivered, performed in order after `Handler::on_batch_end`.
#[derive(Debug, Default)]
pub struct Actions {
    queue: Vec<Action>,
    last_turn: Duration,
}

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Action {
    Send { socket: SocketId, buffer: Vec<u8> },
    Close(SocketId),
    Abort(SocketId),
    Pause(SocketId),
    Resume(SocketId),
    Connect { token: u64, local: Option<SocketAddr>, remote: SocketAddr },
    File(FileAction),
    PauseListener(ListenerId),
    ResumeListener(ListenerId),
    CloseListener(ListenerId),
}

/// One thing to do with a file.
#[derive(Debug)]
pub(crate) struct FileAction {
    pub(crate) token: u64,
    pub(crate) fd: RawFd,
    pub(crate) offset: u64,
    /// What is written, or room for what is read.
    pub(crate) buffer: Vec<u8>,
    pub(crate) kind: FileKind,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Write,
    WriteAndSync,
    Sync,
    /// Of so many bytes; the buffer has room for them and nothing in it.
    Read(usize),
}

impl Actions {
    /// How long the turn before this one took, from when its sleep ended until all it asked for was
    /// performed.
    #[must_use]
    pub const fn last_turn(&self) -> Duration {
        self.last_turn
    }

    /// A turn is over that began then.
    pub(crate) fn note_turn(&mut self, began: Instant) {
        self.last_turn = clock::now().monotonic.since(began);
    }

    /// Sends the whole buffer; `Sent` hands it back. A socket has at most one send outstanding:
    /// a second one before `Sent` is a mistake of the handler and stops the process.
    pub fn send(&mut self, socket: SocketId, buffer: Vec<u8>) {
        self.queue.push(Action::Send { socket, buffer });
    }

    /// Closes in order: after the outstanding send, if there is one. The peer sees the end after
    /// the last byte, whatever it was sending. `Closed` follows when the peer has ended too, or at
    /// the bounds of lingering; nothing more is received.
    pub fn close(&mut self, socket: SocketId) {
        self.queue.push(Action::Close(socket));
    }

    /// Closes at once, also what lingers; the peer sees a reset. `Closed` follows.
    pub fn abort(&mut self, socket: SocketId) {
        self.queue.push(Action::Abort(socket));
    }

    /// Stops receiving: what comes waits in the kernel, and at last with the peer.
    pub fn pause(&mut self, socket: SocketId) {
        self.queue.push(Action::Pause(socket));
    }

    /// Goes on receiving, first what waited.
    pub fn resume(&mut self, socket: SocketId) {
        self.queue.push(Action::Resume(socket));
    }

    /// Connects, from `local` if given (its port may be 0). `Connected` or `ConnectFailed` follows.
    pub fn connect(&mut self, token: u64, local: Option<SocketAddr>, remote: SocketAddr) {
        self.queue.push(Action::Connect { token, local, remote });
    }

    /// Writes the whole buffer at `offset`, then, with `sync`, waits until file data is durable.
    /// `fd` must stay open until `FileDone`. The buffer is below 1 GiB.
    pub fn write_file(&mut self, token: u64, fd: RawFd, offset: u64, buffer: Vec<u8>, sync: bool) {
        let kind = if sync { FileKind::WriteAndSync } else { FileKind::Write };
        self.queue.push(Action::File(FileAction { token, fd, offset, buffer, kind }));
    }

    /// Waits until file data is durable. `fd` must stay open until `FileDone`.
    pub fn sync_file(&mut self, token: u64, fd: RawFd) {
        let kind = FileKind::Sync;
        self.queue.push(Action::File(FileAction {
            token,
            fd,
            offset: 0,
            buffer: Vec::new(),
            kind,
        }));
    }

    /// Reads up to so many bytes at `offset`, below 1 GiB; fewer come at the end of the file.
    /// `FileDone` has them in a buffer. `fd` must stay open until then.
    pub fn read_file(&mut self, token: u64, fd: RawFd, offset: u64, bytes: usize) {
        // Not filled with zeros, which would cost half as much as reading what the page cache has.
        let (buffer, kind) = (Vec::with_capacity(bytes), FileKind::Read(bytes));
        self.queue.push(Action::File(FileAction { token, fd, offset, buffer, kind }));
    }

    /// Stops accepting until `resume_listener`; a connection taken at this moment still opens.
    pub fn pause_listener(&mut self, listener: ListenerId) {
        self.queue.push(Action::PauseListener(listener));
    }

    /// Accepts again.
    pub fn resume_listener(&mut self, listener: ListenerId) {
        self.queue.push(Action::ResumeListener(listener));
    }

    /// Ends a listener; connections that nobody took are refused by the kernel.
    pub fn close_listener(&mut self, listener: ListenerId) {
        self.queue.push(Action::CloseListener(listener));
    }

    /// Whether nothing was asked for since the last turn.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) const fn queue_mut(&mut self) -> &mut Vec<Action> {
        &mut self.queue
    }

    /// Takes the room of a queue that was performed, for the next turn; what only a crowd needed
    /// goes.
    pub(crate) fn queue_again(&mut self, mut queue: Vec<Action>) {
        queue.clear();
        queue.shrink_to(QUEUE_ROOM);
        self.queue = queue;
    }
}
