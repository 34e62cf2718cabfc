//! Each op, performed on the calling thread.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};

use super::files::{Files, disk_error};
use crate::error::DiskError;
use crate::layout::{index_of, u64_of, usize_of};
use crate::op::{CommitPart, StoreDone, StoreOp};
use crate::position::SegmentId;
use crate::sealed::SealedRoot;

const ZEROS: usize = 256 * 1024;

/// Performs an op. Blocks.
#[must_use]
pub fn perform(files: &Files, op: StoreOp) -> StoreDone {
    match op {
        StoreOp::Commit { id, parts, sync } => {
            let outcome = commit(files, &parts, sync);
            let buffers = parts.into_iter().map(|part| part.bytes).collect();
            StoreDone::Committed { id, outcome, buffers }
        }
        StoreOp::Fetch { id, segment, ranges } => {
            StoreDone::Fetched { id, outcome: fetch(files, segment, &ranges) }
        }
        StoreOp::Create { segment, header, bytes } => {
            let outcome = create(files, segment, &header, bytes);
            if outcome.is_err() {
                // What is left of it would only take room; the next start removes it anyway.
                drop(fs::remove_file(files.path(&segment.new_name())));
            }
            StoreDone::Created { segment, outcome: outcome.map_err(|error| disk_error(&error)) }
        }
        StoreOp::Seal { segment, length } => {
            StoreDone::Sealed { segment, outcome: seal(files, segment, length) }
        }
        StoreOp::OpenSealed { segment } => {
            StoreDone::SealedOpened { segment, outcome: open_sealed(files, segment) }
        }
    }
}

fn commit(files: &Files, parts: &[CommitPart], sync: bool) -> Result<(), DiskError> {
    for part in parts.iter().filter(|part| !part.bytes.is_empty()) {
        let written = files.get(part.segment)?.write_all_at(&part.bytes, part.offset);
        written.map_err(|error| disk_error(&error))?;
    }
    for part in parts.iter().filter(|_| sync) {
        files.get(part.segment)?.sync_data().map_err(|error| disk_error(&error))?;
    }
    Ok(())
}

fn fetch(
    files: &Files,
    segment: SegmentId,
    ranges: &[(u64, u32)],
) -> Result<Vec<Bytes>, DiskError> {
    let file = files.get(segment)?;
    let one = |&(offset, bytes): &(u64, u32)| read(&file, offset, bytes).map(Bytes::from);
    ranges.iter().map(one).collect::<Result<_, _>>().map_err(|error| disk_error(&error))
}

/// Exactly these bytes of a file.
pub(super) fn read(file: &File, offset: u64, bytes: u32) -> Result<Vec<u8>, io::Error> {
    let mut buffer = vec![0; usize_of(bytes)];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer)
}

/// A file of zeros written, not only allocated: overwriting written space flushes fastest.
fn create(files: &Files, segment: SegmentId, header: &[u8], bytes: u64) -> Result<(), io::Error> {
    let path = files.path(&segment.new_name());
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0; ZEROS];
    let mut at = 0;
    while at < bytes {
        let some = index_of((bytes - at).min(u64_of(ZEROS)));
        file.write_all_at(&zeros[..some], at)?;
        // A little at a time: a flush of the log that comes meanwhile waits for this much, not for
        // a whole segment of dirty pages.
        file.sync_data()?;
        at += u64_of(some);
    }
    file.write_all_at(header, 0)?;
    file.sync_all()?;
    fs::rename(&path, files.path(&segment.active_name()))?;
    files.sync_directory()?;
    files.insert(segment, file);
    Ok(())
}

fn seal(files: &Files, segment: SegmentId, length: u64) -> Result<SealedRoot, DiskError> {
    let wrong = |error: io::Error| disk_error(&error);
    let file = files.get(segment)?;
    let records = u32::try_from(length).map_err(|_too_long| DiskError::Short)?;
    let tail = SealedRoot::seal(segment, &read(&file, 0, records).map_err(wrong)?, length)?;
    file.write_all_at(&tail.bytes, tail.offset).map_err(wrong)?;
    file.set_len(tail.root.file_bytes()).map_err(wrong)?;
    file.sync_all().map_err(wrong)?;
    let (from, to) = (files.path(&segment.active_name()), files.path(&segment.sealed_name()));
    fs::rename(from, to).map_err(wrong)?;
    files.sync_directory().map_err(wrong)?;
    Ok(tail.root)
}

fn open_sealed(files: &Files, segment: SegmentId) -> Result<SealedRoot, DiskError> {
    let file = files.get(segment)?;
    let bytes = file.metadata().map_err(|error| disk_error(&error))?.len();
    SealedRoot::load(segment, bytes, &mut |offset, bytes| {
        read(&file, offset, bytes).map_err(|error| disk_error(&error))
    })
}
