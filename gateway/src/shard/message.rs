//! What actors say to each other, and its rank.
//!
//! Handling a message of rank n only causes messages of higher ranks, and each rank has its own
//! credit, so no two shards ever wait for each other (SEMANTICS: "Between shards: ranks").

use crate::ids::EdgeAddress;
use bytes::Bytes;
use roost_protocol::encode::PushedMessage;
use roost_protocol::ids::{
    ClientMessageId, ClientSequence, ConnectionNumber, ConversationId, DeviceId, MessageId,
    Sequence, UserId, UserKey,
};
use roost_protocol::request::HistoryFrom;
use roost_protocol::wire;
use std::sync::Arc;

/// What a queue between two shards carries.
#[derive(Debug)]
pub enum Parcel {
    /// A message to an actor there.
    Message {
        /// The message.
        message: Message,
        /// A record owes it: its effect must be confirmed as durable.
        owed: bool,
    },
    /// Credit, confirmations and wishes, merged.
    Settle(Settle),
}

/// What one shard gives back to another. Merging, not ranked: it needs a place in the queue but no
/// credit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settle {
    /// Credit given back, for ranks 1 to 3.
    pub credit: [u32; 3],
    /// How many owed messages of rank 2 and 3, counted from the start, have durable effects.
    pub confirmed: [u64; 2],
    /// The sender's log owes too much: write your checkpoint.
    pub checkpoint_wanted: bool,
    /// The sender has told everything of earlier runs, and it is confirmed.
    pub retold: bool,
    /// All segments of earlier runs are sealed.
    pub old_sealed: bool,
}

/// Rank of a message; see the module's comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Edge to own mailbox.
    One,
    /// Edge or mailbox to conversation.
    Two,
    /// Conversation to mailbox.
    Three,
    /// Anything to edge: never waits.
    Four,
}

impl Rank {
    /// Place in tables of the ranks that need credit; rank 4 has none.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// A message from one actor to another, by the kind of actor it goes to, which is its rank.
#[derive(Debug)]
pub enum Message {
    /// Rank 1.
    ToOwnMailbox(ToOwnMailbox),
    /// Rank 2.
    ToConversation(ToConversation),
    /// Rank 3.
    ToMailbox(ToMailbox),
    /// Rank 4: to a connection.
    ToEdge {
        /// Which.
        edge: EdgeAddress,
        /// What.
        what: ToEdge,
    },
}

impl Message {
    /// The rank. One exhaustive match, so that a new kind must be given one.
    #[must_use]
    pub const fn rank(&self) -> Rank {
        match self {
            Self::ToOwnMailbox(_) => Rank::One,
            Self::ToConversation(_) => Rank::Two,
            Self::ToMailbox(_) => Rank::Three,
            Self::ToEdge { .. } => Rank::Four,
        }
    }
}

/// What a connection tells the mailbox of its user.
#[derive(Debug)]
pub enum ToOwnMailbox {
    /// A device authenticated: register it.
    Register(Box<Register>),
    /// A connection ended.
    Gone(Box<Gone>),
    /// Entries changed since a cursor.
    Sync(SyncAsk),
    /// The person saw everything up to here.
    ReadMark(Box<ReadMark>),
}

impl ToOwnMailbox {
    /// Whose mailbox.
    #[must_use]
    pub const fn user(&self) -> UserKey {
        match self {
            Self::Register(register) => register.user,
            Self::Gone(gone) => gone.user,
            Self::Sync(ask) => ask.user,
            Self::ReadMark(mark) => mark.user,
        }
    }
}

/// What a connection or a mailbox tells a conversation.
#[derive(Debug)]
pub enum ToConversation {
    /// A write.
    Submit(Box<Submit>),
    /// A device holds everything up to here.
    Delivered(DeliveredMark),
    /// A page of history.
    History(Box<HistoryAsk>),
    /// A mailbox tells a read mark to the conversation it is about.
    ReadTold(ReadTold),
}

impl ToConversation {
    /// Which conversation.
    #[must_use]
    pub const fn conversation(&self) -> ConversationId {
        match self {
            Self::Submit(submit) => submit.conversation,
            Self::Delivered(mark) => mark.conversation,
            Self::History(ask) => ask.conversation,
            Self::ReadTold(told) => told.conversation,
        }
    }
}

/// What a conversation tells mailboxes.
#[derive(Debug)]
pub enum ToMailbox {
    /// There is something new for these users.
    Deliver(Box<Deliver>),
    /// Somebody received or read what this user sent.
    ReceiptTold(Box<ReceiptTold>),
}

impl From<ToOwnMailbox> for Message {
    fn from(message: ToOwnMailbox) -> Self {
        Self::ToOwnMailbox(message)
    }
}

impl From<ToConversation> for Message {
    fn from(message: ToConversation) -> Self {
        Self::ToConversation(message)
    }
}

impl From<ToMailbox> for Message {
    fn from(message: ToMailbox) -> Self {
        Self::ToMailbox(message)
    }
}

/// A device that proved who it is.
#[derive(Debug, Clone)]
pub struct Register {
    /// Where it is connected.
    pub edge: EdgeAddress,
    /// Its user.
    pub user: UserKey,
    /// Its user, in full: two ids with one key are told apart.
    pub user_id: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Counted by the device; an older one is refused.
    pub connection: ConnectionNumber,
    /// The app or an extension.
    pub role: wire::Role,
    /// When the token was issued, for devices that were signed out.
    pub token_issued_ms: u64,
    /// The epoch of the device in the ticket; `None` with a token.
    pub ticket_epoch: Option<u32>,
}

/// A connection that ended. It names the edge: it may have died before it learnt that it was
/// registered.
#[derive(Debug, Clone)]
pub struct Gone {
    /// The connection.
    pub edge: EdgeAddress,
    /// Its user.
    pub user: UserKey,
    /// Its device.
    pub device: DeviceId,
}

/// What a connection calls a request. Whoever answers gives it back as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTag {
    /// Chosen by the device.
    pub id: u32,
    /// The answer may be a page: the connection keeps room for one.
    pub page: bool,
}

