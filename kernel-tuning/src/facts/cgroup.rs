//! Limits of the control group that this process is in, version 1 or 2, the tightest on the way up.

use crate::root::Root;
use serde::{Deserialize, Serialize};

/// Version 1 says "no limit" with a number near the largest; this is above any machine.
const V1_UNLIMITED_BYTES: u64 = 1 << 60;
/// Folders on the way up, at most.
const DEPTH_MAX: usize = 64;

/// What the control groups allow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cgroup {
    /// 1 or 2; 0: none is mounted.
    pub version: u32,
    /// Bytes of memory, that of sockets and inodes in the kernel included.
    pub memory_max_bytes: Option<u64>,
    /// Bytes used of it.
    pub memory_used_bytes: u64,
    /// Thousandths of a processor.
    pub cpu_max_milli: Option<u64>,
    /// Tasks.
    pub pids_max: Option<u64>,
}

impl Cgroup {
    /// Of this process.
    pub(super) fn read(root: &Root) -> Self {
        Self::read_of(root, "self")
    }

    /// Of a process, by its number.
    pub(crate) fn read_of(root: &Root, process: &str) -> Self {
        let membership = root.text(&format!("/proc/{process}/cgroup")).unwrap_or_default();
        if root.exists("/sys/fs/cgroup/cgroup.controllers") {
            return Self::version_2(root, &path_of(&membership, ""));
        }
        if root.exists("/sys/fs/cgroup/memory") || root.exists("/sys/fs/cgroup/pids") {
            return Self::version_1(root, &membership);
        }
        Self::default()
    }

    fn version_2(root: &Root, path: &str) -> Self {
        let mut found = Self { version: 2, ..Self::default() };
        for folder in upwards("/sys/fs/cgroup", path) {
            let of = |file: &str| root.word(&format!("{folder}/{file}"));
            // Above the lower of the two every allocation is made to wait: as bad as the other.
            let limit = |file| of(file).and_then(|word| word.parse().ok());
            let max = least(limit("memory.max"), limit("memory.high"));
            found.take_memory(max, root.number(&format!("{folder}/memory.current")));
            found.pids_max = least(found.pids_max, root.number(&format!("{folder}/pids.max")));
            let cpu = of("cpu.max").unwrap_or_default();
            let mut words = cpu.split_whitespace().map(str::parse::<u64>);
            if let (Some(Ok(quota)), Some(Ok(period))) = (words.next(), words.next()) {
                found.cpu_max_milli = least(found.cpu_max_milli, milli(quota, period));
            }
        }
        found
    }

    fn version_1(root: &Root, membership: &str) -> Self {
        let mut found = Self { version: 1, ..Self::default() };
        for folder in upwards("/sys/fs/cgroup/memory", &path_of(membership, "memory")) {
            let max = root.number(&format!("{folder}/memory.limit_in_bytes"));
            let max = max.filter(|bytes| *bytes < V1_UNLIMITED_BYTES);
            found.take_memory(max, root.number(&format!("{folder}/memory.usage_in_bytes")));
        }
        for folder in upwards("/sys/fs/cgroup/pids", &path_of(membership, "pids")) {
            found.pids_max = least(found.pids_max, root.number(&format!("{folder}/pids.max")));
        }
        for folder in upwards("/sys/fs/cgroup/cpu", &path_of(membership, "cpu")) {
            let quota = root.number(&format!("{folder}/cpu.cfs_quota_us"));
            let period = root.number(&format!("{folder}/cpu.cfs_period_us"));
            if let (Some(quota), Some(period)) = (quota, period) {
                found.cpu_max_milli = least(found.cpu_max_milli, milli(quota, period));
            }
        }
        found
    }

    /// The group with the least room decides.
    fn take_memory(&mut self, max: Option<u64>, used: Option<u64>) {
        let Some(max) = max else { return };
        let used = used.unwrap_or(0);
        let known = self.memory_max_bytes.map(|known| known.saturating_sub(self.memory_used_bytes));
        if known.is_none_or(|room| max.saturating_sub(used) < room) {
            (self.memory_max_bytes, self.memory_used_bytes) = (Some(max), used);
        }
    }

