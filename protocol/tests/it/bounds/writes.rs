//! Contents of a write, where a page of history starts, and marks.

use super::{
    asked, channel, direct, group, id_of_16_bytes, kinds, refused, taken, text, too_large, users,
};
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, DeviceId, Sequence, UserId};
use roost_protocol::limits;
use roost_protocol::request::{self, Content, GroupChange, HistoryFrom, Request};
use roost_protocol::wire::{self, client_frame::Body, group_change::Change, send};

fn write(conversation: Bytes, content: send::Content) -> wire::Send {
    wire::Send {
        conversation,
        client_message_id: 1,
        client_sequence: 1,
        reply_to: 5,
        content: Some(content),
        ..wire::Send::default()
    }
}

fn content(content: send::Content) -> Body {
    Body::Send(write(direct(), content))
}

fn change(change: Change) -> Body {
    let change = wire::GroupChange { change: Some(change) };
    Body::Send(write(group(), send::Content::GroupChange(change)))
}

#[track_caller]
fn sent(body: Body) -> request::Send {
    match asked(body) {
        Ok(Request::Send(send)) => send,
        other => unreachable!("not a send: {other:?}"),
    }
}

fn blob(length: usize) -> Bytes {
    vec![7; length].into()
}

#[test]
fn an_edit_a_deletion_and_a_reaction_name_a_record() {
    use send::Content as C;
    let most = limits::BODY_MAX_BYTES;
    let edit = |seq, body| content(C::Edit(wire::Edit { seq, body }));
    let expected = Content::Edit { seq: Sequence(3), body: blob(most) };
    assert_eq!(sent(edit(3, blob(most))).content, expected);
    taken(edit(1, Bytes::new()));
    too_large(edit(1, blob(most + 1)));
    refused(edit(0, blob(1)), "edit.seq starts at 1");

    let delete = |seq| content(C::Delete(wire::Delete { seq }));
    assert_eq!(sent(delete(u64::MAX)).content, Content::Delete { seq: Sequence(u64::MAX) });
    refused(delete(0), "delete.seq starts at 1");

    let react = |seq, reaction| content(C::Reaction(wire::Reaction { seq, reaction }));
    refused(react(0, "+".into()), "reaction.seq starts at 1");
    let texts =
        ["reaction.reaction has at most 32 bytes", "reaction.reaction has no control characters"];
    text(0, 32, texts, |reaction| react(1, reaction));
    let family = "\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467}";
    let expected = Content::Reaction { seq: Sequence(2), reaction: family.into() };
    assert_eq!(sent(react(2, family.into())).content, expected);
}

#[test]
fn a_forward_names_where_it_was_said() {
    let most = limits::BODY_MAX_BYTES;
    let forward = |conversation, seq, body| {
        content(send::Content::Forward(wire::Forward { conversation, seq, body }))
    };
    let send = sent(forward(group(), 9, blob(most)));
    let id = ConversationId::from_slice(&group()).unwrap();
    let expected = Content::Forward { conversation: id, seq: Sequence(9), body: blob(most) };
    assert_eq!(send.content, expected);
    too_large(forward(group(), 9, blob(most + 1)));
    refused(forward(group(), 0, blob(1)), "forward.seq starts at 1");
    id_of_16_bytes(|id| forward(id, 9, blob(1)));
    refused(forward(Bytes::new(), 9, blob(1)), "a conversation id has 16 bytes");
}

#[test]
fn only_messages_reply() {
    use send::Content as C;
    let reply_to = |body| sent(body).reply_to.0;
    assert_eq!(reply_to(content(C::Body(blob(1)))), 5);
    let forward = wire::Forward { conversation: direct(), seq: 1, body: blob(1) };
    assert_eq!(reply_to(content(C::Forward(forward))), 5);
    assert_eq!(reply_to(to_devices(vec![ciphertext("ann", 1)], vec![version("ann")])), 5);
    assert_eq!(reply_to(content(C::Edit(wire::Edit { seq: 1, body: blob(1) }))), 0);
    assert_eq!(reply_to(content(C::Delete(wire::Delete { seq: 1 }))), 0);
    let reaction = wire::Reaction { seq: 1, reaction: "+".into() };
    assert_eq!(reply_to(content(C::Reaction(reaction))), 0);
    assert_eq!(reply_to(change(Change::Leave(true))), 0);
}

