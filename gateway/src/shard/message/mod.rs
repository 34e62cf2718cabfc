//! What actors say to each other, and its rank.
//!
//! Handling a message of rank n only causes messages of higher ranks, and each rank has its own
//! credit, so no two shards ever wait for each other (SEMANTICS: "Between shards: ranks").

mod edges;
mod news;
mod own;
mod writes;

pub use edges::{Part, Reply, ToEdge};
pub use news::{
    BlockConfirmed, Card, ChannelConfirmed, Deliver, DevicesAsked, Fresh, Membership, OwnMarks,
    Point, PresenceAsked, ReceiptTold, Recipients, VersionWanted,
};
pub use own::{
    ActivityTold, Gone, MailboxAsk, MailboxRequest, ReadMark, Register, RequestTag, SyncAsk,
};
pub use writes::{
    BlockTold, ChannelTold, ConversationAsk, ConversationRequest, Create, DeliveredMark,
    HistoryAsk, PresenceLook, ReadTold, Submit, VersionTold, Watch,
};

use crate::ids::{EdgeAddress, EdgeId};
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, UserKey};

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
    /// Something that may be lost. It has no rank and no credit: without a place in the queue it is
    /// dropped and counted.
    Hint(Hint),
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
    /// Rank 4: the same push to many connections of one shard.
    ToEdges {
        /// Which, all of the receiving shard.
        edges: Vec<EdgeId>,
        /// The frame.
        frame: Bytes,
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
            Self::ToEdge { .. } | Self::ToEdges { .. } => Rank::Four,
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
    /// The app came to the front, or went away.
    Activity(ActivityTold),
    /// Anything else.
    Ask(Box<MailboxAsk>),
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
            Self::Activity(told) => told.user,
            Self::Ask(ask) => ask.user,
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
    /// A new group or channel.
    Create(Box<Create>),
    /// A question about it.
    Ask(Box<ConversationAsk>),
    /// Somebody looks at a user from it.
    Look(Box<PresenceLook>),
    /// A mailbox tells a block.
    BlockTold(BlockTold),
    /// A mailbox tells the version of its user's devices.
    VersionTold(VersionTold),
    /// A mailbox tells that its user came into a channel, or went.
    ChannelTold(ChannelTold),
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
            Self::Create(create) => create.conversation,
            Self::Ask(ask) => ask.conversation,
            Self::Look(look) => look.conversation,
            Self::BlockTold(told) => told.conversation,
            Self::VersionTold(told) => told.conversation,
            Self::ChannelTold(told) => told.conversation,
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
    /// Somebody looks at this user.
    PresenceAsked(Box<PresenceAsked>),
    /// Somebody wants the list of this user's devices.
    DevicesAsked(Box<DevicesAsked>),
    /// A direct conversation took a block.
    BlockConfirmed(BlockConfirmed),
    /// A direct conversation wants the version of this user's devices.
    VersionWanted(VersionWanted),
    /// A channel took somebody in, or let them go.
    ChannelConfirmed(ChannelConfirmed),
}

/// What may be lost; see [`Parcel::Hint`]. Handling one causes only hints and pushes.
#[derive(Debug)]
pub enum Hint {
    /// To a conversation: one of its members writes, or stopped.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserKey,
        /// Stopped.
        stopped: bool,
    },
    /// To mailboxes: the same, for everybody who is connected.
    TypingTold {
        /// Whom, all at home on the receiving shard.
        recipients: Recipients,
        /// Where: strangers' requests are not shown.
        conversation: ConversationId,
        /// The push.
        frame: Bytes,
    },
    /// To a shard's connections that look at a channel: there is news.
    News {
        /// Where.
        channel: ConversationId,
        /// The push.
        frame: Bytes,
    },
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
