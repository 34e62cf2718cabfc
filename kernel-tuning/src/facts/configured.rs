//! What files say about sysctls, in the order in which they take effect at the next start.
//!
//! systemd-sysctl and `sysctl --system` read files by their names, whatever folder they are in; a
//! file in an earlier folder hides one of the same name in a later one. `/etc/sysctl.conf` comes
//! last for `sysctl --system`; distributions link it into `/etc/sysctl.d` for systemd.

use crate::root::Root;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The folders, the one that hides the others first.
const FOLDERS: [&str; 4] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];
const LAST: &str = "/etc/sysctl.conf";

/// One line of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Configured {
    pub file: String,
    pub key: String,
    pub value: String,
}

pub(super) fn read(root: &Root) -> Vec<Configured> {
    let mut by_name: BTreeMap<String, String> = BTreeMap::new();
    for folder in FOLDERS {
        for name in root.names(folder).into_iter().filter(|name| name.ends_with(".conf")) {
            by_name.entry(name.clone()).or_insert_with(|| format!("{folder}/{name}"));
        }
    }
    let files = by_name.into_values().chain([LAST.to_owned()]);
    files
        .flat_map(|file| {
            let text = root.text(&file).unwrap_or_default();
            parse(&text).map(|(key, value)| (file.clone(), key, value)).collect::<Vec<_>>()
        })
        .map(|(file, key, value)| Configured { file, key, value })
        .collect()
}

/// The settings of a file; a minus before the key only means that failing does not matter.
fn parse(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.lines().filter_map(|line| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (key, value) = line.split_once('=')?;
        let key = key.trim().trim_start_matches('-').trim();
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        Some((dotted(key), value))
    })
}

/// `net/ipv4/tcp_mem` and `net.ipv4.tcp_mem` are the same key.
fn dotted(key: &str) -> String {
    let slash = key.find('/').unwrap_or(usize::MAX);
    let dot = key.find('.').unwrap_or(usize::MAX);
    if slash < dot {
        let swap = |c| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        };
        return key.chars().map(swap).collect();
    }
    key.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_take_effect_by_name_and_hide_their_namesakes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("usr/lib/sysctl.d/50-pid-max.conf", "kernel.pid_max = 4194304\n");
        write("usr/lib/sysctl.d/99-a.conf", "net.core.somaxconn = 1\n");
        write("etc/sysctl.d/99-a.conf", "# ours\n-net/core/somaxconn=2\n");
        write("etc/sysctl.d/10-b.conf", "net.ipv4.tcp_mem = 1\t2  3\n");
        write("etc/sysctl.d/10-b.conf.bak", "net.ipv4.tcp_mem = 9\n");
        write("etc/sysctl.conf", "; nothing\nfs.file-max=7\n");
        let found = read(&Root::new(folder.path()));
        let lines: Vec<String> =
            found.iter().map(|c| format!("{} {}={}", c.file, c.key, c.value)).collect();
        assert_eq!(
            lines,
            [
                "/etc/sysctl.d/10-b.conf net.ipv4.tcp_mem=1 2 3",
                "/usr/lib/sysctl.d/50-pid-max.conf kernel.pid_max=4194304",
                "/etc/sysctl.d/99-a.conf net.core.somaxconn=2",
                "/etc/sysctl.conf fs.file-max=7",
            ]
        );
    }
}
