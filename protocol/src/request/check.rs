//! Checks of what is asked beside messages, sync and history, and of the hints.

use super::asks::{Ask, ConversationSettings, CreateGroup, Hint, PresenceOf, SetPrivacy, SignOut};
use super::fields::{self, UserList, invalid, text_bounds, user_list};
use crate::error::Refusal;
use crate::ids::{ConversationId, KeyKind, MessageId, Sequence};
use crate::limits;
use crate::wire;

// ---- the user's own account and devices ----

pub(super) fn rename_device(rename: wire::RenameDevice) -> Result<Ask, Refusal> {
    let most = limits::DEVICE_NAME_MAX_BYTES;
    let bounds = text_bounds!("rename_device.name", "at most 64 bytes", 0, most);
    Ok(Ask::RenameDevice {
        device: fields::device(&rename.device, "rename_device.device has 16 bytes")?,
        name: fields::text(rename.name, &bounds)?,
    })
}

pub(super) fn sign_out(sign_out: &wire::SignOut) -> Result<Ask, Refusal> {
    match (sign_out.device.as_ref(), sign_out.all_others) {
        ([], true) => Ok(Ask::SignOut(SignOut::AllOthers)),
        ([], false) | ([_, ..], true) => {
            Err(invalid("sign_out has exactly one of device and all_others"))
        }
        (device, false) => {
            let device = fields::device(device, "sign_out.device has 16 bytes")?;
            Ok(Ask::SignOut(SignOut::Device(device)))
        }
    }
}

pub(super) fn set_privacy(privacy: &wire::SetPrivacy) -> Result<Ask, Refusal> {
    let presence = privacy
        .presence
        .map(wire::Audience::try_from)
        .transpose()
        .map_err(|_| invalid("set_privacy.presence is not an audience"))?;
    Ok(Ask::SetPrivacy(SetPrivacy {
        presence,
        contacts_only: privacy.contacts_only,
        read_receipts: privacy.read_receipts,
    }))
}

pub(super) fn block(block: &wire::Block) -> Result<Ask, Refusal> {
    let user = fields::user(&block.user, "block.user is 1 to 64 bytes without control characters")?;
    Ok(Ask::Block { user, unblock: block.unblock })
}

pub(super) fn list_blocks(list: &wire::ListBlocks) -> Result<Ask, Refusal> {
    let after = match list.after.as_str() {
        "" => None,
        after => {
            let otherwise = "list_blocks.after is at most 64 bytes without control characters";
            Some(fields::user(after, otherwise)?)
        }
    };
    let otherwise = "list_blocks.limit is at most 100";
    Ok(Ask::ListBlocks {
        after,
        limit: fields::limit(list.limit, limits::BLOCKS_PAGE_MAX, otherwise)?,
    })
}

pub(super) fn list_user_devices(list: &wire::ListUserDevices) -> Result<Ask, Refusal> {
    let users = user_list!("list_user_devices.users", "1 or 2 users", limits::DEVICE_LISTS_MAX);
    let otherwise = "list_user_devices.conversation is not a direct conversation";
    Ok(Ask::ListUserDevices {
        users: fields::users(&list.users, &users)?,
        conversation: fields::conversation_of(&list.conversation, &[KeyKind::Direct], otherwise)?,
    })
}

// ---- the list of conversations ----

pub(super) fn list_conversations(list: &wire::ListConversations) -> Result<Ask, Refusal> {
    let otherwise = "list_conversations.limit is at most 500";
    Ok(Ask::ListConversations {
        before: MessageId(list.before_message_id),
        limit: fields::limit(list.limit, limits::CONVERSATIONS_PAGE_MAX, otherwise)?,
    })
}

pub(super) fn set_conversation(set: &wire::SetConversation) -> Result<Ask, Refusal> {
    if set.pinned.is_some_and(|pinned| pinned > limits::PINNED_MAX) {
        return Err(invalid("set_conversation.pinned is at most 1000"));
    }
    Ok(Ask::SetConversation {
        conversation: fields::conversation(&set.conversation)?,
        settings: ConversationSettings {
            muted_until_ms: set.muted_until_ms,
            archived: set.archived,
            pinned: set.pinned,
        },
    })
}

pub(super) fn delete_for_me(delete: wire::DeleteForMe) -> Result<Ask, Refusal> {
    let conversation = fields::conversation(&delete.conversation)?;
    let mut seqs = delete.seqs;
    if !(1..=limits::DELETED_SEQS_MAX).contains(&seqs.len()) {
        return Err(invalid("delete_for_me has 1 to 100 seqs"));
    }
    seqs.sort_unstable();
    seqs.dedup();
    if seqs.first() == Some(&0) {
        return Err(invalid("delete_for_me.seqs start at 1"));
    }
    Ok(Ask::DeleteForMe { conversation, seqs: seqs.into_iter().map(Sequence).collect() })
}

