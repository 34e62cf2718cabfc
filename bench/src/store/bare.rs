//! The least that any log must do: the same bytes, one behind the other, into a file whose blocks
//! hold data already, flushed after every batch.

use super::engine::{Batch, Engine, Failure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file is written over and over.
const FILE_BYTES: u64 = 256 << 20;
const PIECE_BYTES: usize = 1 << 20;

/// What it is, for the report.
pub(super) const SETTINGS: &str =
    "pwrite of key and body to one file of 256 MiB of written blocks, fdatasync a batch";

/// The file.
#[derive(Debug)]
pub(super) struct Bare {
    file: File,
    at: u64,
    bytes: Vec<u8>,
}

impl Bare {
    /// Makes the file and fills it.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let file = File::create(folder.join("bare"))?;
        let piece = vec![0x5a; PIECE_BYTES];
        let step = u64::try_from(PIECE_BYTES)?;
        for at in (0..FILE_BYTES).step_by(PIECE_BYTES) {
            file.write_all_at(&piece, at)?;
        }
        assert_eq!(FILE_BYTES % step, 0, "the file is whole pieces");
        file.sync_all()?;
        Ok(Self { file, at: 0, bytes: Vec::new() })
    }
}

impl Engine for Bare {
    fn commit(&mut self, batch: &Batch) -> Result<(), Failure> {
        self.bytes.clear();
        for record in batch.records() {
            self.bytes.extend_from_slice(&record.key());
            self.bytes.extend_from_slice(record.body);
        }
        let length = u64::try_from(self.bytes.len())?;
        if self.at + length > FILE_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(&self.bytes, self.at)?;
        self.at += length;
        self.file.sync_data()?;
        Ok(())
    }

    fn last(&mut self, _: u128, _: usize, _: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        Err("a bare file finds nothing".into())
    }

    fn settle(self: Box<Self>, _at_rest: bool) -> Result<Box<dyn Engine>, Failure> {
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }
}
