//! A folder that is only looked at, on a real file system, whether or not a server runs on it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::files::disk_error;
use super::folder::{LOCK, names_in, process_in};
use super::perform::read;
use crate::error::DiskError;
use crate::inspect::{DAMAGED, Look};

/// Files that are held open.
const FILES_MAX: usize = 512;

/// Why a folder cannot be looked at.
#[derive(Debug)]
pub struct LookError {
    /// The folder or file.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for LookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, error } = self;
        let remedy = if error.kind() == ErrorKind::NotFound {
            "name the folder that the server was started with (--data)"
        } else {
            "make it readable for this user"
        };
        write!(f, "{}: {error}; {remedy}", path.display())
    }
}

impl std::error::Error for LookError {}

/// Whether a server has a folder open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// A process, and its number if it could be read.
    Process(Option<u32>),
}

/// See the module's comment.
#[derive(Debug)]
pub struct LookFolder {
    path: PathBuf,
    open: BTreeMap<String, File>,
}

impl LookFolder {
    /// Looks at a folder that must be there. Nothing in it is changed.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn open(path: &Path) -> Result<Self, LookError> {
        let failed = |error| LookError { path: path.to_owned(), error };
        drop(fs::read_dir(path).map_err(failed)?);
        Ok(Self { path: path.to_owned(), open: BTreeMap::new() })
    }

    /// Whether a server has it open now. The lock is tried for a moment and given back.
    ///
    /// # Errors
    /// If the lock cannot be read.
    pub fn holder(&self) -> Result<Holder, LookError> {
        let path = self.path.join(LOCK);
        let mut lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Holder::Nobody),
            Err(error) => return Err(LookError { path, error }),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(Holder::Nobody),
            Err(TryLockError::WouldBlock) => Ok(Holder::Process(process_in(&mut lock))),
            Err(TryLockError::Error(error)) => Err(LookError { path, error }),
        }
    }

    /// Makes the folder that a repair moves damaged files to.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make_damaged(path: &Path) -> Result<(), LookError> {
        let path = path.join(DAMAGED);
        fs::create_dir_all(&path).map_err(|error| LookError { path, error })
    }

    fn file(&mut self, name: &str) -> Result<&File, DiskError> {
        if !self.open.contains_key(name) {
            if self.open.len() >= FILES_MAX {
                // A table that is held open can be read after it lost its name.
                self.open.retain(|name, _file| name.ends_with(".table"));
            }
            if self.open.len() >= FILES_MAX {
                self.open.clear();
            }
            let file = File::open(self.path.join(name)).map_err(|error| disk_error(&error))?;
            self.open.insert(name.to_owned(), file);
        }
        self.open.get(name).ok_or(DiskError::Missing)
    }
}

impl Look for LookFolder {
    fn names(&mut self) -> Result<Vec<String>, DiskError> {
        names_in(&self.path)
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        let metadata = self.file(name)?.metadata().map_err(|error| disk_error(&error))?;
        Ok(metadata.len())
    }

    fn bytes(&mut self, name: &str, offset: u64, bytes: u32) -> Result<Vec<u8>, DiskError> {
        let file = self.file(name)?;
        let size = file.metadata().map_err(|error| disk_error(&error))?.len();
        // Nothing is allocated for bytes that are not there.
        if offset.checked_add(u64::from(bytes)).is_none_or(|end| end > size) {
            return Err(DiskError::Short);
        }
        read(file, offset, bytes).map_err(|error| disk_error(&error))
    }

    fn refresh(&mut self) {
        self.open.clear();
    }
}
