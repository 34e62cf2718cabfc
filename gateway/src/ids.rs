//! Names of things inside one server.

use std::fmt;

/// One core's shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

impl ShardId {
    /// The shard as an index into tables of peers.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}", self.0)
    }
}

/// One connection of a shard: its slot, and which use of the slot it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId {
    /// Dense; the driver's socket slot.
    pub slot: u32,
    /// Differs with every reuse of the slot.
    pub generation: u32,
}

/// One connection anywhere in the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeAddress {
    /// Where its socket lives.
    pub shard: ShardId,
    /// Which one it is there.
    pub edge: EdgeId,
}
