//! Account, lists, groups, presence and hints.

use super::{
    a_user, ask, asked, channel, direct, group, id_of_16_bytes, kinds, limit, refused, taken, text,
    users,
};
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, DeviceId, MessageId, Sequence, UserId};
use roost_protocol::request::{Ask, Hint, PresenceOf, Request, SetPrivacy, SignOut};
use roost_protocol::wire::{self, client_frame::Body};

#[track_caller]
fn hint(body: Body) -> Hint {
    match asked(body) {
        Ok(Request::Hint(hint)) => hint,
        other => unreachable!("not a hint: {other:?}"),
    }
}

// ---- account and devices ----

#[test]
fn devices_are_named_and_signed_out() {
    let device = || Bytes::from(vec![9; 16]);
    let rename = |device, name| Body::RenameDevice(wire::RenameDevice { device, name });
    let texts =
        ["rename_device.name has at most 64 bytes", "rename_device.name has no control characters"];
    text(0, 64, texts, |name| rename(device(), name));
    let expected = Ask::RenameDevice { device: DeviceId([9; 16]), name: "old phone".into() };
    assert_eq!(ask(rename(device(), "old phone".into())), expected);
    for length in [0, 15, 17] {
        let text = "rename_device.device has 16 bytes";
        refused(rename(vec![9; length].into(), "x".into()), text);
    }

    let sign_out = |device, all_others| Body::SignOut(wire::SignOut { device, all_others });
    assert_eq!(ask(sign_out(Bytes::new(), true)), Ask::SignOut(SignOut::AllOthers));
    let one = Ask::SignOut(SignOut::Device(DeviceId([9; 16])));
    assert_eq!(ask(sign_out(device(), false)), one);
    let text = "sign_out has exactly one of device and all_others";
    refused(sign_out(device(), true), text);
    refused(sign_out(Bytes::new(), false), text);
    for length in [1, 15, 17] {
        refused(sign_out(vec![9; length].into(), false), "sign_out.device has 16 bytes");
    }
    assert_eq!(ask(Body::ListDevices(wire::ListDevices {})), Ask::ListDevices);
}

#[test]
fn privacy_changes_only_in_what_is_said() {
    let set = |presence, contacts_only, read_receipts| {
        Body::SetPrivacy(wire::SetPrivacy { presence, contacts_only, read_receipts })
    };
    assert_eq!(ask(set(None, None, None)), Ask::SetPrivacy(SetPrivacy::default()));
    let expected = SetPrivacy {
        presence: Some(wire::Audience::Nobody),
        contacts_only: Some(true),
        read_receipts: Some(false),
    };
    assert_eq!(ask(set(Some(2), Some(true), Some(false))), Ask::SetPrivacy(expected));
    for unknown in [3, -1] {
        refused(set(Some(unknown), None, None), "set_privacy.presence is not an audience");
    }
}

#[test]
fn users_are_blocked_by_their_ids() {
    let block = |user| Body::Block(wire::Block { user, unblock: false });
    taken(block("u".repeat(64)));
    for wrong in [String::new(), "u".repeat(65), "a\u{0}".into()] {
        refused(block(wrong), "block.user is 1 to 64 bytes without control characters");
    }
    let list = |after, limit| Body::ListBlocks(wire::ListBlocks { after, limit });
    limit(
        100,
        "list_blocks.limit is at most 100",
        |limit| list(String::new(), limit),
        |ask| {
            let Ask::ListBlocks { after: None, limit } = ask else { panic!("{ask:?}") };
            limit
        },
    );
    let Ask::ListBlocks { after: Some(after), .. } = ask(list("mallory".into(), 0)) else {
        panic!("a list of blocks")
    };
    assert_eq!(after.as_str(), "mallory");
    for wrong in ["u".repeat(65), "a\u{0}".into()] {
        let text = "list_blocks.after is at most 64 bytes without control characters";
        refused(list(wrong, 0), text);
    }
}

