//! What a conversation tells mailboxes: rank 3.

use super::{RequestTag, Watch};
use crate::ids::EdgeAddress;
use bytes::Bytes;
use roost_protocol::encode::PushedMessage;
use roost_protocol::ids::{
    ClientMessageId, ConversationId, DeviceId, MessageId, Sequence, UserId, UserKey,
};
use std::sync::Arc;

/// What a conversation is, for entries of mailboxes that do not know it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Card {
    /// The two users of a direct conversation, the lower key first.
    Direct([(UserKey, UserId); 2]),
    /// A group: who is in it stands in `Membership`.
    Group,
    /// A channel.
    Channel,
}

impl Card {
    /// The other user of a direct conversation.
    #[must_use]
    pub fn peer_of(&self, user: UserKey) -> Option<&(UserKey, UserId)> {
        let Self::Direct(users) = self else { return None };
        match (users[0].0 == user, users[1].0 == user) {
            (true, _) => Some(&users[1]),
            (_, true) => Some(&users[0]),
            (false, false) => None,
        }
    }

    /// The key of one of the two users of a direct conversation.
    #[must_use]
    pub fn key_of(&self, user: &UserId) -> Option<UserKey> {
        let Self::Direct(users) = self else { return None };
        users.iter().find(|(_, id)| id == user).map(|(key, _)| *key)
    }

    /// The user of that key in full.
    #[must_use]
    pub fn user_id(&self, user: UserKey) -> Option<&UserId> {
        let Self::Direct(users) = self else { return None };
        users.iter().find(|(key, _)| *key == user).map(|(_, id)| id)
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
    /// The read mark that the sender moved by sending; when told again, several.
    pub own_marks: OwnMarks,
    /// Groups: who came or went with this record; when told again, everybody as they are.
    pub memberships: Vec<Membership>,
    /// The message itself, unless several were merged or it is told again.
    pub fresh: Option<Box<Fresh>>,
}

impl Deliver {
    /// Whether it is the first message of a direct conversation, and this user wrote it just now.
    #[must_use]
    pub fn begins_by(&self, user: UserKey) -> bool {
        self.head.seq.0 == 1
            && matches!(*self.card, Card::Direct(_))
            && self.fresh.as_ref().is_some_and(|fresh| fresh.sender == user)
    }
}

/// Read marks by user. Nearly every message has one, for which nothing is allocated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OwnMarks {
    /// None here.
    #[default]
    None,
    /// Of whoever wrote it.
    One((UserKey, Point)),
    /// Of several: merged, or told again.
    Many(Vec<(UserKey, Point)>),
}

impl OwnMarks {
    /// They all.
    #[must_use]
    pub fn as_slice(&self) -> &[(UserKey, Point)] {
        match self {
            Self::None => &[],
            Self::One(mark) => std::slice::from_ref(mark),
            Self::Many(marks) => marks,
        }
    }

    /// They all.
    pub fn iter(&self) -> std::slice::Iter<'_, (UserKey, Point)> {
        self.as_slice().iter()
    }

    /// Takes the further one of a user's.
    pub fn merge(&mut self, user: UserKey, point: Point) {
        let known = match self {
            Self::None => &mut [][..],
            Self::One(mark) => std::slice::from_mut(mark),
            Self::Many(marks) => marks,
        };
        if let Some((_, mark)) = known.iter_mut().find(|(known, _)| *known == user) {
            *mark = mark.max(point);
            return;
        }
        *self = match std::mem::take(self) {
            Self::None => Self::One((user, point)),
            Self::One(mark) => Self::Many(vec![mark, (user, point)]),
            Self::Many(mut marks) => {
                marks.push((user, point));
                Self::Many(marks)
            }
        };
    }
}

impl From<Vec<(UserKey, Point)>> for OwnMarks {
    fn from(marks: Vec<(UserKey, Point)>) -> Self {
        match marks.as_slice() {
            [] => Self::None,
            [mark] => Self::One(*mark),
            [..] => Self::Many(marks),
        }
    }
}

impl<'a> IntoIterator for &'a OwnMarks {
    type Item = &'a (UserKey, Point);
    type IntoIter = std::slice::Iter<'a, (UserKey, Point)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A message being pushed for the first time.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The whole frame as others get it, encoded once.
    pub frame: Bytes,
    /// What it says, for copies that differ: the sender's own devices, ciphertexts.
    pub message: PushedMessage,
    /// One ciphertext for each device: only these get it, each its own.
    pub ciphertexts: Vec<(UserKey, DeviceId, Bytes)>,
    /// Who sent it.
    pub sender: UserKey,
    /// By which connection: it has the reply and is not pushed to. A later connection of the same
    /// device may be of an app that forgot what it sent.
    pub sender_edge: EdgeAddress,
    /// For the sender's own devices.
    pub client_message_id: ClientMessageId,
}

/// A member of a group came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Who.
    pub user: UserKey,
    /// The user in full: the mailbox may be new.
    pub user_id: UserId,
    /// The member's number.
    pub member: u32,
    /// The record that says so: the newest holds.
    pub since: Point,
    /// Went; else came, and the read mark is at that record.
    pub left: bool,
}

/// Users of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// One user.
    One(UserKey),
    /// Both users of a direct conversation.
    Two([UserKey; 2]),
    /// Members of a group. Shared by all messages until somebody comes or goes.
    Many(Arc<[UserKey]>),
}

impl Recipients {
    /// Them all.
    #[must_use]
    pub fn as_slice(&self) -> &[UserKey] {
        match self {
            Self::One(user) => std::slice::from_ref(user),
            Self::Two(users) => users,
            Self::Many(users) => users,
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

/// Somebody looks at this user. The mailbox says what may be seen.
#[derive(Debug, Clone)]
pub struct PresenceAsked {
    /// Who looks.
    pub edge: EdgeAddress,
    /// The request; its id is 0 for a watch.
    pub request: RequestTag,
    /// Who looks.
    pub asker: UserKey,
    /// At whom: whose mailbox.
    pub about: (UserKey, UserId),
    /// They share a conversation.
    pub contact: bool,
    /// Once, or until further notice.
    pub watch: Watch,
}

/// Somebody who may wants the list of this user's devices.
#[derive(Debug, Clone)]
pub struct DevicesAsked {
    /// Who asks.
    pub edge: EdgeAddress,
    /// The request.
    pub request: RequestTag,
    /// Whose devices: whose mailbox.
    pub about: (UserKey, UserId),
}

/// A direct conversation took a block; it is durable there.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfirmed {
    /// Who blocks: whose mailbox.
    pub user: UserKey,
    /// The conversation.
    pub conversation: ConversationId,
    /// Which record of the mailbox.
    pub number: u64,
}

/// A direct conversation wants to know the version of this user's devices, now and at each change.
#[derive(Debug, Clone, Copy)]
pub struct VersionWanted {
    /// Whose devices: whose mailbox.
    pub user: UserKey,
    /// The conversation.
    pub conversation: ConversationId,
}

/// A channel took somebody in or let them go, or there is none.
#[derive(Debug, Clone, Copy)]
pub struct ChannelConfirmed {
    /// Who: whose mailbox.
    pub user: UserKey,
    /// The channel.
    pub conversation: ConversationId,
    /// Which record of the mailbox.
    pub number: u64,
    /// There is such a channel.
    pub exists: bool,
    /// Its newest record.
    pub head: Point,
}
