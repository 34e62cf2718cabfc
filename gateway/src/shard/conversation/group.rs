//! Groups and channels: how they begin, how they change, and who may change what.
//!
//! | what | member | admin | owner |
//! | --- | --- | --- | --- |
//! | leave | yes | yes | yes |
//! | rename, picture, add, remove a member, promote | no | yes | yes |
//! | remove an admin, demote, transfer, dissolve | no | no | yes |
//!
//! The owner is neither removed nor demoted. A change is all or nothing; people of whom nothing
//! would change are left out, and if nothing is left it is refused.
//!
//! The members of a channel are those who tend it; who follows it stands in their mailboxes.

use super::channel::Channel;
use super::members::{EVER_MAX, MemberNumber, PRESENT_MAX, Role};
use super::records::{self, Change, Title};
use super::senders::SENDERS_OF_LEFT_MAX;
use super::{Conversation, forbidden, invalid, not_found};
use crate::shard::codec::Malformed;
use crate::shard::context::Context;
use crate::shard::message::Point;
use prost::Message;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{Sequence, UserId, UserKey};
use roost_protocol::limits::REPLY_MAX_BYTES;
use roost_protocol::request::GroupChange;
use roost_protocol::wire::{self, ErrorCode, group_change};

/// Bytes of a system message at most: it is alone on a page of history.
const SYSTEM_MESSAGE_MAX_BYTES: usize = REPLY_MAX_BYTES - 4096;

/// What groups and channels have and direct conversations have not.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) title: Title,
    /// Channels only.
    pub(crate) channel: Option<Channel>,
}

impl Group {
    pub(crate) fn new(channel: bool) -> Self {
        Self { title: Title::default(), channel: channel.then(Channel::default) }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.channel.as_ref().is_none_or(Channel::is_settled)
    }

    /// How many follow a channel.
    pub(crate) fn followers(&self) -> u64 {
        self.channel.as_ref().map_or(0, |channel| channel.followers)
    }

    /// As a snapshot has it.
    pub(crate) fn restore_followers(&mut self, followers: u64) {
        if let Some(channel) = &mut self.channel {
            channel.followers = followers;
        }
    }
}

/// A change being put together: the members it concerns, as they will be.
struct Draft<'a> {
    conversation: &'a Conversation,
    by: MemberNumber,
    seq: Sequence,
    concerned: Vec<(UserKey, wire::Member)>,
}

/// What happens to a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Goes,
    Becomes(Role),
}