pub(super) fn accept_request(accept: &wire::AcceptRequest) -> Result<Ask, Refusal> {
    let otherwise = "accept_request.conversation is not a direct conversation or a group";
    let kinds = [KeyKind::Direct, KeyKind::Group];
    fields::conversation_of(&accept.conversation, &kinds, otherwise).map(Ask::AcceptRequest)
}

pub(super) fn join_channel(join: &wire::JoinChannel) -> Result<Ask, Refusal> {
    let otherwise = "join_channel.conversation is not a channel";
    let conversation = fields::conversation_of(&join.conversation, &[KeyKind::Channel], otherwise)?;
    Ok(Ask::JoinChannel { conversation, leave: join.leave })
}

// ---- groups and channels ----

pub(super) fn create_group(create: wire::CreateGroup) -> Result<Ask, Refusal> {
    let nonce = <[u8; 16]>::try_from(create.nonce.as_ref())
        .map_err(|_| invalid("create_group.nonce has 16 bytes"))?;
    let name = text_bounds!("create_group.name", "1 to 128 bytes", 1, limits::NAME_MAX_BYTES);
    let picture =
        text_bounds!("create_group.picture", "at most 256 bytes", 0, limits::PICTURE_MAX_BYTES);
    let members =
        user_list!("create_group.members", "at most 1023 users", limits::MEMBERS_NAMED_MAX);
    if create.channel && !create.members.is_empty() {
        return Err(invalid("create_group.members is empty for a channel"));
    }
    Ok(Ask::CreateGroup(CreateGroup {
        nonce,
        name: fields::text(create.name, &name)?,
        picture: fields::text(create.picture, &picture)?,
        members: fields::users_or_none(&create.members, &members)?,
        channel: create.channel,
    }))
}

pub(super) fn describe(describe: &wire::DescribeConversation) -> Result<Ask, Refusal> {
    fields::conversation(&describe.conversation).map(Ask::Describe)
}

pub(super) fn list_members(list: &wire::ListMembers) -> Result<Ask, Refusal> {
    let otherwise = "list_members.conversation is not a group or a channel";
    let kinds = [KeyKind::Group, KeyKind::Channel];
    Ok(Ask::ListMembers {
        conversation: fields::conversation_of(&list.conversation, &kinds, otherwise)?,
        after_member: list.after_member,
        limit: fields::limit(
            list.limit,
            limits::MEMBERS_PAGE_MAX,
            "list_members.limit is at most 500",
        )?,
    })
}

pub(super) fn receipt_details(details: &wire::ReceiptDetails) -> Result<Ask, Refusal> {
    let otherwise = "receipt_details.conversation is not a direct conversation or a group";
    let kinds = [KeyKind::Direct, KeyKind::Group];
    Ok(Ask::ReceiptDetails {
        conversation: fields::conversation_of(&details.conversation, &kinds, otherwise)?,
        seq: fields::seq(details.seq, "receipt_details.seq starts at 1")?,
        after_member: details.after_member,
    })
}

// ---- presence and hints ----

pub(super) fn query_presence(query: &wire::QueryPresence) -> Result<Ask, Refusal> {
    let users = user_list!("query_presence.users", "1 to 100 users", limits::PRESENCE_USERS_MAX);
    let otherwise = "query_presence.conversation is not a group";
    presence_of(&query.users, &users, &query.conversation, otherwise).map(Ask::QueryPresence)
}

pub(super) fn watch_presence(watch: &wire::WatchPresence) -> Result<Hint, Refusal> {
    let users = user_list!("watch_presence.users", "1 to 100 users", limits::PRESENCE_USERS_MAX);
    let otherwise = "watch_presence.conversation is not a group";
    let of = presence_of(&watch.users, &users, &watch.conversation, otherwise)?;
    Ok(Hint::WatchPresence { of, stop: watch.stop })
}

fn presence_of(
    users: &[String],
    list: &UserList,
    conversation: &[u8],
    otherwise: &'static str,
) -> Result<PresenceOf, Refusal> {
    let users = fields::users(users, list)?;
    let conversation: Option<ConversationId> = match conversation {
        [] => None,
        id => Some(fields::conversation_of(id, &[KeyKind::Group], otherwise)?),
    };
    Ok(PresenceOf { users, conversation })
}

pub(super) fn typing(typing: &wire::Typing) -> Result<Hint, Refusal> {
    let otherwise = "typing.conversation is not a direct conversation or a group";
    let kinds = [KeyKind::Direct, KeyKind::Group];
    let conversation = fields::conversation_of(&typing.conversation, &kinds, otherwise)?;
    Ok(Hint::Typing { conversation, stopped: typing.stopped })
}

pub(super) fn watch_channel(watch: &wire::WatchChannel) -> Result<Hint, Refusal> {
    let otherwise = "watch_channel.conversation is not a channel";
    let conversation =
        fields::conversation_of(&watch.conversation, &[KeyKind::Channel], otherwise)?;
    Ok(Hint::WatchChannel { conversation, stop: watch.stop })
}
