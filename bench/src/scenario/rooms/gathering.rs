//! Devices whose acknowledgement gathers, by when it is due.

use crate::swarm::DeviceIndex;
use roost_protocol::time::{Duration, Instant};

/// Between two acknowledgements of a device; the client crate's interval.
pub(super) const INTERVAL: Duration = Duration::from_ms(100);
/// How fine due times are.
const SLICE: Duration = Duration::from_ms(2);
/// One more than fit into the interval, so that the slice of now is never filled.
const SLICES: u64 = INTERVAL.ns / SLICE.ns + 2;

/// A wheel: a device is put at most one interval ahead.
#[derive(Debug)]
pub(super) struct Gathering {
    slices: Vec<Vec<DeviceIndex>>,
    /// Everything due before this slice was taken.
    taken: u64,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { slices: (0..SLICES).map(|_| Vec::new()).collect(), taken: 0 }
    }
}

impl Gathering {
    /// Lets a device wait until then.
    pub(super) fn put(&mut self, index: DeviceIndex, due: Instant) {
        let slice = (due.ns / SLICE.ns + 1).clamp(self.taken, self.taken + SLICES - 1);
        self.slice(slice).push(index);
    }

    /// A device that has waited long enough.
    pub(super) fn next(&mut self, now: Instant) -> Option<DeviceIndex> {
        let current = now.ns / SLICE.ns;
        // After a pause longer than the wheel each slice is looked at once.
        self.taken = self.taken.max(current.saturating_sub(SLICES - 1));
        while self.taken <= current {
            if let Some(index) = self.slice(self.taken).pop() {
                return Some(index);
            }
            self.taken += 1;
        }
        None
    }

    fn slice(&mut self, number: u64) -> &mut Vec<DeviceIndex> {
        let place = usize::try_from(number % SLICES).expect("there are few slices");
        &mut self.slices[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_waits_until_it_is_due_and_no_longer_than_a_slice() {
        let at = |ms: u64| Instant { ns: 1_000_000_000 + ms * 1_000_000 };
        let mut gathering = Gathering::default();
        assert_eq!(gathering.next(at(0)), None);
        gathering.put(7, at(100));
        gathering.put(8, at(31));
        assert_eq!(gathering.next(at(30)), None);
        assert_eq!(gathering.next(at(34)), Some(8));
        assert_eq!(gathering.next(at(99)), None);
        assert_eq!(gathering.next(at(104)), Some(7));
        assert_eq!(gathering.next(at(900)), None);
    }

    #[test]
    fn nobody_is_forgotten_in_a_long_pause() {
        let at = |ms: u64| Instant { ns: ms * 1_000_000 };
        let mut gathering = Gathering::default();
        assert_eq!(gathering.next(at(5_000)), None);
        for index in 0..50 {
            gathering.put(index, at(5_000 + u64::from(index) * 2));
        }
        let woken = std::iter::from_fn(|| gathering.next(at(60_000))).count();
        assert_eq!(woken, 50);
    }
}
