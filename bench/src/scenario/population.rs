//! Users who know each other: everybody has direct conversations with their neighbours and is a
//! member of groups, as a server's users are. Made over the wire, by the devices themselves.

use crate::swarm::{DeviceIndex, Frame, Swarm};
use crate::target::scramble;
use crate::wire::{self, ConversationBytes, Incoming, Write};
use roost_protocol::ids::{ConversationId, UserId};
use std::rc::Rc;

/// First messages that all devices together have under way: what a server takes at once is bounded.
pub(super) const FLYING_MAX: u64 = 20_000;
/// The request ids of first messages count from here, those of groups from the second.
const FIRST: u32 = 100;
const GROUP: u32 = 100_000;

/// What users have.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ties {
    /// Direct conversations of each user.
    pub conversations: u32,
    /// Groups of each user.
    pub groups: u32,
    /// Members of each group.
    pub group_size: u32,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Population {
    ties: Ties,
    users: Rc<[String]>,
    /// First messages that were sent: one of each user, then the next of each.
    sent: u64,
    /// First messages and groups not answered yet.
    flying: u64,
    groups_begun: bool,
}

impl Population {
    /// Nobody knows anybody.
    #[must_use]
    pub fn new(ties: Ties, users: Rc<[String]>) -> Self {
        Self { ties, users, sent: 0, flying: 0, groups_begun: false }
    }

    /// How many messages each device has written to its next neighbour once everything is there.
    pub(super) fn written_to_neighbour(&self) -> u32 {
        (self.ties.conversations / 2).min(1)
    }

    /// First messages that all write: half of the conversations of each; the other half is begun by
    /// the neighbours.
    fn firsts(&self) -> u64 {
        u64::from(self.ties.conversations / 2) * self.users.len() as u64
    }

    /// Goes on: everybody is connected. Says whether everything is there.
    pub fn step(&mut self, swarm: &mut Swarm) -> bool {
        while self.sent < self.firsts() && self.flying < FLYING_MAX {
            self.write_next(swarm);
        }
        if self.flying == 0 && !self.groups_begun {
            self.groups_begun = true;
            self.make_groups(swarm);
        }
        self.flying == 0
    }

    fn write_next(&mut self, swarm: &mut Swarm) {
        let users = u64::from(swarm.devices());
        self.write_first(swarm, self.sent / users, self.sent % users);
        self.sent += 1;
        self.flying += 1;
    }

    /// Sends a first message or makes a group once more: it was refused.
    pub fn repeat(&self, swarm: &mut Swarm, device: DeviceIndex, request: u64) {
        match request.checked_sub(GROUP.into()) {
            None => self.write_first(swarm, request.saturating_sub(FIRST.into()), device.into()),
            Some(layer) => {
                let (users, layer) = (self.users.len(), u32::try_from(layer).unwrap_or(u32::MAX));
                let from_first = (device as usize + users - self.shift(layer)) % users;
                self.make_group(swarm, layer, from_first / self.group_size());
            }
        }
    }

    fn write_first(&self, swarm: &mut Swarm, round: u64, index: u64) {
        let users = u64::from(swarm.devices());
        let peer = usize::try_from((index + round + 1) % users).expect("it is a device");
        let write = Write {
            conversation: &[0; 16],
            number: 1,
            id: scramble(index << 16 | round),
            seen: 0,
            body: &[0; 16],
        };
        let index = DeviceIndex::try_from(index).expect("it is a device");
        let request = FIRST + u32::try_from(round).expect("half of the conversations");
        wire::send_first(request, &self.users[peer], &write, swarm.out(index));
    }

    /// Each layer of groups divides all users anew.
    fn make_groups(&mut self, swarm: &mut Swarm) {
        for layer in 0..self.ties.groups {
            for block in 0..self.users.len().div_ceil(self.group_size()) {
                self.make_group(swarm, layer, block);
                self.flying += 1;
            }
        }
    }

    fn group_size(&self) -> usize {
        self.ties.group_size.max(2) as usize
    }

    /// At whom a layer's first group begins.
    fn shift(&self, layer: u32) -> usize {
        layer as usize * self.group_size() / self.ties.groups.max(1) as usize
    }

    fn make_group(&self, swarm: &mut Swarm, layer: u32, block: usize) {
        let (users, size) = (self.users.len(), self.group_size());
        let place = |at: usize| (self.shift(layer) + at) % users;
        let all: Vec<usize> = (block * size..users.min((block + 1) * size)).collect();
        let creator = DeviceIndex::try_from(place(all[0])).expect("it is a device");
        let members = all[1..].iter().map(|at| self.users[place(*at)].clone()).collect();
        let nonce = u128::from(layer) << 64 | block as u128;
        wire::create_group(GROUP + layer, nonce, members, swarm.out(creator));
    }

    /// Takes what concerns it. Devices acknowledge what comes to them.
    pub fn frame(&mut self, swarm: &mut Swarm, index: DeviceIndex, frame: &Frame<'_>) {
        match frame.says {
            Incoming::SendReply { .. } if frame.request >= u64::from(FIRST) => {
                self.flying -= 1;
            }
            Incoming::GroupCreated { .. } => self.flying -= 1,
            Incoming::Message(pushed) => {
                if let Some(conversation) = pushed.conversation {
                    wire::delivered(&conversation, pushed.seq, swarm.out(index));
                }
            }
            Incoming::Welcome { .. }
            | Incoming::SendReply { .. }
            | Incoming::Receipts(_)
            | Incoming::History(_)
            | Incoming::Sync(_)
            | Incoming::Behind
            | Incoming::Error { .. }
            | Incoming::Other => {}
        }
    }
}

/// The direct conversation of two users of a server without a tenant.
#[must_use]
pub fn direct(one: &str, other: &str) -> ConversationBytes {
    let key = |user| UserId::new(user).expect("names are made by us").key("");
    ConversationId::direct(key(one), key(other)).to_bytes()
}
