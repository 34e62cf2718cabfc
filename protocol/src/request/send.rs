//! Checks of writes.

use super::asks::{Ciphertext, Content, DeviceVersion, GroupChange};
use super::fields::{self, invalid, text_bounds, user_list};
use super::{Send, Target};
use crate::error::Refusal;
use crate::ids::{ClientMessageId, ClientSequence, KeyKind, Sequence, UserId};
use crate::limits;
use crate::wire::{self, group_change::Change, send::Content as WireContent};

/// What numbers a write; bounds were not checked.
pub(super) struct Numbers {
    pub(super) client_message_id: u64,
    pub(super) client_sequence: u64,
    pub(super) seen: u64,
    pub(super) seen_uncounted: u64,
}

impl Numbers {
    pub(super) const fn check(&self) -> Result<(), Refusal> {
        if self.client_message_id == 0 {
            return Err(invalid("client_message_id is 64 random bits, never 0"));
        }
        if self.client_sequence == 0 {
            return Err(invalid("client_sequence starts at 1"));
        }
        if self.seen_uncounted > self.seen {
            return Err(invalid("seen_uncounted is at most seen"));
        }
        Ok(())
    }
}

pub(super) fn send(send: wire::Send) -> Result<Send, Refusal> {
    let target = fields::target(&send.conversation, &send.user)?;
    let numbers = Numbers {
        client_message_id: send.client_message_id,
        client_sequence: send.client_sequence,
        seen: send.seen,
        seen_uncounted: send.seen_uncounted,
    };
    numbers.check()?;
    let Some(content) = send.content else { return Err(invalid("send has no content")) };
    let content = self::content(&target, content, send.device_versions)?;
    // What is no message replies to nothing.
    let reply_to = match content {
        Content::Body(_) | Content::Forward { .. } | Content::ToDevices { .. } => send.reply_to,
        Content::Edit { .. }
        | Content::Delete { .. }
        | Content::Reaction { .. }
        | Content::Group(_) => 0,
    };
    Ok(Send {
        target,
        client_message_id: ClientMessageId(numbers.client_message_id),
        client_sequence: ClientSequence(numbers.client_sequence),
        seen: Sequence(numbers.seen),
        seen_uncounted: numbers.seen_uncounted,
        first: send.first,
        reply_to: Sequence(reply_to),
        content,
    })
}

fn content(
    target: &Target,
    content: WireContent,
    versions: Vec<wire::DeviceVersion>,
) -> Result<Content, Refusal> {
    Ok(match content {
        WireContent::Body(body) => Content::Body(fields::body(body)?),
        WireContent::Edit(edit) => Content::Edit {
            seq: fields::seq(edit.seq, "edit.seq starts at 1")?,
            body: fields::body(edit.body)?,
        },
        WireContent::Delete(delete) => {
            Content::Delete { seq: fields::seq(delete.seq, "delete.seq starts at 1")? }
        }
        WireContent::Reaction(reaction) => {
            let bounds = text_bounds!(
                "reaction.reaction",
                "at most 32 bytes",
                0,
                limits::REACTION_MAX_BYTES
            );
            Content::Reaction {
                seq: fields::seq(reaction.seq, "reaction.seq starts at 1")?,
                reaction: fields::text(reaction.reaction, &bounds)?,
            }
        }
        WireContent::Forward(forward) => Content::Forward {
            conversation: fields::conversation(&forward.conversation)?,
            seq: fields::seq(forward.seq, "forward.seq starts at 1")?,
            body: fields::body(forward.body)?,
        },
        WireContent::GroupChange(change) => Content::Group(group_change(target, change)?),
        WireContent::ToDevices(to_devices) => self::to_devices(target, to_devices, versions)?,
    })
}

const fn kind(target: &Target) -> KeyKind {
    match target {
        Target::Conversation(id) => id.kind(),
        Target::User(_) => KeyKind::Direct,
    }
}

