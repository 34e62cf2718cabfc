//! What is known of a machine: plain data, read once, saved and loaded as JSON.
//!
//! Nothing here decides anything. Absent means that the machine does not have it or does not show
//! it; every judgement must live with that.

mod cgroup;
mod configured;
mod hardware;
mod memory;
mod process;
mod read;
mod unit;

pub(crate) use cgroup::Cgroup;
pub(crate) use configured::Configured;
pub(crate) use hardware::{Cpus, Disk, Nic};
pub(crate) use memory::{Memory, SlabShape, pages_to_bytes, parse_meminfo, parse_slabs};
pub(crate) use process::{
    CAP_SYS_ADMIN, CAP_SYS_RESOURCE, ProcessLimits, UNLIMITED, capability, limit_of,
};
pub(crate) use read::{collect, load};
pub(crate) use unit::{Unit, parse_pair};

use crate::cost::Measured;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the archive's layout. Older ones load: what they lack is absent.
pub(crate) const SCHEMA: u32 = 1;

/// All that is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "what is there or not")]
pub(crate) struct Facts {
    /// Layout of the archive.
    pub schema: u32,
    /// The kernel's release.
    pub kernel: String,
    /// Values by sysctl name; absent ones are not there on this machine.
    pub sysctls: BTreeMap<String, String>,
    /// `/proc/sys` is mounted read-only.
    pub sysctls_read_only: bool,
    /// Whether this is the network namespace that the machine started with.
    pub first_network_namespace: bool,
    /// What configuration files say about sysctls, in the order in which they take effect.
    pub configured: Vec<Configured>,
    pub process: ProcessLimits,
    /// systemd runs here as the first process.
    pub systemd: bool,
    /// `DefaultLimitNOFILE=` of systemd, if a file says it.
    pub systemd_default_nofile: Option<String>,
    /// What files say about the server's unit.
    pub unit: Unit,
    /// What kind of container this is, if it is one.
    pub container: Option<String>,
    pub cgroup: Cgroup,
    pub memory: Memory,
    pub cpus: Cpus,
    pub nics: Vec<Nic>,
    pub disks: Vec<Disk>,
    /// Open files of the whole machine.
    pub files_open: u64,
    /// Sockets of TCP in this network namespace.
    pub tcp_sockets: u64,
    /// Which huge pages programs get unasked: `always`, `madvise`, `never`.
    pub huge_pages: Option<String>,
    /// The kernel offers TLS below sockets.
    pub kernel_tls: bool,
    /// What a probe measured on this machine, if one did.
    pub measured: Option<Measured>,
}

impl Facts {
    /// A sysctl as one number.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.numbers(key).first().copied()
    }

    /// A sysctl as its numbers.
    pub(crate) fn numbers(&self, key: &str) -> Vec<u64> {
        let text = self.sysctls.get(key).map_or("", String::as_str);
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// Major and minor version of the kernel; none if its release is not like any we know.
    pub(crate) fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut parts = self.kernel.split(|c: char| !c.is_ascii_digit());
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some((major, minor))
    }

    pub(crate) fn kernel_is_at_least(&self, major: u32, minor: u32) -> bool {
        self.kernel_version().is_some_and(|version| version >= (major, minor))
    }

    /// Soft and hard limit of descriptors that the server has: what its unit says where systemd
    /// starts it, else what this process has.
    pub(crate) fn server_nofile(&self) -> (u64, u64) {
        let of_unit = self.unit.nofile_pair().filter(|_| self.systemd);
        of_unit.unwrap_or((self.process.nofile_soft, self.process.nofile_hard))
    }

    /// Bytes that the server's control group leaves: this process's own, or what the unit will get.
    pub(crate) fn group_room_bytes(&self) -> Option<u64> {
        let of_unit = self.unit.memory_max_bytes.filter(|_| self.systemd);
        of_unit.into_iter().chain(self.cgroup.memory_room_bytes()).min()
    }

    /// Tasks that the server's control group allows, likewise.
    pub(crate) fn tasks_max(&self) -> Option<u64> {
        let of_unit = self.unit.tasks_max.filter(|_| self.systemd);
        of_unit.into_iter().chain(self.cgroup.pids_max).min()
    }

    /// What `roost serve --driver auto` takes here, as far as files tell: `io_uring` needs Linux
    /// 6.11, and may be forbidden.
    pub(crate) fn uring_is_there(&self) -> bool {
        let forbidden = match self.number("kernel.io_uring_disabled") {
            None | Some(0) => false,
            Some(1) => !self.process.may_administer,
            Some(_) => true,
        };
        self.kernel_is_at_least(6, 11) && !forbidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_many_distributions_are_understood() {
        let of = |kernel: &str| Facts { kernel: kernel.to_owned(), ..Facts::default() };
        assert_eq!(of("6.1.0-28-cloud-amd64").kernel_version(), Some((6, 1)));
        assert_eq!(of("5.15.0-1071-aws").kernel_version(), Some((5, 15)));
        assert_eq!(of("6.18.44-fc-v669").kernel_version(), Some((6, 18)));
        assert_eq!(of("plan9").kernel_version(), None);
        assert!(of("6.11.0").kernel_is_at_least(6, 11) && !of("6.1.0").kernel_is_at_least(6, 11));
    }

    #[test]
    fn the_ring_may_be_forbidden() {
        let mut facts = Facts { kernel: "6.12.1".to_owned(), ..Facts::default() };
        assert!(facts.uring_is_there());
        facts.sysctls.insert("kernel.io_uring_disabled".to_owned(), "2".to_owned());
        assert!(!facts.uring_is_there());
    }
}
