//! The files of a folder, open.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::error::DiskError;
use crate::position::{FileId, SegmentId};
use crate::table::TableRoot;
use crate::view::View;

/// A file, and for a table who may still read it.
#[derive(Debug)]
struct Held {
    file: Arc<File>,
    readers: Option<Weak<TableRoot>>,
}

/// The descriptors of a folder's segments and tables, shared by all that perform ops.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    directory: File,
    open: Mutex<BTreeMap<FileId, Held>>,
    /// Held while a segment or the reserve takes room, or the reserve gives it up.
    room: Mutex<()>,
    /// Flushes of commits.
    flushes: AtomicU64,
}

impl Files {
    /// The files of this folder.
    ///
    /// # Errors
    /// If the folder cannot be opened.
    pub fn new(folder: &Path) -> Result<Self, io::Error> {
        let directory = File::open(folder)?;
        let (open, room) = (Mutex::new(BTreeMap::new()), Mutex::new(()));
        let flushes = AtomicU64::new(0);
        Ok(Self { folder: folder.to_owned(), directory, open, room, flushes })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file, for reading, and a segment's for writing too. Opens a segment if nobody did, which
    /// may block; one that was created through these files, and every table of a view that was
    /// adopted, is open.
    ///
    /// # Errors
    /// `Missing` if there is no such file.
    pub fn get(&self, id: FileId) -> Result<Arc<File>, DiskError> {
        if let Some(held) = self.lock().get(&id) {
            return Ok(Arc::clone(&held.file));
        }
        // Opened without the lock, which threads that serve take for each operation.
        let file = match id {
            FileId::Segment(segment) => self.open_either(segment)?,
            FileId::Table(table) => {
                File::open(self.path(&table.table_name())).map_err(|error| disk_error(&error))?
            }
        };
        let held = Held { file: Arc::new(file), readers: None };
        Ok(Arc::clone(&self.lock().entry(id).or_insert(held).file))
    }

    /// Notes that a commit flushes the device, with all that others wrote before. A program that
    /// performs commits itself says it of each that is flushed.
    pub fn note_flush(&self) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// Nobody else takes room for a segment or the reserve meanwhile.
    pub(super) fn lock_room(&self) -> MutexGuard<'_, ()> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FileId, Held>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the tables of a view.
    pub(super) fn adopt(&self, view: &View) -> Result<(), DiskError> {
        for table in view.tables() {
            let id = FileId::Table(table.id());
            drop(self.get(id)?);
            if let Some(held) = self.lock().get_mut(&id) {
                held.readers = Some(Arc::downgrade(table));
            }
        }
        Ok(())
    }

    /// Closes the tables that nobody can read any more; that gives their space back.
    pub(super) fn close_unread(&self) {
        let unread = |held: &Held| held.readers.as_ref().is_some_and(|it| it.strong_count() == 0);
        let mut open = self.lock();
        let gone: Vec<FileId> =
            open.iter().filter(|(_, held)| unread(held)).map(|(&id, _)| id).collect();
        let gone: Vec<Held> = gone.iter().filter_map(|id| open.remove(id)).collect();
        drop(open);
        // The last close of a large file takes its time: not under the lock.
        drop(gone);
    }

    /// Closes a segment that nobody reads any more.
    pub(super) fn forget(&self, segment: SegmentId) {
        let gone = self.lock().remove(&FileId::Segment(segment));
        drop(gone);
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
        let held = Held { file: Arc::new(file), readers: None };
        drop(self.lock().insert(FileId::Segment(segment), held));
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
