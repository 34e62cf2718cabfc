//! When actors leave memory: those that nobody touched for a while, and, where there is no room,
//! whoever was not touched just now.
//!
//! While there is room, a clock hand goes over all actors once in [`ROTATION_TICKS`], so that what
//! was not touched for a minute has left memory about a minute later, however many there are. Its
//! work of a tick is spread over batches and stops while the log has much to write: nobody's
//! message waits for it.

use super::Shard;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};

/// Ticks after which an actor that nobody touched may be evicted, while there is room.
const IDLE_TICKS: u64 = 600;
/// Ticks in which all actors are looked at once.
const ROTATION_TICKS: usize = 600;
/// Actors of either kind that are looked at in one tick, at least.
const LOOKS_PER_TICK_MIN: usize = 256;
/// Actors of either kind that the clock hand looks at in one batch: with the snapshots of all of
/// them, less than a millisecond.
const LOOKS_PER_BATCH: usize = 256;
/// Bytes of the log that wait for their flush with which the clock hand stands still.
const UNFLUSHED_MAX_BYTES: u64 = 1 << 20;
/// When a crowd has left, so many times as many mailboxes are looked at: theirs are small.
const CROWD_TIMES: usize = 4;
/// Actors that eviction looks at for each one that is loaded while there is no room: more than one,
/// since some may not leave yet.
const LOOKS_PER_LOAD: u64 = 4;
/// Of these, so many at once: what they write must leave the log room for others.
const LOOKS_FOR_LOADS_PER_BATCH: u64 = 1_024;

/// Ticks between two times at which lists give back room they do not need.
const GIVE_BACK_TICKS: u64 = 200;

/// A table gives memory back that has room for so many, and for so many times what is in it.
const SPARSE_MIN: usize = 4_096;
const SPARSE_TIMES: usize = 16;

/// Looks at actors that are due.
#[derive(Debug, Default)]
pub(super) struct Evicting {
    /// Of the clock hand's share.
    conversations: usize,
    mailboxes: usize,
    /// Because others were loaded while there was no room.
    for_loads: u64,
    /// When lists next give back room they do not need.
    gives_back_tick: u64,
}

/// What of so many actors is looked at in a tick.
fn share(length: usize) -> usize {
    length.div_ceil(ROTATION_TICKS).max(LOOKS_PER_TICK_MIN)
}

/// Whether a table has room for much more than what is in it.
const fn is_sparse(length: usize, capacity: usize) -> bool {
    capacity >= SPARSE_MIN && length.saturating_mul(SPARSE_TIMES) <= capacity
}

/// A list or table that was long once does not keep its room for ever.
pub(crate) trait Shrink {
    /// How much is in it, and for how much it has room.
    fn fill(&self) -> (usize, usize);
    /// Gives back the room that it does not need.
    fn fit(&mut self);
}

impl<T> Shrink for Vec<T> {
    fn fill(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }

    fn fit(&mut self) {
        self.shrink_to_fit();
    }
}

impl<T> Shrink for VecDeque<T> {
    fn fill(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }

    fn fit(&mut self) {
        self.shrink_to_fit();
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Shrink for HashMap<K, V, S> {
    fn fill(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }

    fn fit(&mut self) {
        self.shrink_to_fit();
    }
}

/// Makes a list smaller that has room for much more than what is in it.
pub(crate) fn shrink(list: &mut impl Shrink) {
    let (length, capacity) = list.fill();
    if is_sparse(length, capacity) {
        list.fit();
    }
}

impl Shard {
    /// Lets go of room that only the busiest moment needed.
    pub(super) fn give_back(&mut self) {
        if self.tick >= self.evicting.gives_back_tick {
            self.evicting.gives_back_tick = self.tick + GIVE_BACK_TICKS;
            self.edges.give_back();
            self.ctx.give_back();
        }
    }

    /// A tick passed: the clock hand's next share is due.
    pub(super) fn plan_evictions(&mut self) {
        let conversations = self.conversations.order_len();
        let mailboxes = self.mailboxes.order_len();
        let due = &mut self.evicting;
        // What was left over is not looked at twice.
        due.conversations = (due.conversations + share(conversations)).min(conversations);
        let times = if self.mailboxes.crowd_left() { CROWD_TIMES } else { 1 };
        due.mailboxes = (due.mailboxes + share(mailboxes) * times).min(mailboxes);
    }

    /// Whether the clock hand can go on at once.
    pub(super) fn has_evictions(&self) -> bool {
        (self.evicting.conversations > 0 || self.evicting.mailboxes > 0) && self.log_has_room()
    }

    fn log_has_room(&self) -> bool {
        let store = &self.ctx.store;
        store.appended().0 - store.durable().0 < UNFLUSHED_MAX_BYTES
    }

    /// Goes on with what is due, within the bounds of a batch.
    pub(super) fn step_evictions(&mut self) {
        self.evict_for_loads();
        if !self.log_has_room() {
            return;
        }
        let idle_ticks = if self.is_crowded() { 1 } else { IDLE_TICKS };
        let due = &mut self.evicting;
        let conversations = due.conversations.min(LOOKS_PER_BATCH);
        let mailboxes = due.mailboxes.min(LOOKS_PER_BATCH);
        due.conversations -= conversations;
        due.mailboxes -= mailboxes;
        self.evict_idle(idle_ticks, conversations, mailboxes);
    }

    /// Whether actors take more memory than they may.
    fn is_crowded(&self) -> bool {
        let bytes = self.conversations.bytes() + self.mailboxes.bytes();
        bytes > self.ctx.limits.actor_memory_bytes
    }

    fn evict_idle(&mut self, idle_ticks: u64, conversations: usize, mailboxes: usize) {
        let tick = self.tick;
        self.conversations.evict_some(&mut self.ctx, tick, idle_ticks, conversations);
        self.mailboxes.evict_some(&mut self.ctx, tick, idle_ticks, mailboxes);
    }

    /// Whoever comes where there is no room pushes others out, so that memory keeps its bound
    /// however fast actors are loaded.
    fn evict_for_loads(&mut self) {
        let new = std::mem::take(&mut self.ctx.loads_begun);
        if !self.is_crowded() {
            self.evicting.for_loads = 0;
            return;
        }
        let due = self.evicting.for_loads + new.saturating_mul(LOOKS_PER_LOAD);
        let looks = due.min(LOOKS_FOR_LOADS_PER_BATCH);
        self.evicting.for_loads = due - looks;
        if looks > 0 {
            let looks = usize::try_from(looks).unwrap_or(usize::MAX);
            self.evict_idle(1, looks, looks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_looked_at_in_a_rotation_however_many_there_are() {
        for length in [0, 1, 255, 256, 153_599, 153_601, 2_500_000, 40_000_000] {
            let looks = share(length) * ROTATION_TICKS;
            assert!(looks >= length, "{length}: {looks}");
            assert!(looks <= length.max(LOOKS_PER_TICK_MIN * ROTATION_TICKS) + ROTATION_TICKS);
        }
    }
}
