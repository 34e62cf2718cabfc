//! One ring: set-up, its two queues, and the calls into the kernel.

use io_uring::squeue::{self, Entry, PushError};
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue};
use roost_protocol::time::Duration;
use rustix::fd::BorrowedFd;
use std::io;
use std::os::fd::AsRawFd;

/// Submissions that fit before the kernel must be called.
const SUBMISSIONS: u32 = 256;

/// Completions that fit. One call makes at most 20 by itself, plus one for each submission; the
/// size also decides how fast a poll is found to be cancelled.
const COMPLETIONS: u32 = 2048;

/// `IORING_ENTER_GETEVENTS`: run what the kernel put off.
const GETEVENTS: u32 = 1;

/// A completion, copied out of the ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    /// The request is still armed.
    pub(super) more: bool,
}

/// Completions that one call may wait for at most: as many as fit, so that it does all that was put
/// off.
const ALL: usize = COMPLETIONS as usize;

pub(super) struct Ring {
    inner: IoUring,
    /// The ring says that something was put off, and an enter found nothing. The kernel first puts
    /// work off and then raises the flag; work that is done in between leaves a flag that stays
    /// until something else is put off. Then the flag is no reason to stay awake.
    doubtful: bool,
}

impl Ring {
    /// A ring with a table of `slots` sockets. Whatever happens to it while its eventfd is enabled
    /// writes the eventfd.
    pub(super) fn new(slots: u32, eventfd: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let inner = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        if slots > 0 {
            inner.submitter().register_files_sparse(slots)?;
        }
        let mut ring = Self { inner, doubtful: false };
        if let Some(eventfd) = eventfd {
            ring.inner.submitter().register_eventfd(eventfd.as_raw_fd())?;
            ring.inner.completion().disable_eventfd();
        }
        Ok(ring)
    }

    pub(super) const fn inner(&self) -> &IoUring {
        &self.inner
    }

    /// Makes room for entries that belong together.
    pub(super) fn reserve(&mut self, count: usize) -> io::Result<()> {
        while self.room() < count {
            let before = self.room();
            self.enter()?;
            if self.room() == before {
                return Err(io::Error::other("the kernel takes no submissions"));
            }
        }
        Ok(())
    }

    fn room(&mut self) -> usize {
        let queue = self.inner.submission();
        queue.capacity() - queue.len()
    }

    /// Queues an entry; it is submitted by the next `enter`, or now if the queue is full.
    ///
    /// # Safety
    ///
    /// All memory that the entry points to stays valid and unused until its completion.
    pub(super) unsafe fn push(&mut self, entry: &Entry) -> io::Result<()> {
        self.reserve(1)?;
        // SAFETY: the caller keeps the memory of the entry valid.
        let pushed = unsafe { self.inner.submission().push(entry) };
        pushed.map_err(|_: PushError| io::Error::other("a queue with room was full"))
    }

    /// Queues an entry that points to no memory.
    pub(super) fn push_plain(&mut self, entry: &Entry) -> io::Result<()> {
        // SAFETY: poll, cancel, shutdown, close, sync, accept and socket entries of ours hold no
        // pointers.
        unsafe { self.push(entry) }
    }

    /// Queues a cancel of all requests with this `user_data`. Its own success is not told.
    pub(super) fn push_cancel(&mut self, user_data: u64, all: bool) -> io::Result<()> {
        let mut which = CancelBuilder::user_data(user_data);
        if all {
            which = which.all();
        }
        let entry = io_uring::opcode::AsyncCancel2::new(which).build();
        self.push_plain(&entry.flags(squeue::Flags::SKIP_SUCCESS))
    }

    /// Whether an enter would do something, or completions wait.
    pub(super) fn has_work(&mut self) -> bool {
        self.has_completions() || !self.inner.submission().is_empty()
    }

