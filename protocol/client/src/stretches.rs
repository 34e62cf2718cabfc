//! What a device holds of a conversation: stretches of seqs without a hole.

use crate::limits::STRETCHES_MAX;

/// Sorted, disjoint, never touching each other, both ends included, none below 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stretches(Vec<(u64, u64)>);

impl Stretches {
    /// From a record; `None` when they are not as they should be.
    pub(crate) fn from_sorted(stretches: Vec<(u64, u64)>) -> Option<Self> {
        let inside = stretches.iter().all(|(from, to)| *from >= 1 && from <= to);
        let apart = stretches.windows(2).all(|pair| match pair {
            [(_, left), (right, _)] => left.saturating_add(1) < *right,
            _ => false,
        });
        (inside && apart && stretches.len() <= STRETCHES_MAX).then_some(Self(stretches))
    }

    pub(crate) fn as_slice(&self) -> &[(u64, u64)] {
        &self.0
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&seq))
    }

    /// The highest seq held, or 0.
    pub(crate) fn top(&self) -> u64 {
        self.0.last().map_or(0, |(_, to)| *to)
    }

    /// How far one gets from `floor` without a hole.
    pub(crate) fn reach(&self, floor: u64) -> u64 {
        let next = floor.saturating_add(1);
        let found = self.0.iter().find(|(from, to)| (*from..=*to).contains(&next));
        found.map_or(floor, |(_, to)| *to)
    }

    /// The lowest seq of the stretch that reaches up to `seq`, or the one above it.
    pub(crate) fn start_of(&self, seq: u64) -> u64 {
        let found = self.0.iter().find(|(from, to)| (*from..=*to).contains(&seq));
        found.map_or_else(|| seq.saturating_add(1), |(from, _)| *from)
    }

    /// The highest seq not held in `above < seq <= up_to`.
    pub(crate) fn last_missing(&self, above: u64, up_to: u64) -> Option<u64> {
        let mut seq = up_to;
        for (from, to) in self.0.iter().rev() {
            if *to >= seq && *from <= seq {
                seq = from.saturating_sub(1);
            }
        }
        (seq > above).then_some(seq)
    }

    /// Holds `from..=to` too. Past the bound the lowest stretch is forgotten, but never the one
    /// that begins right above `floor`.
    pub(crate) fn insert(&mut self, from: u64, to: u64, floor: u64) {
        let from = from.max(1);
        if from > to {
            return;
        }
        let (mut low, mut high) = (from, to);
        self.0.retain(|(first, last)| {
            let apart = last.saturating_add(1) < from || to.saturating_add(1) < *first;
            if !apart {
                low = low.min(*first);
                high = high.max(*last);
            }
            apart
        });
        let place = self.0.partition_point(|(first, _)| *first < low);
        self.0.insert(place, (low, high));
        if self.0.len() > STRETCHES_MAX {
            let next = floor.saturating_add(1);
            let kept = |stretch: &(u64, u64)| (stretch.0..=stretch.1).contains(&next);
            let place = self.0.iter().position(|stretch| !kept(stretch)).unwrap_or(0);
            self.0.remove(place);
        }
    }

    /// Holds nothing above `seq` any more.
    pub(crate) fn cut_above(&mut self, seq: u64) {
        self.0.retain(|(from, _)| *from <= seq);
        if let Some((_, to)) = self.0.last_mut() {
            *to = seq.min(*to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;
    use std::collections::BTreeSet;

    #[test]
    fn they_are_the_set_they_stand_for() {
        for seed in 0..200 {
            let mut prng = Prng::new(seed);
            let (mut stretches, mut set) = (Stretches::default(), BTreeSet::new());
            for _ in 0..12 {
                let from = prng.next() % 40 + 1;
                let to = from + prng.next() % 5;
                stretches.insert(from, to, 0);
                set.extend(from..=to);
                assert!(Stretches::from_sorted(stretches.0.clone()).is_some());
                for seq in 1..50 {
                    assert_eq!(stretches.contains(seq), set.contains(&seq));
                    let reach = (seq + 1..).find(|next| !set.contains(next)).unwrap() - 1;
                    assert_eq!(stretches.reach(seq), reach);
                    let missing = (5..=seq).rev().find(|seq| !set.contains(seq));
                    assert_eq!(stretches.last_missing(4, seq), missing);
                }
                if prng.next().is_multiple_of(5) {
                    let above = prng.next() % 45;
                    stretches.cut_above(above);
                    set.retain(|seq| *seq <= above);
                }
            }
        }
    }

    #[test]
    fn the_lowest_is_forgotten_but_not_the_one_at_the_floor() {
        let mut stretches = Stretches::default();
        for index in 0..=STRETCHES_MAX as u64 {
            stretches.insert(index * 10 + 1, index * 10 + 2, 0);
        }
        assert_eq!(stretches.as_slice().len(), STRETCHES_MAX);
        assert_eq!(stretches.reach(0), 2);
        assert!(!stretches.contains(11));
    }
}
