//! The thread that has the keeper: one for a folder, for all its stores.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::Wake;
use super::files::Files;
use super::folder::RealFolder;
use super::way::{Background, Way};
use crate::keeper::{Keeper, Tended};
use crate::op::{StoreDone, StoreOp};
use crate::position::SegmentId;

/// Bytes a second that merging writes at most, so that it leaves the disk to others.
const MERGE_BYTES_A_SECOND: u64 = 64 << 20;

/// What is shorter is not waited for.
const SHORTEST_WAIT: Duration = Duration::from_micros(100);
/// After so long without anything to do the keeper gives memory back.
const RESTS_AFTER: Duration = Duration::from_secs(1);
/// A sealing that lives on idle processor time and is not done so long after it should be gets a
/// share of its own: on a machine without idle time it would never end.
const STARVED_AFTER: Duration = Duration::from_secs(2);

/// Who asks the keeper, and how answers get there.
#[derive(Clone)]
struct Asker {
    done: Sender<StoreDone>,
    wake: Arc<Wake>,
}

enum Job {
    Join(Asker),
    Perform { asker: usize, op: StoreOp },
    Stop,
}

/// The running thread. Dropping it stops the keeper between two slices.
pub struct KeeperThread {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<Keeper>>,
    askers: std::sync::atomic::AtomicUsize,
}

impl fmt::Debug for KeeperThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeeperThread").finish_non_exhaustive()
    }
}

/// A store's way to the keeper.
pub(super) struct KeeperLine {
    jobs: Sender<Job>,
    asker: usize,
}

impl KeeperLine {
    /// Hands an op over; gives it back if the keeper has stopped.
    pub(super) fn submit(&self, op: StoreOp) -> Option<StoreOp> {
        let sent = self.jobs.send(Job::Perform { asker: self.asker, op });
        match sent.err()?.0 {
            Job::Perform { op, .. } => Some(op),
            Job::Join(_) | Job::Stop => None,
        }
    }
}

impl fmt::Debug for KeeperLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeeperLine").field("asker", &self.asker).finish_non_exhaustive()
    }
}

impl KeeperThread {
    /// Starts it with the keeper that opening made. The folder stays locked while it runs.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(folder: &RealFolder, keeper: Keeper) -> Result<Self, io::Error> {
        let (jobs, queue) = channel();
        let (folder, files) = (folder.clone(), folder.files());
        let thread = Builder::new().name("keeper".to_owned()).spawn(move || {
            let background = Background::begin();
            // A table that cannot be opened is said by the reads that need it.
            let _unimportant = files.adopt(&keeper.view());
            let askers = Vec::new();
            let backlog = VecDeque::new();
            Keeping {
                keeper,
                files,
                folder,
                askers,
                backlog,
                held_back: None,
                rested: true,
                background,
            }
            .run(&queue)
        })?;
        Ok(Self { jobs, thread: Some(thread), askers: std::sync::atomic::AtomicUsize::new(0) })
    }

    pub(super) fn join(&self, done: Sender<StoreDone>, wake: Arc<Wake>) -> KeeperLine {
        let asker = self.askers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // If the thread is gone every op is refused.
        drop(self.jobs.send(Job::Join(Asker { done, wake })));
        KeeperLine { jobs: self.jobs.clone(), asker }
    }

    /// Stops it after what it was asked; gives the keeper back, for a clean stop.
    #[must_use]
    pub fn stop(mut self) -> Option<Keeper> {
        self.end()
    }

    fn end(&mut self) -> Option<Keeper> {
        drop(self.jobs.send(Job::Stop));
        self.thread.take()?.join().ok()
    }
}

impl Drop for KeeperThread {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// What the thread has.
struct Keeping {
    keeper: Keeper,
    files: Arc<Files>,
    folder: RealFolder,
    askers: Vec<Asker>,
    /// What came while a sealing took its time.
    backlog: VecDeque<Job>,
    /// An answer that waits, so that merging does not take the whole disk.
    held_back: Option<(Duration, usize, StoreDone)>,
    /// Whether the keeper has nothing left of what it keeps from one sealing to the next.
    rested: bool,
    background: Background,
}

/// Makes a sealing take its time, until something comes that must not wait for it. It lives on
/// processor time that nobody else wants: whoever serves and wakes up beside it has it at once.
struct Pace<'a> {
    queue: &'a Receiver<Job>,
    backlog: &'a mut VecDeque<Job>,
    within: Duration,
    /// When it has waited for the processor too long.
    starved: Option<Instant>,
    background: &'a Background,
}

