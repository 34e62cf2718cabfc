//! What happens to a shard.

use crate::ids::{EdgeId, ShardId};
use crate::shard::message::Parcel;
use roost_detached_tls::ServerSettings;
use roost_storage_engine::StoreDone;
use std::net::IpAddr;

/// One thing that happened. The driver feeds any number, then calls `end_batch`.
#[derive(Debug)]
pub enum Input<'a> {
    /// Some time passed; at least every 100 ms.
    Tick,
    /// A device connected. Its slot was free.
    Opened {
        /// The connection.
        edge: EdgeId,
        /// Which listener took it: its place in `EdgeConfig::listeners`.
        listener: u16,
        /// Who connects, as far as the listener tells.
        peer: Option<IpAddr>,
    },
    /// Bytes of a connection. Never after `Closed`, never while paused (but for what was already
    /// on its way when the pause was asked for).
    Received {
        /// The connection.
        edge: EdgeId,
        /// What came; sealed records are opened in place.
        bytes: &'a mut [u8],
    },
    /// Answers `Output::Send`: all of it went out.
    Sent {
        /// The connection.
        edge: EdgeId,
        /// The buffer, to be used again.
        buffer: Vec<u8>,
    },
    /// The connection is gone, whoever ended it. Its last input.
    Closed {
        /// The connection.
        edge: EdgeId,
        /// The kernel ended it: its peer did not acknowledge for too long.
        unacknowledged: bool,
    },
    /// From the queue of another shard.
    Arrived {
        /// Whose queue.
        from: ShardId,
        /// What it carried.
        parcel: Parcel,
    },
    /// The other shard popped so many parcels of ours: there is room again.
    Slots {
        /// Whose queue has room.
        by: ShardId,
        /// How many places became free.
        slots: u32,
    },
    /// Answers `Output::Store`.
    Stored(StoreDone),
    /// The server is about to stop: tell the devices, take nothing new.
    Drain,
    /// Other certificates, for connections that come from now on. Handshakes under way end with
    /// those that they began with.
    Certificates(ServerSettings),
    /// New keys or random bytes; the first comes before the first `Opened`.
    Secrets(Secrets),
}

/// What must come from the system's random source or from files, never from a seed.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Seals and opens resume tickets.
    pub ticket_keys: crate::shard::auth::ticket::TicketKeys,
    /// Never used before under these keys.
    pub nonce_prefix: [u8; 8],
}
