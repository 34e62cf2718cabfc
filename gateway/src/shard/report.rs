//! Everything a shard may tell an operator. The driver turns each into a log line; counters are in
//! `stats`.

use crate::ids::ShardId;
use roost_protocol::wire::ErrorCode;
use roost_storage_engine::{Damage, StreamId};
use std::net::IpAddr;

/// One thing worth a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The store cannot go on; the process must exit.
    StoreFailed {
        /// What failed.
        what: String,
    },
    /// The disk is full; sends are refused until there is room.
    StorageFull,
    /// There is room again.
    StorageRoom,
    /// A record or block on disk is damaged; its neighbours are served.
    Corrupt(Damage),
    /// A segment could not be sealed, or tables not merged. Nothing is lost; space and the next
    /// start's time grow.
    NotTidied {
        /// What, and why.
        what: String,
    },
    /// The records of a conversation or mailbox do not fit together; requests for it are refused.
    Unreadable {
        /// Its stream: the key in its 16 bytes.
        stream: StreamId,
    },
    /// Everything owed before the restart is known to everybody.
    Retold {
        /// By which shard.
        shard: ShardId,
        /// Streams that were told again.
        streams: u64,
    },
    /// The pool for halves of frames is full; the oldest are closed. Raise
    /// `limits.half_frame_pool_bytes`.
    HalfFramePoolFull {
        /// Its limit.
        limit_bytes: u64,
    },
    /// Memory for queued sends is used up; pushes are dropped and devices sync. Raise
    /// `limits.send_queues_bytes`.
    SendQueuesFull {
        /// Its limit.
        limit_bytes: u64,
    },
    /// The driver takes no further connection on this shard until one ends; meanwhile they wait in
    /// the kernel. Raise `limits.connections_max`.
    ConnectionsFull {
        /// This shard's part of it.
        limit: u64,
    },
    /// Two user ids have the same key: refused.
    UserIdCollision,
    /// The wall clock is behind the newest message id; ids borrow from the future.
    ClockBehind {
        /// By so much.
        behind_ms: u64,
    },
    /// A device was refused at hello (rate-limited by the driver).
    HelloRefused {
        /// Why.
        code: ErrorCode,
    },
    /// A connection was not let in (rate-limited by the driver).
    Refused {
        /// Why.
        why: Refused,
        /// Who it was, as far as that is known.
        peer: Option<IpAddr>,
    },
}

/// Why a connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// It came by a listener for proxies, from a network that is not trusted with a PROXY header.
    Untrusted,
    /// What a trusted proxy said first was no PROXY header.
    BadProxyHeader,
    /// A trusted proxy did not say a whole PROXY header in time.
    NoProxyHeader,
    /// Its network has as many connections as it may.
    PrefixFull,
    /// Its network has as many connections as may be unauthenticated.
    PrefixBusy,
}
