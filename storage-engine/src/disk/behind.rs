//! Writing behind: a thread of its own gives the device one piece while the next one is made. A
//! sealing takes half the time so, and that time bounds how much can be appended for long.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use super::direct::{self, PIECE_BYTES};
use super::way;
use crate::layout::u64_of;

/// Pieces that wait for the device, and memory for them.
const PIECES: usize = 2;

/// Whole blocks for a place of the file.
struct Piece {
    memory: Vec<u8>,
    bytes: usize,
    at: u64,
}

/// A file that is written in this way.
#[derive(Debug)]
pub(super) struct Behind {
    pieces: Option<Sender<Piece>>,
    written: Receiver<(Vec<u8>, io::Result<()>)>,
    /// Memory that no piece uses now.
    spare: Vec<Vec<u8>>,
    /// Pieces that the device does not have yet.
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

impl Behind {
    /// Over a file that is open for whole blocks; `cached` is the same file.
    pub(super) fn new(direct: File, cached: Arc<File>) -> io::Result<Self> {
        let (pieces, queue) = channel::<Piece>();
        let (done, written) = channel();
        let thread = Builder::new().name("keeper-write".to_owned()).spawn(move || {
            // It hardly computes, and whoever waits for it may lag behind.
            way::come_back();
            for Piece { mut memory, bytes, at } in queue {
                let blocks = &direct::aligned(&mut memory)[..bytes];
                let outcome = direct::write(&direct, &cached, blocks, at);
                if done.send((memory, outcome)).is_err() {
                    return;
                }
            }
        })?;
        let (pieces, thread, spare) = (Some(pieces), Some(thread), Vec::new());
        Ok(Self { pieces, written, spare, under_way: 0, thread })
    }

    /// Takes whole blocks. An error is of these or of earlier ones.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        for (turn, some) in (0_u64..).zip(bytes.chunks(PIECE_BYTES)) {
            if self.under_way == PIECES {
                self.wait()?;
            }
            let mut memory = self.spare.pop().unwrap_or_else(direct::memory);
            direct::aligned(&mut memory)[..some.len()].copy_from_slice(some);
            let piece = Piece { memory, bytes: some.len(), at: at + turn * u64_of(PIECE_BYTES) };
            let sent = self.pieces.as_ref().is_some_and(|pieces| pieces.send(piece).is_ok());
            if !sent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.under_way += 1;
        }
        Ok(())
    }

    /// Waits until the device has all.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        while self.under_way > 0 {
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let (memory, outcome) =
            self.written.recv().map_err(|_ended| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.under_way -= 1;
        self.spare.push(memory);
        outcome
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        drop(self.pieces.take());
        if let Some(thread) = self.thread.take() {
            // Whether it ended well is said by `drain`.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_behind_is_there_after_draining() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let cached = Arc::new(File::create(&path).unwrap());
        let Some(direct) = direct::open(&path) else { return };
        let mut behind = Behind::new(direct, cached).unwrap();
        let bytes: Vec<u8> =
            (0..PIECE_BYTES * 5 + 8192).map(|at| u8::try_from(at / 4096 % 251).unwrap()).collect();
        behind.write(0, &bytes[..4096]).unwrap();
        behind.write(4096, &bytes[4096..]).unwrap();
        behind.drain().unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
    }

    #[test]
    fn an_error_is_said_at_the_latest_by_draining() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, []).unwrap();
        // Opened for reading only: every write fails.
        let open = || File::open(&path).unwrap();
        let mut behind = Behind::new(open(), Arc::new(open())).unwrap();
        behind.write(0, &[7; 4096]).unwrap();
        assert!(behind.drain().is_err());
        assert!(behind.drain().is_ok(), "nothing is under way any more");
    }
}
