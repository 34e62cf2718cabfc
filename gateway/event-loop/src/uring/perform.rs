//! Performing actions, and the end of sockets.

use super::op::{Op, Tag};
use super::slots::Flag;
use super::{Turn, Uring};
use crate::actions::{Action, Actions};
use crate::clock;
use crate::event::{CloseCause, Event, SocketId};
use crate::sends::SendIndex;
use io_uring::squeue::Flags;
use io_uring::{opcode, types};
use std::io;

/// What makes a close a reset: no time to send what is unsent.
static NO_LINGER: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

impl Uring {
    pub(super) fn perform_all(&mut self, actions: &mut Actions) -> io::Result<()> {
        let mut queue = std::mem::take(actions.queue_mut());
        for action in queue.drain(..) {
            self.perform(action)?;
        }
        actions.queue_again(queue);
        Ok(())
    }

    fn perform(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::Send { socket, buffer } => return self.send(socket, buffer),
            Action::Close(socket) => return self.close(socket),
            Action::Abort(socket) => return self.abort(socket),
            Action::Pause(socket) => {
                if let Some(slot) = self.rings.slot(socket)
                    && !slot.has(Flag::LINGERING)
                {
                    slot.set(Flag::PAUSED);
                }
            }
            Action::Resume(socket) => {
                let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
                slot.clear(Flag::PAUSED);
                if slot.take(Flag::MISSED) {
                    self.want_receive(socket);
                }
            }
            Action::Connect { token, local, remote } => {
                return self.connect(token, local, remote);
            }
            Action::File(file) => return self.files.start(&mut self.front, file),
            Action::PauseListener(listener) => self.listeners.set_paused(listener, true),
            Action::ResumeListener(listener) => self.listeners.set_paused(listener, false),
            Action::CloseListener(listener) => self.listeners.close(listener),
        }
        Ok(())
    }

    fn send(&mut self, socket: SocketId, buffer: Vec<u8>) -> io::Result<()> {
        let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
        if !slot.is_usable() || slot.has(Flag::CLOSING) {
            return Ok(());
        }
        assert!(!slot.send.is_some(), "a socket has at most one send outstanding");
        slot.send = self.sends.insert(buffer);
        self.submit_send(socket)
    }

    /// Hands what is left of the socket's send to the kernel.
    fn submit_send(&mut self, socket: SocketId) -> io::Result<()> {
        let (ring, place) = self.rings.of(socket.slot);
        let slot = &mut ring.slots[place as usize];
        slot.set(Flag::SENDING);
        let rest = self.sends.get_mut(slot.send).rest();
        // The kernel takes 2 GiB at a time at most; what is left goes with the next completion.
        let length = u32::try_from(rest.len().min(1 << 30)).expect("it is at most 1 GiB");
        let send = opcode::Send::new(types::Fixed(place), rest.as_ptr(), length);
        let send = send.flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build();
        let send = send.user_data(Tag::socket(Op::Send, socket).encode());
        // SAFETY: the buffer stays in `sends` until the completion.
        unsafe { ring.ring.push(&send) }
    }

    pub(super) fn sent(
        &mut self,
        socket: SocketId,
        result: i32,
        turn: &mut Turn<'_>,
    ) -> io::Result<()> {
        let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
        slot.clear(Flag::SENDING);
        let unsent = self.sends.get_mut(slot.send);
        unsent.done += usize::try_from(result).unwrap_or(0);
        let complete = unsent.rest().is_empty() && result >= 0;
        let finishing = slot.has(Flag::FINISHING);
        if complete || finishing {
            let buffer = self.sends.remove(std::mem::replace(&mut slot.send, SendIndex::NONE));
            if finishing {
                return self.go_on_finishing(socket);
            }
            let (closing, ended) = (slot.has(Flag::CLOSING), slot.has(Flag::ENDED));
            turn.tell(Event::Sent { socket, buffer });
            if closing {
                return self.linger(socket);
            }
            if ended {
                self.ended.push(socket);
            }
            return Ok(());
        }
        if result >= 0 || result == -libc::EINTR || result == -libc::EAGAIN {
            return self.submit_send(socket);
        }
        // The kernel has nothing of it any more, but the socket's end drops the buffer.
        drop(self.sends.remove(std::mem::replace(&mut slot.send, SendIndex::NONE)));
        self.finish(socket, CloseCause::from_errno(-result))
    }

    fn close(&mut self, socket: SocketId) -> io::Result<()> {
        let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
        if !slot.is_usable() || slot.has(Flag::CLOSING) {
            return Ok(());
        }
        slot.set(Flag::CLOSING);
        if slot.send.is_some() { Ok(()) } else { self.linger(socket) }
    }

    /// The last word is out: our direction ends, and the socket waits for the peer's end.
    fn linger(&mut self, socket: SocketId) -> io::Result<()> {
        let (ring, place) = self.rings.of(socket.slot);
        let slot = &mut ring.slots[place as usize];
        if slot.has(Flag::ENDED) {
            return self.finish(socket, CloseCause::Requested);
        }
        slot.clear(Flag::PAUSED);
        slot.set(Flag::LINGERING);
        slot.set(Flag::SHUTTING);
        let shutdown = opcode::Shutdown::new(types::Fixed(place), libc::SHUT_WR).build();
        ring.ring.push_plain(&shutdown.user_data(Tag::socket(Op::Shutdown, socket).encode()))?;
        self.lingering.begin(socket, clock::now().monotonic);
        self.want_receive(socket);
        Ok(())
    }

    /// Our direction has ended, or cannot end because the connection is gone.
    pub(super) fn shut_down(&mut self, socket: SocketId, result: i32) -> io::Result<()> {
        let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
        slot.clear(Flag::SHUTTING);
        if result < 0 {
            self.finish(socket, CloseCause::Requested)?;
        }
        self.go_on_finishing(socket)
    }

    fn abort(&mut self, socket: SocketId) -> io::Result<()> {
        let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
        slot.set(Flag::RESET);
        self.finish(socket, CloseCause::Requested)
    }

    /// Begins the end of a socket. Its requests must end before its place is given back, because
    /// the kernel hands out the place again at once; so they are cancelled, and the close follows
    /// their last completion.
    pub(super) fn finish(&mut self, socket: SocketId, cause: CloseCause) -> io::Result<()> {
        let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
        if slot.has(Flag::FINISHING) {
            return Ok(());
        }
        let cause = if slot.has(Flag::CLOSING) { CloseCause::Requested } else { cause };
        slot.set(Flag::FINISHING);
        let (polling, sending) = (slot.has(Flag::POLL), slot.has(Flag::SENDING));
        let told = !slot.has(Flag::UNTOLD);
        let ring = &mut self.rings.of(socket.slot).0.ring;
        if polling {
            ring.push_cancel(Tag::socket(Op::Poll, socket).encode(), false)?;
        }
        if sending {
            ring.push_cancel(Tag::socket(Op::Send, socket).encode(), false)?;
        }
        if self.rings.slot(socket).is_some_and(|slot| slot.has(Flag::LINGERING)) {
            self.lingering.end(socket);
        }
        if told {
            self.causes.insert(socket.slot, cause);
        }
        self.go_on_finishing(socket)
    }

    /// Closes a socket that is to be closed, once nothing refers to it.
    pub(super) fn go_on_finishing(&mut self, socket: SocketId) -> io::Result<()> {
        let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
        if !slot.has(Flag::FINISHING) || slot.has(Flag::CLOSE_SENT) || slot.is_busy() {
            return Ok(());
        }
        slot.set(Flag::CLOSE_SENT);
        let reset = slot.has(Flag::RESET);
        let (ring, place) = self.rings.of(socket.slot);
        ring.ring.reserve(2)?;
        if reset {
            let option = set_option(place, libc::SOL_SOCKET, libc::SO_LINGER, &NO_LINGER);
            // SAFETY: the option's value is static.
            unsafe { ring.ring.push(&option.flags(Flags::SKIP_SUCCESS)) }?;
        }
        let close = opcode::Close::new(types::Fixed(place)).build();
        ring.ring.push_plain(&close.user_data(Tag::socket(Op::Close, socket).encode()))
    }

    /// The place is free again.
    pub(super) fn closed(&mut self, socket: SocketId, turn: &mut Turn<'_>) {
        if self.rings.slot(socket).is_none() {
            return;
        }
        self.rings.free(socket);
        self.listeners.note_room();
        if let Some(cause) = self.causes.remove(&socket.slot) {
            turn.tell(Event::Closed { socket, cause });
        }
    }
}