/// A request to a user's own mailbox for what changed.
#[derive(Debug, Clone)]
pub struct SyncAsk {
    /// Who asks.
    pub edge: EdgeAddress,
    /// The request.
    pub request: RequestTag,
    /// Whose mailbox.
    pub user: UserKey,
    /// Since when.
    pub cursor: u64,
    /// Entries at most.
    pub limit: u32,
}

/// A read mark on its way to the user's own mailbox.
#[derive(Debug, Clone)]
pub struct ReadMark {
    /// Who said it.
    pub edge: EdgeAddress,
    /// Whose mailbox.
    pub user: UserKey,
    /// About which conversation.
    pub conversation: ConversationId,
    /// Everything up to it.
    pub seq: Sequence,
    /// What of it does not count.
    pub uncounted: u64,
}

/// A write to a conversation.
#[derive(Debug, Clone)]
pub struct Submit {
    /// Who wrote.
    pub edge: EdgeAddress,
    /// The request.
    pub request: RequestTag,
    /// Where to.
    pub conversation: ConversationId,
    /// The writer.
    pub user: UserKey,
    /// The writer in full and the peer, when it may open the conversation.
    pub opening: Option<Box<(UserId, UserId)>>,
    /// The key of the peer, with `opening`.
    pub peer_key: Option<UserKey>,
    /// The request named the peer, so the reply names the conversation.
    pub by_user: bool,
    /// The writer's device.
    pub device: DeviceId,
    /// The connection it came by: an older one is refused.
    pub connection: ConnectionNumber,
    /// Names the write for ever.
    pub client_message_id: ClientMessageId,
    /// Its number.
    pub client_sequence: ClientSequence,
    /// The newest record the device held.
    pub seen: Sequence,
    /// What of it does not count.
    pub seen_uncounted: u64,
    /// The record it replies to, or 0.
    pub reply_to: Sequence,
    /// The message.
    pub body: Bytes,
}

/// A device holds everything up to here.
#[derive(Debug, Clone, Copy)]
pub struct DeliveredMark {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub user: UserKey,
    /// Up to what.
    pub seq: Sequence,
}

