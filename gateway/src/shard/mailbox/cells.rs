//! The mailboxes in memory, by user. One of which something is going on is *awake*: a value of its
//! own. One that only is there *rests*: packed, in chunks without holes, so that neither growing
//! nor shrinking needs room for more than a chunk. Whoever wants to change one that rests wakes it.
//!
//! Every one that is awake stands in an order, which eviction goes round: it lays them to rest, and
//! lets go of what nobody touched. One that is about to leave does not stand there meanwhile.

use super::entries::Entries;
use super::held::Loading;
use super::order::Order;
use super::resting::Resting;
use super::row::Row;
use super::slot::Slot;
use crate::shard::tables::Tables;
use foldhash::fast::FixedState;
use roost_protocol::ids::UserKey;
use std::hash::BuildHasher;
use std::ops::Deref;

/// What a chunk of those at rest takes: as much as the allocator hands out without a remainder.
const CHUNK_BYTES: usize = 64 * 1024;
/// Mailboxes in one chunk.
const CHUNK: usize = CHUNK_BYTES / size_of::<Resting>();

/// The list of a mailbox, wherever it is.
#[derive(Debug)]
pub(crate) enum Body {
    /// On disk; news are these rows, in the order of their conversations.
    Cold(Vec<Row>),
    /// Being read. What came meanwhile waits; nothing of the slot is known yet if it is new.
    Loading(Box<Loading>),
    Active(Box<Entries>),
    Corrupt,
}

/// One user's mailbox.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) user: UserKey,
    pub(crate) slot: Slot,
    pub(crate) body: Body,
    pub(crate) touched_tick: u32,
    /// It has its entry in the order.
    pub(crate) stands: bool,
}

impl Mailbox {
    pub(crate) fn new(user: UserKey, body: Body) -> Self {
        Self { user, slot: Slot::default(), body, touched_tick: 0, stands: false }
    }

    /// The list, if it is in memory.
    pub(crate) const fn entries(&self) -> Option<&Entries> {
        match &self.body {
            Body::Active(entries) => Some(entries),
            Body::Cold(_) | Body::Loading(_) | Body::Corrupt => None,
        }
    }
}

/// A mailbox to look at, wherever it is.
#[derive(Debug)]
pub(crate) enum Look<'a> {
    /// Itself.
    Awake(&'a Mailbox),
    /// What was packed.
    Resting(Mailbox),
}

impl Deref for Look<'_> {
    type Target = Mailbox;

    fn deref(&self) -> &Mailbox {
        match self {
            Look::Awake(mailbox) => mailbox,
            Look::Resting(mailbox) => mailbox,
        }
    }
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Cells {
    awake: Tables<Box<Mailbox>>,
    /// Where in the chunks those at rest are.
    places: Tables<u32>,
    /// All but the last are full.
    chunks: Vec<Vec<Resting>>,
    /// Nobody is in it twice, nor who has no mailbox here.
    order: Order,
    hasher: FixedState,
}

