//! What a run ran on, as far as it can change a figure.

use crate::args::Common;
use crate::machine::Machine;
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

/// Settings of the kernel that change what many connections cost or whether they are possible.
const SYSCTLS: [&str; 14] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.sched_autogroup_enabled",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "vm.swappiness",
];

/// What a run ran on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Environment {
    /// Processor, memory, kernel.
    pub machine: Machine,
    /// What this process may have.
    pub limits: Limits,
    /// The kernel's settings, those that can be read.
    pub sysctls: BTreeMap<String, String>,
    /// What was measured with what.
    pub versions: Versions,
    /// Who ran where.
    pub placement: Placement,
}

/// What a process may have.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Descriptors at a time; none: no bound.
    pub open_files: Option<u64>,
    /// What that may be raised to.
    pub open_files_hard: Option<u64>,
    /// Bytes that may be locked into memory.
    pub locked_memory_bytes: Option<u64>,
}

/// Versions of programs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Versions {
    /// This program.
    pub roost_bench: String,
    /// What was measured, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How the server talks to the kernel, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// How many shards it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,
}

/// Who ran where.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Processors of the server, if the run started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cpus: Option<Vec<usize>>,
    /// Processors of the generator.
    pub cpus: Vec<usize>,
    /// The same in words.
    pub text: String,
}

impl Environment {
    /// Of this machine and this run.
    #[must_use]
    pub fn of(common: &Common) -> Self {
        Self {
            machine: Machine::this(),
            limits: Limits::here(),
            sysctls: sysctls(),
            versions: Versions {
                roost_bench: env!("CARGO_PKG_VERSION").to_owned(),
                ..Versions::default()
            },
            placement: Placement::of(common),
        }
    }
}

impl Limits {
    /// Of this process.
    #[must_use]
    pub fn here() -> Self {
        let files = getrlimit(Resource::Nofile);
        Self {
            open_files: files.current,
            open_files_hard: files.maximum,
            locked_memory_bytes: getrlimit(Resource::Memlock).current,
        }
    }
}

impl Placement {
    fn of(common: &Common) -> Self {
        let list = |cpus: &[usize]| {
            let numbers: Vec<String> = cpus.iter().map(ToString::to_string).collect();
            let word = if cpus.len() == 1 { "core" } else { "cores" };
            format!("{word} {}", numbers.join(", "))
        };
        let cpus = common.generator_cpus();
        let generator = format!("generator on {}", list(&cpus));
        let server_cpus = common.spawn.then(|| common.spawned_cpus());
        let text = server_cpus.as_ref().map_or_else(
            || format!("server at {}, {generator}", common.server_text()),
            |cpus| format!("server on {}, {generator}", list(cpus)),
        );
        Self { server_cpus, cpus, text }
    }
}

fn sysctls() -> BTreeMap<String, String> {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
        Some((name.to_owned(), text.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    SYSCTLS.iter().filter_map(|name| read(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked() {
        assert!(sysctls().contains_key("fs.file-max"));
        assert!(Limits::here().open_files.is_none_or(|files| files > 0));
    }
}
