//! What stays in memory of a connected user, whose list may be on disk: the devices and where they
//! are, settings that decide what is pushed. Idle connections cost this much, so it is packed.

use crate::ids::{EdgeAddress, EdgeId, ShardId};
use roost_protocol::ids::{ConnectionNumber, DeviceId, UserId};
use roost_protocol::time::Timestamp;
use roost_protocol::wire::Audience;
use std::hash::BuildHasher;

/// No shard has this id: there are at most 255.
const NO_SHARD: u8 = u8::MAX;
const HOUR_S: u64 = 3600;

/// Whole seconds since 1970, for what is kept packed.
pub(crate) fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.ms / 1000).unwrap_or(u32::MAX)
}

/// A device of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    /// The newest connection heard in this run of the server, also after it ended.
    pub(crate) connection: ConnectionNumber,
    main_edge: EdgeId,
    /// Where its notification extension is connected. Hardly any has one.
    pub(crate) extension: Option<Box<EdgeAddress>>,
    /// Raised when the device is signed out: older tickets end.
    pub(crate) epoch: u32,
    /// When it was last heard of, in seconds; soft.
    pub(crate) last_seen_s: u32,
    /// Of what it says it is, to see whether that changed; 0: not known.
    pub(crate) client_check: u16,
    main_shard: u8,
    /// Its app is in front of the person.
    pub(crate) foreground: bool,
}

impl Device {
    pub(crate) const fn new(id: DeviceId) -> Self {
        Self {
            id,
            connection: ConnectionNumber(0),
            main_edge: EdgeId { slot: 0, generation: 0 },
            extension: None,
            epoch: 0,
            last_seen_s: 0,
            client_check: 0,
            main_shard: NO_SHARD,
            foreground: false,
        }
    }

    /// Where its app is connected.
    pub(crate) const fn main(&self) -> Option<EdgeAddress> {
        if self.main_shard == NO_SHARD {
            return None;
        }
        Some(EdgeAddress { shard: ShardId(self.main_shard), edge: self.main_edge })
    }

    /// Its app is connected there, or nowhere. Gives where it was.
    pub(crate) fn set_main(&mut self, edge: Option<EdgeAddress>) -> Option<EdgeAddress> {
        let before = self.main();
        match edge {
            Some(edge) => {
                debug_assert!(edge.shard.0 != NO_SHARD);
                self.main_shard = edge.shard.0;
                self.main_edge = edge.edge;
            }
            None => self.main_shard = NO_SHARD,
        }
        before
    }

    /// The connections it has.
    pub(crate) fn edges(&self) -> impl Iterator<Item = EdgeAddress> {
        self.main().into_iter().chain(self.extension.as_deref().copied())
    }

    pub(crate) const fn is_connected(&self) -> bool {
        self.main_shard != NO_SHARD || self.extension.is_some()
    }

    /// In front of a person: an extension never is.
    pub(crate) const fn is_present(&self) -> bool {
        self.main_shard != NO_SHARD && self.foreground
    }
}

/// A small number that differs when a text does, mostly; never 0.
pub(crate) fn check_of(text: &str) -> u16 {
    let hash = foldhash::fast::FixedState::with_seed(0).hash_one(text);
    u16::try_from(hash >> 48).unwrap_or_default() | 1
}

/// The devices of a user. Most users have one, which then needs no memory elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Devices {
    #[default]
    None,
    One(Device),
    /// At least two.
    Many(Vec<Device>),
}

impl Devices {
    pub(crate) fn as_slice(&self) -> &[Device] {
        match self {
            Self::None => &[],
            Self::One(device) => std::slice::from_ref(device),
            Self::Many(devices) => devices,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Device] {
        match self {
            Self::None => &mut [],
            Self::One(device) => std::slice::from_mut(device),
            Self::Many(devices) => devices,
        }
    }

    pub(crate) fn place_of(&self, id: DeviceId) -> Option<usize> {
        self.as_slice().iter().position(|device| device.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.as_mut_slice().iter_mut().find(|device| device.id == id)
    }

    pub(crate) fn push(&mut self, device: Device) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(device),
            Self::One(first) => Self::Many(vec![first, device]),
            Self::Many(mut devices) => {
                devices.push(device);
                Self::Many(devices)
            }
        };
    }

