//! What connections and mailboxes tell a conversation: rank 2.

use super::RequestTag;
use crate::ids::EdgeAddress;
use roost_protocol::ids::{
    ClientMessageId, ClientSequence, ConnectionNumber, ConversationId, DeviceId, Sequence, UserId,
    UserKey,
};
use roost_protocol::request::{Content, HistoryFrom};

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
    /// What it says.
    pub content: Content,
    /// The keys of the users that the content names, in its order; empty for most.
    pub people: Vec<UserKey>,
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
    /// The asking device: of ciphertexts it gets its own.
    pub device: DeviceId,
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
    /// The user does not want others to be told.
    pub private: bool,
}

/// A new group or channel. Its id is made of the creator and a nonce, so it may be repeated.
#[derive(Debug)]
pub struct Create {
    /// Who asks.
    pub edge: EdgeAddress,
    /// The request.
    pub request: RequestTag,
    /// Its id; says whether it is a channel.
    pub conversation: ConversationId,
    /// The owner.
    pub creator: (UserKey, UserId),
    /// Its name.
    pub name: String,
    /// A media reference, or empty.
    pub picture: String,
    /// Its members, the creator left out.
    pub members: Vec<(UserKey, UserId)>,
}

/// A question about a conversation, by somebody who must be in it.
#[derive(Debug)]
pub struct ConversationAsk {
    /// Who asks.
    pub edge: EdgeAddress,
    /// The request; its id is 0 for what has no answer.
    pub request: RequestTag,
    /// Which conversation.
    pub conversation: ConversationId,
    /// The asker.
    pub user: UserKey,
    /// What is asked.
    pub what: ConversationRequest,
}

/// What a conversation is asked.
#[derive(Debug)]
pub enum ConversationRequest {
    /// Name, picture, size, own role.
    Describe,
    /// Members by number.
    ListMembers {
        /// Numbers + 1 above this one.
        after_member: u32,
        /// At most so many.
        limit: u32,
    },
    /// Who received and read a message.
    ReceiptDetails {
        /// Which message.
        seq: Sequence,
        /// Numbers + 1 above this one.
        after_member: u32,
    },
    /// The devices of a member of a direct conversation. Answered by that member's mailbox with a
    /// part.
    UserDevices {
        /// Whose.
        about: (UserKey, UserId),
    },
    /// A channel is on somebody's screen, or not any more. No answer but `ToEdge::Watching`.
    WatchChannel {
        /// Not any more.
        stop: bool,
    },
}

/// Somebody looks at a user from a conversation: are both in it?
#[derive(Debug, Clone)]
pub struct PresenceLook {
    /// Who looks.
    pub edge: EdgeAddress,
    /// The request; its id is 0 for a watch.
    pub request: RequestTag,
    /// From where.
    pub conversation: ConversationId,
    /// Who looks.
    pub asker: UserKey,
    /// At whom.
    pub about: (UserKey, UserId),
    /// Once, or until further notice.
    pub watch: Watch,
}

/// How long somebody looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// One answer: a part.
    Once,
    /// Tell now and with every change, for five minutes.
    Start,
    /// Do not tell any more.
    Stop,
}

/// A mailbox tells a direct conversation that its user blocked the other, or does not any more. The
/// conversation begins by it if it is not there.
#[derive(Debug, Clone)]
pub struct BlockTold {
    /// Which.
    pub conversation: ConversationId,
    /// Both users in full, the lower key first.
    pub users: Box<[(UserKey, UserId); 2]>,
    /// Who blocks.
    pub by: UserKey,
    /// The number of the mailbox's record: the highest holds.
    pub number: u64,
    /// Blocked from now on.
    pub blocked: bool,
}

/// A mailbox tells a direct conversation, which asked for it, the version of its user's devices.
#[derive(Debug, Clone, Copy)]
pub struct VersionTold {
    /// Which.
    pub conversation: ConversationId,
    /// Whose devices.
    pub user: UserKey,
    /// The version of their list: the highest holds.
    pub version: u64,
}

/// A mailbox tells a channel that its user came or went. Confirmed by `ChannelConfirmed`.
#[derive(Debug, Clone, Copy)]
pub struct ChannelTold {
    /// Which.
    pub conversation: ConversationId,
    /// Who.
    pub user: UserKey,
    /// The number of the mailbox's record.
    pub number: u64,
    /// Came.
    pub joined: bool,
}
