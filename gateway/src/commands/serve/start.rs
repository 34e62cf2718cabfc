//! A worker and its thread: made, introduced to the others, told things.

use super::error::ServeError;
use crate::config::Config;
use crate::driver::disk::StoreDisk;
use crate::driver::log::Logger;
use crate::driver::mesh::Mesh;
use crate::driver::metrics::ShardMetrics;
use crate::driver::worker::{Control, Remains, Shared, Worker, WorkerParts};
use crate::ids::ShardId;
use crate::shard::{EdgeConfig, Input, Outbox, Secrets, Shard, ShardConfig};
use roost_event_loop::{Accepting, EventLoop, Kind, Listening, Settings as LoopSettings, Waker};
use roost_storage_engine::Store;
use roost_storage_engine::disk::{Disk, Files, KeeperThread};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

/// A worker as the main thread sees it.
pub(super) struct Running {
    pub(super) thread: JoinHandle<Result<Remains, String>>,
    control: Sender<Control>,
    waker: Waker,
}

/// What a worker's thread is started with.
pub(super) struct Start {
    pub(super) id: ShardId,
    pub(super) shards: u8,
    pub(super) kind: Kind,
    pub(super) config: Config,
    pub(super) edges: EdgeConfig,
    pub(super) secrets: Secrets,
    pub(super) seed: u64,
    pub(super) store: Store,
    pub(super) mesh: Mesh,
    pub(super) listeners: Vec<(Listening, Accepting)>,
    pub(super) files: Arc<Files>,
    pub(super) keeper: Arc<KeeperThread>,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) shared: Arc<Shared>,
    pub(super) cpu: Option<usize>,
}

/// A worker that has made its loop and waits for everybody's wakers.
pub(super) struct Started {
    thread: JoinHandle<Result<Remains, String>>,
    control: Sender<Control>,
    waker: Waker,
    wakers: Sender<Vec<Waker>>,
}

impl Start {
    pub(super) fn spawn(self) -> Result<Started, ServeError> {
        let (control, controlled) = mpsc::channel();
        let (wakers, all_wakers) = mpsc::channel();
        let (made, maker) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("shard-{}", self.id.0))
            .spawn(move || {
                let shared = Arc::clone(&self.shared);
                let outcome = self.run(controlled, &all_wakers, &made);
                if outcome.is_err() {
                    shared.failed.store(true, Ordering::SeqCst);
                }
                outcome
            })
            .map_err(ServeError::Thread)?;
        match maker.recv() {
            Ok(waker) => Ok(Started { thread, control, waker, wakers }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(ServeError::Worker(error)),
                Ok(Ok(_)) | Err(_) => Err(ServeError::Worker("a worker did not start".to_owned())),
            },
        }
    }

    fn run(
        self,
        control: Receiver<Control>,
        wakers: &Receiver<Vec<Waker>>,
        made: &Sender<Waker>,
    ) -> Result<Remains, String> {
        let text = |error: std::io::Error| error.to_string();
        let is_pinned = self.cpu.is_some_and(pin);
        let limits = self.config.limits.clone();
        // A thread that comes first must not take the processor of another shard.
        let may_come_first = is_pinned || self.shards == 1;
        let writes_come_first = self.config.real_time_commits && may_come_first;
        let settings = LoopSettings { writes_come_first, ..LoopSettings::default() };
        // Each listener keeps places for what it accepts next; one's are not the others'.
        let others = u32::try_from(self.listeners.len().saturating_sub(1)).unwrap_or(0);
        let kept = settings.accepts_per_turn.saturating_mul(others);
        let sockets_max = limits.sockets_of_shard(self.shards).saturating_add(kept);
        let settings = LoopSettings { sockets_max, ..settings };
        let mut event_loop = EventLoop::new(self.kind, &settings).map_err(text)?;
        if self.id == ShardId(0) && self.kind == Kind::Uring {
            let wanted = self.config.real_time_commits;
            say_how_commits_are_written(wanted, may_come_first, &event_loop);
        }
        let waker = event_loop.waker();
        let mut listeners = Vec::new();
        for (socket, accepting) in self.listeners {
            listeners.push(event_loop.adopt_listener(socket, accepting).map_err(text)?);
        }
        let name = format!("disk-{}", self.id.0);
        let wake = waker.clone();
        let wake = Box::new(move || wake.wake());
        let (disk, answers) =
            Disk::new(Arc::clone(&self.files), &self.keeper, &name, wake).map_err(text)?;
        let mut shard = Shard::open(
            ShardConfig {
                id: self.id,
                shards: self.shards,
                node: 0,
                limits: limits.clone(),
                edges: self.edges,
                seed: self.seed,
            },
            self.store,
        );
        let now = roost_event_loop::now();
        shard.handle(now, Input::Secrets(self.secrets), &mut Outbox::new());
        let mut mesh = self.mesh;
        made.send(waker.clone()).map_err(|_| "the main thread is gone".to_owned())?;
        mesh.set_wakers(wakers.recv().map_err(|_| "another worker did not start".to_owned())?);
        let mut worker = Worker::new(WorkerParts {
            shard,
            mesh,
            disk: StoreDisk::new(self.files, disk, answers),
            logger: Logger::new(self.id),
            waker: waker.clone(),
            control,
            shared: self.shared,
            metrics: self.metrics,
            listeners,
            connections_max: limits.connections_max,
            drain_ms: limits.drain_ms,
        });
        // What was owed before the restart is told again without waiting for anybody.
        waker.wake();
        event_loop.run(&mut worker).map_err(text)?;
        Ok(worker.remains())
    }
}

pub(super) fn introduce(started: Vec<Started>) -> Result<Vec<Running>, ServeError> {
    let all: Vec<Waker> = started.iter().map(|worker| worker.waker.clone()).collect();
    for worker in &started {
        let gone = || ServeError::Worker("a worker ended before it began".to_owned());
        worker.wakers.send(all.clone()).map_err(|_| gone())?;
    }
    Ok(started
        .into_iter()
        .map(|worker| Running {
            thread: worker.thread,
            control: worker.control,
            waker: worker.waker,
        })
        .collect())
}

impl Running {
    pub(super) fn tell(&self, control: Control) {
        // A worker that ended needs no telling.
        if self.control.send(control).is_ok() {
            self.waker.wake();
        }
    }
}

/// The processors this process may use, if there are enough for a shard each.
pub(super) fn allowed_cpus(shards: usize) -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    let cpus: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    if cpus.len() < shards || shards < 2 { Vec::new() } else { cpus }
}

/// One shard says it for all.
fn say_how_commits_are_written(wanted: bool, may_come_first: bool, event_loop: &EventLoop) {
    if event_loop.writes_come_first() {
        tracing::info!("commits are written by threads of real-time priority");
    } else if wanted && !may_come_first {
        tracing::info!(
            "commits wait for the shards' work: there are more shards than processors, or they \
             could not be pinned"
        );
    } else if wanted {
        tracing::info!(
            "commits wait for the shards' work, for the system allows no real-time priority: give \
             the server CAP_SYS_NICE or RLIMIT_RTPRIO 1 (systemd: LimitRTPRIO=1) for shorter ticks \
             while a crowd returns, or set real_time_commits = false"
        );
    }
}

/// Keeps the calling thread on one processor. Says whether it could.
fn pin(cpu: usize) -> bool {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    let pinned = rustix::thread::sched_setaffinity(None, &set);
    if let Err(error) = pinned {
        tracing::warn!(cpu, %error, "could not pin a shard to its processor");
    }
    pinned.is_ok()
}