impl Cells {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            awake: Tables::new(),
            places: Tables::new(),
            chunks: Vec::new(),
            order: Order::default(),
            hasher: FixedState::with_seed(seed),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.awake.len() + self.places.len()
    }

    /// How many rest.
    pub(crate) fn resting(&self) -> usize {
        self.places.len()
    }

    /// A mailbox to look at; it goes on resting.
    pub(crate) fn get(&self, user: UserKey) -> Option<Look<'_>> {
        let hash = self.hasher.hash_one(user);
        if let Some(mailbox) = self.awake.find(hash, |mailbox| mailbox.user == user) {
            return Some(Look::Awake(mailbox));
        }
        let place = self.place(hash, user)?;
        Some(Look::Resting(at(&self.chunks, place)?.unpack()))
    }

    /// The list of a user, if it is in memory.
    pub(crate) fn entries(&self, user: UserKey) -> Option<&Entries> {
        let hash = self.hasher.hash_one(user);
        self.awake.find(hash, |mailbox| mailbox.user == user)?.entries()
    }

    /// A mailbox to change: it wakes up.
    pub(crate) fn get_mut(&mut self, user: UserKey) -> Option<&mut Mailbox> {
        let hash = self.hasher.hash_one(user);
        if let Some(place) = self.place(hash, user) {
            let mailbox = at(&self.chunks, place)?.unpack();
            self.take_place(hash, user);
            self.put_awake(hash, mailbox);
        }
        self.awake(user)
    }

    /// A mailbox to change, if it is awake.
    pub(crate) fn awake(&mut self, user: UserKey) -> Option<&mut Mailbox> {
        let hash = self.hasher.hash_one(user);
        let awake = self.awake.find_mut(hash, |mailbox| mailbox.user == user)?;
        Some(awake)
    }

    /// The slot and the list of a user whose list is in memory.
    pub(crate) fn active(&mut self, user: UserKey) -> Option<(&mut Slot, &mut Entries)> {
        let Mailbox { slot, body: Body::Active(entries), .. } = self.awake(user)? else {
            return None;
        };
        Some((slot, entries))
    }

    /// Takes in a mailbox of a user who has none here.
    pub(crate) fn insert(&mut self, mailbox: Mailbox) {
        debug_assert!(self.get(mailbox.user).is_none(), "a user has one mailbox");
        self.put_awake(self.hasher.hash_one(mailbox.user), mailbox);
    }

    fn put_awake(&mut self, hash: u64, mut mailbox: Mailbox) {
        if !std::mem::replace(&mut mailbox.stands, true) {
            self.order.push(mailbox.user);
        }
        let hasher = &self.hasher;
        self.awake.insert(hash, Box::new(mailbox), |mailbox| hasher.hash_one(mailbox.user));
    }

    /// Lets go of a mailbox that is awake, unless it stands in the order: then it is met there.
    pub(crate) fn remove(&mut self, user: UserKey) {
        let hash = self.hasher.hash_one(user);
        let awake = self.awake.find(hash, |mailbox| mailbox.user == user);
        if awake.is_some_and(|mailbox| !mailbox.stands) {
            self.take_awake(hash, user);
        }
    }

    fn take_awake(&mut self, hash: u64, user: UserKey) -> Option<Box<Mailbox>> {
        let hasher = &self.hasher;
        self.awake.remove(hash, |mailbox| mailbox.user == user, |m| hasher.hash_one(m.user))
    }

    // ---- at rest ----

    /// Lays a mailbox to rest, if that can be.
    pub(crate) fn rest(&mut self, user: UserKey) -> bool {
        let hash = self.hasher.hash_one(user);
        let awake = self.awake.find(hash, |mailbox| mailbox.user == user);
        let packed = awake.and_then(|mailbox| Resting::pack(mailbox));
        let Some(packed) = packed else { return false };
        self.take_awake(hash, user);
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let Some(last) = self.chunks.last_mut() else { unreachable!("one was pushed") };
        let place = u32::try_from(before + last.len());
        let place = place.expect("mailboxes of a shard are counted in a u32");
        last.push(packed);
        let (hasher, chunks) = (&self.hasher, &self.chunks);
        self.places.insert(hash, place, |place| hash_at(hasher, chunks, *place));
        true
    }

    fn place(&self, hash: u64, user: UserKey) -> Option<u32> {
        let is_it = |place: &u32| is_at(&self.chunks, *place, user);
        self.places.find(hash, is_it).copied()
    }

    /// Takes one out of the chunks; the last one fills the hole.
    fn take_place(&mut self, hash: u64, user: UserKey) {
        let (hasher, chunks) = (&self.hasher, &self.chunks);
        let is_it = |place: &u32| is_at(chunks, *place, user);
        let rehash = |place: &u32| hash_at(hasher, chunks, *place);
        let Some(hole) = self.places.remove(hash, is_it, rehash) else { return };
        let last_place = self.places.len();
        let Some(moved) = self.chunks.last_mut().and_then(Vec::pop) else { return };
        if self.chunks.last().is_some_and(Vec::is_empty) {
            self.chunks.pop();
        }
        if hole as usize == last_place {
            return;
        }
        let hash = self.hasher.hash_one(moved.user());
        let is_it = |place: &u32| *place as usize == last_place;
        if let Some(place) = self.places.find_mut(hash, is_it) {
            *place = hole;
        }
        self.chunks[hole as usize / CHUNK][hole as usize % CHUNK] = moved;
    }

    // ---- the order of eviction ----

    /// How many entries the order has.
    pub(crate) fn order_len(&self) -> usize {
        self.order.len()
    }

    /// Takes an entry out of the order, and gives whose it is if that mailbox is awake.
    /// [`Self::stand_again`] puts it back.
    pub(crate) fn next_in_order(&mut self) -> Option<UserKey> {
        let user = self.order.pop()?;
        let hash = self.hasher.hash_one(user);
        if let Some(awake) = self.awake.find_mut(hash, |mailbox| mailbox.user == user) {
            awake.stands = false;
            return Some(user);
        }
        if let Some(place) = self.place(hash, user) {
            let place = place as usize;
            self.chunks[place / CHUNK][place % CHUNK].leave_order();
        }
        None
    }

    /// Puts one that is awake at the end of the order, if it does not stand there.
    pub(crate) fn stand_again(&mut self, user: UserKey) {
        if let Some(awake) = self.awake(user)
            && !std::mem::replace(&mut awake.stands, true)
        {
            self.order.push(user);
        }
    }
}

fn at(chunks: &[Vec<Resting>], place: u32) -> Option<&Resting> {
    let place = place as usize;
    chunks.get(place / CHUNK)?.get(place % CHUNK)
}

