//! What connections are told: rank 4, which never waits.

use super::{Point, RequestTag};
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, MessageId, Sequence};
use roost_protocol::wire;

/// To a connection.
#[derive(Debug)]
pub enum ToEdge {
    /// The mailbox took the device.
    Registered {
        /// The device's epoch, for its ticket.
        epoch: u32,
        /// Direct conversations it may open, until it asks again.
        first_contacts: u32,
        /// When the token of Hello was issued, as the connection said: it goes into the ticket.
        token_issued_ms: u64,
    },
    /// So many connections of the user share what the user may.
    Sharers(u8),
    /// The mailbox refused the device, or ends its connection.
    Refused(Box<wire::Error>),
    /// The answer to a request.
    Reply {
        /// Which request.
        request: RequestTag,
        /// What it says.
        reply: Reply,
    },
    /// A push, already encoded.
    Push(Bytes),
    /// A push of how far the other has got: small, and many.
    Receipt {
        /// Where.
        conversation: ConversationId,
        /// 0: unchanged.
        delivered: Sequence,
        /// 0: unchanged.
        read: Sequence,
    },
    /// A part of an answer that several actors give.
    Part {
        /// Which request.
        request: RequestTag,
        /// What it says.
        part: Box<Part>,
    },
    /// The connection may be told of a channel's news, for five minutes; or not any more.
    Watching {
        /// Which channel.
        channel: ConversationId,
        /// Not any more.
        stop: bool,
    },
    /// Pushes to this connection were dropped on the way.
    Behind,
}

/// A part of an answer. The connection waits for as many as it asked for.
#[derive(Debug)]
pub enum Part {
    /// Of a `PresenceReply`.
    Presence(wire::Presence),
    /// Of a `UserDevices`.
    Devices(wire::DeviceSet),
    /// No: the whole request is refused.
    Refused(Box<wire::Error>),
}

impl ToEdge {
    /// Whether it may be lost: the device is told that it is behind, and syncs.
    #[must_use]
    pub const fn may_be_dropped(&self) -> bool {
        matches!(self, Self::Push(_) | Self::Receipt { .. })
    }
}

/// The answer to a request.
#[derive(Debug)]
pub enum Reply {
    /// A write was accepted and is durable.
    Sent {
        /// Its id.
        message_id: MessageId,
        /// Its place.
        point: Point,
        /// The conversation, when the request named a user.
        conversation: Option<ConversationId>,
    },
    /// A page of entries.
    Sync(Box<wire::SyncReply>),
    /// A page of messages.
    History(Box<wire::HistoryReply>),
    /// Anything else, as it travels.
    Frame(Box<wire::server_frame::Body>),
    /// No.
    Error(Box<wire::Error>),
}