/// A page of history, asked for.
#[derive(Debug, Clone)]
pub struct HistoryAsk {
    /// Who asks.
    pub edge: EdgeAddress,
    /// The request.
    pub request: RequestTag,
    /// Which conversation.
    pub conversation: ConversationId,
    /// The asker.
    pub user: UserKey,
    /// The request named the peer, so the reply names the conversation.
    pub by_user: bool,
    /// Where the page starts.
    pub from: HistoryFrom,
    /// Messages at most.
    pub limit: u32,
}

/// A mailbox tells a read mark to the conversation it is about.
#[derive(Debug, Clone, Copy)]
pub struct ReadTold {
    /// Where.
    pub conversation: ConversationId,
    /// Who read.
    pub user: UserKey,
    /// Up to what.
    pub seq: Sequence,
    /// What of it does not count.
    pub uncounted: u64,
}

/// What a conversation is, for entries of mailboxes that do not know it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The two users of a direct conversation, the lower key first.
    pub users: [(UserKey, UserId); 2],
}

impl Card {
    /// The other user of a direct conversation.
    #[must_use]
    pub fn peer_of(&self, user: UserKey) -> Option<&(UserKey, UserId)> {
        match (self.users[0].0 == user, self.users[1].0 == user) {
            (true, _) => Some(&self.users[1]),
            (_, true) => Some(&self.users[0]),
            (false, false) => None,
        }
    }

    /// The user of that key in full.
    #[must_use]
    pub fn user_id(&self, user: UserKey) -> Option<&UserId> {
        self.users.iter().find(|(key, _)| *key == user).map(|(_, id)| id)
    }
}

/// A head or a mark: a seq and how many records up to it do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    /// Up to here.
    pub seq: Sequence,
    /// Of which so many do not count.
    pub uncounted: u64,
}

impl Point {
    /// The further of two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if other.seq > self.seq { other } else { self }
    }
}

/// There is something new in a conversation for these users.
#[derive(Debug, Clone)]
pub struct Deliver {
    /// Where.
    pub conversation: ConversationId,
    /// What it is.
    pub card: Arc<Card>,
    /// For whom, all at home on the receiving shard.
    pub recipients: Recipients,
    /// The newest record they may read.
    pub head: Point,
    /// Its id.
    pub message_id: MessageId,
    /// Read marks that senders moved by sending.
    pub own_marks: Vec<(UserKey, Point)>,
    /// The message itself, unless several were merged or it is told again.
    pub fresh: Option<Box<Fresh>>,
}

/// A message being pushed for the first time.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The message, as others see it.
    pub message: PushedMessage,
    /// Who sent it.
    pub sender: UserKey,
    /// By which connection: it has the reply and is not pushed to. A later connection of the same
    /// device may be of an app that forgot what it sent.
    pub sender_edge: EdgeAddress,
    /// For the sender's own devices.
    pub client_message_id: ClientMessageId,
}

/// Users of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// One user.
    One(UserKey),
    /// Both users of a direct conversation.
    Two([UserKey; 2]),
}

impl Recipients {
    /// Them all.
    #[must_use]
    pub fn as_slice(&self) -> &[UserKey] {
        match self {
            Self::One(user) => std::slice::from_ref(user),
            Self::Two(users) => users,
        }
    }
}

/// Somebody received or read what this user sent.
#[derive(Debug, Clone)]
pub struct ReceiptTold {
    /// Where.
    pub conversation: ConversationId,
    /// What it is.
    pub card: Arc<Card>,
    /// The user who is told.
    pub to: UserKey,
    /// Everything up to it was received; 0: unchanged.
    pub delivered: Sequence,
    /// Everything up to it was read; 0: unchanged.
    pub read: Sequence,
}

/// To a connection.
#[derive(Debug)]
pub enum ToEdge {
    /// The mailbox took the device.
    Registered {
        /// The device's epoch, for its ticket.
        epoch: u32,
    },
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
    /// Pushes to this connection were dropped on the way.
    Behind,
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
    /// No.
    Error(Box<wire::Error>),
}
