//! A file that is written from its beginning to its end: a table, or the zeros of a segment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use super::direct;

/// The file. Whole blocks go around the page cache: nobody reads them at once.
#[derive(Debug)]
pub(super) struct Growing {
    file: File,
    direct: Option<File>,
}

impl Growing {
    /// Makes an empty file and takes room for so many bytes, if there is room.
    pub(super) fn make(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
        if bytes > 0 {
            // Without it the file only lies in more pieces. Writing says if there is no room.
            let _unimportant = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes);
        }
        Ok(Self { file, direct: direct::open(path) })
    }

    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match &self.direct {
            Some(direct) if direct::is_blocks(at, bytes.len()) => {
                direct::write_all(direct, &self.file, bytes, at)
            }
            _ => self.file.write_all_at(bytes, at),
        }
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// For all that is not writing.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }
}
