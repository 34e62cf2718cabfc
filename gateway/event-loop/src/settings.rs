//! What may be chosen about a loop.

/// Sizes and bounds of one loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Most bytes of one `Received`; the loop's buffers are that large. Default 64 KiB.
    pub receive_buffer_bytes: usize,
    /// About how many bytes one socket may take in a turn before the others have theirs. Default
    /// 128 KiB, and never less than one buffer.
    pub receive_per_turn_bytes: usize,
    /// How long a socket that was closed in order waits for the end of the peer's direction, so
    /// that the peer can read what was sent last. Looked at with every `Tick`. Default 2,000 ms.
    pub linger_ms: u64,
    /// How much it takes from the peer meanwhile, to throw it away: one buffer a turn, and in all
    /// at least so much. Default 1 MiB.
    pub linger_bytes_max: usize,
    /// Longest time between two `Tick`s, in milliseconds. Default 100.
    pub tick_ms: u64,
    /// Most sockets at a time, both ways together. Default 1,048,576.
    pub sockets_max: u32,
    /// Most connections that one listener takes in a turn. Default 8: one that comes or goes costs
    /// 20 to 45 us, so with what the gate lets through a turn stays below a millisecond. More are
    /// not quicker, and a pause of the listener would hold later.
    pub accepts_per_turn: u32,
    /// Of how many sockets that say their first words or end, all together, this is read in a turn
    /// at most; the others wait for the next ones, so that whoever else has something to say waits
    /// no longer than for that. Default 8.
    pub gate_per_turn: u32,
    /// A turn lets one of each through, or more up to those bounds: as many as the turn before took
    /// times of so many microseconds. So they delay a short turn little and have their share of a
    /// long one. Default 100; with 0 every turn lets the most through.
    pub turn_us_per_newcomer: u32,
    /// Sockets of one ring (`io_uring` only). The kernel rounds its table up to a power of two and
    /// refuses more than `RLIMIT_NOFILE`, so a loop opens as many rings as it needs.
    /// Default 16,384.
    pub ring_slots: u32,
    /// Writes and flushes of files are done by a thread of their own that comes before this one and
    /// all others on its processor, if the system allows it (`io_uring` only; [`come_first`]):
    /// else a busy loop delays them, for the kernel does them on the same processor. Default false.
    ///
    /// [`come_first`]: crate::come_first
    pub writes_come_first: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            receive_buffer_bytes: 64 * 1024,
            receive_per_turn_bytes: 128 * 1024,
            linger_ms: 2_000,
            linger_bytes_max: 1024 * 1024,
            tick_ms: 100,
            sockets_max: 1 << 20,
            accepts_per_turn: 8,
            gate_per_turn: 8,
            turn_us_per_newcomer: 100,
            writes_come_first: false,
            ring_slots: 16 * 1024,
        }
    }
}

/// What may be chosen about a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepting {
    /// `Opened` says who connects. Costs one more request each under `io_uring`.
    pub tells_peers: bool,
}

impl Settings {
    /// How often one socket may fill a receive buffer in a turn.
    pub(crate) fn receives_per_turn(&self) -> u8 {
        let count = self.receive_per_turn_bytes / self.receive_buffer_bytes.max(1);
        u8::try_from(count.clamp(1, 200)).unwrap_or(200)
    }
}
