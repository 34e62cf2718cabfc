//! A descriptor that the owner of the loop promised to keep open.

use std::os::fd::{BorrowedFd, RawFd};

/// The handler named it in a file action, whose contract is that it stays open until `FileDone`.
pub(crate) fn borrow_fd(fd: RawFd) -> BorrowedFd<'static> {
    assert!(fd >= 0, "a file's descriptor is not negative");
    // SAFETY: it is not -1, and it stays open until `FileDone` by the contract of file actions.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
