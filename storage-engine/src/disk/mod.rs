//! The real disk: helper threads perform what a store asks for, and a folder opens it.
//!
//! A driver with a ring may perform `Commit` and `Fetch` itself, with the descriptors that
//! [`Files`] gives, and submit only the rest. It says of each commit that it flushes
//! ([`Files::note_flush`]); else the keeper flushes more often than it need.

mod behind;
mod direct;
mod files;
mod folder;
mod growing;
mod keeping;
mod looking;
mod perform;
mod reserve;
mod way;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::error::DiskError;
use crate::op::{StoreDone, StoreOp};
use keeping::KeeperLine;
use perform::perform;
use way::step_back;

pub use files::Files;
pub use folder::{FolderError, RealFolder};
pub use keeping::KeeperThread;
pub use looking::{Holder, LookError, LookFolder};

/// Fetches that may wait for the thread that reads; past it they are answered `Busy`.
const FETCHES_MAX: usize = 1024;

/// Called from a helper thread after each answer was sent.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// Performs the ops of one store with three threads: one commits, one reads, one makes segments
/// ahead; the keeper's thread does the rest. Dropping it waits until what was submitted to its own
/// threads is done.
#[derive(Debug)]
pub struct Disk {
    files: Arc<Files>,
    queues: Option<Queues>,
    keeper: KeeperLine,
    done: Sender<StoreDone>,
    threads: Vec<JoinHandle<()>>,
}

/// All but `fetch` are bounded by what the store asks for: one commit at a time, and each segment
/// once.
#[derive(Debug)]
struct Queues {
    commit: Sender<StoreOp>,
    fetch: SyncSender<StoreOp>,
    create: Sender<StoreOp>,
}

/// What each helper thread has.
#[derive(Clone)]
struct Helper {
    files: Arc<Files>,
    done: Sender<StoreDone>,
    wake: Arc<Wake>,
}

impl Disk {
    /// Starts the threads, named after `name` (a shard). Answers come through the receiver; after
    /// each, `wake` is called.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(
        files: Arc<Files>,
        keeper: &KeeperThread,
        name: &str,
        wake: Wake,
    ) -> Result<(Self, Receiver<StoreDone>), io::Error> {
        let (done, answers) = channel();
        let wake = Arc::new(wake);
        let keeper = keeper.join(done.clone(), Arc::clone(&wake));
        let helper = Helper { files: Arc::clone(&files), done: done.clone(), wake };
        let mut threads = Vec::new();
        let mut start = |part: &str, ops: Receiver<StoreOp>| {
            let helper = helper.clone();
            let thread = Builder::new().name(format!("{name}-{part}"));
            let in_background = part == "create";
            threads.push(thread.spawn(move || {
                if in_background {
                    step_back();
                }
                helper.run(&ops);
            })?);
            Ok::<(), io::Error>(())
        };
        let (commit, commits) = channel();
        let (fetch, fetches) = sync_channel(FETCHES_MAX);
        let (create, creates) = channel();
        start("commit", commits)?;
        start("fetch", fetches)?;
        start("create", creates)?;
        let queues = Some(Queues { commit, fetch, create });
        Ok((Self { files, queues, keeper, done, threads }, answers))
    }

    /// Performs a commit or a fetch on the calling thread and gives the answer: for a program that
    /// has nothing else to do meanwhile, and is spared two wake-ups. Any other op is handed over as
    /// by [`Disk::submit`].
    pub fn perform(&mut self, op: StoreOp) -> Option<StoreDone> {
        if matches!(op, StoreOp::Commit { .. } | StoreOp::Fetch { .. }) {
            return Some(perform(&self.files, op));
        }
        self.submit(op);
        None
    }

    /// Hands an op to its thread. Never blocks.
    pub fn submit(&mut self, op: StoreOp) {
        let queues = self.queues.as_ref().expect("taken only when dropped");
        let refused = match op {
            StoreOp::Fetch { .. } => match queues.fetch.try_send(op) {
                Ok(()) => None,
                Err(TrySendError::Full(op) | TrySendError::Disconnected(op)) => Some(op),
            },
            StoreOp::Commit { .. } => queues.commit.send(op).err().map(|refused| refused.0),
            StoreOp::Create { .. } => queues.create.send(op).err().map(|refused| refused.0),
            StoreOp::Seal { .. }
            | StoreOp::Retire { .. }
            | StoreOp::Tend { .. }
            | StoreOp::Retain { .. }
            | StoreOp::Look
            | StoreOp::Forget { .. } => self.keeper.submit(op),
        };
        if let Some(op) = refused {
            // The receiver is the caller's: if it is gone, nobody waits for the answer.
            drop(self.done.send(op.refuse(DiskError::Busy)));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.queues.take());
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Helper {
    fn run(&self, ops: &Receiver<StoreOp>) {
        while let Ok(op) = ops.recv() {
            if self.done.send(perform(&self.files, op)).is_err() {
                return;
            }
            (self.wake)();
        }
    }
}
