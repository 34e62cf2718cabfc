//! What applying and undoing need of a machine: a seam, so that tests can end between two writes.

use super::normal;
use super::undo::{UNDO_FILE, UNDO_FOLDER};
use crate::root::Root;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// What a file has besides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    /// Permissions, with set-id and sticky bits.
    pub mode: u32,
    pub user_id: u32,
    pub group_id: u32,
}

impl Attributes {
    /// Of a file that was not there: whatever the umask says, everybody may read it.
    const NEW: u32 = 0o644;

    fn of(metadata: &Metadata) -> Self {
        Self { mode: metadata.mode() & 0o7777, user_id: metadata.uid(), group_id: metadata.gid() }
    }

    /// Makes a file so; the owner first, since changing it takes bits of the mode away.
    fn give(self, file: &File) -> io::Result<()> {
        let now = Self::of(&file.metadata()?);
        if (now.user_id, now.group_id) != (self.user_id, self.group_id) {
            fchown(file, Some(self.user_id), Some(self.group_id))?;
        }
        file.set_permissions(Permissions::from_mode(self.mode))
    }
}

/// A machine that can be changed.
pub(crate) trait Machine {
    /// Where what was before is kept. A network namespace has a file of its own: the same path
    /// below `/proc/sys` is another value there.
    fn undo_file(&self) -> String;

    /// The content of a file or value; none: it is not there.
    fn read(&self, path: &str) -> io::Result<Option<String>>;

    /// Whether a value could be written, without writing it.
    fn may_write(&self, path: &str) -> io::Result<()>;

    /// Writes a value of the kernel, in one call.
    fn write_value(&mut self, path: &str, value: &str) -> io::Result<()>;

    /// Mode and owner of a file; none: it is not there. An error if it is a link or no file:
    /// what a link points to is somebody else's, and replacing the link would part the two.
    fn attributes(&self, path: &str) -> io::Result<Option<Attributes>>;

    /// Replaces a file as a whole: after a crash it is the old or the new one. It is on the disk
    /// when this returns. It gets these attributes, else those of the file that it replaces.
    fn write_file(
        &mut self,
        path: &str,
        text: &str,
        attributes: Option<Attributes>,
    ) -> io::Result<()>;

    /// Removes a file; it need not be there.
    fn remove_file(&mut self, path: &str) -> io::Result<()>;

    /// Removes what a crash within `write_file` left beside a file.
    fn clean(&mut self, path: &str);

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

    /// Writes the whole of a file under another name, to the disk.
    fn write_temporary(
        &mut self,
        path: &Path,
        text: &str,
        attributes: Option<Attributes>,
    ) -> io::Result<()> {
        // Nobody else may open it before it is what it shall be.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        match attributes {
            Some(attributes) => attributes.give(&file)?,
            None => file.set_permissions(Permissions::from_mode(Attributes::NEW))?,
        }
        file.sync_all()?;
        // A crash between here and the new name leaves the old file, and this one beside it.
        self.count()
    }
}

/// A new file beside the one that it will replace.
fn temporary(path: &Path) -> PathBuf {
    path.with_extension("roost-tune-new")
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
    fn undo_file(&self) -> String {
        // As facts do: this value shows in the machine's first namespace only.
        let is_first = self.root.exists("/proc/sys/net/ipv4/tcp_mem");
        let namespace = self.root.link("/proc/self/ns/net").filter(|_| !is_first);
        match namespace.as_deref().map(|name| name.trim_matches(|c: char| !c.is_ascii_digit())) {
            Some(number) => format!("{UNDO_FOLDER}/undo-net-{number}.json"),
            None => UNDO_FILE.to_owned(),
        }
    }

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

    fn attributes(&self, path: &str) -> io::Result<Option<Attributes>> {
        let metadata = match fs::symlink_metadata(self.root.path(path)) {
            Ok(metadata) => metadata,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if metadata.is_file() {
            return Ok(Some(Attributes::of(&metadata)));
        }
        let what = if metadata.is_symlink() { "a symbolic link" } else { "no plain file" };
        Err(io::Error::other(format!("it is {what}, which is not ours to replace")))
    }

    fn write_file(
        &mut self,
        path: &str,
        text: &str,
        attributes: Option<Attributes>,
    ) -> io::Result<()> {
        self.count()?;
        let attributes = self.attributes(path)?.map(|old| attributes.unwrap_or(old)).or(attributes);
        self.clean(path);
        let path = self.root.path(path);
        let temporary = temporary(&path);
        let written = self.write_temporary(&temporary, text, attributes);
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, &path)) {
            // Nothing of a write that failed stays, as on a full disk.
            drop(fs::remove_file(&temporary));
            return Err(error);
        }
        flush_folder(&path)
    }

    fn clean(&mut self, path: &str) {
        drop(fs::remove_file(temporary(&self.root.path(path))));
    }

    fn remove_file(&mut self, path: &str) -> io::Result<()> {
        self.clean(path);
        let path = self.root.path(path);
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