#[test]
fn a_group_is_changed_in_one_way_at_a_time() {
    let many = |users| wire::MemberChange { users };
    let texts = [
        "group_change names 1 to 1023 users",
        "group_change: a user id is 1 to 64 bytes without control characters",
        "group_change names a user twice",
    ];
    users(1, 1023, texts, |users| change(Change::Add(many(users))));
    users(1, 1023, texts, |users| change(Change::Remove(many(users))));
    users(1, 1023, texts, |users| change(Change::Promote(many(users))));
    users(1, 1023, texts, |users| change(Change::Demote(many(users))));
    let texts = [
        "group_change.transfer names exactly 1 user",
        "group_change.transfer: a user id is 1 to 64 bytes without control characters",
        "",
    ];
    users(1, 1, texts, |users| change(Change::Transfer(many(users))));
    let bob = UserId::new("bob").unwrap();
    let one = |users: [&str; 1]| many(users.map(String::from).to_vec());
    let got = |wanted| sent(change(wanted)).content;
    assert_eq!(got(Change::Add(one(["bob"]))), Content::Group(GroupChange::Add(vec![bob.clone()])));
    let removed = Content::Group(GroupChange::Remove(vec![bob.clone()]));
    assert_eq!(got(Change::Remove(one(["bob"]))), removed);
    let promoted = Content::Group(GroupChange::Promote(vec![bob.clone()]));
    assert_eq!(got(Change::Promote(one(["bob"]))), promoted);
    let demoted = Content::Group(GroupChange::Demote(vec![bob.clone()]));
    assert_eq!(got(Change::Demote(one(["bob"]))), demoted);
    assert_eq!(got(Change::Transfer(one(["bob"]))), Content::Group(GroupChange::Transfer(bob)));
    assert_eq!(got(Change::Leave(true)), Content::Group(GroupChange::Leave));
    assert_eq!(got(Change::Dissolve(true)), Content::Group(GroupChange::Dissolve));
    refused(change(Change::Leave(false)), "group_change.leave is true when it is there");
    refused(change(Change::Dissolve(false)), "group_change.dissolve is true when it is there");
    let none = send::Content::GroupChange(wire::GroupChange { change: None });
    refused(Body::Send(write(group(), none)), "group_change has no change");
}

#[test]
fn a_group_has_a_name_and_perhaps_a_picture() {
    let texts =
        ["group_change.rename has 1 to 128 bytes", "group_change.rename has no control characters"];
    text(1, 128, texts, |name| change(Change::Rename(name)));
    let texts = [
        "group_change.picture has at most 256 bytes",
        "group_change.picture has no control characters",
    ];
    text(0, 256, texts, |picture| change(Change::Picture(picture)));
}

#[test]
fn a_change_goes_to_what_can_change() {
    let leave = Change::Leave(true);
    let content = |change| send::Content::GroupChange(wire::GroupChange { change: Some(change) });
    let text = "group_change is for groups and channels";
    kinds(&[group(), channel()], text, |id| Body::Send(write(id, content(leave.clone()))));
    let to_bob = wire::Send { user: "bob".into(), ..write(Bytes::new(), content(leave)) };
    refused(Body::Send(to_bob), text);
    let cat = wire::MemberChange { users: vec!["cat".into()] };
    let in_channel = |change| Body::Send(write(channel(), content(change)));
    let text = "a channel's members come and go by join_channel";
    refused(in_channel(Change::Add(cat.clone())), text);
    refused(in_channel(Change::Remove(cat.clone())), text);
    taken(in_channel(Change::Promote(cat.clone())));
    taken(in_channel(Change::Demote(cat.clone())));
    taken(in_channel(Change::Transfer(cat)));
    taken(in_channel(Change::Rename("News".into())));
    taken(in_channel(Change::Dissolve(true)));
}

fn ciphertext(user: &str, device: u8) -> wire::DeviceCiphertext {
    let device = Bytes::from(vec![device; 16]);
    wire::DeviceCiphertext { user: user.into(), device, body: blob(1) }
}

fn version(user: &str) -> wire::DeviceVersion {
    wire::DeviceVersion { user: user.into(), version: 3 }
}

fn to_devices_in(
    conversation: Bytes,
    ciphertexts: Vec<wire::DeviceCiphertext>,
    device_versions: Vec<wire::DeviceVersion>,
) -> wire::Send {
    let to_devices = wire::ToDevices { ciphertexts, key_message: true };
    let content = send::Content::ToDevices(to_devices);
    wire::Send { device_versions, ..write(conversation, content) }
}

fn to_devices(
    ciphertexts: Vec<wire::DeviceCiphertext>,
    device_versions: Vec<wire::DeviceVersion>,
) -> Body {
    Body::Send(to_devices_in(direct(), ciphertexts, device_versions))
}