impl Pace<'_> {
    /// Waits for one of so many parts of the time.
    fn pause(&mut self, slices: u64) {
        if self.starved.is_some_and(|starved| clock() >= starved) {
            self.hurry();
        }
        let slices = u32::try_from(slices.max(1)).unwrap_or(u32::MAX);
        while let Some(job) = self.next(self.within / slices) {
            match job {
                Job::Stop => self.hurry(),
                Job::Perform { op: StoreOp::Seal { within_ms: 0, .. }, .. } => {
                    self.within = Duration::ZERO;
                }
                Job::Join(_) | Job::Perform { .. } => {}
            }
            self.backlog.push_back(job);
        }
    }

    fn next(&self, part: Duration) -> Option<Job> {
        // A shorter wait would be as long as it takes to fall asleep and to wake up.
        if part < SHORTEST_WAIT {
            return self.queue.try_recv().ok();
        }
        self.queue.recv_timeout(part).ok()
    }

    /// From here on it takes a share of its own.
    fn hurry(&mut self) {
        self.within = Duration::ZERO;
        if self.starved.take().is_some() {
            self.background.give_way(Way::Fairly);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this folder is a driver: it brings the time in")]
fn clock() -> Instant {
    Instant::now()
}

impl Keeping {
    fn run(mut self, queue: &Receiver<Job>) -> Keeper {
        loop {
            let job = match (self.backlog.pop_front(), &self.held_back) {
                (Some(job), _) => Ok(job),
                (None, None) if self.rested => {
                    queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
                }
                (None, None) => queue.recv_timeout(RESTS_AFTER),
                (None, Some((pause, ..))) => queue.recv_timeout(*pause),
            };
            match job {
                Ok(Job::Join(asker)) => self.askers.push(asker),
                Ok(Job::Perform { asker, op }) => self.perform(asker, op, queue),
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.release();
                    return self.keeper;
                }
                Err(RecvTimeoutError::Timeout) if self.held_back.is_some() => self.release(),
                Err(RecvTimeoutError::Timeout) => self.rest(),
            }
        }
    }

    fn rest(&mut self) {
        self.keeper.rest();
        super::direct::rest();
        self.rested = true;
    }

    fn release(&mut self) {
        if let Some((_, asker, done)) = self.held_back.take() {
            self.answer(asker, done);
        }
    }

    fn answer(&self, asker: usize, done: StoreDone) {
        if let Some(asker) = self.askers.get(asker)
            && asker.done.send(done).is_ok()
        {
            (asker.wake)();
        }
    }

    fn perform(&mut self, asker: usize, op: StoreOp, queue: &Receiver<Job>) {
        let before = self.keeper.view().number;
        let mut written = 0;
        let done = match op {
            StoreOp::Seal { segment, length, within_ms } => {
                self.seal(segment, length, within_ms, queue)
            }
            StoreOp::Retire { segment } => {
                // What fails here is done again at the next start.
                if self.keeper.retire(&mut self.folder, segment) == Ok(true) {
                    self.files.forget(segment);
                    self.keeper.keep_room(&mut self.folder);
                }
                StoreDone::Retired { segment }
            }
            StoreOp::Tend { .. } if self.held_back.is_some() => {
                // Somebody else asked just before, and asks again when that is answered.
                let tended = Tended::default();
                StoreDone::Tended { outcome: Ok((tended, self.keeper.view())) }
            }
            StoreOp::Tend { now_ms, sealing_bytes } => {
                let outcome = self.keeper.tend(&mut self.folder, now_ms, sealing_bytes);
                written = outcome.as_ref().map_or(0, |tended| tended.bytes);
                if self.rested && !outcome.as_ref().is_ok_and(|tended| tended.more) {
                    self.rest();
                }
                let view = self.keeper.view();
                StoreDone::Tended { outcome: outcome.map(|tended| (tended, view)) }
            }
            StoreOp::Retain { stamp } => {
                let _unimportant = self.keeper.retain_from(&mut self.folder, stamp);
                StoreDone::Viewed { view: self.keeper.view() }
            }
            StoreOp::Look => StoreDone::Viewed { view: self.keeper.view() },
            StoreOp::Forget { left } => {
                drop(left);
                StoreDone::Viewed { view: self.keeper.view() }
            }
            other @ (StoreOp::Commit { .. } | StoreOp::Fetch { .. } | StoreOp::Create { .. }) => {
                super::perform::perform(&self.files, other)
            }
        };
        let view = self.keeper.view();
        if view.number != before {
            // Whoever hears of the view must find its tables open.
            let _unimportant = self.files.adopt(&view);
            for other in (0..self.askers.len()).filter(|&other| other != asker) {
                self.answer(other, StoreDone::Viewed { view: view.clone() });
            }
        }
        drop(view);
        self.files.close_unread();
        let pause = Duration::from_micros(written * 1_000_000 / MERGE_BYTES_A_SECOND);
        if pause.is_zero() {
            return self.answer(asker, done);
        }
        self.release();
        self.held_back = Some((pause, asker, done));
    }

    fn seal(
        &mut self,
        segment: SegmentId,
        length: u64,
        within_ms: u64,
        queue: &Receiver<Job>,
    ) -> StoreDone {
        // All stores' segments are sealed here, one at a time.
        let shares = u32::try_from(self.askers.len().max(1)).unwrap_or(u32::MAX);
        let within = Duration::from_millis(within_ms) / shares;
        self.rested = false;
        // What lags behind already has waited long enough.
        let patience = if within.is_zero() { Duration::ZERO } else { within + STARVED_AFTER };
        let (starved, background) = (Some(clock() + patience), &self.background);
        let mut pace = Pace { queue, backlog: &mut self.backlog, within, starved, background };
        let mut pause = |slices: u64| pace.pause(slices);
        let outcome = self.keeper.seal(&mut self.folder, segment, length, &mut pause);
        self.background.give_way(Way::Wholly);
        if !within.is_zero() {
            // The next one is not there yet.
            self.rest();
        }
        StoreDone::Sealed { segment, outcome: outcome.map(|()| self.keeper.view()) }
    }
}