fn group_change(target: &Target, change: wire::GroupChange) -> Result<GroupChange, Refusal> {
    let kind = kind(target);
    if !matches!(kind, KeyKind::Group | KeyKind::Channel) {
        return Err(invalid("group_change is for groups and channels"));
    }
    let Some(change) = change.change else { return Err(invalid("group_change has no change")) };
    if kind == KeyKind::Channel && matches!(change, Change::Add(_) | Change::Remove(_)) {
        return Err(invalid("a channel's members come and go by join_channel"));
    }
    Ok(match change {
        Change::Rename(name) => {
            let bounds =
                text_bounds!("group_change.rename", "1 to 128 bytes", 1, limits::NAME_MAX_BYTES);
            GroupChange::Rename(fields::text(name, &bounds)?)
        }
        Change::Picture(picture) => {
            let most = limits::PICTURE_MAX_BYTES;
            let bounds = text_bounds!("group_change.picture", "at most 256 bytes", 0, most);
            GroupChange::Picture(fields::text(picture, &bounds)?)
        }
        Change::Add(change) => GroupChange::Add(people(&change)?),
        Change::Remove(change) => GroupChange::Remove(people(&change)?),
        Change::Promote(change) => GroupChange::Promote(people(&change)?),
        Change::Demote(change) => GroupChange::Demote(people(&change)?),
        Change::Transfer(change) => {
            let list = user_list!("group_change.transfer", "exactly 1 user", 1);
            let mut users = fields::users(&change.users, &list)?;
            GroupChange::Transfer(users.pop().ok_or_else(|| invalid(list.count))?)
        }
        Change::Leave(true) => GroupChange::Leave,
        Change::Dissolve(true) => GroupChange::Dissolve,
        Change::Leave(false) => return Err(invalid("group_change.leave is true when it is there")),
        Change::Dissolve(false) => {
            return Err(invalid("group_change.dissolve is true when it is there"));
        }
    })
}

fn people(change: &wire::MemberChange) -> Result<Vec<UserId>, Refusal> {
    let list = user_list!("group_change", "1 to 1023 users", limits::MEMBERS_NAMED_MAX);
    fields::users(&change.users, &list)
}

fn to_devices(
    target: &Target,
    to_devices: wire::ToDevices,
    versions: Vec<wire::DeviceVersion>,
) -> Result<Content, Refusal> {
    if kind(target) != KeyKind::Direct {
        return Err(invalid("to_devices is for direct conversations"));
    }
    if !(1..=limits::CIPHERTEXTS_MAX).contains(&to_devices.ciphertexts.len()) {
        return Err(invalid("to_devices has 1 to 20 ciphertexts"));
    }
    let mut ciphertexts: Vec<Ciphertext> = Vec::with_capacity(to_devices.ciphertexts.len());
    for one in to_devices.ciphertexts {
        let user = fields::user(
            &one.user,
            "to_devices: a user id is 1 to 64 bytes without control characters",
        )?;
        let device = fields::device(&one.device, "to_devices: a device id has 16 bytes")?;
        if ciphertexts.iter().any(|other| other.device == device && other.user == user) {
            return Err(invalid("to_devices names a device twice"));
        }
        ciphertexts.push(Ciphertext { user, device, body: fields::body(one.body)? });
    }
    Ok(Content::ToDevices {
        ciphertexts,
        key_message: to_devices.key_message,
        versions: device_versions(versions)?,
    })
}

fn device_versions(named: Vec<wire::DeviceVersion>) -> Result<Vec<DeviceVersion>, Refusal> {
    if !(1..=limits::DEVICE_LISTS_MAX).contains(&named.len()) {
        return Err(invalid("to_devices comes with 1 or 2 device_versions"));
    }
    let mut versions: Vec<DeviceVersion> = Vec::with_capacity(named.len());
    for one in named {
        let user = fields::user(
            &one.user,
            "device_versions: a user id is 1 to 64 bytes without control characters",
        )?;
        if versions.iter().any(|other| other.user == user) {
            return Err(invalid("device_versions names a user twice"));
        }
        versions.push(DeviceVersion { user, version: one.version });
    }
    Ok(versions)
}