#[test]
fn ciphertexts_are_one_for_each_device() {
    let both = || vec![version("ann"), version("bob")];
    let many = |count| (0..count).map(|device| ciphertext("ann", device)).collect::<Vec<_>>();
    let count = "to_devices has 1 to 20 ciphertexts";
    taken(to_devices(many(1), both()));
    taken(to_devices(many(20), both()));
    refused(to_devices(many(21), both()), count);
    refused(to_devices(many(0), both()), count);
    // The same device id of two users is two devices.
    taken(to_devices(vec![ciphertext("ann", 1), ciphertext("bob", 1)], both()));
    let twice = vec![ciphertext("ann", 1), ciphertext("bob", 2), ciphertext("ann", 1)];
    refused(to_devices(twice, both()), "to_devices names a device twice");
    for wrong in ["".into(), "u".repeat(65), "a\nb".into()] {
        let text = "to_devices: a user id is 1 to 64 bytes without control characters";
        refused(to_devices(vec![ciphertext(&wrong, 1)], both()), text);
    }
    for length in [0, 15, 17] {
        let one = wire::DeviceCiphertext { device: blob(length), ..ciphertext("ann", 1) };
        refused(to_devices(vec![one], both()), "to_devices: a device id has 16 bytes");
    }
    let with = |length| wire::DeviceCiphertext { body: blob(length), ..ciphertext("ann", 1) };
    taken(to_devices(vec![with(limits::BODY_MAX_BYTES)], both()));
    too_large(to_devices(vec![with(limits::BODY_MAX_BYTES + 1)], both()));
}

#[test]
fn ciphertexts_come_with_the_versions_of_the_lists_they_were_made_for() {
    let one = || vec![ciphertext("ann", 1)];
    let count = "to_devices comes with 1 or 2 device_versions";
    taken(to_devices(one(), vec![version("ann")]));
    taken(to_devices(one(), vec![version("ann"), version("bob")]));
    refused(to_devices(one(), vec![]), count);
    refused(to_devices(one(), vec![version("ann"), version("bob"), version("cat")]), count);
    let twice = vec![version("ann"), version("ann")];
    refused(to_devices(one(), twice), "device_versions names a user twice");
    let id = "device_versions: a user id is 1 to 64 bytes without control characters";
    refused(to_devices(one(), vec![version("a\nb")]), id);
    // With other contents they mean nothing.
    let other = wire::Send {
        device_versions: vec![version(""), version(""), version("")],
        ..write(direct(), send::Content::Body(blob(1)))
    };
    assert_eq!(sent(Body::Send(other)).content, Content::Body(blob(1)));

    let text = "to_devices is for direct conversations";
    let make = |id| Body::Send(to_devices_in(id, one(), vec![version("ann")]));
    kinds(&[direct()], text, make);
    let to_bob = wire::Send {
        user: "bob".into(),
        ..to_devices_in(Bytes::new(), one(), vec![version("ann")])
    };
    let Content::ToDevices { ciphertexts, key_message, versions } =
        sent(Body::Send(to_bob)).content
    else {
        panic!("ciphertexts")
    };
    assert_eq!((ciphertexts.len(), key_message, versions[0].version), (1, true, 3));
    assert_eq!(ciphertexts[0].device, DeviceId([1; 16]));
}

#[test]
fn history_starts_at_one_place() {
    let history = |before, after, before_time_ms, after_time_ms| {
        Body::History(wire::History {
            conversation: direct(),
            before,
            after,
            before_time_ms,
            after_time_ms,
            ..wire::History::default()
        })
    };
    let from = |body| match asked(body) {
        Ok(Request::History(history)) => history.from,
        other => panic!("not a history: {other:?}"),
    };
    assert_eq!(from(history(None, None, 0, 0)), HistoryFrom::Newest);
    assert_eq!(from(history(Some(0), None, 0, 0)), HistoryFrom::Before(Sequence(0)));
    assert_eq!(from(history(None, Some(0), 0, 0)), HistoryFrom::After(Sequence(0)));
    assert_eq!(from(history(None, None, 5, 0)), HistoryFrom::BeforeTime(5));
    assert_eq!(from(history(None, None, 0, 6)), HistoryFrom::AfterTime(6));
    let text = "history has at most one of before, after, before_time_ms and after_time_ms";
    let two = [
        history(Some(1), Some(1), 0, 0),
        history(Some(0), None, 1, 0),
        history(Some(1), None, 0, 1),
        history(None, Some(0), 1, 0),
        history(None, Some(1), 0, 1),
        history(None, None, 1, 1),
    ];
    two.into_iter().for_each(|body| refused(body, text));
}

#[test]
fn a_notice_has_256_marks() {
    let mark = wire::Mark { conversation: group(), seq: 4, uncounted: 4 };
    let marks = |count: usize| vec![mark.clone(); count];
    let text = "a notice names at most 256 conversations";
    taken(Body::Delivered(wire::Delivered { marks: marks(256) }));
    refused(Body::Delivered(wire::Delivered { marks: marks(257) }), text);
    taken(Body::Read(wire::Read { marks: marks(256) }));
    refused(Body::Read(wire::Read { marks: marks(257) }), text);
    let marks = vec![wire::Mark { uncounted: 5, ..mark }];
    refused(Body::Read(wire::Read { marks }), "uncounted is at most seq");
    id_of_16_bytes(|conversation| {
        let marks = vec![wire::Mark { conversation, seq: 1, uncounted: 0 }];
        Body::Delivered(wire::Delivered { marks })
    });
}
