//! What goes into a session and what comes out.

use crate::event::Event;
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, Sequence, UserId};
use roost_protocol::wire;

/// Names one [`Output::Persist`] until it is confirmed. Ids rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PersistId(pub u64);

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Begin to connect. Also after [`Command::Close`], to come back.
    Start,
    /// What [`Output::Connect`] asked for succeeded (TLS included).
    Connected,
    /// It failed.
    ConnectFailed,
    /// Bytes came, cut anyhow.
    Received(&'a [u8]),
    /// The connection is gone. Not for one that [`Output::Disconnect`] ended: from that output on,
    /// nothing of the old connection may be fed.
    Disconnected,
    /// Time has passed: at the latest at [`crate::Session::next_deadline`].
    Tick,
    /// This record, and every one before it, is durable.
    Persisted(PersistId),
    /// A new token, best as the answer to [`Output::NeedToken`].
    Token(String),
    /// The person wants something.
    Command(Command),
}

/// What should be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Connect now. Answered by [`Input::Connected`] or [`Input::ConnectFailed`].
    Connect,
    /// Send these bytes.
    Transmit(Vec<u8>),
    /// Close the connection, after sending what was handed over. Not answered.
    Disconnect,
    /// Append this record to what [`crate::Restored::from_records`] will read, and make it durable.
    /// Answered by [`Input::Persisted`], in order. One confirmation may cover several.
    Persist {
        /// For the answer.
        id: PersistId,
        /// Opaque; each decodes alone.
        record: Vec<u8>,
    },
    /// Ask the app's backend for a token. Answered by [`Input::Token`] when there is one.
    NeedToken,
    /// Tell the person.
    Event(Event),
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The direct conversation with a user, which need not exist yet.
    User(UserId),
    /// A conversation by its id.
    Conversation(ConversationId),
}

/// What the person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Say something. Answered by one [`Event::Accepted`] or [`Event::Refused`] with the tag, over
    /// reconnects and restarts of the app.
    Send {
        /// Whom to.
        to: Peer,
        /// Opaque, at most 64 KiB.
        body: Bytes,
        /// Chosen by the app; comes back with the answer.
        tag: u64,
    },
    /// The person has seen everything up to here.
    Read {
        /// Where.
        conversation: ConversationId,
        /// The newest record seen.
        seq: Sequence,
    },
    /// The app came to the front, or left it.
    SetActivity(wire::ActivityState),
    /// Sync now.
    Sync,
    /// A page below what the device holds. Answered by [`Event::Older`].
    FetchOlder {
        /// Where.
        conversation: ConversationId,
        /// Messages at most, 1 to 100.
        limit: u32,
    },
    /// Disconnect and stay away until [`Input::Start`].
    Close,
}
