//! A data folder on a real file system, locked against a second process.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, fadvise};

use super::files::{Files, disk_error};
use super::growing::Growing;
use super::reserve;
use crate::error::DiskError;
use crate::keeper::RESERVE;
use crate::open::Folder;

pub(super) const LOCK: &str = "lock";

/// Why a folder cannot be used.
#[derive(Debug)]
pub enum FolderError {
    /// The folder cannot be made, or nothing can be written in it.
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process has it open.
    InUse {
        /// The folder.
        path: PathBuf,
        /// Its number, if it could be read.
        process: Option<u32>,
    },
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritable { path, error } => write!(
                f,
                "{}: {error}; make the folder writable for this user or name another one",
                path.display()
            ),
            Self::InUse { path, process } => {
                write!(f, "{}: in use by ", path.display())?;
                match process {
                    Some(process) => write!(f, "process {process}")?,
                    None => f.write_str("another process")?,
                }
                f.write_str("; stop it or name another folder")
            }
        }
    }
}

impl std::error::Error for FolderError {}

/// A folder; the lock is held until the last clone is dropped.
#[derive(Debug)]
pub struct RealFolder {
    files: Arc<Files>,
    /// The last file that was made, until it gets its name.
    growing: Option<(String, Growing)>,
    /// The commits' flushes when the device was relieved the last time.
    flushes: u64,
    lock: Arc<File>,
}

impl Clone for RealFolder {
    fn clone(&self) -> Self {
        // A file that is being made is its maker's.
        let (files, lock) = (Arc::clone(&self.files), Arc::clone(&self.lock));
        Self { files, growing: None, flushes: self.flushes, lock }
    }
}

impl RealFolder {
    /// Makes the folder if it is not there, and locks it.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let unwritable =
            |error: io::Error| FolderError::Unwritable { path: path.to_owned(), error };
        fs::create_dir_all(path).map_err(unwritable)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(path.join(LOCK)).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let process = process_in(&mut lock);
                return Err(FolderError::InUse { path: path.to_owned(), process });
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        lock.set_len(0).map_err(unwritable)?;
        writeln!(lock, "{}", std::process::id()).map_err(unwritable)?;
        let files = Arc::new(Files::new(path).map_err(unwritable)?);
        Ok(Self { files, growing: None, flushes: 0, lock: Arc::new(lock) })
    }

    /// The segments of this folder, for those that perform ops.
    #[must_use]
    pub fn files(&self) -> Arc<Files> {
        Arc::clone(&self.files)
    }

    fn file(&self, name: &str) -> Result<File, DiskError> {
        File::open(self.files.path(name)).map_err(|error| disk_error(&error))
    }

    fn writable(&self, name: &str) -> Result<File, DiskError> {
        let opened = File::options().write(true).open(self.files.path(name));
        opened.map_err(|error| disk_error(&error))
    }
}

impl Folder for RealFolder {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        names_in(self.files.folder())
    }

    fn read_flushed(&mut self, name: &str) -> Result<Vec<u8>, DiskError> {
        let mut file = self.file(name)?;
        let mut bytes = Vec::new();
        let result = file.sync_data().and_then(|()| {
            fadvise(&file, 0, None, Advice::DontNeed)?;
            file.read_to_end(&mut bytes)
        });
        result.map_err(|error| disk_error(&error))?;
        Ok(bytes)
    }

    fn length(&mut self, name: &str) -> Result<u64, DiskError> {
        let metadata = self.file(name)?.metadata().map_err(|error| disk_error(&error))?;
        Ok(metadata.len())
    }

    fn read_into(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file(name)?.read_exact_at(buffer, offset).map_err(|error| disk_error(&error))
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let new = self.files.path(&format!("{name}.tmp"));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, self.files.path(name))?;
            self.files.sync_directory()
        };
        write().map_err(|error| disk_error(&error))
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        // Its room comes back when nobody has it open.
        self.growing.take_if(|(growing, _)| growing == name);
        // Whoever makes a segment sees it there until the segment has its own room.
        let _room = (name == RESERVE).then(|| self.files.lock_room());
        match fs::remove_file(self.files.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk_error(&error)),
            _ => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.files.sync_directory().map_err(|error| disk_error(&error))
    }

    fn make(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.growing = None;
        let growing = Growing::make(&self.files.path(name), bytes, true);
        let growing = growing.map_err(|error| disk_error(&error))?;
        self.growing = Some((name.to_owned(), growing));
        Ok(())
    }

    fn end(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        if let Some((growing, file)) = &mut self.growing
            && growing == name
        {
            file.drain().map_err(|error| disk_error(&error))?;
        }
        self.writable(name)?.set_len(bytes).map_err(|error| disk_error(&error))
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let written = match &mut self.growing {
            Some((growing, file)) if growing == name => file.write(offset, bytes),
            _ => self.writable(name)?.write_all_at(bytes, offset),
        };
        written.map_err(|error| disk_error(&error))
    }

    fn flush(&mut self, name: &str) -> Result<(), DiskError> {
        let flushed = match &mut self.growing {
            Some((growing, file)) if growing == name => file.flush(),
            _ => self.writable(name)?.sync_data(),
        };
        flushed.map_err(|error| disk_error(&error))
    }

    /// A commit's flush takes along what was written before it, so while the log is written much
    /// there is nothing to do: two flushes take longer than one.
    fn relieve(&mut self, name: &str) -> Result<(), DiskError> {
        let before = core::mem::replace(&mut self.flushes, self.files.flushes());
        if self.flushes == before { self.flush(name) } else { Ok(()) }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.growing = None;
        let (from, to) = (self.files.path(from), self.files.path(to));
        fs::rename(from, to).map_err(|error| disk_error(&error))
    }

    fn free(&mut self) -> Result<u64, DiskError> {
        reserve::free(&self.files)
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), DiskError> {
        let _room = self.files.lock_room();
        reserve::grow(&self.files, bytes, 0)
    }
}

/// The process that a lock file names, in its first line; whoever holds it may say more behind
/// that.
pub(super) fn process_in(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// The names of all files of a folder, in order.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>, DiskError> {
    let entries = fs::read_dir(folder).map_err(|error| disk_error(&error))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| disk_error(&error))?.file_name();
        names.extend(name.into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}
