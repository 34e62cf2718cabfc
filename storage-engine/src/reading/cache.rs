//! What was read of tables, kept in memory up to a limit. This is what a read may look at without
//! asking the disk: memory of the process, so no page fault of a file can hold the shard's thread.
//! (A file mapped into memory gives no such promise: whether a page is there can be asked, but it
//! may go between the question and the look.)

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::position::{FileId, TableId};
use crate::view::View;

/// Ranges that are looked at for leaving at once, so that no call takes long.
const LOOKED_AT: usize = 32;

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
    /// How many of these, from the first, may be of tables that are not there any more.
    unswept: usize,
    /// How many of these, from the first, leave if nobody used them since `age` was called before.
    unaged: usize,
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
        let mut chances = LOOKED_AT;
        while self.bytes > self.limit {
            let Some(key) = self.order.pop_front() else { return };
            match self.ranges.get_mut(&key) {
                Some((_, used)) if *used && chances > 0 => {
                    chances -= 1;
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

    /// Tables may have gone: `sweep` is to look for their ranges.
    pub(crate) fn tables_changed(&mut self) {
        self.unswept = self.order.len();
    }

    /// Lets `sweep` forget what was not used since this was called before.
    pub(crate) fn age(&mut self) {
        self.unaged = self.order.len();
        if self.order.is_empty() {
            self.order = VecDeque::new();
        }
    }

    /// Forgets some ranges of tables that are not there any more, which only take room, and of
    /// those that nobody used: see `age`.
    pub(crate) fn sweep(&mut self, view: &View) {
        for _ in 0..self.unswept.max(self.unaged).min(LOOKED_AT) {
            let Some(key) = self.order.pop_front() else { return };
            let gone = self.unswept > 0 && !view.tables.iter().any(|one| one.id() == key.0);
            let ages = self.unaged > 0;
            self.unswept = self.unswept.saturating_sub(1);
            self.unaged = self.unaged.saturating_sub(1);
            match self.ranges.get_mut(&key) {
                Some((_, used)) if !gone && (*used || !ages) => {
                    *used &= !ages;
                    self.order.push_back(key);
                }
                Some(_) => self.forget(&key),
                None => {}
            }
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
    fn large_ranges_are_not_kept_and_lost_tables_leave_some_at_a_time() {
        let mut cache = filled();
        cache.keep(TABLE, 9000, &Bytes::from(vec![7; 126]));
        assert_eq!(cache.bytes(), 1000);
        let mut cache = Cache::new(100_000);
        let ranges = u64::try_from(LOOKED_AT).unwrap() + 5;
        for at in 0..ranges {
            cache.keep(TABLE, at * 100, &Bytes::from(vec![7; 100]));
        }
        cache.sweep(&View::default());
        assert_eq!(cache.order.len(), LOOKED_AT + 5, "nobody said that tables have changed");
        cache.tables_changed();
        cache.sweep(&View::default());
        assert_eq!((cache.order.len(), cache.bytes()), (5, 500));
        cache.sweep(&View::default());
        assert_eq!((cache.order.len(), cache.bytes(), cache.ranges.len()), (0, 0, 0));
    }

    #[test]
    fn what_nobody_uses_leaves_while_little_is_read() {
        let mut cache = filled();
        // It asks for no table: as long as nobody says that they changed, all are there.
        let sweep = |cache: &mut Cache| cache.sweep(&View::default());
        sweep(&mut cache);
        assert_eq!(cache.bytes(), 1000, "it is not told to age");
        assert!(holds(&mut cache, 300));
        cache.age();
        sweep(&mut cache);
        assert_eq!(cache.bytes(), 100);
        assert!(holds(&mut cache, 300));
        cache.age();
        sweep(&mut cache);
        cache.age();
        sweep(&mut cache);
        assert_eq!((cache.bytes(), cache.order.len(), cache.ranges.len()), (0, 0, 0));
        cache.age();
        assert_eq!(cache.order.capacity(), 0);
    }

    #[test]
    fn room_is_made_though_everything_was_used() {
        let mut cache = Cache::new(10_000);
        for at in 0..100 {
            cache.keep(TABLE, at * 100, &Bytes::from(vec![7; 100]));
            assert!(holds(&mut cache, at * 100));
        }
        cache.keep(TABLE, 50_000, &Bytes::from(vec![7; 100]));
        assert_eq!(cache.bytes(), 10_000);
        // What was looked at without leaving is looked at again after all others.
        assert!(holds(&mut cache, 0));
        let gone = u64::try_from(LOOKED_AT).unwrap() * 100;
        assert!(!holds(&mut cache, gone));
    }
}
