//! Waiting and receiving: from a poll that fires to bytes at the handler.

use super::op::{Op, Tag};
use super::ring::Completion;
use super::slots::Flag;
use super::{Turn, Uring};
use crate::event::{CloseCause, Event, SocketId};
use crate::gate::Pass;
use io_uring::{opcode, types};
use roost_protocol::time::Duration;
use std::io;

/// Receives that may be with the kernel at a time; each needs a buffer.
const BUFFERS: u8 = 64;

/// The buffers of the loop, in one piece. Pages that were never needed take no memory, so small
/// messages keep only the beginning of each buffer warm.
#[derive(Debug)]
pub(super) struct Arena {
    memory: Vec<u8>,
    buffer_bytes: usize,
    free: Vec<u8>,
}

impl Arena {
    pub(super) fn new(buffer_bytes: usize) -> Self {
        let memory = vec![0; buffer_bytes * usize::from(BUFFERS)];
        Self { memory, buffer_bytes, free: (0..BUFFERS).collect() }
    }

    fn buffer(&mut self, index: u8) -> &mut [u8] {
        let start = usize::from(index) * self.buffer_bytes;
        &mut self.memory[start..start + self.buffer_bytes]
    }

    pub(super) fn take_memory(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.memory)
    }
}

/// `POLLIN` and `POLLRDHUP`; errors and hang-ups are always told.
pub(super) fn poll_mask() -> u32 {
    bits(libc::POLLIN | libc::POLLRDHUP)
}

fn bits(events: i16) -> u32 {
    u32::from(u16::try_from(events).expect("no event is the sign bit"))
}

impl Uring {
    /// Waits for something to read, for as long as the socket lives.
    pub(super) fn arm_poll(&mut self, socket: SocketId) -> io::Result<()> {
        let (ring, place) = self.rings.of(socket.slot);
        ring.slots[place as usize].set(Flag::POLL);
        let poll = opcode::PollAdd::new(types::Fixed(place), poll_mask()).multi(true).build();
        ring.ring.push_plain(&poll.user_data(Tag::socket(Op::Poll, socket).encode()))
    }

