//! Large writes around the page cache: the device fetches whole blocks from where they lie. New
//! pages of the cache cost more than the disk does (64 MiB on one machine: 8 ms of processor time
//! in this way, 17 to 190 with the cache).

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::layout::{BLOCK_BYTES, u64_of};

/// Bytes of one transfer.
pub(super) const PIECE_BYTES: usize = 512 << 10;
const BLOCK: usize = 4096;
const _: () = assert!(BLOCK_BYTES == 4096, "BLOCK is a block");
const _: () = assert!(PIECE_BYTES.is_multiple_of(BLOCK), "a piece is whole blocks");

thread_local! {
    /// The device wants bytes at a block's boundary: they are copied to where that is.
    static STAGING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Opens a file once more, for whole blocks; none if the file system does not have that.
pub(super) fn open(path: &Path) -> Option<File> {
    File::options().write(true).custom_flags(libc::O_DIRECT).open(path).ok()
}

/// Whether these are whole blocks.
pub(super) fn is_blocks(at: u64, bytes: usize) -> bool {
    at.is_multiple_of(u64::from(BLOCK_BYTES)) && bytes.is_multiple_of(BLOCK)
}

/// Gives back what the calling thread keeps for this.
pub(super) fn rest() {
    STAGING.with_borrow_mut(|staging| *staging = Vec::new());
}

/// Memory for a transfer: what `aligned` gives of it begins at a block's boundary.
pub(super) fn memory() -> Vec<u8> {
    vec![0; PIECE_BYTES + BLOCK]
}

/// The part of such memory that the device can fetch from.
pub(super) fn aligned(memory: &mut [u8]) -> &mut [u8] {
    let begin = memory.as_ptr().align_offset(BLOCK);
    &mut memory[begin..begin + PIECE_BYTES]
}

/// Writes whole blocks; `cached` is the same file.
pub(super) fn write_all(direct: &File, cached: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    assert!(is_blocks(at, bytes.len()), "only whole blocks go this way");
    STAGING.with_borrow_mut(|staging| {
        if staging.is_empty() {
            *staging = memory();
        }
        let room = aligned(staging);
        for (turn, some) in (0_u64..).zip(bytes.chunks(PIECE_BYTES)) {
            let room = &mut room[..some.len()];
            room.copy_from_slice(some);
            write(direct, cached, room, at + turn * u64_of(PIECE_BYTES))?;
        }
        Ok(())
    })
}

/// Writes whole blocks that lie at a block's boundary.
pub(super) fn write(direct: &File, cached: &File, blocks: &[u8], at: u64) -> io::Result<()> {
    match direct.write_all_at(blocks, at) {
        // Some file systems open a file in this way and refuse to write.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => cached.write_all_at(blocks, at),
        other => other,
    }
}