    /// Whether completions wait or could be made.
    pub(super) fn has_completions(&mut self) -> bool {
        self.puts_off()
            || self.inner.submission().cq_overflow()
            || !self.inner.completion().is_empty()
    }

    /// Whether the kernel has put something off until the next enter, as far as that is to be
    /// believed.
    pub(super) fn puts_off(&mut self) -> bool {
        self.inner.submission().taskrun() && !self.doubtful
    }

    /// Whether the kernel says that it has put something off, and the last enter found nothing.
    /// While others keep the loop awake such a ring is entered once a turn.
    pub(super) fn is_doubtful(&mut self) -> bool {
        self.doubtful && self.inner.submission().taskrun()
    }

    /// Submits what is queued and lets the kernel make completions. Does not wait.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let (count, flagged) = {
            let queue = self.inner.submission();
            (u32::try_from(queue.len()).unwrap_or(u32::MAX), queue.taskrun())
        };
        let before = self.inner.completion().len();
        let submitter = self.inner.submitter();
        // SAFETY: entries were pushed under the contract of `push`; there is no argument.
        let outcome = unsafe { submitter.enter::<libc::sigset_t>(count, 0, GETEVENTS, None) };
        let found = count > 0 || self.inner.completion().len() > before;
        self.doubtful = flagged && !found && self.inner.submission().taskrun();
        outcome.map(|_| ()).or_else(forgive)
    }

    /// Lets the kernel do all that it has put off, however much of it makes no completions. Does
    /// not wait. What is put off afterwards writes the eventfd, if that is enabled.
    pub(super) fn enter_for_all(&mut self) -> io::Result<()> {
        let no_time = Timespec::new();
        let args = SubmitArgs::new().timespec(&no_time);
        let outcome = self.inner.submitter().submit_with_args(ALL, &args);
        self.doubtful = self.inner.submission().taskrun();
        outcome.map(|_| ()).or_else(forgive)
    }

    /// Submits what is queued and waits until something completes or the time is over.
    pub(super) fn sleep(&self, most: Duration) -> io::Result<()> {
        let seconds = most.ns / 1_000_000_000;
        let rest = u32::try_from(most.ns % 1_000_000_000).unwrap_or(0);
        let timeout = Timespec::new().sec(seconds).nsec(rest);
        let args = SubmitArgs::new().timespec(&timeout);
        self.inner.submitter().submit_with_args(1, &args).map(|_| ()).or_else(forgive)
    }

    /// Copies the completions that are there now. Those that arrive meanwhile stay for later, so
    /// this always ends.
    pub(super) fn take(&mut self, batch: &mut Vec<Completion>) {
        let queue = self.inner.completion();
        let count = queue.len();
        batch.extend(queue.take(count).map(|entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
        }));
    }

    /// While awake nobody needs to wake us, and our own calls would write the eventfd too.
    pub(super) fn set_wakes(&mut self, wakes: bool) {
        let queue = self.inner.completion();
        if wakes {
            queue.enable_eventfd();
        } else {
            queue.disable_eventfd();
        }
    }

    /// Cancels all that is under way and waits for it. Afterwards the kernel uses no memory of
    /// requests. For each request the kernel looks at all those before it, so this is for a ring
    /// with few.
    pub(super) fn cancel_all(&self) -> io::Result<()> {
        self.cancel(CancelBuilder::any())
    }

    /// Cancels the requests with this `user_data` and waits for that. Afterwards the kernel uses
    /// no memory of theirs.
    pub(super) fn cancel_each(&self, user_data: u64) -> io::Result<()> {
        self.cancel(CancelBuilder::user_data(user_data).all())
    }

    fn cancel(&self, which: CancelBuilder) -> io::Result<()> {
        let timeout = Some(Timespec::new().sec(1));
        let outcome = self.inner.submitter().register_sync_cancel(timeout, which);
        match outcome {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

/// Errors of an enter that only mean "again": a signal, the time is over, or completions must be
/// taken first.
fn forgive(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
        _ => Err(error),
    }
}
