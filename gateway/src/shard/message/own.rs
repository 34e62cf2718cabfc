//! What connections tell the mailbox of their user: rank 1.

use super::ToConversation;
use crate::ids::EdgeAddress;
use roost_protocol::ids::{
    ConnectionNumber, ConversationId, DeviceId, MessageId, Sequence, UserId, UserKey,
};
use roost_protocol::request::{ConversationSettings, SetPrivacy, SignOut};
use roost_protocol::wire;

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
    /// What the app says it is, at most 128 bytes.
    pub client: String,
    /// Whether it is in front of the person.
    pub activity: wire::ActivityState,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestTag {
    /// Chosen by the device.
    pub id: u32,
    /// The answer may be a page: the connection keeps room for one.
    pub page: bool,
    /// It was counted as a first contact.
    pub contact: bool,
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

/// A device's app came to the front, or went away.
#[derive(Debug, Clone, Copy)]
pub struct ActivityTold {
    /// Which connection.
    pub edge: EdgeAddress,
    /// Its user.
    pub user: UserKey,
    /// Its device.
    pub device: DeviceId,
    /// What it does now.
    pub state: wire::ActivityState,
}

/// A request to the user's own mailbox.
#[derive(Debug)]
pub struct MailboxAsk {
    /// Who asks.
    pub edge: EdgeAddress,
    /// The request.
    pub request: RequestTag,
    /// Whose mailbox.
    pub user: UserKey,
    /// Which of the user's devices asks.
    pub device: DeviceId,
    /// For what.
    pub what: MailboxRequest,
}

/// What a mailbox is asked for; bounds were checked.
#[derive(Debug)]
pub enum MailboxRequest {
    /// The user's devices.
    ListDevices,
    /// Another name for a device.
    RenameDevice {
        /// Which.
        device: DeviceId,
        /// Its name.
        name: String,
    },
    /// Devices are signed out.
    SignOut(SignOut),
    /// Privacy settings.
    SetPrivacy(SetPrivacy),
    /// Another user may not reach this one any more, or may again.
    Block {
        /// Who.
        peer: (UserKey, UserId),
        /// May again.
        unblock: bool,
    },
    /// Whom the user blocked.
    ListBlocks {
        /// Those after this one; `None`: from the first.
        after: Option<UserId>,
        /// At most so many.
        limit: u32,
    },
    /// The list by last activity.
    ListConversations {
        /// Whose last activity was before this; 0: from the newest.
        before: MessageId,
        /// At most so many.
        limit: u32,
    },
    /// Settings of a conversation.
    SetConversation {
        /// Which.
        conversation: ConversationId,
        /// What changes.
        settings: ConversationSettings,
    },
    /// The user does not want to see these any more.
    DeleteForMe {
        /// In which conversation.
        conversation: ConversationId,
        /// Which records, rising.
        seqs: Vec<Sequence>,
    },
    /// A stranger's conversation is taken into the list.
    AcceptRequest(ConversationId),
    /// Into a channel, or out of it.
    JoinChannel {
        /// Which.
        conversation: ConversationId,
        /// Out of it.
        leave: bool,
    },
    /// Something for a channel: it goes on when the user is in it. A channel trusts what comes, for
    /// it comes only through mailboxes.
    ForChannel(Box<ToConversation>),
}

impl MailboxRequest {
    /// Whether it sets a value: what comes late must not come into force behind what came after it.
    /// What is for a channel has numbers of its own.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::RenameDevice { .. }
            | Self::SignOut(_)
            | Self::SetPrivacy(_)
            | Self::Block { .. }
            | Self::SetConversation { .. }
            | Self::DeleteForMe { .. }
            | Self::AcceptRequest(_)
            | Self::JoinChannel { .. } => true,
            Self::ListDevices
            | Self::ListBlocks { .. }
            | Self::ListConversations { .. }
            | Self::ForChannel(_) => false,
        }
    }
}
