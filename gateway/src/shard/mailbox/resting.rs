//! A mailbox of which nothing is to be kept but that its user is there: connected with one device,
//! the list on disk, no news. Nearly all mailboxes of a server are like this, so it is packed into
//! a third of what a mailbox takes that is in use. What does not fit stays awake.

use super::cells::{Body, Mailbox};
use super::slot::{Contacts, Device, Devices, Privacy, SeenBy, Slot};
use crate::ids::{EdgeAddress, EdgeId, ShardId};
use roost_protocol::ids::{ConnectionNumber, DeviceId, UserKey};

/// Bits of a generation; the byte above them is the shard.
const GENERATION_BITS: u32 = 24;

bitflags::bitflags! {
    /// What is true of it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Facts: u16 {
        const FOREGROUND = 1 << 0;
        const SOFT_CHANGED = 1 << 1;
        const KNOWN = 1 << 2;
        const BLOCKS_SOME = 1 << 3;
        const SCREENS = 1 << 4;
        const SEEN_BY_CONTACTS = 1 << 5;
        const SEEN_BY_NOBODY = 1 << 6;
        const CONTACTS_ONLY = 1 << 7;
        const READ_RECEIPTS = 1 << 8;
        /// It had its entry in the order of eviction when it came to rest.
        const STANDS = 1 << 9;
    }
}

/// See the module's comment. Every field is one of [`Slot`] or of its [`Device`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resting {
    user: [u8; 16],
    device: [u8; 16],
    edge_slot: u32,
    shard_and_generation: u32,
    connection_low: u32,
    last_seen_s: u32,
    present_until_s: u32,
    number: u32,
    contacts_at_s: u32,
    /// With the low half: 48 bits, so that numbers made of the time in milliseconds fit.
    connection_high: u16,
    client_check: u16,
    contacts_left: u16,
    id_check: u16,
    facts: Facts,
    epoch: u8,
    version: u8,
}

/// The budget of a session is made of this; see docs on memory before raising it.
pub(crate) const RESTING_BYTES: usize = size_of::<Resting>();
const _: () = assert!(RESTING_BYTES == 72);

impl Resting {
    /// Packs a mailbox, if it rests and fits.
    pub(super) fn pack(mailbox: &Mailbox) -> Option<Self> {
        let Body::Cold(rows) = &mailbox.body else { return None };
        let slot = &mailbox.slot;
        let Devices::One(device) = &slot.devices else { return None };
        let edge = device.main()?;
        let awake = !rows.is_empty() || slot.queued || slot.watched || device.extension.is_some();
        if awake || edge.edge.generation >> GENERATION_BITS != 0 {
            return None;
        }
        let connection = device.connection.0;
        let shard_and_generation =
            u32::from(edge.shard.0) << GENERATION_BITS | edge.edge.generation;
        let facts = [
            (device.foreground, Facts::FOREGROUND),
            (slot.soft_changed, Facts::SOFT_CHANGED),
            (slot.known, Facts::KNOWN),
            (slot.blocks_some, Facts::BLOCKS_SOME),
            (slot.screens, Facts::SCREENS),
            (slot.privacy.presence == SeenBy::Contacts, Facts::SEEN_BY_CONTACTS),
            (slot.privacy.presence == SeenBy::Nobody, Facts::SEEN_BY_NOBODY),
            (slot.privacy.contacts_only, Facts::CONTACTS_ONLY),
            (slot.privacy.read_receipts, Facts::READ_RECEIPTS),
            (mailbox.stands, Facts::STANDS),
        ];
        Some(Self {
            user: mailbox.user.to_bytes(),
            device: device.id.0,
            edge_slot: edge.edge.slot,
            shard_and_generation,
            connection_low: u32::try_from(connection & u64::from(u32::MAX)).ok()?,
            last_seen_s: device.last_seen_s,
            present_until_s: slot.present_until_s,
            number: u32::try_from(slot.number).ok()?,
            id_check: slot.id_check,
            contacts_at_s: slot.contacts.at_s,
            contacts_left: u16::try_from(slot.contacts.left).ok()?,
            connection_high: u16::try_from(connection >> 32).ok()?,
            client_check: device.client_check,
            epoch: u8::try_from(device.epoch).ok()?,
            version: u8::try_from(slot.version).ok()?,
            facts: facts.iter().filter(|(is, _)| *is).map(|(_, fact)| *fact).collect(),
        })
    }

    pub(super) const fn user(&self) -> UserKey {
        UserKey::from_bytes(self.user)
    }

    /// Its entry was taken out of the order.
    pub(super) fn leave_order(&mut self) {
        self.facts.remove(Facts::STANDS);
    }

