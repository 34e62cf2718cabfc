//! What a question is answered with.

use roost_protocol::ids::{ConversationId, Sequence};
use roost_protocol::wire::{self, client_frame, server_frame};

/// What a question is answered with. Lists are pages; `more` says that there is another.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Done, and durable.
    Done,
    /// The user's devices.
    Devices(wire::DeviceList),
    /// Whom the user blocked.
    Blocks(wire::BlockList),
    /// The list, by last activity.
    Conversations(wire::ConversationList),
    /// The group is there, now or since an earlier try.
    GroupCreated {
        /// Its id.
        conversation: ConversationId,
        /// Its newest record now.
        head: Sequence,
    },
    /// Name, picture, size, own role.
    Description(wire::ConversationDescription),
    /// Members, former ones too.
    Members(wire::MemberList),
    /// Who received and read a message, and when.
    Receipts(wire::ReceiptDetailsReply),
    /// Who is there.
    Presence(wire::PresenceReply),
    /// The devices of users.
    UserDevices(wire::UserDevices),
    /// A page of history.
    History(wire::HistoryReply),
}

impl Answer {
    /// The answer to a question, if it is one.
    pub(crate) fn to(asked: &client_frame::Body, body: server_frame::Body) -> Option<Self> {
        use client_frame::Body as A;
        use server_frame::Body as B;
        match (asked, body) {
            (A::ListDevices(_), B::DeviceList(list)) => Some(Self::Devices(list)),
            (A::ListBlocks(_), B::BlockList(list)) => Some(Self::Blocks(list)),
            (A::ListConversations(_), B::ConversationList(list)) => Some(Self::Conversations(list)),
            (A::CreateGroup(_), B::GroupCreated(created)) => {
                let conversation = ConversationId::from_slice(&created.conversation)?;
                Some(Self::GroupCreated { conversation, head: Sequence(created.head) })
            }
            (A::DescribeConversation(_), B::ConversationDescription(description)) => {
                Some(Self::Description(description))
            }
            (A::ListMembers(_), B::MemberList(list)) => Some(Self::Members(list)),
            (A::ReceiptDetails(_), B::ReceiptDetails(reply)) => Some(Self::Receipts(reply)),
            (A::QueryPresence(_), B::PresenceReply(reply)) => Some(Self::Presence(reply)),
            (A::ListUserDevices(_), B::UserDevices(devices)) => Some(Self::UserDevices(devices)),
            (A::History(_), B::History(page)) => Some(Self::History(page)),
            (asked, B::Done(_)) if crate::question::changes(asked) => Some(Self::Done),
            (_, _) => None,
        }
    }
}
