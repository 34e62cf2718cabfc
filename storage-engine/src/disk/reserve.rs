//! Room on the disk that is kept for sealing: a file that means nothing.

use std::fs::{self, File};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::files::{Files, disk_error};
use crate::error::DiskError;
use crate::keeper::RESERVE;

/// Lets it take so much room, if it takes less, and leaves so much `beside` it. What it took before
/// stays if there is no more. On a file system where files cannot take room ahead there is none.
pub(super) fn grow(files: &Files, bytes: u64, beside: u64) -> Result<(), DiskError> {
    let path = files.path(RESERVE);
    let before = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let more = bytes.saturating_sub(before);
    if more == 0 {
        return Ok(());
    }
    // Asked first: what is tried in vain takes all room from others meanwhile.
    if free(files)? < more.saturating_add(beside) {
        return Err(DiskError::Full);
    }
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    let file = options.open(&path).map_err(|error| disk_error(&error))?;
    let taken = fallocate(&file, FallocateFlags::empty(), 0, bytes);
    let Err(error) = taken else { return Ok(()) };
    let given_back = if before == 0 { fs::remove_file(&path) } else { file.set_len(before) };
    // It only takes room.
    drop(given_back);
    match error {
        Errno::OPNOTSUPP | Errno::NOSYS => Ok(()),
        other => Err(disk_error(&other.into())),
    }
}

/// Bytes that files may still take.
pub(super) fn free(files: &Files) -> Result<u64, DiskError> {
    let disk = statvfs(files.folder()).map_err(|error| disk_error(&error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
