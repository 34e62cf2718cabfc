//! Ends a wait of the main thread from another thread.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;

/// A descriptor that becomes readable when somebody rings.
#[derive(Debug, Clone)]
pub(super) struct Wake(Arc<OwnedFd>);

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Ends the wait that runs, or else the next one.
    pub(super) fn ring(&self) {
        // The kernel wants a number above 0 in its own order of bytes: all bytes 1 is one in any.
        let rung = rustix::io::write(&*self.0, &[1; 8]);
        // Full is as good: it was rung and not looked at yet.
        assert!(matches!(rung, Ok(_) | Err(Errno::AGAIN)), "an eventfd can be written");
    }

    /// From here on waits wait again.
    pub(super) fn clear(&self) {
        let mut count = [0; 8];
        // Nothing to read: nobody has rung.
        let _read: Result<usize, _> = rustix::io::read(&*self.0, &mut count);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
