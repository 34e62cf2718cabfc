//! Performs what a store asks for: commits and fetches by the event loop's file operations, the
//! rest by the storage engine's helper threads.

use bytes::Bytes;
use roost_event_loop::Actions;
use roost_storage_engine::disk::{Disk, Files};
use roost_storage_engine::{
    CommitId, CommitPart, DiskError, FetchId, FetchPart, FileId, StoreDone, StoreOp,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Parts of one operation are told apart by the low bits of their tokens.
const PART_BITS: u32 = 12;

/// One operation that was split into file operations.
#[derive(Debug)]
enum Job {
    Commit { id: CommitId, left: usize, failed: Option<DiskError>, buffers: Vec<Vec<u8>> },
    Fetch(Fetch),
}

/// A fetch under way.
#[derive(Debug)]
struct Fetch {
    id: FetchId,
    left: usize,
    failed: Option<DiskError>,
    parts: Vec<Bytes>,
    /// Bytes that each part must have.
    wanted: Vec<usize>,
    /// Open until all is read, whoever forgets them meanwhile.
    _files: Vec<Arc<File>>,
}

/// See the module's comment.
#[derive(Debug)]
pub struct StoreDisk {
    files: Arc<Files>,
    disk: Disk,
    answers: Receiver<StoreDone>,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    ready: Vec<StoreDone>,
}

impl StoreDisk {
    /// Over the files of the data folder and helper threads that were started for this store.
    #[must_use]
    pub fn new(files: Arc<Files>, disk: Disk, answers: Receiver<StoreDone>) -> Self {
        Self { files, disk, answers, jobs: BTreeMap::new(), next_job: 0, ready: Vec::new() }
    }

    pub(crate) fn submit(&mut self, op: StoreOp, actions: &mut Actions) {
        match op {
            StoreOp::Commit { id, parts, sync } => self.commit(id, parts, sync, actions),
            StoreOp::Fetch { id, parts } => self.fetch(id, &parts, actions),
            op @ (StoreOp::Create { .. }
            | StoreOp::Seal { .. }
            | StoreOp::Retire { .. }
            | StoreOp::Tend { .. }
            | StoreOp::Retain { .. }
            | StoreOp::Look
            | StoreOp::Forget { .. }) => self.disk.submit(op),
        }
    }

    fn new_job(&mut self, job: Job) -> u64 {
        self.next_job += 1;
        self.jobs.insert(self.next_job, job);
        self.next_job << PART_BITS
    }

    fn commit(&mut self, id: CommitId, parts: Vec<CommitPart>, sync: bool, actions: &mut Actions) {
        let job = Job::Commit { id, left: parts.len(), failed: None, buffers: Vec::new() };
        let token = self.new_job(job);
        let mut refused = Vec::new();
        if sync {
            self.files.note_flush();
        }
        for (part, CommitPart { segment, offset, bytes }) in (token..).zip(parts) {
            match self.files.get(FileId::Segment(segment)) {
                Ok(file) if bytes.is_empty() && sync => actions.sync_file(part, file.as_raw_fd()),
                Ok(file) => actions.write_file(part, file.as_raw_fd(), offset, bytes, sync),
                Err(error) => refused.push((part, error, bytes)),
            }
        }
        for (part, error, buffer) in refused {
            self.part_done(part, Err(error), buffer);
        }
    }

    fn fetch(&mut self, id: FetchId, parts: &[FetchPart], actions: &mut Actions) {
        let open = parts.iter().map(|part| self.files.get(part.file)).collect();
        let files: Vec<Arc<File>> = match open {
            Ok(files) => files,
            Err(error) => {
                self.ready.push(StoreDone::Fetched { id, outcome: Err(error) });
                return;
            }
        };
        let mut reads: Vec<(RawFd, u64, usize)> = Vec::new();
        for (part, file) in parts.iter().zip(&files) {
            reads.extend(part.ranges.iter().map(|&(offset, bytes)| {
                (file.as_raw_fd(), offset, usize::try_from(bytes).expect("ranges fit memory"))
            }));
        }
        assert!(reads.len() < 1 << PART_BITS, "a fetch has a page's worth of ranges");
        if reads.is_empty() {
            self.ready.push(StoreDone::Fetched { id, outcome: Ok(Vec::new()) });
            return;
        }
        let (left, parts) = (reads.len(), vec![Bytes::new(); reads.len()]);
        let wanted = reads.iter().map(|&(_, _, bytes)| bytes).collect();
        let fetch = Fetch { id, left, failed: None, parts, wanted, _files: files };
        let token = self.new_job(Job::Fetch(fetch));
        for (part, (descriptor, offset, bytes)) in (token..).zip(reads) {
            actions.read_file(part, descriptor, offset, bytes);
        }
    }

    /// A file operation ended.
    pub(crate) fn file_done(&mut self, token: u64, result: Result<u32, i32>, buffer: Vec<u8>) {
        let result = match result {
            Ok(bytes) => Ok(bytes),
            Err(libc::ENOSPC | libc::EDQUOT) => Err(DiskError::Full),
            Err(code) => Err(DiskError::Io { code }),
        };
        self.part_done(token, result, buffer);
    }

    fn part_done(&mut self, token: u64, result: Result<u32, DiskError>, buffer: Vec<u8>) {
        let key = token >> PART_BITS;
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let left = match job {
            Job::Commit { left, failed, buffers, .. } => {
                *failed = failed.take().or_else(|| result.err());
                buffers.push(buffer);
                *left -= 1;
                *left
            }
            Job::Fetch(Fetch { left, failed, parts, wanted, .. }) => {
                let part = usize::try_from(token & ((1 << PART_BITS) - 1)).expect("12 bits");
                let short = result.is_ok() && buffer.len() != wanted[part];
                let error = if short { Some(DiskError::Short) } else { result.err() };
                *failed = failed.take().or(error);
                parts[part] = buffer.into();
                *left -= 1;
                *left
            }
        };
        if left > 0 {
            return;
        }
        let done = match self.jobs.remove(&key) {
            Some(Job::Commit { id, failed, buffers, .. }) => {
                let outcome = failed.map_or(Ok(()), Err);
                StoreDone::Committed { id, outcome, buffers }
            }
            Some(Job::Fetch(Fetch { id, failed, parts, .. })) => {
                StoreDone::Fetched { id, outcome: failed.map_or(Ok(parts), Err) }
            }
            None => return,
        };
        self.ready.push(done);
    }

    /// An answer, if one is ready.
    pub(crate) fn next_done(&mut self) -> Option<StoreDone> {
        self.ready.pop().or_else(|| self.answers.try_recv().ok())
    }
}
