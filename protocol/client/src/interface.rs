//! What goes into a session and what comes out.

use crate::event::Event;
use bytes::Bytes;
use roost_protocol::ids::{ClientMessageId, ConversationId, Sequence, UserId};
use roost_protocol::request::{Ask, Content, History, PresenceOf};
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
    /// Any write to a conversation: a message that replies, an edit, a reaction, a change of a
    /// group. Numbered, persisted, repeated and answered in one order with [`Command::Send`].
    Write {
        /// Whom to. What is no message goes to a conversation that is there.
        to: Peer,
        /// What it says; bounds are those of PROTOCOL.md.
        content: Content,
        /// The record it replies to; 0 for none.
        reply_to: Sequence,
        /// Chosen by the app; comes back with the answer.
        tag: u64,
    },
    /// The answer to [`Event::EncryptAgain`]: the same message for other devices. It keeps its name
    /// and its place. Nothing happens when that event was not told, or of an earlier connection.
    EncryptedAgain {
        /// Which message.
        client_message_id: ClientMessageId,
        /// [`Content::ToDevices`] with the versions now; `None` gives the message up, which is then
        /// refused.
        content: Option<Content>,
    },
    /// A question, or a change of what is the user's own. Answered by one [`Event::Answer`] with
    /// the tag, over reconnects; but what is not answered dies with the app. Only a new group is
    /// persisted until it is answered. Changes go one at a time, in order.
    Ask {
        /// What.
        ask: Ask,
        /// Chosen by the app; comes back with the answer.
        tag: u64,
    },
    /// Looks at a page of history without holding it. Answered as [`Command::Ask`].
    LookUp {
        /// What.
        history: History,
        /// Chosen by the app; comes back with the answer.
        tag: u64,
    },
    /// The person looks at these users, or does not any more: [`Event::Presence`] tells of them as
    /// long as the app runs. At most [`crate::limits::WATCHES_MAX`]; more are not watched.
    WatchPresence {
        /// Who.
        of: PresenceOf,
        /// Not any more.
        stop: bool,
    },
    /// The person looks at a channel, or does not any more: what is new there is fetched. At most
    /// [`crate::limits::CHANNELS_WATCHED_MAX`].
    WatchChannel {
        /// Where.
        conversation: ConversationId,
        /// Not any more.
        stop: bool,
    },
    /// The person types, or stopped. Say it with every key: it is told at most once in 3 s, and
    /// only while connected.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Stopped.
        stopped: bool,
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