    pub(super) fn polled(&mut self, socket: SocketId, completion: Completion) -> io::Result<()> {
        let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
        if !completion.more {
            slot.clear(Flag::POLL);
        }
        if slot.has(Flag::FINISHING) {
            return self.go_on_finishing(socket);
        }
        let Ok(events) = u32::try_from(completion.result) else {
            let cause = CloseCause::from_errno(-completion.result);
            return self.finish(socket, cause);
        };
        if events & bits(libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0 {
            slot.set(Flag::HUNG_UP);
        }
        if slot.has(Flag::PAUSED) {
            slot.set(Flag::MISSED);
            if events & bits(libc::POLLERR) != 0 {
                return self.finish(socket, CloseCause::Reset);
            }
        }
        // After a hang-up it would fire at once, and everything is read anyway until the end.
        let rearm = !completion.more && !slot.has(Flag::HUNG_UP);
        self.note_readable(socket);
        if rearm { self.arm_poll(socket) } else { Ok(()) }
    }

    /// Something can be read. First words and ends pass the gate.
    fn note_readable(&mut self, socket: SocketId) {
        let Some(slot) = self.rings.slot(socket) else { return };
        slot.stands = self.gate.arrive(socket, slot.stands, slot.has(Flag::HUNG_UP));
        if slot.stands == Pass::Past {
            self.want_receive(socket);
        }
    }

    /// A turn begins: those at the gate have their share of it.
    pub(super) fn open_gate(&mut self, last_turn: Duration) {
        self.gate.begin_turn(last_turn);
        while let Some(socket) = self
            .gate
            .next(|socket| self.rings.slot(socket).map(|slot| slot.stands = Pass::Past).is_some())
        {
            self.want_receive(socket);
        }
    }

    /// Queues one receive. A paused socket only remembers that there was something.
    pub(super) fn want_receive(&mut self, socket: SocketId) {
        let Some(slot) = self.rings.slot(socket) else { return };
        if slot.has(Flag::PAUSED) {
            slot.set(Flag::MISSED);
            return;
        }
        if !slot.has(Flag::RECEIVING) && !slot.has(Flag::ENDED) && !slot.is_deaf() {
            slot.set(Flag::RECEIVING);
            self.rings.of(socket.slot).0.to_receive.push_back(socket);
        }
    }

    /// Sockets that had their share of the last turn go on.
    pub(super) fn bring_back_later(&mut self, ring: usize) {
        for socket in std::mem::take(&mut self.rings.at(ring).later) {
            self.want_receive(socket);
        }
    }

    /// Hands queued receives to the kernel, as many as there are buffers.
    pub(super) fn submit_receives(&mut self, ring: usize) -> io::Result<()> {
        while !self.arena.free.is_empty() {
            let Some(socket) = self.rings.at(ring).to_receive.pop_front() else { return Ok(()) };
            let Some(slot) = self.rings.slot(socket) else { continue };
            if slot.is_deaf() || slot.has(Flag::PAUSED) {
                slot.clear(Flag::RECEIVING);
                slot.set(Flag::MISSED);
                self.go_on_finishing(socket)?;
                continue;
            }
            let Some(index) = self.arena.free.pop() else { return Ok(()) };
            let buffer = self.arena.buffer(index);
            let length = u32::try_from(buffer.len()).expect("buffers are below 4 GiB");
            let to = buffer.as_mut_ptr();
            let (ring, place) = self.rings.of(socket.slot);
            let tag = Tag { extra: index, ..Tag::socket(Op::Receive, socket) };
            let receive = opcode::Recv::new(types::Fixed(place), to, length);
            let receive = receive.flags(libc::MSG_DONTWAIT).build().user_data(tag.encode());
            // SAFETY: the buffer is not free until the completion names it.
            unsafe { ring.ring.push(&receive) }?;
        }
        Ok(())
    }

    pub(super) fn received(
        &mut self,
        tag: Tag,
        result: i32,
        turn: &mut Turn<'_>,
    ) -> io::Result<()> {
        let socket = tag.socket_id();
        self.arena.free.push(tag.extra);
        let Some(slot) = self.rings.slot(socket) else { return Ok(()) };
        slot.clear(Flag::RECEIVING);
        if slot.has(Flag::FINISHING) {
            return self.go_on_finishing(socket);
        }
        if slot.has(Flag::LINGERING) {
            return self.discard(socket, result);
        }
        match usize::try_from(result) {
            Ok(0) => {
                slot.set(Flag::ENDED);
                self.ended.push(socket);
            }
            // Who closes has heard enough.
            Ok(_) if slot.has(Flag::CLOSING) => {}
            Ok(count) => {
                // Less than was asked for means that nothing is left, and what comes later fires
                // the poll again. The end may have come with it, so after a hang-up read on.
                let more = count == self.arena.buffer_bytes || slot.has(Flag::HUNG_UP);
                let bytes = &mut self.arena.buffer(tag.extra)[..count];
                turn.tell(Event::Received { socket, bytes });
                self.receive_more(socket, more);
            }
            Err(_) => match -result {
                libc::EAGAIN => slot.receives = 0,
                libc::EINTR => self.want_receive(socket),
                errno => return self.finish(socket, CloseCause::from_errno(errno)),
            },
        }
        Ok(())
    }

    /// Something came for a socket that lingers: for nobody.
    fn discard(&mut self, socket: SocketId, result: i32) -> io::Result<()> {
        match usize::try_from(result) {
            Ok(count) if count > 0 && self.lingering.discard(socket, count) => {
                self.rings.of(socket.slot).0.later.push(socket);
            }
            Err(_) if result == -libc::EAGAIN => {}
            Err(_) if result == -libc::EINTR => self.want_receive(socket),
            Ok(_) | Err(_) => return self.finish(socket, CloseCause::Requested),
        }
        Ok(())
    }

    fn receive_more(&mut self, socket: SocketId, more: bool) {
        let share = self.receives_per_turn;
        let Some(slot) = self.rings.slot(socket) else { return };
        if !more {
            slot.receives = 0;
        } else if slot.receives + 1 < share {
            slot.receives += 1;
            self.want_receive(socket);
        } else {
            slot.receives = 0;
            self.rings.of(socket.slot).0.later.push(socket);
        }
    }
}