    pub(crate) fn remove(&mut self, id: DeviceId) -> Option<Device> {
        let place = self.place_of(id)?;
        match std::mem::take(self) {
            Self::None => None,
            Self::One(device) => Some(device),
            Self::Many(mut devices) => {
                let gone = devices.remove(place);
                if devices.len() > 1 {
                    *self = Self::Many(devices);
                } else if let Some(last) = devices.pop() {
                    *self = Self::One(last);
                }
                Some(gone)
            }
        }
    }
}

/// Who may see whether a user is there: [`Audience`] in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SeenBy {
    Everyone,
    Contacts,
    Nobody,
}

impl From<Audience> for SeenBy {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Everyone => Self::Everyone,
            Audience::Contacts => Self::Contacts,
            Audience::Nobody => Self::Nobody,
        }
    }
}

impl From<SeenBy> for Audience {
    fn from(seen_by: SeenBy) -> Self {
        match seen_by {
            SeenBy::Everyone => Self::Everyone,
            SeenBy::Contacts => Self::Contacts,
            SeenBy::Nobody => Self::Nobody,
        }
    }
}

/// What others may learn of a user, and who may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Privacy {
    pub(crate) presence: SeenBy,
    /// Messages of strangers are requests.
    pub(crate) contacts_only: bool,
    /// Others are told what this user read.
    pub(crate) read_receipts: bool,
}

impl Default for Privacy {
    fn default() -> Self {
        Self { presence: SeenBy::Everyone, contacts_only: false, read_receipts: true }
    }
}

/// A bucket of direct conversations that a user may open. One is taken when a conversation began;
/// until then the connections hold senders back, each by what it was told when it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Contacts {
    pub(crate) left: u32,
    /// Up to when it was filled, in seconds; 0: it is full.
    pub(crate) at_s: u32,
}

impl Contacts {
    /// Fills it by what an hour gives.
    fn fill(&mut self, now_s: u32, per_hour: u32) {
        let passed = u64::from(now_s.saturating_sub(self.at_s));
        let more = passed.saturating_mul(per_hour.into()) / HOUR_S;
        let left = u64::from(self.left).saturating_add(more);
        if left >= per_hour.into() {
            *self = Self { left: per_hour, at_s: now_s };
        } else {
            self.left = u32::try_from(left).unwrap_or(per_hour);
            // Only the time that was paid for: the rest counts next time.
            let paid = more * HOUR_S / u64::from(per_hour.max(1));
            self.at_s = self.at_s.saturating_add(u32::try_from(paid).unwrap_or(u32::MAX));
        }
    }

    /// How many there are now.
    pub(crate) fn available(&mut self, now_s: u32, per_hour: u32) -> u32 {
        self.fill(now_s, per_hour);
        self.left
    }

    /// A conversation began.
    pub(crate) fn take(&mut self, now_s: u32, per_hour: u32) {
        self.fill(now_s, per_hour);
        self.left = self.left.saturating_sub(1);
    }
}

/// See the module's comment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own; six fit a word")]
pub(crate) struct Slot {
    /// In the order of their last use: the one unused for longest comes first. Snapshots and the
    /// records of connections keep the order.
    pub(crate) devices: Devices,
    /// Of the user's id, to tell two with one key apart; 0: not known.
    pub(crate) id_check: u16,
    /// The number of the last numbered record of the stream.
    pub(crate) number: u64,
    pub(crate) contacts: Contacts,
    /// Of the list of devices: raised with each that comes or goes.
    pub(crate) version: u32,
    /// When the last session in the foreground ended, in seconds; soft.
    pub(crate) present_until_s: u32,
    pub(crate) privacy: Privacy,
    /// What is soft here changed since it was last written.
    pub(crate) soft_changed: bool,
    /// The records were read: the rest of this is true.
    pub(crate) known: bool,
    /// Somebody watches this user's presence.
    pub(crate) watched: bool,
    /// Stands in the checkpoint's list.
    pub(crate) queued: bool,
    /// Blocks somebody: presence needs the list to be in memory.
    pub(crate) blocks_some: bool,
    /// Some news are not to be pushed: they need the list to be in memory.
    pub(crate) screens: bool,
}

impl Slot {
    pub(crate) fn is_connected(&self) -> bool {
        self.devices.as_slice().iter().any(Device::is_connected)
    }

