//! What is due later: conversations by the tick at which they are to be looked at again. There is
//! no timer per actor: an entry costs sixteen bytes, and only while something is due.

use roost_protocol::ids::ConversationId;
use std::collections::VecDeque;

/// How coarse it is: a tick of the shard.
const SLOT_MS: u64 = 100;
/// How far ahead anything may be due; what is further is looked at then, and finds that it waits.
const AHEAD_MAX_SLOTS: u64 = 1_200;

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// The slot in front.
    first: u64,
    slots: VecDeque<Vec<ConversationId>>,
}

impl Timers {
    /// Looks at a conversation at the first tick that is not before this time (monotonic).
    pub(crate) fn at(&mut self, at_ms: u64, id: ConversationId) {
        let mut slot = at_ms.div_ceil(SLOT_MS);
        if self.slots.is_empty() {
            self.first = slot;
        }
        slot = slot.min(self.first + AHEAD_MAX_SLOTS);
        while slot < self.first && self.slots.len() < usize::try_from(AHEAD_MAX_SLOTS).unwrap_or(0)
        {
            self.slots.push_front(Vec::new());
            self.first -= 1;
        }
        let place = usize::try_from(slot.saturating_sub(self.first)).unwrap_or(0);
        while self.slots.len() <= place {
            self.slots.push_back(Vec::new());
        }
        self.slots[place].push(id);
    }

    /// What is due by now, a slot at a time; `None` when there is no more.
    pub(crate) fn next_due(&mut self, now_ms: u64) -> Option<Vec<ConversationId>> {
        if self.first > now_ms / SLOT_MS {
            return None;
        }
        let due = self.slots.pop_front()?;
        self.first += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(timers: &mut Timers, now_ms: u64) -> Vec<u128> {
        let mut found = Vec::new();
        while let Some(ids) = timers.next_due(now_ms) {
            found.extend(ids.into_iter().map(ConversationId::as_u128));
        }
        found
    }

    #[test]
    fn what_is_due_comes_at_its_tick_and_once() {
        let mut timers = Timers::default();
        let id = ConversationId::from_u128;
        timers.at(90_000, id(1));
        timers.at(89_901, id(2));
        timers.at(89_500, id(3));
        timers.at(90_950, id(4));
        assert_eq!(due(&mut timers, 89_499), []);
        assert_eq!(due(&mut timers, 89_500), [3]);
        assert_eq!(due(&mut timers, 89_999), []);
        assert_eq!(due(&mut timers, 90_000), [1, 2]);
        // A tick that comes late brings everything that was due meanwhile.
        timers.at(90_300, id(5));
        assert_eq!(due(&mut timers, 95_000), [5, 4]);
        assert_eq!(due(&mut timers, 99_000), []);
    }

    #[test]
    fn nothing_is_further_ahead_than_the_bound() {
        let mut timers = Timers::default();
        timers.at(1_000, ConversationId::from_u128(1));
        timers.at(u64::MAX, ConversationId::from_u128(2));
        assert!(timers.slots.len() <= 1_201);
        assert_eq!(due(&mut timers, 1_000 + 1_200 * SLOT_MS), [1, 2]);
    }
}
