//! Questions as the wire has them.

use bytes::Bytes;
use roost_protocol::ids::{ConversationId, DeviceId, UserId};
use roost_protocol::request::{
    Ask, CreateGroup, History, HistoryFrom, PresenceOf, SetPrivacy, SignOut, Target,
};
use roost_protocol::wire::{self, client_frame::Body};

/// Whether a question changes something: then it waits for those before it that do.
pub(crate) const fn changes(body: &Body) -> bool {
    matches!(
        body,
        Body::RenameDevice(_)
            | Body::SignOut(_)
            | Body::SetPrivacy(_)
            | Body::Block(_)
            | Body::SetConversation(_)
            | Body::CreateGroup(_)
            | Body::DeleteForMe(_)
            | Body::JoinChannel(_)
            | Body::AcceptRequest(_)
    )
}

/// The frame of a question.
pub(crate) fn ask(ask: Ask) -> Body {
    match ask {
        Ask::ListDevices => Body::ListDevices(wire::ListDevices {}),
        Ask::RenameDevice { device, name } => {
            Body::RenameDevice(wire::RenameDevice { device: device_bytes(device), name })
        }
        Ask::SignOut(which) => Body::SignOut(sign_out(which)),
        Ask::SetPrivacy(privacy) => Body::SetPrivacy(set_privacy(privacy)),
        Ask::Block { user, unblock } => Body::Block(wire::Block { user: text(&user), unblock }),
        Ask::ListBlocks { after, limit } => Body::ListBlocks(wire::ListBlocks {
            after: after.as_ref().map(text).unwrap_or_default(),
            limit: count(limit),
        }),
        Ask::ListConversations { before, limit } => {
            let (before_message_id, limit) = (before.0, count(limit));
            Body::ListConversations(wire::ListConversations { before_message_id, limit })
        }
        Ask::SetConversation { conversation, settings } => {
            Body::SetConversation(wire::SetConversation {
                conversation: conversation.to_wire(),
                muted_until_ms: settings.muted_until_ms,
                archived: settings.archived,
                pinned: settings.pinned,
            })
        }
        Ask::CreateGroup(group) => Body::CreateGroup(create_group(group)),
        Ask::Describe(id) => {
            Body::DescribeConversation(wire::DescribeConversation { conversation: id.to_wire() })
        }
        Ask::ListMembers { conversation, after_member, limit } => {
            let (conversation, limit) = (conversation.to_wire(), count(limit));
            Body::ListMembers(wire::ListMembers { conversation, after_member, limit })
        }
        Ask::ReceiptDetails { conversation, seq, after_member } => {
            let (conversation, seq) = (conversation.to_wire(), seq.0);
            Body::ReceiptDetails(wire::ReceiptDetails { conversation, seq, after_member })
        }
        Ask::DeleteForMe { conversation, seqs } => Body::DeleteForMe(wire::DeleteForMe {
            conversation: conversation.to_wire(),
            seqs: seqs.into_iter().map(|seq| seq.0).collect(),
        }),
        Ask::JoinChannel { conversation, leave } => {
            Body::JoinChannel(wire::JoinChannel { conversation: conversation.to_wire(), leave })
        }
        Ask::AcceptRequest(id) => {
            Body::AcceptRequest(wire::AcceptRequest { conversation: id.to_wire() })
        }
        Ask::QueryPresence(of) => Body::QueryPresence(query_presence(of)),
        Ask::ListUserDevices { users, conversation } => {
            let (users, conversation) = (texts(&users), conversation.to_wire());
            Body::ListUserDevices(wire::ListUserDevices { users, conversation })
        }
    }
}

/// The frame of a look at a page.
pub(crate) fn history(history: History) -> wire::History {
    let mut asked = wire::History { limit: Some(count(history.limit)), ..Default::default() };
    match history.target {
        Target::Conversation(id) => asked.conversation = id.to_wire(),
        Target::User(user) => asked.user = text(&user),
    }
    match history.from {
        HistoryFrom::Newest => {}
        HistoryFrom::Before(seq) => asked.before = Some(seq.0),
        HistoryFrom::After(seq) => asked.after = Some(seq.0),
        HistoryFrom::BeforeTime(ms) => asked.before_time_ms = ms,
        HistoryFrom::AfterTime(ms) => asked.after_time_ms = ms,
    }
    asked
}

fn sign_out(which: SignOut) -> wire::SignOut {
    match which {
        SignOut::Device(device) => {
            wire::SignOut { device: device_bytes(device), all_others: false }
        }
        SignOut::AllOthers => wire::SignOut { device: Bytes::new(), all_others: true },
    }
}

fn set_privacy(privacy: SetPrivacy) -> wire::SetPrivacy {
    wire::SetPrivacy {
        presence: privacy.presence.map(Into::into),
        contacts_only: privacy.contacts_only,
        read_receipts: privacy.read_receipts,
    }
}

fn create_group(group: CreateGroup) -> wire::CreateGroup {
    wire::CreateGroup {
        nonce: Bytes::copy_from_slice(&group.nonce),
        name: group.name,
        members: texts(&group.members),
        channel: group.channel,
        picture: group.picture,
    }
}

fn query_presence(of: PresenceOf) -> wire::QueryPresence {
    wire::QueryPresence {
        users: texts(&of.users),
        conversation: of.conversation.map(ConversationId::to_wire).unwrap_or_default(),
    }
}

/// A user id as the wire has it.
pub(crate) fn text(user: &UserId) -> String {
    user.as_str().to_owned()
}

/// User ids as the wire has them.
pub(crate) fn texts(users: &[UserId]) -> Vec<String> {
    users.iter().map(text).collect()
}

/// A device id as the wire has it.
pub(crate) fn device_bytes(device: DeviceId) -> Bytes {
    Bytes::copy_from_slice(&device.0)
}

fn count(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}
