//! What applying and undoing need of a machine: a seam, so that tests can end between two writes.

use super::normal;
use crate::root::Root;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A machine that can be changed.
pub(crate) trait Machine {
    /// The content of a file or value; none: it is not there.
    fn read(&self, path: &str) -> io::Result<Option<String>>;

    /// Whether a value could be written, without writing it.
    fn may_write(&self, path: &str) -> io::Result<()>;

    /// Writes a value of the kernel, in one call.
    fn write_value(&mut self, path: &str, value: &str) -> io::Result<()>;

    /// Replaces a file as a whole: after a crash it is the old or the new one. It is on the disk
    /// when this returns.
    fn write_file(&mut self, path: &str, text: &str) -> io::Result<()>;

    /// Removes a file; it need not be there.
    fn remove_file(&mut self, path: &str) -> io::Result<()>;

    fn folder_exists(&self, path: &str) -> bool;

    /// Makes one folder; it may be there.
    fn make_folder(&mut self, path: &str) -> io::Result<()>;

    /// Removes a folder if nothing is in it.
    fn remove_folder(&mut self, path: &str);
}

/// This machine, or the tree that stands for it.
#[derive(Debug)]
pub(crate) struct Real<'a> {
    root: &'a Root,
    /// Writes until the process stops itself, for tests of a crash.
    stop_after: Option<u32>,
}

impl<'a> Real<'a> {
    pub(crate) const fn new(root: &'a Root, stop_after: Option<u32>) -> Self {
        Self { root, stop_after }
    }

    /// Keeps other runs out while the result lives; none: another one is at it. The top folder
    /// itself is locked, so that nothing is left behind.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        let file = File::open(self.root.path("/"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Counts a write of what is applied, and stops the process when the test asked for it.
    fn count(&mut self) -> io::Result<()> {
        match self.stop_after {
            None => Ok(()),
            Some(0) => {
                self.stop_after = None;
                let this = rustix::process::getpid();
                Ok(rustix::process::kill_process(this, rustix::process::Signal::STOP)?)
            }
            Some(left) => {
                self.stop_after = Some(left - 1);
                Ok(())
            }
        }
    }
}

fn flush_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Also when something else is where a folder should be.
fn is_missing(error: &io::Error) -> bool {
    [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind())
}

impl Machine for Real<'_> {
    fn read(&self, path: &str) -> io::Result<Option<String>> {
        match fs::read_to_string(self.root.path(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn may_write(&self, path: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.root.path(path)).map(drop)
    }

    fn write_value(&mut self, path: &str, value: &str) -> io::Result<()> {
        self.count()?;
        let mut file = OpenOptions::new().write(true).open(self.root.path(path))?;
        if !self.root.is_real() {
            // A saved tree has files that keep what was in them; the kernel's values do not.
            file.set_len(0)?;
        }
        file.write_all(format!("{}\n", normal(value)).as_bytes())
    }

    fn write_file(&mut self, path: &str, text: &str) -> io::Result<()> {
        self.count()?;
        let path = self.root.path(path);
        let temporary = path.with_extension("roost-tune-new");
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        flush_folder(&path)
    }

    fn remove_file(&mut self, path: &str) -> io::Result<()> {
        let path = self.root.path(path);
        // What a crash within a write left goes, too.
        let temporary = fs::remove_file(path.with_extension("roost-tune-new"));
        drop(temporary);
        match fs::remove_file(&path) {
            Ok(()) => flush_folder(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn folder_exists(&self, path: &str) -> bool {
        self.root.path(path).is_dir()
    }

    fn make_folder(&mut self, path: &str) -> io::Result<()> {
        let path = self.root.path(path);
        match fs::create_dir(&path) {
            Ok(()) => flush_folder(&path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn remove_folder(&mut self, path: &str) {
        // It stays when somebody put something into it.
        drop(fs::remove_dir(self.root.path(path)));
    }
}
