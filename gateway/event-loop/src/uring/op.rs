//! What the 64 bits of `user_data` mean: who asked, and for what.
//!
//! ```text
//!  63    58 57      50 49           26 25            0
//! | op (6) | extra (8)| generation (24)| slot (26)    |
//! ```

use crate::event::SocketId;

/// Most slots of a loop, of any kind.
pub(super) const SLOTS_MAX: u32 = 1 << 26;

/// Generations wrap here.
pub(super) const GENERATION_MAX: u32 = (1 << 24) - 1;

/// What a completion completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Nothing that anybody waits for.
    Ignore,
    /// A socket has something to read.
    Poll,
    /// Bytes of a socket; `extra` is the buffer.
    Receive,
    /// A send of a socket.
    Send,
    /// Our direction of a socket ends.
    Shutdown,
    /// A socket is closed.
    Close,
    /// A connection for the listener in `slot`.
    Accept,
    /// Making a socket for the connect in `slot`.
    Socket,
    /// Any step of the connect in `slot`.
    Connect,
    /// A write for the file operation in `slot`.
    FileWrite,
    /// A sync for the file operation in `slot`.
    FileSync,
    /// A read for the file operation in `slot`.
    FileRead,
    /// The eventfd was written.
    Wake,
    /// Who a new connection is, for the question in `slot`.
    Peer,
}

const OPS: [Op; 14] = [
    Op::Ignore,
    Op::Poll,
    Op::Receive,
    Op::Send,
    Op::Shutdown,
    Op::Close,
    Op::Accept,
    Op::Socket,
    Op::Connect,
    Op::FileWrite,
    Op::FileSync,
    Op::FileRead,
    Op::Wake,
    Op::Peer,
];

/// The parts of `user_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) op: Op,
    pub(super) extra: u8,
    pub(super) generation: u32,
    pub(super) slot: u32,
}

impl Tag {
    /// About a socket.
    pub(super) const fn socket(op: Op, socket: SocketId) -> Self {
        Self { op, extra: 0, generation: socket.generation, slot: socket.slot }
    }

    /// About something else, by its index.
    pub(super) const fn index(op: Op, slot: u32) -> Self {
        Self { op, extra: 0, generation: 0, slot }
    }

    pub(super) const fn encode(self) -> u64 {
        (self.op as u64) << 58
            | (self.extra as u64) << 50
            | (self.generation as u64) << 26
            | self.slot as u64
    }

    pub(super) fn decode(bits: u64) -> Self {
        let part = |shift: u32, width: u32| -> u32 {
            u32::try_from((bits >> shift) & ((1 << width) - 1)).expect("no part has 32 bits")
        };
        Self {
            op: OPS.get(part(58, 6) as usize).copied().unwrap_or(Op::Ignore),
            extra: u8::try_from(part(50, 8)).expect("8 bits"),
            generation: part(26, 24),
            slot: part(0, 26),
        }
    }

    pub(super) const fn socket_id(self) -> SocketId {
        SocketId { slot: self.slot, generation: self.generation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        for (place, op) in OPS.into_iter().enumerate() {
            assert_eq!(op as usize, place);
            let tag = Tag { op, extra: 255, generation: GENERATION_MAX, slot: SLOTS_MAX - 1 };
            assert_eq!(Tag::decode(tag.encode()), tag);
            let tag = Tag { op, extra: 0, generation: 1, slot: 0 };
            assert_eq!(Tag::decode(tag.encode()), tag);
        }
    }
}
