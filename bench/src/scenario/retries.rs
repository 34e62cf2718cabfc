//! Requests that a server without room refused as `busy`: repeated later, as the protocol asks.

use crate::swarm::DeviceIndex;
use crate::target::scramble;
use roost_protocol::time::{Duration, Instant};
use std::collections::BTreeMap;

/// The error code of a request for which there is no room just now.
pub(super) const BUSY: u64 = 48;
/// The first delay, each further one of the same request being twice as long, up to the longest;
/// each is drawn from the whole of its upper half.
const DELAY_MS: u64 = 100;
const DELAY_MS_MAX: u64 = 3_200;

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Retries {
    due: BTreeMap<(Instant, u64), (DeviceIndex, u64)>,
    attempts: BTreeMap<(DeviceIndex, u64), u32>,
    /// Refusals so far.
    pub(super) count: u64,
}

impl Retries {
    /// A request of a device was refused.
    pub(super) fn put(&mut self, device: DeviceIndex, request: u64, now: Instant) {
        self.count += 1;
        let attempts = self.attempts.entry((device, request)).or_default();
        let most = (DELAY_MS << (*attempts).min(16)).min(DELAY_MS_MAX);
        *attempts += 1;
        let delay_ms = most / 2 + scramble(self.count << 32 | u64::from(device)) % (most / 2 + 1);
        let at = now + Duration::from_ms(delay_ms);
        self.due.insert((at, self.count), (device, request));
    }

    /// The next request that is to be repeated now.
    pub(super) fn next(&mut self, now: Instant) -> Option<(DeviceIndex, u64)> {
        let first = self.due.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// A request of a device was not refused again.
    pub(super) fn answered(&mut self, device: DeviceIndex, request: u64) {
        self.attempts.remove(&(device, request));
    }

    /// A phase is over: its requests are answered.
    pub(super) fn forget(&mut self) {
        self.attempts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_every_request_is_repeated_once() {
        let (mut retries, mut now) = (Retries::default(), Instant { ns: 1 });
        for attempt in 0..8 {
            retries.put(7, 42, now);
            retries.put(8, 42, now);
            assert_eq!(retries.next(now), None);
            let most = (DELAY_MS << attempt).min(DELAY_MS_MAX);
            now = now + Duration::from_ms(most / 2 - 1);
            assert_eq!(retries.next(now), None, "attempt {attempt} comes too early");
            now = now + Duration::from_ms(most);
            let mut found = [retries.next(now), retries.next(now)];
            found.sort_unstable();
            assert_eq!(found, [Some((7, 42)), Some((8, 42))]);
            assert_eq!(retries.next(now), None);
        }
        assert_eq!(retries.count, 16);
        retries.forget();
        retries.put(7, 42, now);
        assert!(retries.next(now + Duration::from_ms(DELAY_MS)).is_some());
    }
}
