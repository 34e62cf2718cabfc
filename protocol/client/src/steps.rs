//! How many records up to a seq do not count as unread: a staircase of which the last steps are
//! kept. A Read and a Send name it for the seq they carry.

use crate::limits::STEPS_MAX;

/// Sorted by seq: from this seq on, so many do not count. Before the first: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Steps(Vec<(u64, u64)>);

impl Steps {
    /// From a record; `None` when they are not as they should be.
    pub(crate) fn from_sorted(steps: Vec<(u64, u64)>) -> Option<Self> {
        let rising = steps.windows(2).all(|pair| match pair {
            [(left, _), (right, _)] => left < right,
            _ => false,
        });
        (rising && steps.len() <= STEPS_MAX).then_some(Self(steps))
    }

    pub(crate) fn as_slice(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// How many up to `seq` do not count, as far as known.
    pub(crate) fn at(&self, seq: u64) -> u64 {
        let place = self.0.partition_point(|(from, _)| *from <= seq);
        let step = place.checked_sub(1).and_then(|place| self.0.get(place));
        step.map_or(0, |(_, uncounted)| (*uncounted).min(seq))
    }

    /// The record at `seq` said that so many up to it do not count. Whether that was news.
    pub(crate) fn observe(&mut self, seq: u64, uncounted: u64) -> bool {
        if self.at(seq) == uncounted {
            return false;
        }
        let place = self.0.partition_point(|(from, _)| *from < seq);
        if self.0.get(place).is_some_and(|(from, _)| *from == seq) {
            self.0.remove(place);
        }
        self.0.insert(place, (seq, uncounted));
        let next = place.saturating_add(1);
        if self.0.get(next).is_some_and(|(_, same)| *same == uncounted) {
            self.0.remove(next);
        }
        if self.0.len() > STEPS_MAX {
            self.0.remove(0);
        }
        true
    }

    /// Knows nothing above `seq` any more.
    pub(crate) fn cut_above(&mut self, seq: u64) {
        self.0.retain(|(from, _)| *from <= seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_between_two_steps_has_the_lower_one() {
        let mut steps = Steps::default();
        steps.observe(1, 0);
        steps.observe(9, 2);
        steps.observe(5, 1);
        steps.observe(7, 1);
        assert_eq!(steps.as_slice(), [(5, 1), (9, 2)]);
        assert_eq!([1, 4, 5, 8, 9, 99].map(|seq| steps.at(seq)), [0, 0, 1, 1, 2, 2]);
        steps.observe(4, 1);
        assert_eq!(steps.as_slice(), [(4, 1), (9, 2)]);
        steps.cut_above(8);
        assert_eq!(steps.at(10), 1);
    }
}
