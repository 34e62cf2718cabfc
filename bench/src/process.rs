//! What processes and threads of this machine use, as /proc tells it.

use serde::Serialize;
use std::fs;

/// What a process used so far.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Usage {
    /// Processor time of all its threads, in user mode and in the kernel.
    pub cpu_us: u64,
    /// Of it in the kernel.
    pub system_us: u64,
    /// Resident memory now.
    pub rss_bytes: u64,
}

impl Usage {
    /// Of a process, if it can be seen.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything; the fields follow the last one.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let (user, system) = (ticks()?, ticks()?);
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self {
            cpu_us: (user + system) * tick_us,
            system_us: system * tick_us,
            rss_bytes: kib_of(&status, "VmRSS:")? * 1024,
        })
    }
}

/// A line like `VmRSS:   1234 kB` of a file of /proc.
pub fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Processor time of the calling thread so far.
#[must_use]
pub fn own_thread_cpu_us() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    ns.unwrap_or(0) / 1_000
}

/// Memory that the kernel holds for itself in small pieces, of the whole machine.
#[must_use]
pub fn kernel_slab_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kib_of(&text, "Slab:").unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_itself() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 100_000 && usage.cpu_us >= usage.system_us);
        assert!(Usage::of(u32::MAX).is_none());
        assert!(kernel_slab_bytes() > 0);
    }

    #[test]
    fn lines_of_proc_are_found_by_name() {
        let text = "VmRSSx:\t 1 kB\nVmRSS:\t   1234 kB\nRssAnon: 7 kB\n";
        assert_eq!(kib_of(text, "VmRSS:"), Some(1234));
        assert_eq!(kib_of(text, "Slab:"), None);
    }
}
