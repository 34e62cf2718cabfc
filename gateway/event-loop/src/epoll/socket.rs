//! One socket's state, and the table of them. Slots are reused last in, first out.

use crate::event::SocketId;
use crate::gate::Pass;
use crate::sends::SendIndex;
use mio::Token;
use mio::net::TcpStream;

/// Slots that stay when all sockets are gone.
const KEPT_MAX: usize = 1_024;

/// Generations have 24 bits, as under `io_uring`.
const GENERATION_MAX: u32 = (1 << 24) - 1;

/// One connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one socket")]
pub(super) struct Slot {
    /// None while the slot is free.
    pub(super) stream: Option<TcpStream>,
    pub(super) generation: u32,
    pub(super) send: SendIndex,
    /// Not connected yet.
    pub(super) connecting: bool,
    /// It is in the list of sockets to be read.
    pub(super) queued: bool,
    /// The handler wants nothing now.
    pub(super) paused: bool,
    /// Readiness was reported while paused.
    pub(super) missed: bool,
    /// The kernel said that the end is near: read until it comes.
    pub(super) hung_up: bool,
    /// The end was read.
    pub(super) ended: bool,
    /// It closes after the outstanding send.
    pub(super) closing: bool,
    /// The last word is out; what comes is thrown away until the peer ends.
    pub(super) lingering: bool,
    /// Where it stands, seen from the gate.
    pub(super) stands: Pass,
}

/// All sockets of a loop.
#[derive(Debug)]
pub(super) struct Sockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    max: u32,
    /// Of slots that went: their highest generation, so that no id comes again.
    generation: u32,
}

impl Sockets {
    pub(super) const fn new(max: u32) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), max, generation: 0 }
    }

    pub(super) const fn max(&self) -> u32 {
        self.max
    }

    pub(super) const fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.max as usize
    }

    /// Takes a slot for a stream. The caller made sure that there is one.
    pub(super) fn open(&mut self, stream: TcpStream, connecting: bool) -> SocketId {
        let stands = if connecting { Pass::Past } else { Pass::Newcomer };
        assert!(!self.is_full(), "a slot is free");
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: self.generation, ..Slot::free() });
            u32::try_from(self.slots.len() - 1).expect("fewer slots than sockets_max")
        });
        let entry = &mut self.slots[slot as usize];
        let generation = if entry.generation == GENERATION_MAX { 0 } else { entry.generation + 1 };
        *entry = Slot { stream: Some(stream), generation, connecting, stands, ..Slot::free() };
        SocketId { slot, generation }
    }

    pub(super) fn get_mut(&mut self, socket: SocketId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(socket.slot as usize)?;
        (slot.generation == socket.generation && slot.stream.is_some()).then_some(slot)
    }

    pub(super) fn stream(&mut self, socket: SocketId) -> Option<&mut TcpStream> {
        self.get_mut(socket)?.stream.as_mut()
    }

    /// Frees a slot. Dropping the stream closes it.
    pub(super) fn close(&mut self, socket: SocketId) -> Option<TcpStream> {
        let stream = self.get_mut(socket)?.stream.take();
        self.free.push(socket.slot);
        if self.free.len() == self.slots.len() && self.slots.len() > KEPT_MAX {
            // A crowd is gone: it leaves no memory.
            let generations = self.slots.iter().map(|slot| slot.generation);
            self.generation = generations.max().unwrap_or(self.generation);
            (self.slots, self.free) = (Vec::new(), Vec::new());
        }
        stream
    }

    pub(super) fn token(socket: SocketId) -> Token {
        Token((socket.generation as usize) << 32 | socket.slot as usize)
    }

    pub(super) fn from_token(token: Token) -> SocketId {
        let half = |bits: usize| u32::try_from(bits & 0xffff_ffff).expect("32 bits");
        SocketId { slot: half(token.0), generation: half(token.0 >> 32) }
    }
}

impl Slot {
    const fn free() -> Self {
        Self {
            stream: None,
            generation: 0,
            send: SendIndex::NONE,
            connecting: false,
            queued: false,
            paused: false,
            missed: false,
            hung_up: false,
            ended: false,
            closing: false,
            lingering: false,
            stands: Pass::Past,
        }
    }
}
