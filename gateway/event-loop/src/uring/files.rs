//! File operations: on the front ring, but for writes and flushes where a thread that comes first
//! does them. A durable write is one request (`RWF_DSYNC`, pwritev2(2)):
//! the kernel's worker, which competes with this thread for its core, is woken once for it, where a
//! write and a linked fdatasync wake it twice.

use super::op::{GENERATION_MAX, Op, Tag};
use super::ring::{Completion, Ring};
use crate::actions::{FileAction, FileKind};
use crate::event::Event;
use crate::file_thread::FileThread;
use crate::settings::Settings;
use crate::wake::Waker;
use io_uring::{opcode, types};
use std::io;

/// Places that stay when all operations are over.
const KEPT_MAX: usize = 1_024;

#[derive(Debug)]
struct Entry {
    action: FileAction,
    generation: u32,
    /// Bytes read so far.
    done: usize,
}

impl Entry {
    /// Bytes that it is to write or read.
    fn bytes(&self) -> usize {
        match self.action.kind {
            FileKind::Read(bytes) => bytes,
            FileKind::Write | FileKind::WriteAndSync | FileKind::Sync => self.action.buffer.len(),
        }
    }
}

/// File operations under way on the ring. Buffers are on the heap, so moving an entry does not move
/// them.
#[derive(Debug, Default)]
pub(super) struct Files {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    generation: u32,
    /// Does what is not reading, if it may come first.
    writer: Option<FileThread>,
}

impl Files {
    pub(super) fn new(settings: &Settings, waker: &Waker) -> Self {
        let start = || {
            FileThread::start_first(waker.clone()).unwrap_or_else(|error| {
                tracing::warn!(%error, "no thread for writes could be started; the ring does them");
                None
            })
        };
        let writer = settings.writes_come_first.then(start).flatten();
        Self { writer, ..Self::default() }
    }

    /// Whether a thread that comes first does what is not reading.
    pub(super) const fn has_writer(&self) -> bool {
        self.writer.is_some()
    }

    /// Whether that thread has an answer.
    pub(super) fn has_answers(&mut self) -> bool {
        self.writer.as_mut().is_some_and(FileThread::has_answers)
    }

    pub(super) fn take_answer(&mut self) -> Option<Event<'static>> {
        self.writer.as_mut()?.take_answer()
    }

    /// Whether nothing is under way on the ring.
    pub(super) const fn is_idle(&self) -> bool {
        self.entries.len() == self.free.len()
    }

    pub(super) fn start(&mut self, ring: &mut Ring, action: FileAction) -> io::Result<()> {
        if let Some(writer) = &self.writer
            && !matches!(action.kind, FileKind::Read(_))
        {
            writer.ask(action);
            return Ok(());
        }
        self.generation = if self.generation == GENERATION_MAX { 0 } else { self.generation + 1 };
        let entry = Entry { action, generation: self.generation, done: 0 };
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("few file operations")
        });
        self.entries[index as usize] = Some(entry);
        self.submit(ring, index)
    }

    fn submit(&mut self, ring: &mut Ring, index: u32) -> io::Result<()> {
        let entry = self.entries[index as usize].as_mut().expect("it is under way");
        let tag = |op| Tag { op, extra: 0, generation: entry.generation, slot: index }.encode();
        let fd = types::Fd(entry.action.fd);
        let rest = u32::try_from(entry.bytes() - entry.done).expect("buffers are below 1 GiB");
        let buffer = &mut entry.action.buffer;
        let offset = entry.action.offset + entry.done as u64;
        let sync = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        let sync = sync.user_data(tag(Op::FileSync));
        let write = opcode::Write::new(fd, buffer.as_ptr(), rest).offset(offset);
        let write = |flags| write.rw_flags(flags).build().user_data(tag(Op::FileWrite));
        match entry.action.kind {
            FileKind::Write => {
                // SAFETY: the buffer stays in its entry until the completion.
                unsafe { ring.push(&write(0)) }
            }
            FileKind::WriteAndSync => {
                // SAFETY: the buffer stays in its entry until the completion.
                unsafe { ring.push(&write(libc::RWF_DSYNC)) }
            }
            FileKind::Sync => ring.push_plain(&sync),
            FileKind::Read(bytes) => {
                assert!(bytes <= buffer.capacity(), "the buffer of a read has room for it");
                let to = buffer.as_mut_ptr().wrapping_add(entry.done);
                let read = opcode::Read::new(fd, to, rest).offset(offset).build();
                // SAFETY: the buffer stays in its entry until the completion, and has room for
                // `rest` bytes from `to` on.
                unsafe { ring.push(&read.user_data(tag(Op::FileRead))) }
            }
        }
    }

    /// Takes a completion. If the operation ended by it, here is the event.
    pub(super) fn complete(
        &mut self,
        ring: &mut Ring,
        tag: Tag,
        completion: Completion,
    ) -> io::Result<Option<Event<'static>>> {
        let Some(Some(entry)) = self.entries.get_mut(tag.slot as usize) else { return Ok(None) };
        if entry.generation != tag.generation {
            return Ok(None);
        }
        let result = completion.result;
        let bytes = entry.bytes();
        let length = u32::try_from(bytes).expect("buffers are below 1 GiB");
        let answer = match (tag.op, u32::try_from(result)) {
            (_, Err(_)) if result == -libc::EINTR || result == -libc::EAGAIN => {
                self.submit(ring, tag.slot)?;
                return Ok(None);
            }
            (_, Err(_)) => Err(-result),
            (Op::FileWrite, Ok(count)) if count < length => Err(libc::ENOSPC),
            (Op::FileWrite, Ok(count)) => Ok(count),
            (Op::FileRead, Ok(count)) => {
                entry.done += count as usize;
                if count > 0 && entry.done < bytes {
                    self.submit(ring, tag.slot)?;
                    return Ok(None);
                }
                Ok(u32::try_from(entry.done).expect("it is at most the buffer's length"))
            }
            (_, Ok(_)) => Ok(length),
        };
        Ok(self.end(tag.slot, answer))
    }

    /// Once a tick: operations of a crowd that are over leave no memory.
    pub(super) fn give_back(&mut self) {
        if self.is_idle() && self.entries.len() > KEPT_MAX {
            (self.entries, self.free) = (Vec::new(), Vec::new());
        }
    }

    fn end(&mut self, index: u32, result: Result<u32, i32>) -> Option<Event<'static>> {
        let mut entry = self.entries[index as usize].take()?;
        self.free.push(index);
        if let FileKind::Read(bytes) = entry.action.kind {
            assert!(entry.done <= bytes, "the kernel reads no more than was asked for");
            // SAFETY: the kernel wrote so many bytes from the beginning of the buffer on, which has
            // room for `bytes` of them.
            unsafe { entry.action.buffer.set_len(entry.done) };
        }
        let (token, buffer) = (entry.action.token, entry.action.buffer);
        Some(Event::FileDone { token, result, buffer })
    }
}
