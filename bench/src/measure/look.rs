//! What both sides used up to some moment.

use crate::process::{self, Detail, Processors, Usage};
use roost_protocol::time::Instant;
use std::net::SocketAddr;

/// Where a run can see its server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observed {
    /// Its process, if it runs here.
    pub pid: Option<u32>,
    /// Its admin listener.
    pub admin: Option<SocketAddr>,
    /// Its system calls are to be counted.
    pub counts_syscalls: bool,
    /// How fast its processors are is to be measured.
    pub has_yardstick: bool,
}

/// What was seen at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// The server's process.
    pub server: Option<Usage>,
    /// More of it.
    pub detail: Option<Detail>,
    /// The kernel's memory, for both ends of all connections and everything else.
    pub slab_bytes: u64,
    /// TCP sockets of the machine, and the memory of their buffers.
    pub tcp: Option<(u64, u64)>,
    /// Processor time of the generator.
    pub generator_cpu_us: u64,
    /// Processor time of this whole process, of which the generator is a thread.
    pub own_cpu_us: u64,
    /// What all processors did.
    pub processors: Processors,
    /// Resident memory of the generator.
    pub generator_rss_bytes: u64,
    /// When.
    pub at: Instant,
}

impl Look {
    /// Now.
    #[must_use]
    pub fn at(observed: Observed, now: Instant) -> Self {
        let own = Usage::of(std::process::id()).unwrap_or_default();
        Self {
            server: observed.pid.and_then(Usage::of),
            detail: observed.pid.and_then(Detail::of),
            slab_bytes: process::kernel_slab_bytes(),
            tcp: process::tcp_sockets(),
            generator_cpu_us: process::own_thread_cpu_us(),
            own_cpu_us: own.cpu_us,
            processors: Processors::now(),
            generator_rss_bytes: own.rss_bytes,
            at: now,
        }
    }
}
