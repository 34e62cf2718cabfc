//! What the process needs for the connections it may have, added up from the sizes of its
//! structures. docs/memory.md lists their fields; the kernel's part comes on top.

use crate::limits::Limits;
use crate::shard::{SessionBytes, idle_session_bytes};

/// See the module's comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Of an idle session over plain TCP.
    pub plain_session_bytes: u64,
    /// Of one over TLS.
    pub tls_session_bytes: u64,
    /// Of all sessions there may be, were each over TLS.
    pub sessions_bytes: u64,
    /// What the shards may keep beside them at most: actors, what waits to be sent, half frames.
    pub shared_bytes: u64,
}

impl MemoryBudget {
    /// The budget of a server with so many shards.
    #[must_use]
    pub fn of(limits: &Limits, shards: u8) -> Self {
        let [plain_session_bytes, tls_session_bytes] = session_bytes();
        let of_shard =
            limits.actor_memory_bytes + limits.send_queues_bytes + limits.half_frame_pool_bytes;
        Self {
            plain_session_bytes,
            tls_session_bytes,
            sessions_bytes: tls_session_bytes.saturating_mul(limits.connections_max.into()),
            shared_bytes: of_shard.saturating_mul(shards.into()),
        }
    }
}

/// What an idle session costs over plain TCP, and over TLS.
#[must_use]
pub fn session_bytes() -> [u64; 2] {
    let SessionBytes { edge, mailbox, place, tls } = idle_session_bytes();
    let plain = edge + mailbox + place + roost_event_loop::SOCKET_BYTES;
    [plain, plain + tls].map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_costs_what_the_page_on_memory_says() {
        let limits = Limits { connections_max: 10, ..Limits::default() };
        let budget = MemoryBudget::of(&limits, 2);
        assert_eq!((budget.plain_session_bytes, budget.tls_session_bytes), (168, 312));
        assert_eq!(budget.sessions_bytes, 3120);
        assert_eq!(budget.shared_bytes, 2 * (256 + 256 + 64) * 1024 * 1024);
    }
}