    /// The connections of all devices.
    pub(crate) fn edges(&self) -> impl Iterator<Item = EdgeAddress> {
        self.devices.as_slice().iter().flat_map(Device::edges)
    }

    /// Some app is in front of the person.
    pub(crate) fn is_present(&self) -> bool {
        self.devices.as_slice().iter().any(Device::is_present)
    }

    /// Whether this is another id with the same key. The first one is taken.
    pub(crate) fn is_other(&mut self, user: &UserId) -> bool {
        let check = id_check(user);
        if self.id_check == 0 {
            self.id_check = check;
        }
        self.id_check != check
    }

    /// A device connected, or was connected until now.
    pub(crate) fn note_use(&mut self, place: usize) {
        self.soft_changed = true;
        self.devices.as_mut_slice()[place..].rotate_left(1);
    }

    /// Which device makes room for another: the one unused for longest. One that is connected is
    /// in use, so it goes only when all are, and then the one that connected first.
    pub(crate) fn longest_unused(&self) -> usize {
        let devices = self.devices.as_slice();
        devices.iter().position(|device| !device.is_connected()).unwrap_or(0)
    }
}

/// Stands for a user id; never 0.
pub(crate) fn id_check(user: &UserId) -> u16 {
    check_of(user.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(devices: u8) -> Slot {
        let mut slot = Slot::default();
        for id in 1..=devices {
            slot.devices.push(Device::new(DeviceId([id; 16])));
        }
        slot
    }

    fn ids(slot: &Slot) -> Vec<u8> {
        slot.devices.as_slice().iter().map(|device| device.id.0[0]).collect()
    }

    #[test]
    fn an_idle_user_costs_a_slot() {
        // The budget of a session is made of this; see docs on memory before raising it.
        assert_eq!(size_of::<Device>(), 56);
        assert_eq!(size_of::<Devices>(), 56);
        assert!(size_of::<Slot>() <= 96, "{}", size_of::<Slot>());
    }

    #[test]
    fn the_device_unused_for_longest_makes_room() {
        let mut slot = slot(4);
        let edge = EdgeAddress { shard: ShardId(0), edge: EdgeId { slot: 1, generation: 1 } };
        slot.note_use(3);
        assert_eq!(slot.longest_unused(), 0);
        // The first comes back: the second is now the one unused for longest.
        slot.note_use(0);
        assert_eq!((ids(&slot), slot.longest_unused()), (vec![2, 3, 4, 1], 0));
        // Whoever is connected is in use, however long ago that began.
        slot.devices.as_mut_slice()[0].set_main(Some(edge));
        slot.devices.as_mut_slice()[1].extension = Some(Box::new(edge));
        assert_eq!(slot.longest_unused(), 2);
        for device in slot.devices.as_mut_slice() {
            device.set_main(Some(edge));
        }
        assert_eq!(slot.longest_unused(), 0);
    }

    #[test]
    fn devices_come_and_go() {
        let mut slot = slot(3);
        assert!(slot.devices.remove(DeviceId([9; 16])).is_none());
        assert!(slot.devices.remove(DeviceId([2; 16])).is_some());
        assert_eq!(ids(&slot), [1, 3]);
        assert!(slot.devices.remove(DeviceId([1; 16])).is_some());
        assert!(matches!(slot.devices, Devices::One(_)));
        assert!(slot.devices.remove(DeviceId([3; 16])).is_some());
        assert_eq!(slot.devices, Devices::None);
    }

    #[test]
    fn first_contacts_come_back_with_time() {
        let mut contacts = Contacts::default();
        let now = 1_000_000;
        assert_eq!(contacts.available(now, 50), 50);
        for _ in 0..60 {
            contacts.take(now, 50);
        }
        assert_eq!(contacts.available(now, 50), 0);
        // One comes back every 72 seconds, and the seconds left over are not lost.
        assert_eq!(contacts.available(now + 71, 50), 0);
        assert_eq!(contacts.available(now + 72, 50), 1);
        contacts.take(now + 72, 50);
        assert_eq!(contacts.available(now + 72 + 71, 50), 0);
        assert_eq!(contacts.available(now + 72 + 72, 50), 1);
        // Never more than an hour gives.
        assert_eq!(contacts.available(now + 100_000, 50), 50);
        // A clock that falls back gives nothing.
        contacts.left = 0;
        assert_eq!(contacts.available(5, 50), 0);
    }
}