/// An entry that sets an option of a socket in the ring's table.
pub(super) fn set_option<T>(
    place: u32,
    level: i32,
    name: i32,
    value: &'static T,
) -> io_uring::squeue::Entry {
    let positive = |number: i32| u32::try_from(number).expect("constants of the system");
    let length = u32::try_from(size_of::<T>()).expect("options are small");
    let value = std::ptr::from_ref(value).cast();
    let fd = types::Fixed(place);
    opcode::SetSockOpt::new(fd, positive(level), positive(name), value, length).build()
}

/// An entry that reads an option of a socket in the ring's table. Its completion is an error or the
/// option's length.
///
/// The entry points to `length` bytes at `value`.
pub(super) fn get_option(
    place: u32,
    level: i32,
    name: i32,
    value: *mut libc::c_void,
    length: u32,
) -> io_uring::squeue::Entry {
    let positive = |number: i32| u32::try_from(number).expect("constants of the system");
    let fd = types::Fixed(place);
    let set = opcode::SetSockOpt::new(fd, positive(level), positive(name), value, length);
    // The crate only knows how to set options. To get one is the same entry but for the command.
    let mut entry = set.build();
    let command = std::ptr::from_mut(&mut entry).cast::<u32>().wrapping_add(COMMAND_AT);
    // SAFETY: an entry is a `struct io_uring_sqe`, 64 bytes of numbers; this one of them is inside.
    unsafe { command.write(GET_OPTION) };
    entry
}

/// Where `struct io_uring_sqe` has the command, in 32 bits.
const COMMAND_AT: usize = 2;
/// `SOCKET_URING_OP_GETSOCKOPT`.
const GET_OPTION: u32 = 2;
const _: () = assert!(size_of::<io_uring::squeue::Entry>() == 64);
