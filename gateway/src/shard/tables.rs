//! A hash table in many small parts: growing or shrinking one of them moves a few thousand entries
//! at most, where one table of a million would hold the thread for a tenth of a second.

use hashbrown::HashTable;

/// Parts of a table. With a million entries each has 4,096.
const PARTS: usize = 256;
/// Parts with less room are not made smaller before they are empty.
const ROOM_MIN: usize = 64;
/// An empty part keeps no more room than a first entry makes.
const ROOM_EMPTY: usize = 3;
/// A part is made smaller when it has room for so many times what is in it.
const SPARSE_TIMES: usize = 8;

/// What a place of four bytes takes at most: with a byte of its own, in a table that is 7/16 full.
pub(crate) const PLACE_BYTES: usize = 12;

/// See the module's comment. Which part an entry is in, and where, follows from its hash.
#[derive(Debug)]
pub(crate) struct Tables<T> {
    parts: Box<[HashTable<T>]>,
    length: usize,
}

impl<T> Tables<T> {
    pub(crate) fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| HashTable::new()).collect(), length: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts[part_of(hash)].find(hash, is_it)
    }

    pub(crate) fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.parts[part_of(hash)].find_mut(hash, is_it)
    }

    /// Takes in an entry that is not there. `rehash` gives the hash of any entry.
    pub(crate) fn insert(&mut self, hash: u64, entry: T, rehash: impl Fn(&T) -> u64) {
        self.parts[part_of(hash)].insert_unique(hash, entry, rehash);
        self.length += 1;
    }

    pub(crate) fn remove(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&T) -> bool,
        rehash: impl Fn(&T) -> u64,
    ) -> Option<T> {
        let part = &mut self.parts[part_of(hash)];
        let (entry, _) = part.find_entry(hash, is_it).ok()?.remove();
        self.length -= 1;
        if part.is_empty() && part.capacity() > ROOM_EMPTY {
            *part = HashTable::new();
        } else if part.capacity() > ROOM_MIN && part.len() * SPARSE_TIMES <= part.capacity() {
            part.shrink_to(part.len() * 2, rehash);
        }
        Some(entry)
    }
}

/// By bits that neither choose a place in a part (the lowest) nor tell entries apart there (the
/// highest seven).
fn part_of(hash: u64) -> usize {
    usize::from((hash >> 48).to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_is_large_and_what_is_empty_has_no_room() {
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut tables = Tables::new();
        for n in 0..100_000 {
            tables.insert(hash(n), n, |n| hash(*n));
        }
        assert_eq!((tables.len(), tables.find(hash(5), |n| *n == 5)), (100_000, Some(&5)));
        let largest = tables.parts.iter().map(HashTable::len).max().unwrap();
        assert!(largest < 2 * 100_000 / PARTS, "{largest}");
        for n in 0..100_000 {
            assert_eq!(tables.remove(hash(n), |m| *m == n, |n| hash(*n)), Some(n));
        }
        let room: usize = tables.parts.iter().map(HashTable::capacity).sum();
        assert!(tables.len() == 0 && room <= PARTS * ROOM_EMPTY, "{room}");
    }
}
