//! Where `/proc`, `/sys` and `/etc` are read: the real ones, or a saved tree.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What is read of one file at most: tables of the kernel can be as long as it has sockets.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Entries of one folder, at most.
const NAMES_MAX: usize = 16_384;

/// The folder that stands for `/`.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    top: PathBuf,
}

impl Root {
    pub(crate) fn new(top: impl Into<PathBuf>) -> Self {
        Self { top: top.into() }
    }

    /// Whether it is this machine and not a saved tree.
    pub(crate) fn is_real(&self) -> bool {
        self.top == Path::new("/")
    }

    /// Where a file of the machine lies: `inner` is its path there.
    pub(crate) fn path(&self, inner: &str) -> PathBuf {
        self.top.join(inner.trim_start_matches('/'))
    }

    /// The first bytes of a file as text; none: it is not there or not for us.
    pub(crate) fn text(&self, inner: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let file = File::open(self.path(inner)).ok()?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The same without the blanks around it.
    pub(crate) fn word(&self, inner: &str) -> Option<String> {
        self.text(inner).map(|text| text.trim().to_owned())
    }

    /// The first number in a file.
    pub(crate) fn number(&self, inner: &str) -> Option<u64> {
        self.text(inner)?.split_whitespace().next()?.parse().ok()
    }

    /// The names in a folder, sorted; none if it is not there.
    pub(crate) fn names(&self, inner: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(inner)) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.take(NAMES_MAX).collect();
        names.sort();
        names
    }

    pub(crate) fn exists(&self, inner: &str) -> bool {
        self.path(inner).exists()
    }

    /// Where a symbolic link points to, as it says.
    pub(crate) fn link(&self, inner: &str) -> Option<String> {
        let target = fs::read_link(self.path(inner)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }
}

/// The file of a sysctl: `net.core.somaxconn` is `/proc/sys/net/core/somaxconn`.
pub(crate) fn sysctl_path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_looked_for_below_the_top() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("proc/sys/fs")).unwrap();
        fs::write(folder.path().join("proc/sys/fs/file-nr"), "590\t0\t2466170\n").unwrap();
        let root = Root::new(folder.path());
        assert_eq!(root.number("/proc/sys/fs/file-nr"), Some(590));
        assert_eq!(root.word(&sysctl_path("fs.file-nr")).unwrap(), "590\t0\t2466170");
        assert_eq!(root.names("/proc/sys"), ["fs"]);
        assert_eq!(root.text("/proc/none"), None);
        assert!(!root.is_real() && Root::new("/").is_real());
    }
}
