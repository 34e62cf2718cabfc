//! The one place that asks the system for the time.

use roost_protocol::time::{Instant, Now, Timestamp};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the monotonic clock of this process begins: the first time somebody asked.
static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();

/// Both clocks now. Monotonic times of different threads of one process can be compared.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "somebody has to ask, and it is this file")]
pub fn now() -> Now {
    let instant = std::time::Instant::now();
    let origin = *ORIGIN.get_or_init(|| instant);
    let since = instant.saturating_duration_since(origin);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        monotonic: Instant { ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) },
        wall: Timestamp { ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) },
    }
}