impl Conversation {
    pub(crate) fn is_channel(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.channel.is_some())
    }

    /// Checks a change and puts together what it will have done.
    pub(crate) fn draft(
        &self,
        _ctx: &Context,
        by: MemberNumber,
        change: &GroupChange,
        people: &[UserKey],
    ) -> Result<Change, Refusal> {
        let Some(group) = &self.group else {
            return Err(invalid("a direct conversation is not changed"));
        };
        let mut draft =
            Draft { conversation: self, by, seq: self.head.seq.next(), concerned: Vec::new() };
        draft.check_role(change)?;
        let change = match change {
            GroupChange::Rename(name) if *name == group.title.name => return Err(nothing_new()),
            GroupChange::Picture(at) if *at == group.title.picture => return Err(nothing_new()),
            GroupChange::Rename(name) => group_change::Change::Rename(name.clone()),
            GroupChange::Picture(at) => group_change::Change::Picture(at.clone()),
            GroupChange::Add(users) => group_change::Change::Add(draft.add(users, people)?),
            GroupChange::Remove(users) => {
                group_change::Change::Remove(draft.remove(users, people)?)
            }
            GroupChange::Leave => {
                draft.leave();
                group_change::Change::Leave(true)
            }
            GroupChange::Promote(users) => {
                group_change::Change::Promote(draft.promote(users, people)?)
            }
            GroupChange::Demote(users) => {
                group_change::Change::Demote(draft.demote(users, people)?)
            }
            GroupChange::Transfer(user) => {
                group_change::Change::Transfer(draft.transfer(user, people)?)
            }
            GroupChange::Dissolve => {
                draft.dissolve();
                group_change::Change::Dissolve(true)
            }
        };
        draft.finish(change)
    }

    /// The change that begins a group: its members, the creator first.
    pub(crate) fn draft_created(
        creator: &(UserKey, UserId),
        members: &[(UserKey, UserId)],
    ) -> Result<Change, Refusal> {
        let mut keys = vec![creator.0];
        let mut wires = vec![member(MemberNumber(0), &creator.1, Role::Owner, Sequence(1))];
        let mut known = std::collections::BTreeSet::from([creator.0]);
        for (key, id) in members {
            if !known.insert(*key) {
                continue;
            }
            if keys.len() == PRESENT_MAX {
                return Err(group_full());
            }
            wires.push(member(MemberNumber::of(keys.len()), id, Role::Member, Sequence(1)));
            keys.push(*key);
        }
        let message = wire::SystemMessage { change: None, members: wires, created: true };
        Ok(Change { message, keys })
    }

    /// A change happens with this record: the same when it is written and when it is read back.
    pub(crate) fn apply(&mut self, change: &Change, at: Point) -> Result<(), Malformed> {
        for (wire, key) in change.message.members.iter().zip(&change.keys) {
            let number = wire.member.checked_sub(1).and_then(|n| u16::try_from(n).ok());
            let number = number.map(MemberNumber).ok_or(Malformed)?;
            if wire.joined_seq == at.seq.0 {
                let id = UserId::new(&wire.user).map_err(|_| Malformed)?;
                let known = self.members.find(*key);
                let next = number.index() == self.members.ever() && number.index() < EVER_MAX;
                let fits = known
                    .map_or(next, |known| known == number && !self.members.get(known).is_present());
                if !fits {
                    return Err(Malformed);
                }
                self.members.join(*key, &id, at);
            }
            if self.members.find(*key) != Some(number) {
                return Err(Malformed);
            }
            if wire.left_seq == at.seq.0 {
                if !self.members.get(number).is_present() {
                    return Err(Malformed);
                }
                let before = self.members.get(number).got();
                self.members.leave(number, at);
                self.receipts.moved(before, [None; 2]);
                self.senders.forget(number, SENDERS_OF_LEFT_MAX);
            } else {
                self.members.get_mut(number).role = Role::from_wire(wire.role)?;
            }
        }
        let change = change.message.change.as_ref().and_then(|change| change.change.as_ref());
        let title = &mut self.group.as_mut().ok_or(Malformed)?.title;
        match change {
            Some(group_change::Change::Rename(name)) => title.name.clone_from(name),
            Some(group_change::Change::Picture(at)) => title.picture.clone_from(at),
            Some(_) | None => {}
        }
        Ok(())
    }
}