fn is_at(chunks: &[Vec<Resting>], place: u32, user: UserKey) -> bool {
    at(chunks, place).is_some_and(|resting| resting.user() == user)
}

fn hash_at(hasher: &FixedState, chunks: &[Vec<Resting>], place: u32) -> u64 {
    at(chunks, place).map_or(0, |resting| hasher.hash_one(resting.user()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{EdgeAddress, EdgeId, ShardId};
    use crate::shard::mailbox::slot::{Device, Devices};
    use proptest::prelude::*;
    use roost_protocol::ids::DeviceId;
    use std::collections::BTreeSet;

    fn user(n: u16) -> UserKey {
        UserKey::from_u128(u128::from(n) << 2)
    }

    /// Connected, with an empty list on disk.
    fn idle(n: u16) -> Mailbox {
        let mut device = Device::new(DeviceId([1; 16]));
        let edge = EdgeId { slot: n.into(), generation: 1 };
        device.set_main(Some(EdgeAddress { shard: ShardId(0), edge }));
        let mut mailbox = Mailbox::new(user(n), Body::Cold(Vec::new()));
        mailbox.slot.devices = Devices::One(device);
        mailbox.slot.number = n.into();
        mailbox
    }

    #[test]
    fn a_mailbox_in_use_has_its_size() {
        assert!(size_of::<Mailbox>() <= 144, "{}", size_of::<Mailbox>());
        assert_eq!(size_of::<Body>(), 24);
        const { assert!(CHUNK_BYTES - CHUNK * size_of::<Resting>() < size_of::<Resting>()) };
    }

    #[test]
    fn memory_goes_when_users_go() {
        let mut cells = Cells::new(1);
        for n in 0..20_000 {
            cells.insert(idle(n));
            assert!(cells.rest(user(n)));
        }
        assert_eq!(cells.chunks.len(), 20_000_usize.div_ceil(CHUNK));
        while cells.order_len() > 0 {
            assert_eq!(cells.next_in_order(), None, "all rest");
        }
        for n in (0..20_000).rev().step_by(2).chain((0..20_000).step_by(2)) {
            let hash = cells.hasher.hash_one(user(n));
            cells.take_place(hash, user(n));
        }
        assert_eq!((cells.len(), cells.chunks.len()), (0, 0));
    }

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Insert(u16),
        Leave,
        StayInOrder(u16),
        Wake(u16),
        Rest(u16),
        Look,
    }

    fn act() -> impl Strategy<Value = Act> {
        let who = 0..40_u16;
        prop_oneof![
            who.clone().prop_map(Act::Insert),
            Just(Act::Leave),
            who.clone().prop_map(Act::StayInOrder),
            who.clone().prop_map(Act::Wake),
            who.prop_map(Act::Rest),
            Just(Act::Look),
        ]
    }

    proptest! {
        #[test]
        fn mailboxes_are_found_by_their_users(acts in proptest::collection::vec(act(), 0..400)) {
            let mut cells = Cells::new(1);
            let mut model = BTreeSet::new();
            for act in acts {
                match act {
                    Act::Insert(n) => {
                        if model.insert(n) {
                            cells.insert(idle(n));
                        }
                    }
                    Act::Leave => {
                        if let Some(user) = cells.next_in_order() {
                            cells.remove(user);
                            model.retain(|n| self::user(*n) != user);
                        }
                    }
                    Act::StayInOrder(n) => {
                        let stands = cells.awake(user(n)).is_some_and(|mailbox| mailbox.stands);
                        cells.remove(user(n));
                        prop_assert_eq!(stands, cells.awake(user(n)).is_some());
                    }
                    Act::Wake(n) => {
                        prop_assert_eq!(cells.get_mut(user(n)).is_some(), model.contains(&n));
                    }
                    Act::Rest(n) => {
                        cells.rest(user(n));
                    }
                    Act::Look => {
                        if let Some(user) = cells.next_in_order() {
                            cells.stand_again(user);
                        }
                    }
                }
                prop_assert_eq!(cells.len(), model.len());
                for n in 0..40 {
                    let number = cells.get(user(n)).map(|mailbox| mailbox.slot.number);
                    prop_assert_eq!(number, model.contains(&n).then_some(n.into()));
                }
            }
            // Once round: everybody who is awake is met once, nobody else, and what rests is gone
            // from the order.
            let mut met = BTreeSet::new();
            for _ in 0..cells.order_len() {
                if let Some(user) = cells.next_in_order() {
                    prop_assert!(met.insert(user));
                    cells.stand_again(user);
                }
            }
            prop_assert_eq!(met.len(), cells.len() - cells.resting());
            prop_assert_eq!(cells.order_len(), met.len());
        }
    }
}
