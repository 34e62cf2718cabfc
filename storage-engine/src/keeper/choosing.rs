//! Which merge is due: because a stream is in too many tables, because a deletion is to give its
//! space back, because nothing else is to do, or because much is too old.

use std::sync::Arc;

use super::{Keeper, plan};
use crate::settings::Settings;
use crate::table::TableRoot;

type Tables = [Arc<TableRoot>];
type Chosen = Vec<Arc<TableRoot>>;

/// A stretch of time in which little was sealed. A store that is written to now and then seals
/// small segments while it is calm, so it is quiet though it never stops.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// When it began; `None` before the first look.
    since_ms: Option<u64>,
    /// What was sealed in it.
    pub(super) sealed_bytes: u64,
}

impl Quiet {
    /// How long it has lasted. As much as a whole segment in it ends it.
    fn lasted_ms(&mut self, now_ms: u64, settings: &Settings) -> u64 {
        if self.sealed_bytes >= u64::from(settings.segment_bytes) {
            self.begin(now_ms);
        }
        now_ms.saturating_sub(*self.since_ms.get_or_insert(now_ms))
    }

    fn begin(&mut self, now_ms: u64) {
        *self = Self { since_ms: Some(now_ms), sealed_bytes: 0 };
    }
}

impl Keeper {
    /// The tables to merge next, the oldest first. None of them was put aside, and none that was
    /// lies between them: what is older than it stays older.
    pub(super) fn next_merge(&mut self, now_ms: u64) -> Option<Chosen> {
        let tables = Arc::clone(&self.view.tables);
        let most = self.settings.tables_a_stream_max;
        let too_many = |stretch: &Tables| plan::choose(stretch, most);
        if let Some(chosen) = self.in_a_stretch(&tables, &too_many) {
            return Some(chosen);
        }
        if let Some(chosen) = self.erasing(&tables, now_ms) {
            return Some(chosen);
        }
        if self.changed.1 != self.catalogue.last_sealing {
            self.changed = (now_ms, self.catalogue.last_sealing);
        }
        if self.quiet.lasted_ms(now_ms, &self.settings) >= self.settings.idle_merge_ms {
            if let Some(chosen) = self.in_a_stretch(&tables, &plan::when_idle) {
                return Some(chosen);
            }
            // One look a stretch: else each small segment would have its neighbours written anew.
            self.quiet.begin(now_ms);
        }
        self.retaining(&tables)
    }

    /// What is chosen of a stretch of tables between those that were put aside, if it may be
    /// merged.
    fn in_a_stretch(
        &self,
        tables: &Tables,
        choose: &dyn Fn(&Tables) -> Option<Chosen>,
    ) -> Option<Chosen> {
        let mut stretches = tables.split(|table| self.aside.contains(&table.id));
        stretches.find_map(|stretch| self.with_all_between(tables, choose(stretch)?))
    }

    fn with_all_between(&self, tables: &Tables, chosen: Chosen) -> Option<Chosen> {
        let chosen = plan::closure(tables, chosen);
        let whole = !chosen.iter().any(|table| self.aside.contains(&table.id));
        whole.then_some(chosen)
    }

    /// A deletion or trim gives its space back when it meets all older records.
    fn erasing(&mut self, tables: &Tables, now_ms: u64) -> Option<Chosen> {
        let marked = tables.iter().rev().filter(|table| table.marks > 0);
        let mut down = marked.map(|table| plan::down_to_the_oldest(tables, table));
        let Some(chosen) = down.find_map(|chosen| self.with_all_between(tables, chosen)) else {
            self.marks_since_ms = None;
            return None;
        };
        let since = *self.marks_since_ms.get_or_insert(now_ms);
        let due = now_ms.saturating_sub(since) >= self.settings.erase_after_ms;
        if due {
            self.marks_since_ms = None;
        }
        due.then_some(chosen)
    }

    /// All tables, if at least a quarter of their bytes may go: below that the next merges are
    /// waited for.
    fn retaining(&mut self, tables: &Tables) -> Option<Chosen> {
        let from = self.catalogue.retained_from;
        // What is still there though it is too old has nothing that stands for it: it does not
        // count.
        let newly = |table: &Arc<TableRoot>| {
            share_below(table, from).saturating_sub(share_below(table, self.retained))
        };
        let gone: u64 = tables.iter().map(newly).sum();
        if gone <= self.view.table_bytes() / 4 {
            return None;
        }
        if self.aside.is_empty() {
            return Some(tables.to_vec());
        }
        // The rest of it waits until no table is put aside.
        self.retained = from;
        let all = |stretch: &Tables| (!stretch.is_empty()).then(|| stretch.to_vec());
        self.in_a_stretch(tables, &all)
    }
}

/// Bytes of a table's records that are older than a stamp, if they are spread evenly.
pub(super) fn share_below(table: &TableRoot, stamp: u64) -> u64 {
    if table.max_stamp == 0 || stamp <= table.min_stamp {
        return 0;
    }
    let bytes = table.file_bytes();
    if stamp > table.max_stamp {
        return bytes;
    }
    let (part, whole) = (stamp - table.min_stamp, table.max_stamp - table.min_stamp);
    let share = u128::from(bytes) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(bytes)
}
