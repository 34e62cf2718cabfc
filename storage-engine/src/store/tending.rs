//! What a store has to do with the keeper: it asks for its segments to be sealed, the oldest first,
//! and takes up the tables that come of it.

use std::sync::Arc;

use super::{SPARE_INDICES, Store, StoreEvent};
use crate::error::{Damage, DiskError};
use crate::index::SegmentIndex;
use crate::keeper::{Tended, sealing_bytes_max};
use crate::layout::u64_of;
use crate::op::{Left, StoreOp};
use crate::position::{FileId, ReadId, SegmentId};
use crate::view::View;

/// The keeper is asked this often though nothing was sealed: some of what it does waits for time to
/// pass.
const TEND_EVERY_MS: u64 = 60_000;

/// Rolled-over segments with more than which sealing does not take its time.
const LAG_MAX: usize = 2;
/// Rolled-over segments that wait to be sealed: with so many appends wait, too. Each one more is
/// read at the next start, and its index takes memory.
const LAG_BOUND: usize = 8;
/// The keeper is told of more room that is needed for sealing in so many steps a segment.
const SEALING_STEPS: u64 = 8;
/// Sealing a segment is spread over half of this at most.
const SEAL_WITHIN_MS_MAX: u64 = 20_000;

/// What is under way with the keeper.
#[derive(Debug, Default)]
pub(super) struct Tending {
    /// When sealing is tried again that failed.
    seal_at: u64,
    old: OldSegments,
    /// The old segment whose sealing is under way.
    sealing_old: Option<SegmentId>,
    /// Absorbed segments that reads under way may still look into, each with the last read that
    /// may.
    leaving: Vec<(SegmentId, ReadId)>,
    /// The keeper was asked to tend, and when it was the last time.
    asked: bool,
    asked_ms: u64,
    /// The keeper may have something to do.
    wanted: bool,
    retain: Option<u64>,
    /// What the table of a segment may take at most, as the keeper was told.
    sealing_bytes: u64,
    pub(super) obstacle: Obstacle,
    pub(super) left: Left,
}

/// What keeps segments from being sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Obstacle {
    #[default]
    Nothing,
    /// There is no room, and that was said.
    Room,
    /// A segment is damaged: it and all behind it are not sealed before the next start.
    Damage,
}

/// Who seals the segments of earlier runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct OldSegments {
    /// This store does.
    here: bool,
    /// `OldSealed` is awaited.
    awaited: bool,
}

impl Tending {
    pub(super) fn new() -> Self {
        Self { wanted: true, ..Self::default() }
    }
}

impl Store {
    /// Seals what is rolled over, flushed, and owes nothing: one segment at a time, the oldest
    /// first, so that what is in a table is older than what is not.
    pub(super) fn start_seal(&mut self, ops: &mut Vec<StoreOp>) {
        if self.now_ms < self.tending.seal_at {
            return;
        }
        let olds = self.held.old.len();
        if let Some((&segment, old)) = self.held.old.first_key_value() {
            if self.tending.old.here && self.tending.sealing_old.is_none() {
                self.tending.sealing_old = Some(segment);
                let within_ms = u64::from(olds == 1);
                ops.push(StoreOp::Seal { segment, length: old.length, within_ms });
            }
            return;
        }
        let synced = self.synced.0;
        let filled_ms = self.now_ms.saturating_sub(self.seal_begun_ms);
        let within_ms = match self.rolled.len() {
            // What took long to fill may take long to seal.
            ..=LAG_MAX => (filled_ms.min(SEAL_WITHIN_MS_MAX) / 2).max(1),
            _ => 0,
        };
        let Some(mut first) = self.rolled.first_entry() else { return };
        let segment = first.get_mut();
        let length = u64::from(segment.end);
        if segment.owed == 0 && !segment.sealing && segment.start + length <= synced {
            segment.sealing = true;
            let seal = StoreOp::Seal { segment: segment.id, length, within_ms };
            self.seal_begun_ms = self.now_ms;
            ops.push(seal);
        }
    }

    /// Whether appends must wait until a segment is sealed. What waits for others to be told is not
    /// waited for: that may need appends.
    pub(super) fn sealing_lags(&self) -> bool {
        let first = self.rolled.values().next();
        self.rolled.len() >= LAG_BOUND
            && self.tending.obstacle != Obstacle::Damage
            && first.is_some_and(|first| first.sealing)
    }

    pub(super) fn ask_keeper(&mut self, ops: &mut Vec<StoreOp>) {
        self.leave(ops);
        self.tidy_memory();
        self.foresee_sealing();
        if let Some(stamp) = self.tending.retain.take() {
            ops.push(StoreOp::Retain { stamp });
            self.tending.wanted = true;
        }
        let due = self.now_ms.saturating_sub(self.tending.asked_ms) >= TEND_EVERY_MS;
        if due && !self.tending.wanted {
            // Nothing was sealed for so long: the next index may grow anew.
            let spare = self.spare_indices.drain(..).map(Arc::new);
            self.tending.left.indices.extend(spare);
        }
        if (self.tending.wanted || due) && !self.tending.asked {
            self.tending.asked_ms = self.now_ms;
            self.tending.wanted = false;
            self.tending.asked = true;
            let (now_ms, sealing_bytes) = (self.now_ms, self.tending.sealing_bytes);
            ops.push(StoreOp::Tend { now_ms, sealing_bytes });
        }
    }

