//! Token buckets: how fast a connection may ask. Only connections that asked lately have some; a
//! bucket that is full again is forgotten, so an idle connection owns none.

use crate::ids::EdgeId;
use crate::limits::Limits;
use crate::shard::tables::Tables;
use foldhash::fast::FixedState;
use roost_protocol::time::Instant;
use std::hash::BuildHasher;

/// What a request costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Costs {
    /// A write.
    Send,
    /// A question.
    Query,
    /// A new group, or a change of one.
    GroupChange,
    /// A write that may open a direct conversation.
    FirstContact,
}

/// How fast a bucket fills, and what it holds. A level is counted so that whole numbers do: each
/// millisecond adds `gain`, and a request takes `cost`.
#[derive(Debug, Clone, Copy)]
struct Rate {
    gain: u64,
    cost: u64,
    burst: u64,
}

/// What is left, and when it was counted.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: u64,
    at_ms: u64,
}

#[derive(Debug)]
struct Buckets {
    slot: u32,
    generation: u32,
    of: [Bucket; 4],
}

/// The buckets of a shard's connections, in a table that neither grows nor shrinks at once.
#[derive(Debug)]
pub(crate) struct RateLimits {
    buckets: Tables<Buckets>,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { buckets: Tables::new() }
    }
}

fn hash(slot: u32) -> u64 {
    FixedState::default().hash_one(slot)
}

impl RateLimits {
    /// Takes one request from the connection's bucket. `sharers` is how many connections of the
    /// user share what the user may.
    ///
    /// # Errors
    /// There is none left: after so many milliseconds there is one again.
    pub(crate) fn take(
        &mut self,
        limits: &Limits,
        now: Instant,
        id: EdgeId,
        costs: Costs,
        sharers: u8,
    ) -> Result<(), u32> {
        let now_ms = now.ns / 1_000_000;
        let buckets = self.of(limits, now_ms, id, sharers);
        buckets.of[costs as usize].take(Rate::of(limits, costs, sharers), now_ms)
    }

    fn of(&mut self, limits: &Limits, now_ms: u64, id: EdgeId, sharers: u8) -> &mut Buckets {
        let full = |rate: Rate| Bucket { level: rate.burst * rate.cost, at_ms: now_ms };
        let fresh = || Buckets {
            slot: id.slot,
            generation: id.generation,
            of: ALL.map(|costs| full(Rate::of(limits, costs, sharers))),
        };
        if self.find(id.slot).is_none() {
            self.buckets.insert(hash(id.slot), fresh(), |buckets| hash(buckets.slot));
        }
        let buckets = self.buckets.find_mut(hash(id.slot), |buckets| buckets.slot == id.slot);
        let buckets = buckets.expect("it was there, or was put there");
        if buckets.generation != id.generation {
            *buckets = fresh();
        }
        buckets
    }

    fn find(&self, slot: u32) -> Option<&Buckets> {
        self.buckets.find(hash(slot), |buckets| buckets.slot == slot)
    }

    /// The connection may open so many conversations for now: its user opened the others.
    pub(crate) fn leave(&mut self, limits: &Limits, now: Instant, id: EdgeId, contacts: u32) {
        let rate = Rate::of(limits, Costs::FirstContact, 1);
        if u64::from(contacts) < rate.burst {
            let buckets = self.of(limits, now.ns / 1_000_000, id, 1);
            buckets.of[Costs::FirstContact as usize].level = u64::from(contacts) * rate.cost;
        }
    }

    /// A write did not open a conversation.
    pub(crate) fn give_back(&mut self, limits: &Limits, now: Instant, id: EdgeId, sharers: u8) {
        let now_ms = now.ns / 1_000_000;
        let rate = Rate::of(limits, Costs::FirstContact, sharers);
        let bucket = &mut self.of(limits, now_ms, id, sharers).of[Costs::FirstContact as usize];
        bucket.level = (bucket.level + rate.cost).min(rate.burst * rate.cost);
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, id: EdgeId) {
        let is_it = |buckets: &Buckets| buckets.slot == id.slot;
        self.buckets.remove(hash(id.slot), is_it, |buckets| hash(buckets.slot));
    }

    /// Forgets what says nothing any more: called now and then for each connection.
    pub(crate) fn forget_full(&mut self, limits: &Limits, now: Instant, id: EdgeId, sharers: u8) {
        let now_ms = now.ns / 1_000_000;
        let Some(buckets) = self.find(id.slot) else { return };
        let full = ALL.iter().zip(&buckets.of).all(|(costs, bucket)| {
            let rate = Rate::of(limits, *costs, sharers);
            bucket.refilled(rate, now_ms) == rate.burst * rate.cost
        });
        if full {
            self.forget(id);
        }
    }
}

const ALL: [Costs; 4] = [Costs::Send, Costs::Query, Costs::GroupChange, Costs::FirstContact];
const HOUR_MS: u64 = 3_600_000;

