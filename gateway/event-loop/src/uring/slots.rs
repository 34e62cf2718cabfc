//! The state of a socket: twelve bytes, of which most are only read when it has something to do.
//! The kernel chooses the slot (it is the place in a ring's table); we give it a generation.

use super::op::GENERATION_MAX;
use crate::gate::Pass;
use crate::sends::SendIndex;

/// What is true of a socket, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag(u16);

impl Flag {
    /// The slot is taken.
    pub(super) const OPEN: Self = Self(1);
    /// A multishot poll is armed; its last completion did not come yet.
    pub(super) const POLL: Self = Self(1 << 1);
    /// A receive is queued with us or with the kernel.
    pub(super) const RECEIVING: Self = Self(1 << 2);
    /// A send is with the kernel.
    pub(super) const SENDING: Self = Self(1 << 3);
    /// The handler wants nothing now.
    pub(super) const PAUSED: Self = Self(1 << 4);
    /// Readiness was reported while paused.
    pub(super) const MISSED: Self = Self(1 << 5);
    /// The kernel said that the end is near: read until it comes.
    pub(super) const HUNG_UP: Self = Self(1 << 6);
    /// The end was read.
    pub(super) const ENDED: Self = Self(1 << 7);
    /// It closes after the outstanding send.
    pub(super) const CLOSING: Self = Self(1 << 8);
    /// It is being closed: requests end, then the slot is freed.
    pub(super) const FINISHING: Self = Self(1 << 9);
    /// The close is with the kernel.
    pub(super) const CLOSE_SENT: Self = Self(1 << 10);
    /// The close is a reset.
    pub(super) const RESET: Self = Self(1 << 11);
    /// The last word is out; what comes is thrown away until the peer ends.
    pub(super) const LINGERING: Self = Self(1 << 13);
    /// The end of our direction is with the kernel.
    pub(super) const SHUTTING: Self = Self(1 << 14);
    /// The handler never heard of it, so it does not hear of its end.
    pub(super) const UNTOLD: Self = Self(1 << 12);
}

/// One socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) send: SendIndex,
    flags: u16,
    /// Full buffers this socket filled in this turn.
    pub(super) receives: u8,
    /// Where it stands, seen from the gate.
    pub(super) stands: Pass,
}

/// Bytes that a loop keeps for a socket of which nothing is under way.
pub const SOCKET_BYTES: usize = size_of::<Slot>();

const _: () = assert!(SOCKET_BYTES == 12);

impl Slot {
    pub(super) const FREE: Self =
        Self { generation: 0, send: SendIndex::NONE, flags: 0, receives: 0, stands: Pass::Past };

    /// A free slot whose next generation follows this one.
    pub(super) const fn free_after(generation: u32) -> Self {
        Self { generation, ..Self::FREE }
    }

    pub(super) const fn has(&self, flag: Flag) -> bool {
        self.flags & flag.0 != 0
    }

    pub(super) const fn set(&mut self, flag: Flag) {
        self.flags |= flag.0;
    }

    pub(super) const fn clear(&mut self, flag: Flag) {
        self.flags &= !flag.0;
    }

    /// Clears a flag and says whether it was set.
    pub(super) const fn take(&mut self, flag: Flag) -> bool {
        let had = self.has(flag);
        self.clear(flag);
        had
    }

    /// Takes the slot for a new socket.
    pub(super) fn open(&mut self, stands: Pass) {
        assert!(!self.has(Flag::OPEN), "a slot is free before it is taken again");
        let generation = if self.generation == GENERATION_MAX { 0 } else { self.generation + 1 };
        *self = Self { generation, stands, ..Self::FREE };
        self.set(Flag::OPEN);
    }

    pub(super) const fn free(&mut self) {
        *self = Self { generation: self.generation, ..Self::FREE };
    }

    /// Whether the kernel, or the queue of receives, still refers to this socket.
    pub(super) const fn is_busy(&self) -> bool {
        self.has(Flag::POLL)
            || self.has(Flag::RECEIVING)
            || self.has(Flag::SENDING)
            || self.has(Flag::SHUTTING)
    }

    /// Whether nobody wants what comes any more.
    pub(super) const fn is_deaf(&self) -> bool {
        self.has(Flag::FINISHING) || (self.has(Flag::CLOSING) && !self.has(Flag::LINGERING))
    }

    /// Whether the handler may still act on it.
    pub(super) const fn is_usable(&self) -> bool {
        self.has(Flag::OPEN) && !self.has(Flag::FINISHING) && !self.has(Flag::UNTOLD)
    }
}