#[test]
fn devices_of_two_users_are_listed_for_their_conversation() {
    let list =
        |users, conversation| Body::ListUserDevices(wire::ListUserDevices { users, conversation });
    let texts = [
        "list_user_devices.users names 1 or 2 users",
        "list_user_devices.users: a user id is 1 to 64 bytes without control characters",
        "list_user_devices.users names a user twice",
    ];
    users(1, 2, texts, |users| list(users, direct()));
    let text = "list_user_devices.conversation is not a direct conversation";
    kinds(&[direct()], text, |id| list(vec!["bob".into()], id));
    refused(list(vec!["bob".into()], Bytes::new()), "a conversation id has 16 bytes");
}

// ---- the list of conversations ----

#[test]
fn the_list_comes_in_pages() {
    let list = |before_message_id, limit| {
        Body::ListConversations(wire::ListConversations { before_message_id, limit })
    };
    limit(
        500,
        "list_conversations.limit is at most 500",
        |limit| list(4, limit),
        |ask| {
            let Ask::ListConversations { before: MessageId(4), limit } = ask else {
                panic!("{ask:?}")
            };
            limit
        },
    );
}

#[test]
fn settings_of_a_conversation_are_bounded() {
    let set = |conversation, pinned| {
        Body::SetConversation(wire::SetConversation {
            conversation,
            muted_until_ms: Some(u64::MAX),
            archived: None,
            pinned,
        })
    };
    taken(set(group(), None));
    taken(set(group(), Some(1000)));
    refused(set(group(), Some(1001)), "set_conversation.pinned is at most 1000");
    let Ask::SetConversation { settings, .. } = ask(set(channel(), Some(0))) else {
        panic!("settings")
    };
    assert_eq!((settings.muted_until_ms, settings.archived), (Some(u64::MAX), None));
    assert_eq!(settings.pinned, Some(0));
    id_of_16_bytes(|id| set(id, None));
    refused(set(Bytes::new(), None), "a conversation id has 16 bytes");
}

#[test]
fn what_is_deleted_for_oneself_is_sorted() {
    let delete = |seqs| Body::DeleteForMe(wire::DeleteForMe { conversation: group(), seqs });
    let Ask::DeleteForMe { seqs, .. } = ask(delete(vec![9, 3, u64::MAX, 3])) else {
        panic!("a deletion")
    };
    assert_eq!(seqs, [Sequence(3), Sequence(9), Sequence(u64::MAX)]);
    taken(delete((1..=100).collect()));
    let count = "delete_for_me has 1 to 100 seqs";
    refused(delete((1..=101).collect()), count);
    refused(delete(vec![1; 101]), count);
    refused(delete(vec![]), count);
    refused(delete(vec![7, 0]), "delete_for_me.seqs start at 1");
    id_of_16_bytes(|conversation| {
        Body::DeleteForMe(wire::DeleteForMe { conversation, seqs: vec![1] })
    });
}

#[test]
fn requests_are_accepted_and_channels_joined() {
    let text = "accept_request.conversation is not a direct conversation or a group";
    kinds(&[direct(), group()], text, |conversation| {
        Body::AcceptRequest(wire::AcceptRequest { conversation })
    });
    let text = "join_channel.conversation is not a channel";
    kinds(&[channel()], text, |conversation| {
        Body::JoinChannel(wire::JoinChannel { conversation, leave: false })
    });
    let leave = wire::JoinChannel { conversation: channel(), leave: true };
    assert!(matches!(ask(Body::JoinChannel(leave)), Ask::JoinChannel { leave: true, .. }));
}

// ---- groups ----

fn create(change: impl FnOnce(&mut wire::CreateGroup)) -> Body {
    let mut create = wire::CreateGroup {
        nonce: Bytes::from(vec![1; 16]),
        name: "Rowing".into(),
        ..wire::CreateGroup::default()
    };
    change(&mut create);
    Body::CreateGroup(create)
}

