//! What a mailbox knows of its user besides conversations: devices in detail, devices that were
//! signed out, whom the user blocked, channels on their way in.

use roost_protocol::ids::{ConversationId, DeviceId, UserId, UserKey};
use std::collections::{BTreeMap, BTreeSet};

/// Signed-out devices that are remembered. Past it the oldest is forgotten: whoever registers so
/// many devices has a good token anyway.
const TOMBSTONES_MAX: usize = 32;

/// A device as the list of devices shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detail {
    pub(crate) device: DeviceId,
    /// As the user calls it.
    pub(crate) name: String,
    /// As it calls itself.
    pub(crate) client: String,
    pub(crate) registered_ms: u64,
    /// The cursor that it gave last; soft.
    pub(crate) cursor: u64,
}

/// A device that was signed out: only a newer token brings it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tombstone {
    pub(crate) device: DeviceId,
    /// Its epoch until then.
    pub(crate) epoch: u32,
    pub(crate) at_ms: u64,
}

/// Somebody who was blocked, or is not any more and the conversation may not know it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) id: UserId,
    /// Of the record that says so.
    pub(crate) number: u64,
    pub(crate) blocked: bool,
    /// The conversation said that it knows. Not stored: it is asked again.
    pub(crate) confirmed: bool,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    pub(crate) user_id: Option<UserId>,
    pub(crate) details: Vec<Detail>,
    pub(crate) tombstones: Vec<Tombstone>,
    pub(crate) blocks: BTreeMap<UserKey, Block>,
    /// Channels the user wants to be in, by the number of the record that says so.
    pub(crate) joining: BTreeMap<ConversationId, u64>,
    /// Conversations without an entry that want to know the version of the devices.
    pub(crate) versions_wanted: BTreeSet<ConversationId>,
}

impl Profile {
    /// Roughly what it takes in memory, besides its own place.
    pub(crate) fn bytes(&self) -> u64 {
        let (blocks, joining) = (self.blocks.len() as u64, self.joining.len() as u64);
        let wanted = self.versions_wanted.len() as u64;
        self.details.len() as u64 * 160 + blocks * 128 + joining * 32 + wanted * 24
    }

    pub(crate) fn detail_mut(&mut self, device: DeviceId) -> Option<&mut Detail> {
        self.details.iter_mut().find(|detail| detail.device == device)
    }

    pub(crate) fn detail(&self, device: DeviceId) -> Option<&Detail> {
        self.details.iter().find(|detail| detail.device == device)
    }

    /// Whether the user does not want to hear of another.
    pub(crate) fn is_blocked(&self, user: UserKey) -> bool {
        self.blocks.get(&user).is_some_and(|block| block.blocked)
    }

    pub(crate) fn blocks_some(&self) -> bool {
        self.blocks.values().any(|block| block.blocked)
    }

    /// Remembers a device that was signed out.
    pub(crate) fn bury(&mut self, tombstone: Tombstone) {
        self.tombstones.retain(|known| known.device != tombstone.device);
        if self.tombstones.len() >= TOMBSTONES_MAX {
            self.tombstones.remove(0);
        }
        self.tombstones.push(tombstone);
    }
}
