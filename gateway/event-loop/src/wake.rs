//! Waking a loop from another thread.
//!
//! Two flags and an eventfd. A waker raises `pending` and only then looks whether the loop sleeps;
//! the loop announces its sleep and only then looks at `pending`. All four are sequentially
//! consistent, so at least one side sees the other, and a loop that is awake costs its wakers no
//! system call.

use rustix::event::{EventfdFlags, eventfd};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Wakes one loop. Cheap to clone and to call.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

struct Shared {
    /// Somebody called `wake` and the loop did not say `Woken` yet.
    pending: AtomicBool,
    /// The loop sleeps, or is about to.
    asleep: AtomicBool,
    eventfd: OwnedFd,
}

impl Waker {
    /// `flags` differ by backend: a ring's read of a non-blocking descriptor would not wait.
    pub(crate) fn new(flags: EventfdFlags) -> io::Result<Self> {
        let eventfd = eventfd(0, flags | EventfdFlags::CLOEXEC)?;
        let (pending, asleep) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { shared: Arc::new(Shared { pending, asleep, eventfd }) })
    }

    /// Makes the loop say `Woken` soon. Many calls before that are one `Woken`.
    pub fn wake(&self) {
        if !self.shared.pending.swap(true, Ordering::SeqCst) {
            self.nudge();
        }
    }

    /// Ends the loop's sleep, if it sleeps, without a `Woken`. What the loop is to find must have
    /// been put there before.
    pub(crate) fn nudge(&self) {
        fence(Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.signal();
        }
    }

    #[expect(
        clippy::host_endian_bytes,
        reason = "an eventfd takes a number as this machine has it"
    )]
    fn signal(&self) {
        // It only fails when the counter is full, and then the loop wakes anyway.
        if let Err(error) = rustix::io::write(&self.shared.eventfd, &1_u64.to_ne_bytes()) {
            tracing::debug!(%error, "an eventfd was not written");
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.eventfd.as_fd()
    }

    /// The loop announces its sleep. Afterwards it must look for work once more.
    pub(crate) fn fall_asleep(&self) {
        self.shared.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn wake_up(&self) {
        self.shared.asleep.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.shared.pending.load(Ordering::SeqCst)
    }

    /// Whether `Woken` is to be said now.
    pub(crate) fn take_pending(&self) -> bool {
        self.is_pending() && self.shared.pending.swap(false, Ordering::SeqCst)
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("pending", &self.is_pending()).finish_non_exhaustive()
    }
}