#[test]
fn a_group_is_created_within_bounds() {
    for length in [0, 15, 17] {
        let text = "create_group.nonce has 16 bytes";
        refused(create(|create| create.nonce = vec![1; length].into()), text);
    }
    let texts =
        ["create_group.name has 1 to 128 bytes", "create_group.name has no control characters"];
    text(1, 128, texts, |name| create(|create| create.name = name));
    let texts = [
        "create_group.picture has at most 256 bytes",
        "create_group.picture has no control characters",
    ];
    text(0, 256, texts, |picture| create(|create| create.picture = picture));
    let texts = [
        "create_group.members names at most 1023 users",
        "create_group.members: a user id is 1 to 64 bytes without control characters",
        "create_group.members names a user twice",
    ];
    users(0, 1023, texts, |members| create(|create| create.members = members));
    taken(create(|create| create.channel = true));
    let members = |create: &mut wire::CreateGroup| {
        create.channel = true;
        create.members = vec!["bob".into()];
    };
    refused(create(members), "create_group.members is empty for a channel");
}

#[test]
fn groups_are_looked_at_in_pages() {
    let describe =
        |conversation| Body::DescribeConversation(wire::DescribeConversation { conversation });
    kinds(&[direct(), group(), channel(), a_user()], "", describe);
    let list = |conversation, limit| {
        Body::ListMembers(wire::ListMembers { conversation, after_member: 3, limit })
    };
    limit(
        500,
        "list_members.limit is at most 500",
        |limit| list(group(), limit),
        |ask| {
            let Ask::ListMembers { after_member: 3, limit, .. } = ask else { panic!("{ask:?}") };
            limit
        },
    );
    let text = "list_members.conversation is not a group or a channel";
    kinds(&[group(), channel()], text, |id| list(id, 0));
    let details = |conversation, seq| {
        Body::ReceiptDetails(wire::ReceiptDetails { conversation, seq, after_member: 0 })
    };
    let text = "receipt_details.conversation is not a direct conversation or a group";
    kinds(&[direct(), group()], text, |id| details(id, 1));
    refused(details(group(), 0), "receipt_details.seq starts at 1");
}

// ---- presence and hints ----

#[test]
fn presence_is_asked_of_a_hundred_at_a_time() {
    let query =
        |users, conversation| Body::QueryPresence(wire::QueryPresence { users, conversation });
    let watch = |users, conversation| {
        Body::WatchPresence(wire::WatchPresence { users, stop: false, conversation })
    };
    let texts = [
        "query_presence.users names 1 to 100 users",
        "query_presence.users: a user id is 1 to 64 bytes without control characters",
        "query_presence.users names a user twice",
    ];
    users(1, 100, texts, |users| query(users, Bytes::new()));
    let texts = [
        "watch_presence.users names 1 to 100 users",
        "watch_presence.users: a user id is 1 to 64 bytes without control characters",
        "watch_presence.users names a user twice",
    ];
    users(1, 100, texts, |users| watch(users, Bytes::new()));
    let bob = || vec!["bob".into()];
    kinds(&[group()], "query_presence.conversation is not a group", |id| query(bob(), id));
    kinds(&[group()], "watch_presence.conversation is not a group", |id| watch(bob(), id));
    let of = |conversation| PresenceOf { users: vec![UserId::new("bob").unwrap()], conversation };
    assert_eq!(ask(query(bob(), Bytes::new())), Ask::QueryPresence(of(None)));
    let id = ConversationId::from_slice(&group());
    assert_eq!(ask(query(bob(), group())), Ask::QueryPresence(of(id)));
    let watched = Hint::WatchPresence { of: of(id), stop: false };
    assert_eq!(hint(watch(bob(), group())), watched);
}

#[test]
fn hints_go_where_they_mean_something() {
    let text = "typing.conversation is not a direct conversation or a group";
    kinds(&[direct(), group()], text, |conversation| {
        Body::Typing(wire::Typing { conversation, stopped: true })
    });
    let text = "watch_channel.conversation is not a channel";
    kinds(&[channel()], text, |conversation| {
        Body::WatchChannel(wire::WatchChannel { conversation, stop: false })
    });
    let stop = wire::WatchChannel { conversation: channel(), stop: true };
    assert!(matches!(hint(Body::WatchChannel(stop)), Hint::WatchChannel { stop: true, .. }));
}
