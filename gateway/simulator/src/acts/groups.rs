//! Groups and channels: made, made again, changed, changed by two at once, followed.

use crate::questions::Question;
use crate::shadow::Creation;
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_client::{Command, Input};
use roost_protocol::ids::{ConversationId, KeyKind, UserId};
use roost_protocol::request::{Ask, Content, CreateGroup, GroupChange};

impl Simulation {
    pub(crate) fn act_create(&mut self, index: usize, channel: bool) -> Result<(), Broken> {
        let creator = self.devices[index].user;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.workload.prng.number().to_le_bytes());
        let members = if channel || self.workload.prng.percent(10) {
            Vec::new()
        } else {
            self.some_users(creator, self.plan.group_members)
        };
        let members = members.into_iter().map(|user| self.people.id(user).clone()).collect();
        let number = self.shadow.groups.len();
        let name = format!("group {number}");
        let asked = CreateGroup { nonce, name, picture: String::new(), members, channel };
        let id = self.people.group(creator, nonce, channel);
        let creation = Creation { creator, asked: asked.clone(), answered: false };
        self.shadow.groups.insert(id, creation);
        self.create(index, id, asked)
    }

    fn create(
        &mut self,
        index: usize,
        id: ConversationId,
        asked: CreateGroup,
    ) -> Result<(), Broken> {
        self.tell(|| format!("this names {id}"));
        self.ask(index, Ask::CreateGroup(asked), Question::Create(id))
    }

    /// The same user asks for the same group again, perhaps on another device and with other words.
    pub(crate) fn act_create_again(&mut self, index: usize) -> Result<(), Broken> {
        let user = self.devices[index].user;
        let own = self.shadow.groups.iter().filter(|(_, creation)| creation.creator == user);
        let own: Vec<ConversationId> = own.map(|(id, _)| *id).collect();
        if own.is_empty() {
            return Ok(());
        }
        let id = self.workload.prng.pick(&own);
        let Some(creation) = self.shadow.groups.get(&id) else { return Ok(()) };
        let mut asked = creation.asked.clone();
        if self.workload.prng.percent(30) {
            asked.name.push_str(" again");
            asked.members.truncate(asked.members.len() / 2);
        }
        self.create(index, id, asked)
    }

    pub(crate) fn act_change(&mut self, index: usize) -> Result<(), Broken> {
        let channel = self.workload.prng.percent(15);
        let kind = if channel { KeyKind::Channel } else { KeyKind::Group };
        let Some(id) = self.some_of_kind(index, kind) else { return Ok(()) };
        let users = self.some_users(self.devices[index].user, 2);
        let users: Vec<UserId> =
            users.into_iter().map(|user| self.people.id(user).clone()).collect();
        let tag = self.shadow.next_tag();
        let change = match self.workload.prng.below(20) {
            0..=1 => GroupChange::Rename(format!("name {tag}")),
            2 => GroupChange::Picture(format!("picture {tag}")),
            3..=7 => GroupChange::Add(users),
            8..=11 => GroupChange::Remove(users),
            12..=13 => GroupChange::Leave,
            14..=16 => GroupChange::Promote(users),
            17 => GroupChange::Demote(users),
            18 => GroupChange::Transfer(users[0].clone()),
            _ => GroupChange::Dissolve,
        };
        self.write(index, id, Content::Group(change), 0).map(drop)
    }

    /// Two devices change the same at once, each the opposite of the other.
    pub(crate) fn act_race(&mut self, index: usize) -> Result<(), Broken> {
        let Some(id) = self.some_of_kind(index, KeyKind::Group) else { return Ok(()) };
        let about = self.some_users(self.devices[index].user, 1)[0];
        let user = vec![self.people.id(about).clone()];
        let lists = |device: &usize| {
            let session = self.devices[*device].session.as_ref();
            *device != index && session.is_some_and(|session| session.entry_of(id).is_some())
        };
        let others: Vec<usize> = (0..self.devices.len()).filter(lists).collect();
        if others.is_empty() {
            return Ok(());
        }
        let other = self.workload.prng.pick(&others);
        let (one, opposite) = match self.workload.prng.below(4) {
            0 => (GroupChange::Add(user.clone()), GroupChange::Remove(user)),
            1 => (GroupChange::Remove(user), GroupChange::Leave),
            2 => (GroupChange::Promote(user.clone()), GroupChange::Demote(user)),
            _ => (GroupChange::Transfer(user[0].clone()), GroupChange::Dissolve),
        };
        self.write(index, id, Content::Group(one), 0)?;
        self.write(other, id, Content::Group(opposite), 0)?;
        let body = self.some_body();
        self.write(other, id, Content::Body(body), 0).map(drop)
    }

    pub(crate) fn act_follow(&mut self, index: usize) -> Result<(), Broken> {
        let channels = self.shadow.groups.keys().filter(|id| id.kind() == KeyKind::Channel);
        let channels: Vec<ConversationId> = channels.copied().collect();
        if channels.is_empty() {
            return Ok(());
        }
        let conversation = self.workload.prng.pick(&channels);
        let leave = self.workload.prng.percent(20);
        let user = self.devices[index].user;
        let follows = self.shadow.follows.entry((user, conversation)).or_default();
        let name = follows.ask(!leave, self.now_ns);
        let question = Question::Follow { user, conversation, name };
        self.ask(index, Ask::JoinChannel { conversation, leave }, question)
    }

    pub(crate) fn act_watch_channel(&mut self, index: usize) -> Result<(), Broken> {
        let Some(conversation) = self.some_of_kind(index, KeyKind::Channel) else { return Ok(()) };
        let stop = self.workload.prng.percent(30);
        self.feed(index, Input::Command(Command::WatchChannel { conversation, stop }))
    }
}
