//! Reads all facts of a machine, or loads those that were saved.

use super::{Cgroup, Cpus, Disk, Facts, Memory, Nic, ProcessLimits, SCHEMA, Unit, configured};
use crate::error::Error;
use crate::root::{Root, sysctl_path};
use crate::settings;
use std::collections::BTreeMap;
use std::path::Path;

/// Looks at a machine, and at the unit of the server. Nothing is changed; what cannot be read is
/// absent.
pub(crate) fn collect(root: &Root, unit: &str) -> Facts {
    let sysctls: BTreeMap<String, String> = settings::sysctls()
        .into_iter()
        .filter_map(|key| {
            let value = root.word(&sysctl_path(key))?;
            Some((key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        })
        .collect();
    let huge_pages = root.word("/sys/kernel/mm/transparent_hugepage/enabled");
    let huge_pages = huge_pages.and_then(|text| {
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    });
    let protocols = root.word("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    Facts {
        schema: SCHEMA,
        kernel: root.word("/proc/sys/kernel/osrelease").unwrap_or_default(),
        sysctls_read_only: sysctls_are_read_only(root),
        // This one is the machine's and shows in its first network namespace only.
        first_network_namespace: sysctls.contains_key("net.ipv4.tcp_mem"),
        sysctls,
        configured: configured::read(root),
        process: ProcessLimits::read(root),
        systemd: root.exists("/run/systemd/system"),
        systemd_default_nofile: systemd_default_nofile(root),
        unit: Unit::read(root, unit),
        container: container(root),
        cgroup: Cgroup::read(root),
        memory: Memory::read(root),
        cpus: Cpus::read(root),
        nics: Nic::read_all(root),
        disks: Disk::read_all(root),
        files_open: root.number("/proc/sys/fs/file-nr").unwrap_or(0),
        tcp_sockets: tcp_sockets(root),
        huge_pages,
        kernel_tls: protocols.split_whitespace().any(|name| name == "tls"),
        measured: None,
    }
}

/// The mounts say it: containers often have `/proc/sys` once more, read-only.
fn sysctls_are_read_only(root: &Root) -> bool {
    let mounts = root.text("/proc/self/mountinfo").unwrap_or_default();
    let best = mounts.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(4);
        let (place, options) = (words.next()?, words.next()?);
        let covers = ["/", "/proc", "/proc/sys"].contains(&place);
        covers.then(|| (place.len(), options.split(',').any(|option| option == "ro")))
    });
    // Of several mounts over each other the last one counts.
    best.max_by_key(|(length, _)| *length).is_some_and(|(_, read_only)| read_only)
}

fn systemd_default_nofile(root: &Root) -> Option<String> {
    let mut files = vec!["/etc/systemd/system.conf".to_owned()];
    let folder = "/etc/systemd/system.conf.d";
    let below = root.names(folder).into_iter().filter(|name| name.ends_with(".conf"));
    files.extend(below.map(|name| format!("{folder}/{name}")));
    let texts = files.iter().filter_map(|file| root.text(file));
    let lines = texts.flat_map(|text| {
        let values =
            text.lines().filter_map(|line| line.trim().strip_prefix("DefaultLimitNOFILE="));
        values.map(str::to_owned).collect::<Vec<_>>()
    });
    lines.last()
}

fn container(root: &Root) -> Option<String> {
    if let Some(kind) = root.word("/run/systemd/container").filter(|kind| !kind.is_empty()) {
        return Some(kind);
    }
    if root.exists("/var/run/secrets/kubernetes.io") {
        return Some("kubernetes".to_owned());
    }
    let marks = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
    marks.iter().find(|(mark, _)| root.exists(mark)).map(|(_, kind)| (*kind).to_owned())
}

fn tcp_sockets(root: &Root) -> u64 {
    ["/proc/net/sockstat", "/proc/net/sockstat6"]
        .into_iter()
        .filter_map(|file| {
            let text = root.text(file)?;
            let line = text.lines().find(|line| line.starts_with("TCP"))?;
            let mut words = line.split_whitespace().skip_while(|word| *word != "inuse").skip(1);
            words.next()?.parse::<u64>().ok()
        })
        .sum()
}

/// Facts that were saved by `collect --out`.
pub(crate) fn load(path: &Path) -> Result<Facts, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let facts: Facts = serde_json::from_str(&text)
        .map_err(|source| Error::NotFacts { path: path.to_owned(), source })?;
    if facts.schema == 0 || facts.schema > SCHEMA {
        return Err(Error::Schema { path: path.to_owned(), found: facts.schema, known: SCHEMA });
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_mount_nearest_to_the_sysctls_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| {
            fs::create_dir_all(folder.path().join("proc/self")).unwrap();
            fs::write(folder.path().join("proc/self/mountinfo"), text).unwrap();
            sysctls_are_read_only(&Root::new(folder.path()))
        };
        let proc = "22 1 0:4 / /proc rw,nosuid - proc proc rw\n";
        let sys = "23 22 0:4 /sys /proc/sys ro,nosuid - proc proc rw\n";
        assert!(!write(proc) && write(&format!("{sys}{proc}")));
        assert!(!write("1 0 8:1 / / ro - ext4 /dev/vda ro\n22 1 0:4 / /proc rw - proc proc rw\n"));
    }

    #[test]
    fn a_machine_that_shows_nothing_gives_facts_without_values() {
        let folder = tempfile::tempdir().unwrap();
        let facts = collect(&Root::new(folder.path()), "x.service");
        assert!(facts.sysctls.is_empty() && !facts.first_network_namespace);
        assert_eq!((facts.cpus.count, facts.memory.total_bytes), (1, 0));
    }

    #[test]
    fn what_is_saved_can_be_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let facts = collect(&Root::new("/"), "x.service");
        let path = folder.path().join("facts.json");
        fs::write(&path, serde_json::to_string(&facts).unwrap()).unwrap();
        assert_eq!(load(&path).unwrap(), facts);
        fs::write(&path, "{\"schema\": 99}").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("99"));
        fs::write(&path, "[").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("roost-tune collect"));
    }
}
