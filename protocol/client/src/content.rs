//! What a write says, as the wire has it.

use crate::question::{device_bytes, text, texts};
use roost_protocol::ids::{Sequence, UserId};
use roost_protocol::request::{Ciphertext, Content, DeviceVersion, GroupChange};
use roost_protocol::wire::{self, group_change::Change, send};

/// The part of a Send that says something: content, what it replies to, device versions. All else
/// is empty.
pub(crate) fn said(content: Content, reply_to: Sequence) -> wire::Send {
    let (content, device_versions) = wire_content(content);
    let (content, reply_to) = (Some(content), reply_to.0);
    wire::Send { content, reply_to, device_versions, ..wire::Send::default() }
}

fn wire_content(content: Content) -> (send::Content, Vec<wire::DeviceVersion>) {
    use send::Content as C;
    let content = match content {
        Content::Body(body) => C::Body(body),
        Content::Edit { seq, body } => C::Edit(wire::Edit { seq: seq.0, body }),
        Content::Delete { seq } => C::Delete(wire::Delete { seq: seq.0 }),
        Content::Reaction { seq, reaction } => C::Reaction(wire::Reaction { seq: seq.0, reaction }),
        Content::Forward { conversation, seq, body } => {
            C::Forward(wire::Forward { conversation: conversation.to_wire(), seq: seq.0, body })
        }
        Content::Group(change) => C::GroupChange(group_change(change)),
        Content::ToDevices { ciphertexts, key_message, versions } => {
            let ciphertexts = ciphertexts.into_iter().map(ciphertext).collect();
            let versions = versions.iter().map(version).collect();
            return (C::ToDevices(wire::ToDevices { ciphertexts, key_message }), versions);
        }
    };
    (content, Vec::new())
}

fn group_change(change: GroupChange) -> wire::GroupChange {
    let change = match change {
        GroupChange::Rename(name) => Change::Rename(name),
        GroupChange::Picture(picture) => Change::Picture(picture),
        GroupChange::Add(users) => Change::Add(members(&users)),
        GroupChange::Remove(users) => Change::Remove(members(&users)),
        GroupChange::Leave => Change::Leave(true),
        GroupChange::Promote(users) => Change::Promote(members(&users)),
        GroupChange::Demote(users) => Change::Demote(members(&users)),
        GroupChange::Transfer(user) => Change::Transfer(members(&[user])),
        GroupChange::Dissolve => Change::Dissolve(true),
    };
    wire::GroupChange { change: Some(change) }
}

fn members(users: &[UserId]) -> wire::MemberChange {
    wire::MemberChange { users: texts(users) }
}

fn ciphertext(one: Ciphertext) -> wire::DeviceCiphertext {
    let (user, device) = (text(&one.user), device_bytes(one.device));
    wire::DeviceCiphertext { user, device, body: one.body }
}

fn version(one: &DeviceVersion) -> wire::DeviceVersion {
    wire::DeviceVersion { user: text(&one.user), version: one.version }
}

/// Device versions as they came; those of names that are none are left out.
pub(crate) fn versions(of: &[wire::DeviceVersion]) -> Vec<DeviceVersion> {
    let version = |one: &wire::DeviceVersion| {
        let user = UserId::new(&one.user).ok()?;
        Some(DeviceVersion { user, version: one.version })
    };
    of.iter().filter_map(version).collect()
}

/// Whether it may open a direct conversation: it is a message.
pub(crate) const fn is_message(said: &wire::Send) -> bool {
    use send::Content as C;
    matches!(said.content, Some(C::Body(_) | C::Forward(_) | C::ToDevices(_)))
}
