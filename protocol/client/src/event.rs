//! What the app is told.

use crate::answer::Answer;
use bytes::Bytes;
use roost_protocol::ids::{ClientMessageId, ConversationId, DeviceId, MessageId, Sequence, UserId};
use roost_protocol::request::DeviceVersion;
use roost_protocol::time::{Duration, Timestamp};
use roost_protocol::wire;

/// What the app is told. Whatever tells of stored things comes after the record that holds them
/// was confirmed.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The server has welcomed this device.
    Connected(Welcomed),
    /// The connection ended, or could not be made.
    Disconnected {
        /// Why.
        reason: DisconnectReason,
        /// When the session tries again by itself; `None` when it does not.
        retry_in: Option<Duration>,
    },
    /// A send, or another write, is stored.
    Accepted {
        /// The app's name of it.
        tag: u64,
        /// Its name for ever.
        client_message_id: ClientMessageId,
        /// Where it went.
        conversation: ConversationId,
        /// Its place there.
        seq: Sequence,
        /// Its id, which holds its time.
        message_id: MessageId,
    },
    /// A send, or another write, was refused for good. It is not visible to anybody and never will
    /// be.
    Refused {
        /// The app's name of it.
        tag: u64,
        /// Its name for ever; 0 when it was refused before it got one.
        client_message_id: ClientMessageId,
        /// Which rule said no.
        code: wire::ErrorCode,
        /// For a developer's eyes.
        text: String,
    },
    /// A message was encrypted for device lists that are not current. It waits, and what was said
    /// after it: the app asks for the lists (`ListUserDevices`), encrypts again and says
    /// [`crate::Command::EncryptedAgain`]. Told again after each reconnect; at most
    /// [`crate::limits::ENCRYPT_ROUNDS_MAX`] times, then the message is refused.
    EncryptAgain {
        /// The app's name of it.
        tag: u64,
        /// Its name for ever.
        client_message_id: ClientMessageId,
        /// The versions now.
        versions: Vec<DeviceVersion>,
    },
    /// The answer to [`crate::Command::Ask`] or [`crate::Command::LookUp`].
    Answer {
        /// The app's name of the question.
        tag: u64,
        /// What was said.
        answer: Box<Result<Answer, RefusedAsk>>,
    },
    /// A message this device did not hold, and that this user did not delete for themselves. Not
    /// for what it sent itself and was told of by [`Event::Accepted`].
    Message {
        /// Where.
        conversation: ConversationId,
        /// Direct: the other user, as far as known.
        peer: Option<UserId>,
        /// Written by this user, on another device or in a life this device forgot.
        own: bool,
        /// In a group or channel: the writer's member number + 1; else 0.
        sender: u32,
        /// What it is besides plain.
        form: Form,
        /// The record it replies to; 0 for none.
        reply_to: Sequence,
        /// Its place.
        seq: Sequence,
        /// Its id, which holds its time.
        message_id: MessageId,
        /// 0 unless `own`.
        client_message_id: ClientMessageId,
        /// Opaque.
        body: Bytes,
    },
    /// A record that is not a message: an edit, a deletion, a reaction, a change of the group, or
    /// something that is not for this device, or from a newer app (no content).
    Record {
        /// Where.
        conversation: ConversationId,
        /// As it came.
        record: Box<wire::Message>,
    },
    /// Others hold everything up to here (in a group: all of them). Only rises.
    Delivered {
        /// Where.
        conversation: ConversationId,
        /// Its place.
        up_to: Sequence,
    },
    /// Others have read everything up to here (in a group: all of them). Only rises.
    Read {
        /// Where.
        conversation: ConversationId,
        /// Its place.
        up_to: Sequence,
    },
    /// An entry of the user's list.
    EntryChanged(Box<wire::Entry>),
    /// Somebody types, or stopped.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// In a group: the member number + 1; in a direct conversation the other one types.
        member: u32,
        /// Stopped.
        stopped: bool,
    },
    /// Users who are watched came or went.
    Presence(Vec<wire::Presence>),
    /// The list of this user's own devices changed.
    DevicesChanged {
        /// Of the list now.
        version: u64,
    },
    /// A page asked for with `FetchOlder` is here.
    Older {
        /// Where.
        conversation: ConversationId,
        /// Whether there is more below.
        more: bool,
    },
    /// The server's store is another one: what the device held above `above` does not exist.
    Dropped {
        /// Where.
        conversation: ConversationId,
        /// What remains.
        above: Sequence,
    },
    /// A sync is done, and nothing it named is missing.
    CaughtUp,
    /// Do not come back without being asked (`replaced`, or an error of class never).
    Fatal {
        /// Which rule said no.
        code: wire::ErrorCode,
        /// For a developer's eyes.
        text: String,
    },
}

/// What the server said when it welcomed this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcomed {
    /// Who the user is.
    pub user: String,
    /// The id this device has on the server.
    pub device: Option<DeviceId>,
    /// The server's time of day.
    pub server_time: Timestamp,
    /// Whether the store is another one than last time.
    pub other_store: bool,
    /// Whether the server was started anew since last time.
    pub other_run: bool,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisconnectReason {
    /// It could not be made.
    ConnectFailed,
    /// The other side, or the way between, closed it.
    Closed,
    /// Nothing was heard for 2.5 heartbeat intervals.
    Silent,
    /// A request was not answered.
    Timeout,
    /// The server asked the device to leave; it may name another address, `host:port`.
    GoAway {
        /// Empty: the same address.
        alternative: String,
    },
    /// The server said why.
    Refused {
        /// Which rule said no.
        code: wire::ErrorCode,
        /// For a developer's eyes.
        text: String,
    },
    /// The server sent what is not the protocol.
    Protocol,
    /// The app asked for it.
    Asked,
}

/// What a message is besides its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Nothing else.
    #[default]
    Plain,
    /// Said elsewhere before, as whoever forwarded it claims.
    Forwarded {
        /// Where.
        conversation: ConversationId,
        /// At which place.
        seq: Sequence,
    },
    /// Encrypted for this device alone.
    Ciphertext,
}

/// A question was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedAsk {
    /// Which rule said no.
    pub code: wire::ErrorCode,
    /// For a developer's eyes.
    pub text: String,
    /// `trimmed`: the oldest seq there is.
    pub first_seq: Sequence,
}

impl RefusedAsk {
    pub(crate) fn new(code: wire::ErrorCode, text: &str) -> Self {
        Self { code, text: text.to_owned(), first_seq: Sequence::default() }
    }
}
