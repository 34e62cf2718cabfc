//! What the figures were measured on.

use crate::latency::{Latency, histogram};
use crate::process;
use crate::report::arithmetic::whole;
use roost_protocol::time::Timestamp;
use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Flushes that the disk is timed with.
const FLUSHES: u64 = 400;
const BLOCK_BYTES: u64 = 4_096;

/// The machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub cpu: String,
    /// Processors.
    pub processors: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Memory of the machine.
    pub memory_bytes: u64,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = whole(self.memory_bytes) / f64::from(1 << 30);
        let Self { cpu, processors, kernel, .. } = self;
        write!(f, "{processors} x {cpu}, {gib:.0} GiB, Linux {kernel}")
    }
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.map(|rest| rest.trim_start_matches([' ', '\t', ':']));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cpu: model.unwrap_or("unknown").trim().to_owned(),
            processors: processors(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            memory_bytes: process::kib_of(&memory, "MemTotal:").unwrap_or(0) * 1024,
        }
    }
}

/// Processors of this machine, whichever of them the caller may use now.
#[must_use]
pub fn processors() -> usize {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpus.lines().filter(|line| line.starts_with("processor")).count().max(1)
}

/// How long it takes to write one block and make it durable, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct FlushTime {
    /// Over blocks that hold data: the disk's own time.
    pub overwritten: Latency,
    /// Over blocks that were only reserved: the file system must note that they hold data now.
    pub reserved: Latency,
}

impl fmt::Display for FlushTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { overwritten, reserved } = self;
        write!(
            f,
            "p50 {} us, p99 {} us; of reserved blocks p50 {} us, p99 {} us; before the run",
            overwritten.p50, overwritten.p99, reserved.p50, reserved.p99
        )
    }
}

impl FlushTime {
    /// Of the disk that holds a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn measure(folder: &Path) -> io::Result<Self> {
        let path = folder.join("flush-time");
        let bytes = FLUSHES * BLOCK_BYTES;
        let full = File::create(&path)?;
        full.write_all_at(&vec![0x5a; usize::try_from(bytes).expect("it is small")], 0)?;
        let overwritten = flush_each_block(&full)?;
        fs::remove_file(&path)?;
        let empty = File::create(&path)?;
        fallocate(&empty, FallocateFlags::empty(), 0, bytes)?;
        let reserved = flush_each_block(&empty)?;
        fs::remove_file(&path)?;
        Ok(Self { overwritten, reserved })
    }
}

fn flush_each_block(file: &File) -> io::Result<Latency> {
    file.sync_all()?;
    let block = vec![0xa5; usize::try_from(BLOCK_BYTES).expect("it is small")];
    let mut times = histogram();
    for number in 0..FLUSHES {
        let before = roost_event_loop::now().monotonic;
        file.write_all_at(&block, number * BLOCK_BYTES)?;
        file.sync_data()?;
        let took = roost_event_loop::now().monotonic.since(before);
        times.saturating_record(took.ns / 1_000);
    }
    Ok(Latency::of(&times))
}

/// A time of day as people and tools write it, in UTC: `2026-11-23T02:40:00Z`.
#[must_use]
pub fn date(time: Timestamp) -> String {
    let seconds = time.ms / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days, for days since 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_in_utc() {
        let at = |ms| date(Timestamp { ms });
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_767_225_599_999), "2025-12-31T23:59:59Z");
    }
}