impl Draft<'_> {
    fn role(&self) -> Role {
        self.conversation.members.get(self.by).role
    }

    fn check_role(&self, change: &GroupChange) -> Result<(), Refusal> {
        let needed = match change {
            GroupChange::Leave => Role::Member,
            GroupChange::Rename(_)
            | GroupChange::Picture(_)
            | GroupChange::Add(_)
            | GroupChange::Remove(_)
            | GroupChange::Promote(_) => Role::Admin,
            GroupChange::Demote(_) | GroupChange::Transfer(_) | GroupChange::Dissolve => {
                Role::Owner
            }
        };
        if self.conversation.is_channel()
            && matches!(change, GroupChange::Add(_) | GroupChange::Remove(_))
        {
            return Err(invalid("those who follow a channel come and go by themselves"));
        }
        if self.role() >= needed { Ok(()) } else { Err(forbidden("your role does not allow this")) }
    }

    /// People with their keys; they were made together, from the same list.
    fn pairs<'u>(
        users: &'u [UserId],
        people: &'u [UserKey],
    ) -> Result<impl Iterator<Item = (&'u UserId, UserKey)>, Refusal> {
        if users.len() != people.len() {
            return Err(invalid("each user has a key"));
        }
        Ok(users.iter().zip(people.iter().copied()))
    }

    /// The number of one who is in.
    fn present(&self, key: UserKey) -> Option<MemberNumber> {
        let members = &self.conversation.members;
        members.find(key).filter(|number| members.get(*number).is_present())
    }

    /// Something happens to a member; of one who is named twice, what was named first.
    fn concerns(&mut self, number: MemberNumber, fate: Fate) {
        let known = self.conversation.members.get(number);
        if self.concerned.iter().any(|(key, _)| *key == known.user) {
            return;
        }
        let id = known.user_id.as_ref().map_or("", |id| id.as_str()).to_owned();
        let joined = known.stretches.last().map_or(0, |stretch| stretch.joined.0);
        let seq = self.seq.0;
        let (role, joined_seq, left_seq) = match fate {
            Fate::Goes => (Role::Member, joined, seq),
            Fate::Becomes(role) => (role, joined, 0),
        };
        let (member, role) = (number.to_wire(), role.to_wire());
        let wire = wire::Member { member, user: id, role, joined_seq, left_seq };
        self.concerned.push((known.user, wire));
    }

    /// Takes people in who are not: members again with their numbers, new ones with the next.
    fn bring(
        &mut self,
        users: &[UserId],
        people: &[UserKey],
        role: Role,
    ) -> Result<Vec<String>, Refusal> {
        let members = &self.conversation.members;
        let (mut ever, mut present) = (members.ever(), members.present());
        let mut brought = Vec::new();
        for (id, key) in Self::pairs(users, people)? {
            if self.present(key).is_some() || self.concerned.iter().any(|(k, _)| *k == key) {
                continue;
            }
            let known = self.conversation.members.find(key);
            ever += usize::from(known.is_none());
            present += 1;
            if present > PRESENT_MAX || ever > EVER_MAX {
                return Err(group_full());
            }
            let number = known.unwrap_or_else(|| MemberNumber::of(ever - 1));
            self.concerned.push((key, member(number, id, role, self.seq)));
            brought.push(id.as_str().to_owned());
        }
        Ok(brought)
    }

    fn add(&mut self, users: &[UserId], keys: &[UserKey]) -> Result<wire::MemberChange, Refusal> {
        self.bring(users, keys, Role::Member).map(|users| wire::MemberChange { users })
    }

    fn remove(
        &mut self,
        users: &[UserId],
        keys: &[UserKey],
    ) -> Result<wire::MemberChange, Refusal> {
        let mut removed = Vec::new();
        for (id, key) in Self::pairs(users, keys)? {
            let Some(number) = self.conversation.members.find(key) else {
                return Err(not_found("somebody named was never in the group"));
            };
            let known = self.conversation.members.get(number);
            if !known.is_present() {
                continue;
            }
            if known.role == Role::Owner {
                return Err(forbidden("the owner is not removed"));
            }
            if known.role >= self.role() {
                return Err(forbidden("only the owner removes admins"));
            }
            self.concerns(number, Fate::Goes);
            removed.push(id.as_str().to_owned());
        }
        Ok(wire::MemberChange { users: removed })
    }

    /// The writer goes. An owner hands over first, so that nobody is left without one.
    fn leave(&mut self) {
        self.concerns(self.by, Fate::Goes);
        if self.role() != Role::Owner {
            return;
        }
        let (members, by) = (&self.conversation.members, self.by);
        let others = members.iter_present().filter(|(number, _)| *number != by);
        let successor =
            others.max_by_key(|(number, member)| (member.role, std::cmp::Reverse(*number)));
        if let Some((number, _)) = successor {
            self.concerns(number, Fate::Becomes(Role::Owner));
        }
    }

    fn promote(
        &mut self,
        users: &[UserId],
        keys: &[UserKey],
    ) -> Result<wire::MemberChange, Refusal> {
        if self.conversation.is_channel() {
            let users = self.bring(users, keys, Role::Admin)?;
            return Ok(wire::MemberChange { users });
        }
        self.turn(users, keys, Role::Member, Fate::Becomes(Role::Admin))
    }

    fn demote(
        &mut self,
        users: &[UserId],
        keys: &[UserKey],
    ) -> Result<wire::MemberChange, Refusal> {
        let fate = if self.conversation.is_channel() {
            // Who does not tend a channel any more only follows it.
            Fate::Goes
        } else {
            Fate::Becomes(Role::Member)
        };
        self.turn(users, keys, Role::Admin, fate)
    }

    /// Those with a role get another.
    fn turn(
        &mut self,
        users: &[UserId],
        keys: &[UserKey],
        from: Role,
        fate: Fate,
    ) -> Result<wire::MemberChange, Refusal> {
        let mut turned = Vec::new();
        for (id, key) in Self::pairs(users, keys)? {
            let Some(number) = self.present(key) else {
                return Err(not_found("somebody named is not in the group"));
            };
            let role = self.conversation.members.get(number).role;
            if role == Role::Owner && from == Role::Admin {
                return Err(forbidden("the owner is not demoted"));
            }
            if role == from {
                self.concerns(number, fate);
                turned.push(id.as_str().to_owned());
            }
        }
        Ok(wire::MemberChange { users: turned })
    }

    fn transfer(&mut self, user: &UserId, keys: &[UserKey]) -> Result<wire::MemberChange, Refusal> {
        let number = keys.first().and_then(|key| self.present(*key));
        let Some(number) = number else {
            return Err(not_found("the new owner is not in the group"));
        };
        if number != self.by {
            self.concerns(number, Fate::Becomes(Role::Owner));
            self.concerns(self.by, Fate::Becomes(Role::Admin));
        }
        Ok(wire::MemberChange { users: vec![user.as_str().to_owned()] })
    }

    fn dissolve(&mut self) {
        let members = &self.conversation.members;
        let all: Vec<MemberNumber> = members.iter_present().map(|(number, _)| number).collect();
        for number in all {
            self.concerns(number, Fate::Goes);
        }
    }

    fn finish(self, change: group_change::Change) -> Result<Change, Refusal> {
        let titled =
            matches!(change, group_change::Change::Rename(_) | group_change::Change::Picture(_));
        if self.concerned.is_empty() && !titled {
            return Err(nothing_new());
        }
        let change = Some(wire::GroupChange { change: Some(change) });
        let (keys, members) = self.concerned.into_iter().unzip();
        let message = wire::SystemMessage { change, members, created: false };
        if message.encoded_len() > SYSTEM_MESSAGE_MAX_BYTES {
            return Err(Refusal::new(ErrorCode::ErrorTooLarge, "name fewer people at once"));
        }
        Ok(Change { message, keys })
    }
}

fn member(number: MemberNumber, id: &UserId, role: Role, joined: Sequence) -> wire::Member {
    wire::Member {
        member: number.to_wire(),
        user: id.as_str().to_owned(),
        role: role.to_wire(),
        joined_seq: joined.0,
        left_seq: 0,
    }
}

pub(crate) const fn group_full() -> Refusal {
    Refusal::new(ErrorCode::ErrorGroupFull, "a group has at most 1024 members, and 8192 ever")
}

const fn nothing_new() -> Refusal {
    invalid("nothing would change")
}

// What begins a group is a system message, too.
const _: () = assert!(PRESENT_MAX * (64 + 24) < SYSTEM_MESSAGE_MAX_BYTES);
// The kinds of both are seen by people.
const _: () = assert!(records::is_written(records::KIND_CHANGE));