impl Rate {
    /// What a connection may: its own limit, or its part of its user's.
    fn of(limits: &Limits, costs: Costs, sharers: u8) -> Self {
        let (connection, user, burst) = match costs {
            Costs::Send => (
                limits.connection_sends_per_second,
                limits.user_sends_per_second,
                limits.sends_burst,
            ),
            Costs::Query => (
                limits.connection_queries_per_second,
                limits.user_queries_per_second,
                limits.queries_burst,
            ),
            Costs::GroupChange => (
                limits.connection_group_changes_per_second,
                limits.user_group_changes_per_second,
                limits.group_changes_burst,
            ),
            Costs::FirstContact => {
                let per_hour = u64::from(limits.first_contacts_per_hour);
                let gain = (per_hour / u64::from(sharers.max(1))).max(1);
                return Self { gain, cost: HOUR_MS, burst: per_hour };
            }
        };
        let share = user / u32::from(sharers.max(1));
        Self { gain: connection.min(share).max(1).into(), cost: 1000, burst: burst.into() }
    }
}

impl Bucket {
    fn refilled(&self, rate: Rate, now_ms: u64) -> u64 {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        let gained = passed_ms.saturating_mul(rate.gain);
        self.level.saturating_add(gained).min(rate.burst * rate.cost)
    }

    fn take(&mut self, rate: Rate, now_ms: u64) -> Result<(), u32> {
        let level = self.refilled(rate, now_ms);
        *self = Self { level, at_ms: now_ms.max(self.at_ms) };
        if level < rate.cost {
            let wait_ms = (rate.cost - level).div_ceil(rate.gain);
            return Err(u32::try_from(wait_ms).unwrap_or(u32::MAX));
        }
        self.level -= rate.cost;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: EdgeId = EdgeId { slot: 3, generation: 1 };

    fn at(ms: u64) -> Instant {
        Instant { ns: ms * 1_000_000 }
    }

    fn limits() -> Limits {
        Limits {
            connection_sends_per_second: 10,
            user_sends_per_second: 20,
            sends_burst: 3,
            ..Limits::default()
        }
    }

    #[test]
    fn a_burst_goes_at_once_and_then_the_rate_holds() {
        let (limits, mut buckets) = (limits(), RateLimits::default());
        let mut take = |ms| buckets.take(&limits, at(ms), EDGE, Costs::Send, 1);
        assert_eq!([take(0), take(0), take(0)], [Ok(()); 3]);
        // Ten a second: the next one in a tenth of a second.
        assert_eq!(take(0), Err(100));
        assert_eq!(take(40), Err(60));
        assert_eq!(take(100), Ok(()));
        assert_eq!(take(100), Err(100));
        // A clock that steps back gives nothing.
        assert_eq!(take(50), Err(100));
        assert_eq!([take(10_000), take(10_000), take(10_000)], [Ok(()); 3]);
        assert_eq!(take(10_000), Err(100));
    }

    #[test]
    fn the_connections_of_a_user_share_what_the_user_may() {
        let (limits, mut buckets) = (limits(), RateLimits::default());
        for _ in 0..3 {
            assert_eq!(buckets.take(&limits, at(0), EDGE, Costs::Send, 4), Ok(()));
        }
        // A quarter of twenty a second.
        assert_eq!(buckets.take(&limits, at(0), EDGE, Costs::Send, 4), Err(200));
        // Questions have their own.
        assert_eq!(buckets.take(&limits, at(0), EDGE, Costs::Query, 4), Ok(()));
    }

    #[test]
    fn first_contacts_are_counted_by_the_hour_and_come_back_when_nothing_began() {
        let limits = Limits { first_contacts_per_hour: 50, ..Limits::default() };
        let mut buckets = RateLimits::default();
        buckets.leave(&limits, at(0), EDGE, 2);
        let contact = |buckets: &mut RateLimits, ms| {
            buckets.take(&limits, at(ms), EDGE, Costs::FirstContact, 1)
        };
        assert_eq!([contact(&mut buckets, 0), contact(&mut buckets, 0)], [Ok(()); 2]);
        assert_eq!(contact(&mut buckets, 0), Err(72_000));
        assert_eq!(contact(&mut buckets, 71_999), Err(1));
        assert_eq!(contact(&mut buckets, 72_000), Ok(()));
        buckets.give_back(&limits, at(72_000), EDGE, 1);
        assert_eq!(contact(&mut buckets, 72_000), Ok(()));
        // Whoever may open as many as anybody takes no room.
        let other = EdgeId { slot: 9, generation: 1 };
        buckets.leave(&limits, at(0), other, 50);
        assert!(buckets.find(9).is_none());
    }

    #[test]
    fn another_connection_in_the_slot_begins_anew_and_full_buckets_are_forgotten() {
        let (limits, mut buckets) = (limits(), RateLimits::default());
        for _ in 0..3 {
            assert_eq!(buckets.take(&limits, at(0), EDGE, Costs::Send, 1), Ok(()));
        }
        let other = EdgeId { generation: 2, ..EDGE };
        assert_eq!(buckets.take(&limits, at(0), other, Costs::Send, 1), Ok(()));
        buckets.forget_full(&limits, at(50), other, 1);
        assert_eq!(buckets.buckets.len(), 1);
        buckets.forget_full(&limits, at(100), other, 1);
        assert_eq!(buckets.buckets.len(), 0);
    }
}
