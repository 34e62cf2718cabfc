//! The one place that asks the system for the time, and waits.

use rustix::time::{ClockId, clock_gettime};
use std::thread::park_timeout;
use std::time::Duration;

/// Milliseconds of a clock that only goes forward.
pub(crate) fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Waits about so long: for the kernel, which tells nobody when it has counted.
pub(crate) fn wait_ms(ms: u64) {
    let until = now_ms() + ms;
    loop {
        let left = until.saturating_sub(now_ms());
        if left == 0 {
            return;
        }
        park_timeout(Duration::from_millis(left));
    }
}