    /// The mailbox that was packed.
    pub(super) fn unpack(&self) -> Mailbox {
        let has = |fact| self.facts.contains(fact);
        let [shard, ..] = self.shard_and_generation.to_be_bytes();
        let generation = self.shard_and_generation & ((1 << GENERATION_BITS) - 1);
        let edge = EdgeId { slot: self.edge_slot, generation };
        let mut device = Device::new(DeviceId(self.device));
        device.set_main(Some(EdgeAddress { shard: ShardId(shard), edge }));
        let connection = u64::from(self.connection_high) << 32 | u64::from(self.connection_low);
        device.connection = ConnectionNumber(connection);
        device.epoch = self.epoch.into();
        device.last_seen_s = self.last_seen_s;
        device.client_check = self.client_check;
        device.foreground = has(Facts::FOREGROUND);
        let presence = match (has(Facts::SEEN_BY_CONTACTS), has(Facts::SEEN_BY_NOBODY)) {
            (false, false) => SeenBy::Everyone,
            (true, _) => SeenBy::Contacts,
            (false, true) => SeenBy::Nobody,
        };
        let slot = Slot {
            devices: Devices::One(device),
            id_check: self.id_check,
            number: self.number.into(),
            contacts: Contacts { left: self.contacts_left.into(), at_s: self.contacts_at_s },
            version: self.version.into(),
            present_until_s: self.present_until_s,
            privacy: Privacy {
                presence,
                contacts_only: has(Facts::CONTACTS_ONLY),
                read_receipts: has(Facts::READ_RECEIPTS),
            },
            soft_changed: has(Facts::SOFT_CHANGED),
            known: has(Facts::KNOWN),
            watched: false,
            queued: false,
            blocks_some: has(Facts::BLOCKS_SOME),
            screens: has(Facts::SCREENS),
        };
        let body = Body::Cold(Vec::new());
        Mailbox { user: self.user(), slot, body, touched_tick: 0, stands: has(Facts::STANDS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::mailbox::row::Row;
    use crate::shard::message::Card;
    use proptest::prelude::*;
    use roost_protocol::ids::ConversationId;
    use std::sync::Arc;

    prop_compose! {
        fn resting_mailbox()(
            user in any::<u128>(),
            device in any::<[u8; 16]>(),
            edge in (0..255_u8, any::<u32>(), 0..1_u32 << GENERATION_BITS),
            connection in 0..1_u64 << 48,
            words in any::<[u32; 4]>(),
            shorts in any::<[u16; 3]>(),
            bytes in any::<[u8; 2]>(),
            bits in any::<[bool; 8]>(),
            presence in prop_oneof![
                Just(SeenBy::Everyone), Just(SeenBy::Contacts), Just(SeenBy::Nobody)
            ],
        ) -> Mailbox {
            let mut one = Device::new(DeviceId(device));
            let (shard, slot, generation) = edge;
            let edge = EdgeId { slot, generation };
            one.set_main(Some(EdgeAddress { shard: ShardId(shard), edge }));
            one.connection = ConnectionNumber(connection);
            one.last_seen_s = words[0];
            one.epoch = bytes[0].into();
            one.client_check = shorts[0];
            one.foreground = bits[0];
            let mut mailbox = Mailbox::new(UserKey::from_u128(user), Body::Cold(Vec::new()));
            mailbox.stands = bits[7];
            mailbox.slot = Slot {
                devices: Devices::One(one),
                id_check: shorts[1],
                number: words[1].into(),
                version: bytes[1].into(),
                contacts: Contacts { left: shorts[2].into(), at_s: words[2] },
                present_until_s: words[3],
                privacy: Privacy { presence, contacts_only: bits[1], read_receipts: bits[2] },
                soft_changed: bits[3],
                known: bits[4],
                blocks_some: bits[5],
                screens: bits[6],
                ..Slot::default()
            };
            mailbox
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out_again(mailbox in resting_mailbox()) {
            let packed = Resting::pack(&mailbox).expect("it rests and fits");
            let again = packed.unpack();
            prop_assert_eq!(again.user, mailbox.user);
            prop_assert_eq!(&again.slot, &mailbox.slot);
            prop_assert_eq!(again.stands, mailbox.stands);
            prop_assert!(matches!(&again.body, Body::Cold(rows) if rows.is_empty()));
        }

        #[test]
        fn what_is_not_at_rest_or_does_not_fit_stays_awake(
            mut mailbox in resting_mailbox(),
            what in 0..12,
        ) {
            let Devices::One(device) = &mut mailbox.slot.devices else { unreachable!("one") };
            let edge = device.main();
            match what {
                0 => device.connection = ConnectionNumber(1 << 48),
                1 => device.epoch = 1 << 8,
                2 => device.extension = edge.map(Box::new),
                3 => drop(device.set_main(None)),
                4 => {
                    let edge = EdgeId { slot: 1, generation: 1 << GENERATION_BITS };
                    device.set_main(Some(EdgeAddress { shard: ShardId(0), edge }));
                }
                5 => mailbox.slot.number = 1 << 32,
                6 => mailbox.slot.version = 1 << 8,
                7 => mailbox.slot.watched = true,
                8 => mailbox.slot.queued = true,
                9 => mailbox.slot.devices.push(Device::new(DeviceId([1; 16]))),
                10 => mailbox.slot.contacts.left = 1 << 16,
                _ => {
                    let conversation = ConversationId::from_u128(1);
                    let row = Row::new(conversation, &Arc::new(Card::Group));
                    mailbox.body = Body::Cold(vec![row]);
                }
            }
            prop_assert_eq!(Resting::pack(&mailbox), None);
        }
    }
}
