//! What the lock file of a data folder says for `roost drain`: the process that holds it, where its
//! number means something, and whether it is stopping already. The store writes the first line, the
//! server the others.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The file that a running server holds locked; in the data folder.
pub(crate) const LOCK: &str = "store/lock";

const NAMESPACE: &str = "namespace ";
const DRAINING: &str = "draining";

/// See the module's comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockNote {
    /// The number of the process, in its own namespace.
    pub(crate) pid: i32,
    /// The namespace of processes it is in; a server says so a moment after it has the lock.
    pub(crate) namespace: Option<String>,
    /// It was told to stop.
    pub(crate) is_draining: bool,
}

impl LockNote {
    /// Understands the text of a lock file.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok().filter(|pid| *pid > 0)?;
        let mut note = Self { pid, namespace: None, is_draining: false };
        for line in lines {
            note.is_draining |= line == DRAINING;
            if let Some(namespace) = line.strip_prefix(NAMESPACE) {
                note.namespace = Some(namespace.to_owned());
            }
        }
        Some(note)
    }

    /// Whether the number is that of a process that this one could see. Where nobody said where
    /// they are it is taken for one.
    pub(crate) fn is_of_here(&self) -> bool {
        match (&self.namespace, namespace()) {
            (Some(theirs), Some(ours)) => *theirs == ours,
            (None, _) | (_, None) => true,
        }
    }
}

/// Says which namespace this process is in, in the lock file that it holds.
pub(crate) fn say_namespace(data: &Path) -> io::Result<()> {
    namespace().map_or(Ok(()), |namespace| append(data, &format!("{NAMESPACE}{namespace}\n")))
}

/// Says that this process is stopping.
pub(crate) fn say_draining(data: &Path) -> io::Result<()> {
    append(data, &format!("{DRAINING}\n"))
}

fn append(data: &Path, line: &str) -> io::Result<()> {
    File::options().append(true).open(data.join(LOCK))?.write_all(line.as_bytes())
}

/// Where numbers of processes mean the same: a namespace, of this machine since it was started.
fn namespace() -> Option<String> {
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{} {}", namespace.to_str()?, boot.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_says_who_holds_it_and_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK);
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "4711\n").unwrap();
        let note = || LockNote::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        let at_first = LockNote { pid: 4711, namespace: None, is_draining: false };
        assert_eq!(note(), at_first);
        assert!(note().is_of_here());
        say_namespace(folder.path()).unwrap();
        assert_eq!(note().namespace, namespace());
        assert!(note().is_of_here() && !note().is_draining);
        say_draining(folder.path()).unwrap();
        assert_eq!((note().pid, note().is_draining), (4711, true));
        let elsewhere = LockNote { namespace: Some("pid:[1] here".to_owned()), ..note() };
        assert!(!elsewhere.is_of_here());
    }

    #[test]
    fn what_names_no_process_is_no_note() {
        for text in ["", "\n", "draining\n", "0\n", "-1\n", "12x\n"] {
            assert_eq!(LockNote::parse(text), None, "{text:?}");
        }
    }
}
