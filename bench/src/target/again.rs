//! What a Roost server refused for the moment: said again after the delay that a device of the
//! client crate would wait.
//!
//! A write that was refused takes no number, so those behind it are refused too, for the gap. The
//! conversation is held back until every write that was on its way there has an answer, and then
//! goes on from the lowest that was not accepted (section 9 of PROTOCOL.md, rule 9).

use super::SeatIndex;
use roost_client::Backoff;
use roost_protocol::time::Instant;
use std::collections::BTreeMap;

/// Codes of an `Error` that mean: later.
const GAP: u64 = 46;
const BUSY: u64 = 48;
const RATE_LIMITED: u64 = 49;
const TOO_MANY_IN_FLIGHT: u64 = 51;
/// Who was refused so often in a row is not asked for any more.
const ATTEMPTS_MAX: u32 = 100;

/// Whether a request that was refused with this code is to be repeated.
pub(super) const fn is_for_the_moment(code: u64) -> bool {
    matches!(code, GAP | BUSY | RATE_LIMITED | TOO_MANY_IN_FLIGHT)
}

/// What is to be said again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Messages of a seat, from this number to that one.
    Write(SeatIndex, u64, u64),
    /// The pull of a seat's conversation.
    Pull(SeatIndex),
    /// The making of a seat's group.
    Create(SeatIndex),
}

#[derive(Debug)]
struct Hold {
    /// The lowest number that was refused.
    first: u64,
    /// The last one that was on its way then.
    sent: u64,
    /// The last one that was written.
    written: u64,
    /// Refusals of those between.
    answers: u64,
    asked_ms: u32,
    attempts: u32,
    /// Everything was said again.
    is_over: bool,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Refused {
    holds: BTreeMap<SeatIndex, Hold>,
    due: BTreeMap<(Instant, u64), Again>,
    /// Tells those apart that are due at the same time.
    number: u64,
    backoff: Backoff,
    now: Instant,
}

impl Refused {
    pub(super) const fn new(seed: u64) -> Self {
        let backoff = Backoff::new(seed);
        let holds = BTreeMap::new();
        let due = BTreeMap::new();
        Self { holds, due, number: 0, backoff, now: Instant { ns: 0 } }
    }

    /// What is due to be said again.
    pub(super) fn next(&mut self, now: Instant) -> Option<Again> {
        self.now = now;
        let first = self.due.first_entry().filter(|first| first.key().0 <= now)?;
        let again = first.remove();
        let Again::Write(seat, ..) = again else { return Some(again) };
        let hold = self.holds.get_mut(&seat)?;
        hold.is_over = true;
        Some(Again::Write(seat, hold.first, hold.written))
    }

    /// Something other than a write was refused.
    pub(super) fn put(&mut self, again: Again, asked_ms: u32) {
        let at = self.now + self.backoff.retry(asked_ms);
        self.number += 1;
        self.due.insert((at, self.number), again);
    }

    /// A write was refused; `written` is the last number that its seat wrote. Says whether it is
    /// worth another try.
    pub(super) fn put_write(
        &mut self,
        seat: SeatIndex,
        number: u64,
        written: u64,
        asked_ms: u32,
    ) -> bool {
        let fresh = |attempts| Hold {
            first: number,
            sent: written,
            written,
            answers: 0,
            asked_ms: 0,
            attempts: attempts + 1,
            is_over: false,
        };
        let hold = self.holds.entry(seat).or_insert_with(|| fresh(0));
        if hold.is_over {
            *hold = fresh(hold.attempts);
        }
        hold.first = hold.first.min(number);
        hold.answers += 1;
        hold.asked_ms = hold.asked_ms.max(asked_ms);
        let is_answered = hold.answers > hold.sent - hold.first;
        let (attempts, asked_ms) = (hold.attempts, hold.asked_ms);
        if is_answered {
            self.put(Again::Write(seat, number, written), asked_ms);
        }
        attempts <= ATTEMPTS_MAX
    }

    /// A seat writes a message. Says whether it waits for those that were refused.
    pub(super) fn waits(&mut self, seat: SeatIndex, number: u64) -> bool {
        match self.holds.get_mut(&seat) {
            Some(hold) if !hold.is_over => {
                hold.written = number;
                true
            }
            _ => false,
        }
    }

    /// A message of a seat was accepted.
    pub(super) fn accepted(&mut self, seat: SeatIndex, number: u64) {
        if self.holds.get(&seat).is_some_and(|hold| hold.is_over && number >= hold.first) {
            self.holds.remove(&seat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_protocol::time::Duration;

    fn at(ms: u64) -> Instant {
        Instant::default() + Duration::from_ms(ms)
    }

    #[test]
    fn a_conversation_goes_on_from_the_lowest_when_all_are_answered() {
        let mut refused = Refused::new(1);
        assert!(refused.put_write(7, 4, 6, 100));
        assert!(refused.put_write(7, 6, 6, 0));
        assert_eq!(refused.next(at(10_000)), None, "one is not answered");
        assert!(refused.waits(7, 7) && refused.waits(7, 8) && !refused.waits(8, 1));
        refused.accepted(7, 3);
        assert!(refused.put_write(7, 5, 8, 0));
        assert_eq!(refused.next(at(10_099)), None, "as long as the server asked for");
        assert_eq!(refused.next(at(10_150)), Some(Again::Write(7, 4, 8)));
        assert!(!refused.waits(7, 9), "it is not held any more");
        refused.accepted(7, 4);
        assert!(refused.holds.is_empty() && refused.due.is_empty());
    }

    #[test]
    fn what_is_refused_again_is_held_again_and_not_for_ever() {
        let mut refused = Refused::new(1);
        let mut now = at(0);
        for _ in 0..ATTEMPTS_MAX {
            assert!(refused.put_write(7, 1, 1, 0));
            now = now + Duration::from_ms(1_500);
            assert_eq!(refused.next(now), Some(Again::Write(7, 1, 1)));
        }
        assert!(!refused.put_write(7, 1, 1, 0));
    }

    #[test]
    fn a_lower_refusal_that_comes_later_is_waited_for() {
        let mut refused = Refused::new(1);
        refused.put_write(7, 5, 5, 0);
        refused.put_write(7, 4, 5, 0);
        let again = refused.next(at(2_000));
        assert_eq!(again, Some(Again::Write(7, 4, 5)));
        assert_eq!(refused.next(at(2_000)), Some(Again::Write(7, 4, 5)), "harmless");
    }

    #[test]
    fn other_requests_are_repeated_after_a_while() {
        let mut refused = Refused::new(1);
        refused.put(Again::Pull(3), 0);
        refused.put(Again::Create(4), 200);
        assert_eq!(refused.next(at(199)), None);
        assert_eq!(refused.next(at(300)), Some(Again::Create(4)));
        assert_eq!(refused.next(at(1_500)), Some(Again::Pull(3)));
    }
}