    /// Does a bounded part of what was left to do when the tables changed.
    fn tidy_memory(&mut self) {
        if let Some(index) = self.spare_indices.iter_mut().find(|index| !index.is_empty()) {
            index.clear_some();
        }
        self.reading.cache.sweep(&self.held.view);
    }

    /// An index to be used again, if there is one that is cleared.
    pub(super) fn spare_index(&mut self) -> Option<SegmentIndex> {
        let cleared = self.spare_indices.iter().position(SegmentIndex::is_empty)?;
        Some(self.spare_indices.swap_remove(cleared))
    }

    /// What sealing what is written now will need, told ahead in steps: then there may be no room.
    fn foresee_sealing(&mut self) {
        let (bytes, streams) = (u64::from(self.active.end), u64_of(self.active.index.len()));
        let most = sealing_bytes_max(bytes, streams);
        let kept = self.settings.reserve_for(u64::from(self.active.capacity));
        if most > kept.max(self.tending.sealing_bytes) {
            let step = u64::from(self.settings.bytes_of(2)).div_ceil(SEALING_STEPS);
            self.tending.sealing_bytes = most.next_multiple_of(step);
            self.tending.wanted |= self.settings.reserve_bytes > 0;
        }
    }

    /// Whether everything before the segment being written is sealed, and the keeper, when it was
    /// last asked, had nothing to merge.
    #[must_use]
    pub fn is_tidy(&self) -> bool {
        let idle = !self.tending.asked && !self.tending.wanted;
        idle && self.rolled.is_empty() && self.held.old.is_empty()
    }

    /// Tells the keeper of absorbed segments that no read looks into any more, and hands it memory
    /// to give back.
    pub(super) fn leave(&mut self, ops: &mut Vec<StoreOp>) {
        if !self.tending.left.is_empty() {
            ops.push(StoreOp::Forget { left: core::mem::take(&mut self.tending.left) });
        }
        if self.tending.leaving.is_empty() {
            return;
        }
        let oldest = self.reading.oldest_under_way();
        self.tending.leaving.retain(|&(segment, last)| {
            let stays = oldest.is_some_and(|oldest| oldest <= last);
            if !stays {
                ops.push(StoreOp::Retire { segment });
            }
            stays
        });
    }

    /// Lets records with a seq and a smaller stamp go, in all streams of the folder, where a later
    /// snapshot stands for them.
    pub fn retain_from(&mut self, stamp: u64) {
        self.tending.retain = Some(stamp);
    }

    pub(super) fn sealed(&mut self, segment: SegmentId, outcome: Result<View, DiskError>) {
        if self.tending.sealing_old == Some(segment) {
            self.tending.sealing_old = None;
        }
        let error = match outcome {
            Ok(view) => {
                self.tending.wanted = true;
                self.tending.obstacle = Obstacle::Nothing;
                return self.adopt(view);
            }
            Err(error) => error,
        };
        let damaged = matches!(error, DiskError::Corrupt { .. } | DiskError::Newer { .. });
        // It is tried again each second: for want of room it is said once.
        let full = error == DiskError::Full;
        if !full || self.tending.obstacle != Obstacle::Room {
            self.not_sealed(segment, error);
        }
        self.tending.obstacle = if full { Obstacle::Room } else { Obstacle::Nothing };
        if damaged {
            self.tending.obstacle = Obstacle::Damage;
            self.tending.old.here = false;
        } else {
            self.tending.seal_at = self.now_ms.saturating_add(self.settings.retry_ms);
            if let Some(found) = self.rolled.get_mut(&segment) {
                found.sealing = false;
            }
        }
    }

    fn not_sealed(&mut self, segment: SegmentId, error: DiskError) {
        if let DiskError::Corrupt { offset } = error {
            self.damaged(Damage { file: FileId::Segment(segment), offset, stream: None });
        }
        self.ready(StoreEvent::NotSealed { segment, error });
    }

    pub(super) fn tended(&mut self, outcome: Result<(Tended, View), DiskError>) {
        self.tending.asked = false;
        match outcome {
            Ok((tended, view)) => {
                self.tending.wanted |= tended.more;
                self.stats.merged_bytes += tended.bytes;
                for damage in tended.damage {
                    self.damaged(damage);
                }
                self.adopt(view);
            }
            Err(error) => self.ready(StoreEvent::NotMerged(error)),
        }
    }

    pub(crate) fn damaged(&mut self, damage: Damage) {
        self.stats.corrupt += 1;
        self.ready(StoreEvent::Corrupt(damage));
    }

