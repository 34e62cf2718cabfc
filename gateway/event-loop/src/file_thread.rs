//! File operations block, and epoll cannot wait for files: one helper thread per loop does them in
//! order. It ends with the loop, after what it was asked for.
//!
//! A ring can wait for files, but does so with a thread of the kernel that has to wait for this
//! loop's core whenever it could go on, which a busy loop does not leave. So a ring's loop has its
//! writes done by such a thread as well, where that may come first.

use crate::actions::{FileAction, FileKind};
use crate::event::Event;
use crate::priority::come_first;
use crate::uring::borrow_fd;
use crate::wake::Waker;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, retry_on_intr};
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The loop's side of the helper thread.
#[derive(Debug)]
pub(crate) struct FileThread {
    questions: Arc<Questions>,
    answers: Receiver<Event<'static>>,
    /// An answer that was seen by `has_answers` and not taken yet.
    next: Option<Event<'static>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is to do. It waits here by sleeping alone: a channel of the library spins while
/// a sender is between two steps, and a thread that comes first would keep that sender from its
/// second step.
#[derive(Debug, Default)]
struct Questions {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    files: VecDeque<FileAction>,
    /// The loop ends and asks no more.
    is_last: bool,
}

impl Questions {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No step between taking and giving it back can panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, file: FileAction) {
        self.lock().files.push_back(file);
        self.news.notify_one();
    }

    fn end(&self) {
        self.lock().is_last = true;
        self.news.notify_one();
    }

    /// The next one; none after the last.
    fn next(&self) -> Option<FileAction> {
        let mut waiting = self.lock();
        loop {
            if let Some(file) = waiting.files.pop_front() {
                return Some(file);
            }
            if waiting.is_last {
                return None;
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl FileThread {
    /// One that shares its processor like any other.
    pub(crate) fn start(waker: Waker) -> io::Result<Self> {
        Ok(Self::spawn(waker, || false)?.0)
    }

    /// One that comes before this loop's thread and all others of their kind on its processor;
    /// none if the system does not allow it.
    pub(crate) fn start_first(waker: Waker) -> io::Result<Option<Self>> {
        let (thread, comes_first) = Self::spawn(waker, come_first)?;
        Ok(comes_first.then_some(thread))
    }

    /// Also says what came of `begin`, which the thread does first.
    fn spawn(waker: Waker, begin: fn() -> bool) -> io::Result<(Self, bool)> {
        let questions = Arc::<Questions>::default();
        let asked = Arc::clone(&questions);
        let (outbox, answers) = channel();
        let (begun, begins) = channel();
        let work = move || {
            if begun.send(begin()).is_err() {
                return;
            }
            while let Some(question) = asked.next() {
                if outbox.send(perform(question)).is_err() {
                    return;
                }
                waker.nudge();
            }
        };
        let thread = std::thread::Builder::new().name("roost-files".to_owned()).spawn(work)?;
        let started = Self { questions, answers, next: None, thread: Some(thread) };
        Ok((started, begins.recv().unwrap_or(false)))
    }

    pub(crate) fn ask(&self, file: FileAction) {
        self.questions.ask(file);
    }

    pub(crate) fn has_answers(&mut self) -> bool {
        if self.next.is_none() {
            self.next = match self.answers.try_recv() {
                Ok(answer) => Some(answer),
                Err(error) => {
                    // Going on would mean to wait for ever for what was asked.
                    assert_eq!(error, TryRecvError::Empty, "the thread for files has ended");
                    None
                }
            };
        }
        self.next.is_some()
    }

    pub(crate) fn take_answer(&mut self) -> Option<Event<'static>> {
        self.has_answers().then(|| self.next.take()).flatten()
    }
}

impl Drop for FileThread {
    /// Waits for the thread, so that no write happens after the loop is gone.
    fn drop(&mut self) {
        self.questions.end();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread for files ended by a panic");
        }
    }
}

fn perform(mut file: FileAction) -> Event<'static> {
    let fd = borrow_fd(file.fd);
    let result = match file.kind {
        FileKind::Write => write_all(fd, file.offset, &file.buffer),
        FileKind::WriteAndSync => write_all(fd, file.offset, &file.buffer)
            .and_then(|count| retry_on_intr(|| rustix::fs::fdatasync(fd)).map(|()| count)),
        FileKind::Sync => retry_on_intr(|| rustix::fs::fdatasync(fd)).map(|()| 0),
        FileKind::Read(bytes) => read_all(fd, file.offset, &mut file.buffer, bytes),
    };
    let result = result
        .map(|count| u32::try_from(count).expect("buffers of files are below 1 GiB"))
        .map_err(Errno::raw_os_error);
    Event::FileDone { token: file.token, result, buffer: file.buffer }
}

fn write_all(fd: BorrowedFd<'_>, offset: u64, buffer: &[u8]) -> rustix::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pwrite(fd, &buffer[done..], offset + done as u64) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Appends what is at `offset` to an empty buffer with room for so many bytes.
fn read_all(
    fd: BorrowedFd<'_>,
    offset: u64,
    buffer: &mut Vec<u8>,
    bytes: usize,
) -> rustix::io::Result<usize> {
    while buffer.len() < bytes {
        let at = offset + buffer.len() as u64;
        match rustix::io::pread(fd, spare_capacity(buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    // There may have been more room than was asked for.
    buffer.truncate(bytes);
    Ok(buffer.len())
}
