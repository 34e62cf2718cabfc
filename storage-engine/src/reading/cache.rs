//! What was read of tables, kept in memory up to a limit. This is what a read may look at without
//! asking the disk: memory of the process, so no page fault of a file can hold the shard's thread.
//! (A file mapped into memory gives no such promise: whether a page is there can be asked, but it
//! may go between the question and the look.)

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::position::{FileId, TableId};
use crate::view::View;

/// A range of a table.
type Key = (TableId, u64, u32);

/// Ranges of tables as they were fetched. Bodies that were given out share their memory with it.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    limit: usize,
    bytes: usize,
    /// Each range, and whether it was used since it was last looked at for leaving.
    ranges: BTreeMap<Key, (Bytes, bool)>,
    /// In the order in which they are looked at for leaving.
    order: VecDeque<Key>,
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Bytes kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of these ranges of a file, if all are kept.
    pub(crate) fn all(&mut self, file: FileId, ranges: &[(u64, u32)]) -> Option<Vec<Bytes>> {
        let FileId::Table(table) = file else { return None };
        let one = |&(at, bytes): &(u64, u32)| self.ranges.get(&(table, at, bytes));
        let found: Vec<Bytes> =
            ranges.iter().map_while(|range| one(range).map(|(bytes, _)| bytes.clone())).collect();
        if found.len() < ranges.len() {
            return None;
        }
        for &(at, bytes) in ranges {
            if let Some((_, used)) = self.ranges.get_mut(&(table, at, bytes)) {
                *used = true;
            }
        }
        Some(found)
    }

    /// Keeps a range that was fetched; what was not used for longest makes room.
    pub(crate) fn keep(&mut self, table: TableId, at: u64, bytes: &Bytes) {
        let Ok(length) = u32::try_from(bytes.len()) else { return };
        if bytes.len() > self.limit / 8 {
            return;
        }
        let key = (table, at, length);
        if self.ranges.insert(key, (bytes.clone(), false)).is_none() {
            self.bytes += bytes.len();
            self.order.push_back(key);
        }
        while self.bytes > self.limit {
            let Some(key) = self.order.pop_front() else { return };
            match self.ranges.get_mut(&key) {
                Some((_, used)) if *used => {
                    *used = false;
                    self.order.push_back(key);
                }
                Some(_) => self.forget(&key),
                None => {}
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some((bytes, _)) = self.ranges.remove(key) {
            self.bytes -= bytes.len();
        }
    }

    /// Forgets tables that are not there any more.
    pub(crate) fn keep_tables(&mut self, view: &View) {
        let there = |table: TableId| view.tables.iter().any(|one| one.id() == table);
        let gone: Vec<Key> =
            self.ranges.keys().filter(|(table, ..)| !there(*table)).copied().collect();
        for key in &gone {
            self.forget(key);
        }
        if !gone.is_empty() {
            self.order.retain(|key| self.ranges.contains_key(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId(3);

    fn filled() -> Cache {
        let mut cache = Cache::new(1000);
        for at in 0..10 {
            cache.keep(TABLE, at * 100, &Bytes::from(vec![7; 100]));
        }
        cache
    }

    fn holds(cache: &mut Cache, at: u64) -> bool {
        cache.all(FileId::Table(TABLE), &[(at, 100)]).is_some()
    }

    #[test]
    fn what_was_used_stays_longer() {
        let mut cache = filled();
        assert!(holds(&mut cache, 0));
        cache.keep(TABLE, 5000, &Bytes::from(vec![7; 100]));
        assert!(holds(&mut cache, 0));
        assert!(!holds(&mut cache, 100));
        assert_eq!(cache.bytes(), 1000);
    }

    #[test]
    fn large_ranges_and_lost_tables_are_not_kept() {
        let mut cache = filled();
        cache.keep(TABLE, 9000, &Bytes::from(vec![7; 126]));
        assert_eq!(cache.bytes(), 1000);
        cache.keep_tables(&View::default());
        assert_eq!(cache.bytes(), 0);
        assert!(!holds(&mut cache, 0));
        assert!(cache.order.is_empty());
    }
}
