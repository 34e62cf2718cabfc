//! A file that is written from its beginning to its end: a table, or the zeros of a segment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};

use super::behind::Behind;
use super::direct;

/// The file. Whole blocks go around the page cache: nobody reads them at once.
#[derive(Debug)]
pub(super) struct Growing {
    file: Arc<File>,
    way: Around,
}

/// How whole blocks get to the device.
#[derive(Debug)]
enum Around {
    /// With the cache: the file system has no other way.
    Not,
    Waiting(File),
    Behind(Behind),
}

impl Growing {
    /// Makes an empty file and takes room for so many bytes, if there is room. With `behind`
    /// writing does not wait for the device: an error may be said by a later call, and by `flush`
    /// at the latest.
    pub(super) fn make(path: &Path, bytes: u64, behind: bool) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
        if bytes > 0 {
            // Without it the file only lies in more pieces. Writing says if there is no room.
            let _unimportant = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes);
        }
        let file = Arc::new(file);
        let way = match direct::open(path) {
            None => Around::Not,
            Some(direct) if behind => Around::Behind(Behind::new(direct, Arc::clone(&file))?),
            Some(direct) => Around::Waiting(direct),
        };
        Ok(Self { file, way })
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if !direct::is_blocks(at, bytes.len()) {
            self.drain()?;
            return self.file.write_all_at(bytes, at);
        }
        match &mut self.way {
            Around::Not => self.file.write_all_at(bytes, at),
            Around::Waiting(direct) => direct::write_all(direct, &self.file, bytes, at),
            Around::Behind(behind) => behind.write(at, bytes),
        }
    }

    /// Waits until everything was handed to the device.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        match &mut self.way {
            Around::Behind(behind) => behind.drain(),
            Around::Not | Around::Waiting(_) => Ok(()),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.file.sync_data()
    }

    /// For all that is not writing.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}