    /// Takes a newer list of tables, and forgets what it knew of the segments that are in them.
    pub(super) fn adopt(&mut self, view: View) {
        if view.number <= self.held.view.number {
            if view.number < self.held.view.number && !view.tables.is_empty() {
                // It may be the last one that knows some table, which is much to give back.
                self.tending.left.views.push(view);
            }
            return;
        }
        let last = self.reading.last_read();
        for &segment in view.absorbed.iter() {
            let mine = if let Some(old) = self.held.old.remove(&segment) {
                self.tending.left.indices.push(Arc::new(old.index));
                true
            } else if let Some(rolled) = self.rolled.remove(&segment) {
                // The first segment is smaller; its index would only be kept while nothing grows.
                // While little is written none is needed soon.
                let of_full_size = rolled.capacity == self.settings.bytes_of(2);
                let wanted = of_full_size && !self.calm.is_calm();
                if wanted && self.spare_indices.len() < SPARE_INDICES {
                    self.spare_indices.push(rolled.index);
                } else {
                    self.tending.left.indices.push(Arc::new(rolled.index));
                }
                self.ready(StoreEvent::Sealed(segment));
                true
            } else {
                false
            };
            if mine {
                self.stats.sealed += 1;
                self.tending.leaving.push((segment, last));
            }
        }
        self.reading.cache.tables_changed();
        let before = core::mem::replace(&mut self.held.view, view);
        self.tending.left.views.push(before);
        if self.tending.old.awaited && self.held.old.is_empty() {
            self.tending.old.awaited = false;
            self.ready(StoreEvent::OldSealed);
        }
    }

    /// Seals all segments of earlier runs. For one shard to call, once every shard has told all
    /// that is its part of them. `OldSealed` follows.
    pub fn seal_old(&mut self) {
        self.tending.old.here = true;
        self.await_old_sealed();
    }

    /// `OldSealed` follows when another shard's `seal_old` has come to its end.
    pub fn await_old_sealed(&mut self) {
        self.tending.old.awaited = true;
        if self.held.old.is_empty() {
            self.tending.old.awaited = false;
            self.ready(StoreEvent::OldSealed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::{OpenSettings, Opened, open};
    use crate::position::StreamId;
    use crate::settings::Settings;
    use crate::sim_disk::SimDisk;
    use crate::store::NewRecord;

    /// Everything that the store wants of the disk happens.
    fn settle(store: &mut Store, disk: &mut SimDisk, now_us: u64) {
        let mut ops = Vec::new();
        loop {
            store.end_batch(now_us, &mut ops);
            ops.drain(..).for_each(|op| disk.submit(0, op));
            if disk.pending().is_empty() {
                return;
            }
            let (_, done) = disk.complete(0, &mut |_| 0);
            store.handle(done, &mut Vec::new(), &mut ops);
        }
    }

    /// A store that has just sealed a lot.
    fn busy(settings: Settings) -> (Store, SimDisk) {
        let settings =
            Settings { segment_bytes: 16 << 10, first_segment_bytes: 8 << 10, ..settings };
        let mut disk = SimDisk::new();
        let opening = OpenSettings { shards: 1, settings, fresh_incarnation: 1 };
        let Opened { mut stores, keeper, .. } = open(&mut disk, &opening).unwrap();
        disk.attach(keeper, 1);
        let mut store = stores.remove(0);
        for number in 1..=200 {
            let record = NewRecord {
                stream: StreamId(1 << 90),
                number,
                seq: number,
                stamp: number,
                kind: 1,
                snapshot_start: false,
                body: &[&[7; 400]],
            };
            store.append(&record).unwrap();
            settle(&mut store, &mut disk, 1000);
        }
        assert!(!store.spare_indices.is_empty(), "they are used again while much is written");
        (store, disk)
    }

    #[test]
    fn the_indices_of_busy_times_do_not_stay() {
        // No stretch has so few records.
        let (mut store, mut disk) = busy(Settings { rest_records: 0, ..Settings::DEFAULT });
        settle(&mut store, &mut disk, (TEND_EVERY_MS - 1) * 1000);
        assert!(!store.spare_indices.is_empty());
        settle(&mut store, &mut disk, (TEND_EVERY_MS + 2) * 1000);
        assert!(store.spare_indices.is_empty(), "nothing was sealed for a minute");
    }

    #[test]
    fn what_only_busy_times_need_goes_when_little_is_written() {
        let (mut store, mut disk) = busy(Settings::DEFAULT);
        store.spare.push(Vec::with_capacity(1 << 20));
        let stretch_us = Settings::DEFAULT.rest_after_ms * 1000;
        settle(&mut store, &mut disk, stretch_us - 1000);
        assert!(!store.spare_indices.is_empty(), "the stretch is not over");
        settle(&mut store, &mut disk, stretch_us);
        assert!(store.spare_indices.is_empty());
        let most = store.spare.iter().map(Vec::capacity).max();
        assert!(most.is_some_and(|bytes| bytes < 1 << 20), "{most:?}");
    }
}
