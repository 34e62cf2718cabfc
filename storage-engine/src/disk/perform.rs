//! Each op, performed on the calling thread.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use super::direct;
use super::files::{Files, disk_error};
use super::growing::Growing;
use super::reserve;
use crate::error::DiskError;
use crate::header::mark_recycled;
use crate::layout::{index_of, u64_of, usize_of};
use crate::op::{CommitPart, FetchPart, StoreDone, StoreOp};
use crate::position::{FileId, SegmentId};

/// Zeros written at once.
const ZEROS: usize = 512 * 1024;

/// Performs an op that is not the keeper's. Blocks.
pub(super) fn perform(files: &Files, op: StoreOp) -> StoreDone {
    match op {
        StoreOp::Commit { id, parts, sync } => {
            let outcome = commit(files, &parts, sync);
            let buffers = parts.into_iter().map(|part| part.bytes).collect();
            StoreDone::Committed { id, outcome, buffers }
        }
        StoreOp::Fetch { id, parts } => StoreDone::Fetched { id, outcome: fetch(files, &parts) },
        StoreOp::Create { segment, header, bytes, reserve_bytes } => {
            let outcome = create(files, segment, &header, (bytes, reserve_bytes));
            if outcome.is_err() {
                // What is left of it would only take room; the next start removes it anyway.
                drop(fs::remove_file(files.path(&segment.new_name())));
            }
            StoreDone::Created { segment, outcome }
        }
        keepers @ (StoreOp::Seal { .. }
        | StoreOp::Retire { .. }
        | StoreOp::Tend { .. }
        | StoreOp::Retain { .. }
        | StoreOp::Look
        | StoreOp::Forget { .. }) => keepers.refuse(DiskError::Stopped),
    }
}

fn commit(files: &Files, parts: &[CommitPart], sync: bool) -> Result<(), DiskError> {
    for part in parts.iter().filter(|part| !part.bytes.is_empty()) {
        let written =
            files.get(FileId::Segment(part.segment))?.write_all_at(&part.bytes, part.offset);
        written.map_err(|error| disk_error(&error))?;
    }
    for part in parts.iter().filter(|_| sync) {
        files
            .get(FileId::Segment(part.segment))?
            .sync_data()
            .map_err(|error| disk_error(&error))?;
        files.note_flush();
    }
    Ok(())
}

fn fetch(files: &Files, parts: &[FetchPart]) -> Result<Vec<Bytes>, DiskError> {
    let open = |part: &FetchPart| files.get(part.file);
    let open = parts.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    if parts.len() > 1 {
        // The device fetches what the others need while the first one is waited for.
        for (part, file) in parts.iter().zip(&open) {
            for &(offset, bytes) in &part.ranges {
                let _unimportant =
                    fadvise(file, offset, NonZeroU64::new(u64::from(bytes)), Advice::WillNeed);
            }
        }
    }
    let mut buffers = Vec::new();
    for (part, file) in parts.iter().zip(&open) {
        for &(offset, bytes) in &part.ranges {
            let read = read(file, offset, bytes).map_err(|error| disk_error(&error))?;
            buffers.push(Bytes::from(read));
        }
    }
    Ok(buffers)
}

/// Exactly these bytes of a file.
pub(super) fn read(file: &File, offset: u64, bytes: u32) -> Result<Vec<u8>, io::Error> {
    let mut buffer = vec![0; usize_of(bytes)];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer)
}

/// A spare file, or one of zeros that are written, not only allocated: overwriting written space
/// flushes fastest.
fn create(
    files: &Files,
    segment: SegmentId,
    header: &[u8],
    (bytes, reserve_bytes): (u64, u64),
) -> Result<(), DiskError> {
    let path = files.path(&segment.new_name());
    let growing = {
        let _room = files.lock_room();
        let spare = take_spare(files, bytes, &path).map_err(|error| disk_error(&error))?;
        // First: on a disk that stays full the segment would take the room that sealing gives
        // back, and the next sealing would find none.
        reserve::grow(files, reserve_bytes, if spare { 0 } else { bytes })?;
        let new = (!spare).then(|| take_room(&path, bytes)).transpose();
        new.map_err(|error| disk_error(&error))?
    };
    fill(files, segment, header, growing, bytes).map_err(|error| disk_error(&error))
}

/// A new file with room for so many bytes.
fn take_room(path: &Path, bytes: u64) -> Result<Growing, io::Error> {
    let growing = Growing::make(path, 0, false)?;
    match fallocate(growing.file(), FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(growing)
}

/// Makes what has the name a segment; it was a spare file if it is not `growing`.
fn fill(
    files: &Files,
    segment: SegmentId,
    header: &[u8],
    growing: Option<Growing>,
    bytes: u64,
) -> Result<(), io::Error> {
    let path = files.path(&segment.new_name());
    let mut header = header.to_vec();
    match growing {
        Some(growing) => zeros(growing, bytes)?,
        None => {
            mark_recycled(&mut header);
            files.sync_directory()?;
        }
    }
    let file = File::options().read(true).write(true).open(&path)?;
    file.write_all_at(&header, 0)?;
    file.sync_all()?;
    fs::rename(&path, files.path(&segment.active_name()))?;
    files.sync_directory()?;
    files.insert(segment, file);
    Ok(())
}

/// Gives a spare file of this size the name, if there is one.
fn take_spare(files: &Files, bytes: u64, name: &Path) -> Result<bool, io::Error> {
    for entry in fs::read_dir(files.folder())? {
        let entry = entry?;
        let is_spare = entry.path().extension().is_some_and(|ending| ending == "spare");
        if is_spare && entry.metadata().is_ok_and(|metadata| metadata.len() == bytes) {
            match fs::rename(entry.path(), name) {
                Ok(()) => return Ok(true),
                // Another shard was quicker.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(false)
}

fn zeros(mut file: Growing, bytes: u64) -> Result<(), io::Error> {
    let zeros = vec![0; ZEROS];
    let mut at = 0;
    while at < bytes {
        let some = index_of((bytes - at).min(u64_of(ZEROS)));
        file.write(at, &zeros[..some])?;
        // A little at a time: a flush of the log that comes meanwhile waits for this much, not for
        // a whole segment.
        file.flush()?;
        at += u64_of(some);
    }
    direct::rest();
    Ok(())
}
