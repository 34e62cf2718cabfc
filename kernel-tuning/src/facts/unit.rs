//! What systemd's files say about the server's unit. What a service gets is not what a shell has:
//! its limits come from there, or else from systemd's defaults.

use super::UNLIMITED;
use crate::root::Root;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where units lie, the folder that hides the others first.
const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Lines of the unit and its drop-ins that matter to us; the last one of each counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Unit {
    pub name: String,
    /// A file of it is there.
    pub is_there: bool,
    /// `LimitNOFILE=`.
    pub nofile: Option<String>,
    /// `MemoryMax=` and `MemoryHigh=`, the smaller one, if they are bytes.
    pub memory_max_bytes: Option<u64>,
    /// `TasksMax=`, if it is a number.
    pub tasks_max: Option<u64>,
}

impl Unit {
    pub(super) fn read(root: &Root, name: &str) -> Self {
        let mut unit = Self { name: name.to_owned(), ..Self::default() };
        let mut texts: Vec<String> = Vec::new();
        let file = FOLDERS.iter().find_map(|folder| root.text(&format!("{folder}/{name}")));
        unit.is_there = file.is_some();
        texts.extend(file);
        // Drop-ins take effect by their names, whatever folder they are in.
        let mut drop_ins: BTreeMap<String, String> = BTreeMap::new();
        for folder in FOLDERS.map(|folder| format!("{folder}/{name}.d")) {
            for file in root.names(&folder).into_iter().filter(|file| file.ends_with(".conf")) {
                drop_ins.entry(file.clone()).or_insert_with(|| format!("{folder}/{file}"));
            }
        }
        texts.extend(drop_ins.values().filter_map(|path| root.text(path)));
        let mut memory = [None, None];
        for (key, value) in texts.iter().flat_map(|text| lines(text)) {
            match key {
                "LimitNOFILE" => unit.nofile = Some(value.to_owned()).filter(|v| !v.is_empty()),
                "MemoryMax" => memory[0] = bytes(value),
                "MemoryHigh" => memory[1] = bytes(value),
                "TasksMax" => unit.tasks_max = value.parse().ok(),
                _ => {}
            }
        }
        unit.memory_max_bytes = memory.into_iter().flatten().min();
        unit
    }

    /// Soft and hard limit of descriptors, if the unit says them.
    pub(crate) fn nofile_pair(&self) -> Option<(u64, u64)> {
        self.nofile.as_deref().map(parse_pair)
    }
}

/// Keys and values of the section `[Service]`.
fn lines(text: &str) -> Vec<(&str, &str)> {
    let mut of_service = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            of_service = line == "[Service]";
        } else if let Some((key, value)) = line.split_once('=')
            && of_service
            && !line.starts_with(['#', ';'])
        {
            found.push((key.trim(), value.trim()));
        }
    }
    found
}

/// `1024:524288`, or one number for both.
pub(crate) fn parse_pair(text: &str) -> (u64, u64) {
    let number = |word: &str| match word.trim() {
        "infinity" => UNLIMITED,
        word => word.parse().unwrap_or(0),
    };
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    (number(soft), number(hard))
}

/// `4G`; shares of the machine and `infinity` are no bytes.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match text.get(digits.len()..)? {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn drop_ins_win_over_the_unit_and_namesakes_hide_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let root = Root::new(folder.path());
        assert_eq!(Unit::read(&root, "roost.service").nofile_pair(), None);
        write(
            "usr/lib/systemd/system/roost.service",
            "[Unit]\nLimitNOFILE=1\n[Service]\nLimitNOFILE = 4096:8192\nMemoryMax=4G\n#TasksMax=1",
        );
        let unit = Unit::read(&root, "roost.service");
        assert!(unit.is_there);
        assert_eq!(unit.nofile_pair(), Some((4_096, 8_192)));
        assert_eq!((unit.memory_max_bytes, unit.tasks_max), (Some(4 << 30), None));
        write("run/systemd/system/roost.service.d/90-x.conf", "[Service]\nLimitNOFILE=7\n");
        write(
            "etc/systemd/system/roost.service.d/90-x.conf",
            "[Service]\nLimitNOFILE=infinity\nMemoryHigh=512M\nTasksMax=50\n",
        );
        let unit = Unit::read(&root, "roost.service");
        assert_eq!(unit.nofile_pair(), Some((UNLIMITED, UNLIMITED)));
        assert_eq!((unit.memory_max_bytes, unit.tasks_max), (Some(512 << 20), Some(50)));
        assert_eq!(bytes("80%"), None);
    }
}
