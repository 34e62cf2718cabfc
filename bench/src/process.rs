//! What processes and threads of this machine use, as /proc tells it.

use roost_protocol::time::Instant;
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

/// What else a process used so far: slower to ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Detail {
    /// Context switches of all its threads because they waited.
    pub voluntary_switches: u64,
    /// Context switches of all its threads because somebody else had the processor.
    pub involuntary_switches: u64,
    /// Bytes that it made the disk write, by whole pages; none: this process may not look.
    pub disk_bytes: Option<u64>,
}

impl Detail {
    /// Of a process, if it can be seen.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let mut detail = Self::default();
        for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            detail.voluntary_switches += kib_of(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            detail.involuntary_switches +=
                kib_of(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        let io = fs::read_to_string(format!("/proc/{pid}/io")).ok();
        detail.disk_bytes = io.and_then(|io| kib_of(&io, "write_bytes:"));
        Some(detail)
    }
}

/// Resident memory of a process with shared pages divided among those who share them. The kernel
/// walks all its pages, so this is for moments when nothing is measured.
#[must_use]
pub fn pss_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    kib_of(&text, "Pss:").map(|kib| kib * 1024)
}

/// TCP sockets of this machine, and the memory of their buffers.
#[must_use]
pub fn tcp_sockets() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/net/sockstat").ok()?;
    let line = text.lines().find(|line| line.starts_with("TCP:"))?;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let of = |name| {
        let place = words.iter().position(|word| *word == name)?;
        words.get(place + 1)?.parse::<u64>().ok()
    };
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    Some((of("inuse")?, of("mem")? * page))
}

/// Memory that a new process could have without harming others: free, or of files. What the kernel
/// calls available has 1 kB of each socket in it, which is held as long as the socket.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let parts = ["MemFree:", "Active(file):", "Inactive(file):"];
    let kib: Option<Vec<u64>> = parts.iter().map(|name| kib_of(&text, name)).collect();
    kib.map(|parts| parts.iter().sum::<u64>() * 1024)
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

/// Processor time of everybody but this process and its children that ended, at some moment.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    others_us: u64,
    at: Instant,
}

impl Beside {
    /// Until now.
    #[must_use]
    pub fn now() -> Self {
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let Processors { busy_us, stolen_us } = Processors::now();
        let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // utime, stime and the same of children that ended and were waited for.
        let fields = own.rsplit_once(')').map_or("", |(_, fields)| fields);
        let own = fields.split_ascii_whitespace().skip(11).take(4);
        let own: u64 = own.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let others_us = (busy_us + stolen_us).saturating_sub(own * tick_us);
        Self { others_us, at: roost_event_loop::now().monotonic }
    }

    /// How many processors others used on average.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a figure for people: 53 bits are enough")]
    pub fn cores_since(self, before: Self) -> f64 {
        let wall_us = self.at.since(before.at).ns / 1_000;
        self.others_us.saturating_sub(before.others_us) as f64 / (wall_us.max(1)) as f64
    }
}

/// What all processors of the machine did up to some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processors {
    /// They worked, for whomever on this machine.
    pub busy_us: u64,
    /// They were wanted here and the hypervisor gave them to another machine.
    pub stolen_us: u64,
}

impl Processors {
    /// Until now.
    #[must_use]
    pub fn now() -> Self {
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let all = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::of(all.lines().next().unwrap_or_default(), tick_us)
    }

    fn of(line: &str, tick_us: u64) -> Self {
        let stolen = line.split_ascii_whitespace().nth(8).and_then(|ticks| ticks.parse().ok());
        let stolen = stolen.unwrap_or(0);
        let busy = busy_ticks(line).saturating_sub(stolen);
        Self { busy_us: busy * tick_us, stolen_us: stolen * tick_us }
    }
}

/// Ticks that processors were not idle, of the line `cpu` of /proc/stat: user, nice, system, then
/// idle and waiting for a disk, then interrupts and what a hypervisor took.
fn busy_ticks(line: &str) -> u64 {
    let fields = line.split_ascii_whitespace().skip(1).enumerate();
    let busy = fields.filter(|(place, _)| !matches!(place, 3 | 4) && *place < 8);
    busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()
}

/// The number in a line like `VmRSS:   1234 kB` of a file of /proc.
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
    fn what_was_stolen_was_nobodys_work_here() {
        let of = Processors::of("cpu  10 1 5 100 7 2 3 4 0 0", 10_000);
        assert_eq!(of, Processors { busy_us: 210_000, stolen_us: 40_000 });
        assert_eq!(Processors::of("", 10_000), Processors::default());
    }

    #[test]
    fn a_process_sees_itself() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 100_000 && usage.cpu_us >= usage.system_us);
        assert!(Usage::of(u32::MAX).is_none());
        assert!(kernel_slab_bytes() > 0);
        assert!(Detail::of(std::process::id()).is_some_and(|of| of.voluntary_switches > 0));
        assert!(tcp_sockets().is_some() && available_bytes() > Some(1 << 20));
    }

    #[test]
    fn waiting_is_not_busy() {
        assert_eq!(busy_ticks("cpu  1 2 4 100 200 8 16 32 64 128"), 1 + 2 + 4 + 8 + 16 + 32);
    }

    #[test]
    fn lines_of_proc_are_found_by_name() {
        let text = "VmRSSx:\t 1 kB\nVmRSS:\t   1234 kB\nRssAnon: 7 kB\n";
        assert_eq!(kib_of(text, "VmRSS:"), Some(1234));
        assert_eq!(kib_of(text, "Slab:"), None);
    }
}