    /// Bytes that may still be taken.
    pub(crate) fn memory_room_bytes(&self) -> Option<u64> {
        self.memory_max_bytes.map(|max| max.saturating_sub(self.memory_used_bytes))
    }
}

const fn milli(quota: u64, period: u64) -> Option<u64> {
    quota.saturating_mul(1_000).checked_div(period)
}

fn least(known: Option<u64>, found: Option<u64>) -> Option<u64> {
    known.into_iter().chain(found).min()
}

/// The path of a controller's group in `/proc/self/cgroup`; version 2 has an empty name.
fn path_of(membership: &str, controller: &str) -> String {
    let path = membership.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then(|| path.to_owned())
    });
    path.unwrap_or_else(|| "/".to_owned())
}

/// The folder of a group and those above it, up to where the controller is mounted. In a container
/// the path may be the host's, which is not there: then only the mount itself counts.
fn upwards(mount: &str, path: &str) -> Vec<String> {
    let mut path = path.trim_end_matches('/');
    let mut folders = Vec::new();
    while !path.is_empty() && folders.len() < DEPTH_MAX {
        folders.push(format!("{mount}{path}"));
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    folders.push(mount.to_owned());
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::new(folder.path());
        (folder, root)
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let (_folder, root) = tree(&[
            ("proc/self/cgroup", "0::/kube/pod\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
            ("sys/fs/cgroup/kube/memory.max", "1000000\n"),
            ("sys/fs/cgroup/kube/memory.current", "400000\n"),
            ("sys/fs/cgroup/kube/pod/memory.max", "max\n"),
            ("sys/fs/cgroup/kube/pod/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/kube/pod/pids.max", "100\n"),
        ]);
        let found = Cgroup::read(&root);
        assert_eq!(found.version, 2);
        assert_eq!(found.memory_room_bytes(), Some(600_000));
        assert_eq!((found.cpu_max_milli, found.pids_max), (Some(1_500), Some(100)));
    }

    #[test]
    fn what_makes_allocations_wait_counts_as_a_limit() {
        let (_folder, root) = tree(&[
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/cgroup.controllers", "memory\n"),
            ("sys/fs/cgroup/a/memory.max", "9000\n"),
            ("sys/fs/cgroup/a/memory.high", "5000\n"),
            ("sys/fs/cgroup/a/memory.current", "1000\n"),
        ]);
        assert_eq!(Cgroup::read(&root).memory_room_bytes(), Some(4_000));
    }

    #[test]
    fn beside_version_one_the_second_one_may_be_there_without_controllers() {
        let (_folder, root) = tree(&[
            ("proc/self/cgroup", "2:memory:/\n0::/user\n"),
            ("sys/fs/cgroup/unified/cgroup.controllers", "\n"),
            ("sys/fs/cgroup/unified/user/memory.max", "1\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n"),
        ]);
        let found = Cgroup::read(&root);
        assert_eq!((found.version, found.memory_room_bytes()), (1, Some(7_000)));
    }

    #[test]
    fn in_a_container_the_mount_itself_is_the_group() {
        let (_folder, root) = tree(&[
            ("proc/self/cgroup", "0::/../../kubepods/pod7/c1\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
            ("sys/fs/cgroup/memory.max", "4294967296\n"),
            ("sys/fs/cgroup/memory.current", "4294967297\n"),
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
        ]);
        let found = Cgroup::read(&root);
        assert_eq!((found.version, found.memory_room_bytes()), (2, Some(0)));
        assert_eq!((found.cpu_max_milli, found.pids_max), (None, None));
    }

    #[test]
    fn version_one_has_a_folder_for_each_controller() {
        let (_folder, root) = tree(&[
            ("proc/self/cgroup", "4:memory:/a\n3:cpu,cpuacct:/b\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "5000\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1000\n"),
            ("sys/fs/cgroup/cpu/b/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/b/cpu.cfs_period_us", "100000\n"),
        ]);
        let found = Cgroup::read(&root);
        assert_eq!((found.version, found.memory_room_bytes()), (1, Some(4_000)));
        assert_eq!(found.cpu_max_milli, None);
    }
}
