//! Running the program, and trees that stand for machines.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_roost-tune");

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

pub(crate) fn run_command(command: &mut Command) -> Run {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Run {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8(stdout).unwrap(),
        error: String::from_utf8(stderr).unwrap(),
    }
}

/// Words of a command line, without blanks in any.
pub(crate) fn tune(arguments: &str) -> Run {
    run_command(Command::new(PROGRAM).args(arguments.split_whitespace()))
}

pub(crate) fn machine(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines");
    folder.join(format!("{name}.json"))
}

/// The program over a saved machine.
pub(crate) fn tune_machine(name: &str, arguments: &str) -> Run {
    let path = machine(name);
    let words = arguments.split_whitespace();
    run_command(Command::new(PROGRAM).args(words).arg("--facts").arg(path))
}

/// Slabs are the machine's: tests that make and free sockets by the thousand take turns.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A turn, if this test may do what only root may, with a network namespace of its own; else it
/// says loudly that it is skipped.
pub(crate) fn may_probe(test: &str) -> Option<MutexGuard<'static, ()>> {
    let may = rustix::process::geteuid().is_root()
        && Path::new("/proc/slabinfo").exists()
        && Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|s| s.success());
    if !may {
        eprintln!("SKIPPED, {test}: it needs root, unshare --net and /proc/slabinfo");
    }
    may.then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A folder that stands for `/`, made of a saved machine.
pub(crate) struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn of(name: &str) -> Self {
        let tree = Self { folder: tempfile::tempdir().unwrap() };
        let facts: Value =
            serde_json::from_str(&fs::read_to_string(machine(name)).unwrap()).unwrap();
        for (key, value) in facts["sysctls"].as_object().unwrap() {
            let path = format!("proc/sys/{}", key.replace('.', "/"));
            tree.write(&path, &format!("{}\n", value.as_str().unwrap().replace(' ', "\t")));
        }
        let process = &facts["process"];
        let limit = |name: &str| process[name].as_u64().unwrap();
        let (soft, hard) = (limit("nofile_soft"), limit("nofile_hard"));
        let kernel = facts["kernel"].as_str().unwrap();
        tree.write("proc/sys/kernel/osrelease", &format!("{kernel}\n"));
        tree.write("proc/self/limits", &format!("Max open files {soft} {hard} files\n"));
        tree.write("proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t000001fffeffffff\n");
        tree.write("proc/self/mountinfo", "22 1 0:4 / /proc rw - proc proc rw\n");
        let kib = |name: &str| facts["memory"][name].as_u64().unwrap() / 1024;
        let memory = format!(
            "MemTotal: {} kB\nMemFree: {} kB\nActive(file): {} kB\n",
            kib("total_bytes"),
            kib("free_bytes"),
            kib("file_bytes")
        );
        tree.write("proc/meminfo", &memory);
        let cores = facts["cpus"]["count"].as_u64().unwrap();
        let cpus: String = (0..cores).map(|n| format!("processor\t: {n}\n")).collect();
        tree.write("proc/cpuinfo", &cpus);
        tree.write("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
        fs::create_dir_all(tree.path("etc/systemd/system")).unwrap();
        fs::create_dir_all(tree.path("var/lib")).unwrap();
        tree
    }

    pub(crate) fn top(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, inner: &str) -> PathBuf {
        self.top().join(inner)
    }

    pub(crate) fn write(&self, inner: &str, text: &str) {
        let path = self.path(inner);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, inner: &str) -> String {
        fs::read_to_string(self.path(inner)).unwrap_or_default()
    }

    pub(crate) fn tune(&self, arguments: &str) -> Run {
        let words = arguments.split_whitespace();
        run_command(Command::new(PROGRAM).args(words).arg("--root").arg(self.top()))
    }

    /// Every file with its content, blanks made alike, and every folder.
    pub(crate) fn dump(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.top().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.top()).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    found.insert(name, "folder".to_owned());
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).unwrap();
                    let words: Vec<&str> = text.split_whitespace().collect();
                    // A kernel shows all choices and marks one; a file holds what was written.
                    found.insert(name, words.join(" ").replace("[always] madvise never", "always"));
                }
            }
        }
        found
    }
}
