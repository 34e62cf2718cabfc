//! The segment files of a folder, open.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::DiskError;
use crate::position::SegmentId;

/// The descriptors of a folder's segments, shared by all that perform ops.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    directory: File,
    open: Mutex<BTreeMap<SegmentId, Arc<File>>>,
}

impl Files {
    /// The files of this folder.
    ///
    /// # Errors
    /// If the folder cannot be opened.
    pub fn new(folder: &Path) -> Result<Self, io::Error> {
        let directory = File::open(folder)?;
        Ok(Self { folder: folder.to_owned(), directory, open: Mutex::new(BTreeMap::new()) })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A segment's file, for reading and writing. Opens it if nobody did, which may block; a
    /// segment that was created or sealed through these files is open.
    ///
    /// # Errors
    /// `Missing` if there is no such segment.
    pub fn get(&self, segment: SegmentId) -> Result<Arc<File>, DiskError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&segment) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.open_either(segment)?);
        open.insert(segment, Arc::clone(&file));
        Ok(file)
    }

    /// A segment may get its sealed name between two looks, never lose it.
    fn open_either(&self, segment: SegmentId) -> Result<File, DiskError> {
        let mut options = File::options();
        let active = options.read(true).write(true).open(self.path(&segment.active_name()));
        match active {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::open(self.path(&segment.sealed_name())).map_err(|error| disk_error(&error))
            }
            Err(error) => Err(disk_error(&error)),
        }
    }

    pub(super) fn insert(&self, segment: SegmentId, file: File) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(segment, Arc::new(file));
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes names durable.
    pub(super) fn sync_directory(&self) -> Result<(), io::Error> {
        self.directory.sync_all()
    }
}

/// What the system said, as the store understands it.
pub(super) fn disk_error(error: &io::Error) -> DiskError {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => DiskError::Full,
        Some(libc::ENOENT) => DiskError::Missing,
        Some(code) => DiskError::Io { code },
        // Only the library's own errors have no code: a file that ends early, mostly.
        None => DiskError::Short,
    }
}
