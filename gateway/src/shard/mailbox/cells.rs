//! The mailboxes in memory, by user: a table of places, and the mailboxes themselves in chunks, so
//! that growing moves none of them and makes room for no more than a chunk.

use super::entries::Entries;
use super::held::Loading;
use super::row::Row;
use super::slot::Slot;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use roost_protocol::ids::UserKey;
use std::hash::BuildHasher;

/// Mailboxes in one chunk.
const CHUNK: usize = 1024;

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
    /// Which place among those that eviction looks at is this one's; 0: none, there is nothing to
    /// let go of.
    pub(crate) stamp: u32,
}

impl Mailbox {
    pub(crate) fn new(user: UserKey, body: Body) -> Self {
        Self { user, slot: Slot::default(), body, touched_tick: 0, stamp: 0 }
    }

    /// The list, if it is in memory.
    pub(crate) const fn entries(&self) -> Option<&Entries> {
        match &self.body {
            Body::Active(entries) => Some(entries),
            Body::Cold(_) | Body::Loading(_) | Body::Corrupt => None,
        }
    }
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Cells {
    places: HashTable<u32>,
    chunks: Vec<Vec<Option<Mailbox>>>,
    free: Vec<u32>,
    hasher: FixedState,
}

impl Cells {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            places: HashTable::new(),
            chunks: Vec::new(),
            free: Vec::new(),
            hasher: FixedState::with_seed(seed),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    fn at(&self, place: u32) -> Option<&Mailbox> {
        let place = place as usize;
        self.chunks.get(place / CHUNK)?.get(place % CHUNK)?.as_ref()
    }

    fn find(&self, user: UserKey) -> Option<u32> {
        let is_it = |place: &u32| self.at(*place).is_some_and(|mailbox| mailbox.user == user);
        self.places.find(self.hasher.hash_one(user), is_it).copied()
    }

    pub(crate) fn get(&self, user: UserKey) -> Option<&Mailbox> {
        self.find(user).and_then(|place| self.at(place))
    }

    pub(crate) fn get_mut(&mut self, user: UserKey) -> Option<&mut Mailbox> {
        let place = self.find(user)? as usize;
        self.chunks[place / CHUNK][place % CHUNK].as_mut()
    }

    /// The slot and the list of a user whose list is in memory.
    pub(crate) fn active(&mut self, user: UserKey) -> Option<(&mut Slot, &mut Entries)> {
        let Mailbox { slot, body: Body::Active(entries), .. } = self.get_mut(user)? else {
            return None;
        };
        Some((slot, entries))
    }

    /// Takes in a mailbox of a user who has none here.
    pub(crate) fn insert(&mut self, mailbox: Mailbox) -> &mut Mailbox {
        debug_assert!(self.find(mailbox.user).is_none(), "a user has one mailbox");
        let hash = self.hasher.hash_one(mailbox.user);
        let place = self.free.pop().unwrap_or_else(|| self.next_place());
        let (hasher, chunks) = (&self.hasher, &self.chunks);
        let rehash = |place: &u32| {
            let place = *place as usize;
            let there = chunks[place / CHUNK][place % CHUNK].as_ref();
            there.map_or(0, |mailbox| hasher.hash_one(mailbox.user))
        };
        self.places.insert_unique(hash, place, rehash);
        let place = place as usize;
        self.chunks[place / CHUNK][place % CHUNK].insert(mailbox)
    }

    fn next_place(&mut self) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let Some(chunk) = self.chunks.last_mut() else { unreachable!("one was pushed") };
        chunk.push(None);
        u32::try_from(before + chunk.len() - 1).expect("mailboxes of a shard are counted in a u32")
    }

    pub(crate) fn remove(&mut self, user: UserKey) -> Option<Mailbox> {
        let hash = self.hasher.hash_one(user);
        let chunks = &self.chunks;
        let is_it = |place: &u32| {
            let place = *place as usize;
            chunks[place / CHUNK][place % CHUNK].as_ref().is_some_and(|m| m.user == user)
        };
        let (place, _) = self.places.find_entry(hash, is_it).ok()?.remove();
        self.free.push(place);
        self.chunks[place as usize / CHUNK][place as usize % CHUNK].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_user_costs_a_cell() {
        // With its place in the table: together with the slot of its connection, this is what an
        // idle session costs.
        assert!(size_of::<Option<Mailbox>>() <= 144, "{}", size_of::<Option<Mailbox>>());
        assert_eq!(size_of::<Body>(), 24);
    }

    #[test]
    fn mailboxes_are_found_by_their_users() {
        let mut cells = Cells::new(1);
        let user = |n: u128| UserKey::from_u128(n << 2);
        for n in 0..5000 {
            cells.insert(Mailbox::new(user(n), Body::Corrupt));
        }
        for n in (0..5000).step_by(2) {
            assert!(cells.remove(user(n)).is_some_and(|mailbox| mailbox.user == user(n)));
        }
        assert!(cells.remove(user(0)).is_none());
        assert_eq!(cells.len(), 2500);
        for n in 0..5000 {
            assert_eq!(cells.get(user(n)).is_some(), n % 2 == 1);
        }
        for n in 5000..7500 {
            cells.insert(Mailbox::new(user(n), Body::Corrupt));
        }
        assert_eq!((cells.len(), cells.chunks.len()), (5000, 5), "places are used again");
        assert!(cells.get_mut(user(7499)).is_some());
    }
}
