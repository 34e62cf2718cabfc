//! A control group with a memory limit, for the probe's processes only.

use crate::error::Error;
use std::fs;
use std::io;
use std::path::PathBuf;

/// The group. It is removed when this is dropped, after its processes.
#[derive(Debug)]
pub(super) struct Group {
    folder: PathBuf,
    counter: &'static str,
    usage: &'static str,
}

impl Group {
    /// Makes one below the first group.
    pub(super) fn make(limit_bytes: u64) -> Result<Self, Error> {
        let name = format!("roost-tune-{}", std::process::id());
        let (top, file, counter, usage) =
            if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) {
                ("/sys/fs/cgroup", "memory.max", "memory.events", "memory.current")
            } else {
                (
                    "/sys/fs/cgroup/memory",
                    "memory.limit_in_bytes",
                    "memory.failcnt",
                    "memory.usage_in_bytes",
                )
            };
        let folder = PathBuf::from(top).join(name);
        let failed = |error: io::Error| {
            Error::Probe(format!(
                "no control group with a memory limit can be made in {top}: {error}; leave out \
                 --memory-limit"
            ))
        };
        fs::create_dir(&folder).map_err(failed)?;
        // From here on it is removed when something fails.
        let group = Self { folder, counter, usage };
        fs::write(group.folder.join(file), limit_bytes.to_string()).map_err(failed)?;
        Ok(group)
    }

    pub(super) fn add(&self, process: u32) -> Result<(), Error> {
        fs::write(self.folder.join("cgroup.procs"), process.to_string()).map_err(|error| {
            Error::Probe(format!("a process cannot join {}: {error}", self.folder.display()))
        })
    }

    /// Bytes that it counts now.
    pub(super) fn used_bytes(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.usage)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Whether the limit was reached.
    pub(super) fn is_full(&self) -> bool {
        let text = fs::read_to_string(self.folder.join(self.counter)).unwrap_or_default();
        // Version 2 has lines with names, of which "max" counts; version 1 one number.
        let line = text.lines().find_map(|line| line.strip_prefix("max "));
        line.unwrap_or(&text).trim().parse::<u64>().is_ok_and(|count| count > 0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel forgets processes that were ended a moment after they are gone.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            crate::clock::wait_ms(20);
        }
    }
}
