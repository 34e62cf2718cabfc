//! Checked values of what a device asks beside messages, sync and history: groups, lists,
//! settings, devices, presence. Their bounds are checked in `check.rs`.

use crate::ids::{ConversationId, DeviceId, MessageId, Sequence, UserId};
use crate::wire::Audience;
use bytes::Bytes;

/// What a write puts into a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A message, opaque.
    Body(Bytes),
    /// Another body for an own message.
    Edit {
        /// Which message.
        seq: Sequence,
        /// What it says now.
        body: Bytes,
    },
    /// An own message is taken back for all.
    Delete {
        /// Which message.
        seq: Sequence,
    },
    /// What this user thinks of a message.
    Reaction {
        /// Which message.
        seq: Sequence,
        /// Empty takes it back.
        reaction: String,
    },
    /// A message that names where it was said.
    Forward {
        /// In which conversation.
        conversation: ConversationId,
        /// At which place.
        seq: Sequence,
        /// The message, opaque.
        body: Bytes,
    },
    /// A change of the group itself.
    Group(GroupChange),
    /// One ciphertext for each device, in a direct conversation.
    ToDevices {
        /// At most 20, no device twice.
        ciphertexts: Vec<Ciphertext>,
        /// Carries keys and shows nothing: it does not count.
        key_message: bool,
        /// The device lists they were made for.
        versions: Vec<DeviceVersion>,
    },
}

/// A change of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupChange {
    /// Another name, at most 128 bytes, not empty.
    Rename(String),
    /// Another picture: a media reference, at most 256 bytes; empty: none.
    Picture(String),
    /// New members; at least one, no user twice. So are the lists below.
    Add(Vec<UserId>),
    /// Members who must go.
    Remove(Vec<UserId>),
    /// The writer goes.
    Leave,
    /// Members become admins.
    Promote(Vec<UserId>),
    /// Admins become members.
    Demote(Vec<UserId>),
    /// Another owner.
    Transfer(UserId),
    /// The end of the group: everybody goes.
    Dissolve,
}

/// A message for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ciphertext {
    /// Whose device.
    pub user: UserId,
    /// Which.
    pub device: DeviceId,
    /// Opaque.
    pub body: Bytes,
}

/// Which list of a user's devices somebody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceVersion {
    /// Whose devices.
    pub user: UserId,
    /// Raised with every change of the list.
    pub version: u64,
}

/// A new group or channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateGroup {
    /// The same creator and nonce name the same group.
    pub nonce: [u8; 16],
    /// At most 128 bytes, not empty.
    pub name: String,
    /// A media reference, or empty.
    pub picture: String,
    /// Without the creator; no user twice. Empty for a channel.
    pub members: Vec<UserId>,
    /// A channel: its members are not kept in it, and pull.
    pub channel: bool,
}

/// Which devices are signed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignOut {
    /// This one.
    Device(DeviceId),
    /// All but the asking one.
    AllOthers,
}

/// What of the privacy settings changes; what is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetPrivacy {
    /// Who sees when this user is there.
    pub presence: Option<Audience>,
    /// Messages of strangers are requests.
    pub contacts_only: Option<bool>,
    /// Others are told what this user read.
    pub read_receipts: Option<bool>,
}

/// What of a conversation's settings changes; what is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConversationSettings {
    /// No notification until then; 0: not muted.
    pub muted_until_ms: Option<u64>,
    /// Out of the list's way.
    pub archived: Option<bool>,
    /// Order among the pinned; 0: not pinned.
    pub pinned: Option<u32>,
}

/// Users whose presence is asked or watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceOf {
    /// 1 to 100, no user twice.
    pub users: Vec<UserId>,
    /// The group from which they are looked at; `None`: the direct conversation with each.
    pub conversation: Option<ConversationId>,
}

/// What a device asks besides: see `Request::Ask`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The user's devices.
    ListDevices,
    /// Another name for a device.
    RenameDevice {
        /// Which.
        device: DeviceId,
        /// At most 64 bytes.
        name: String,
    },
    /// Devices are signed out.
    SignOut(SignOut),
    /// Privacy settings.
    SetPrivacy(SetPrivacy),
    /// A user may not reach this one any more, or may again.
    Block {
        /// Who.
        user: UserId,
        /// May again.
        unblock: bool,
    },
    /// Whom this user blocked.
    ListBlocks {
        /// Those after this one, in the order of their ids; `None`: from the first.
        after: Option<UserId>,
        /// 1 to 100.
        limit: usize,
    },
    /// The list by last activity.
    ListConversations {
        /// Whose last activity was before this; 0: from the newest.
        before: MessageId,
        /// 1 to 500.
        limit: usize,
    },
    /// Settings of one conversation.
    SetConversation {
        /// Which.
        conversation: ConversationId,
        /// What changes.
        settings: ConversationSettings,
    },
    /// A new group or channel.
    CreateGroup(CreateGroup),
    /// Name, picture, size, own role.
    Describe(ConversationId),
    /// The members, former ones too.
    ListMembers {
        /// Of which conversation.
        conversation: ConversationId,
        /// Member numbers + 1 above this one; 0: from the first.
        after_member: u32,
        /// 1 to 500.
        limit: usize,
    },
    /// Who received and read a message, and when.
    ReceiptDetails {
        /// In which conversation.
        conversation: ConversationId,
        /// Which message.
        seq: Sequence,
        /// Member numbers + 1 above this one; 0: from the first.
        after_member: u32,
    },
    /// This user does not want to see these any more.
    DeleteForMe {
        /// In which conversation.
        conversation: ConversationId,
        /// 1 to 100, rising.
        seqs: Vec<Sequence>,
    },
    /// Into a channel, or out of it.
    JoinChannel {
        /// Which.
        conversation: ConversationId,
        /// Out of it.
        leave: bool,
    },
    /// A stranger's conversation is taken into the list.
    AcceptRequest(ConversationId),
    /// Who is there.
    QueryPresence(PresenceOf),
    /// The devices of users, for encrypting.
    ListUserDevices {
        /// 1 or 2.
        users: Vec<UserId>,
        /// The direct conversation it is for.
        conversation: ConversationId,
    },
}

/// What a device says besides, without an answer: see `Request::Hint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Somebody writes, or stopped.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Stopped.
        stopped: bool,
    },
    /// Tell when these come and go.
    WatchPresence {
        /// Who.
        of: PresenceOf,
        /// Do not tell any more.
        stop: bool,
    },
    /// Tell when there is news.
    WatchChannel {
        /// Where.
        conversation: ConversationId,
        /// Do not tell any more.
        stop: bool,
    },
}
