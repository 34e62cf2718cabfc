//! One pinned thread: a shard behind the event loop's handler.

use super::disk::StoreDisk;
use super::log::Logger;
use super::mesh::Mesh;
use super::metrics::ShardMetrics;
use crate::ids::EdgeId;
use crate::shard::{Input, Outbox, Output, Report, Secrets, Shard};
use roost_detached_tls::ServerSettings;
use roost_event_loop::{
    Actions, BatchFlow, CloseCause, Event, Handler, Limit, ListenerId, SocketId, Waker,
};
use roost_protocol::time::{Duration, Instant, Now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

/// What the main thread tells a worker; it wakes it afterwards.
#[derive(Debug)]
pub enum Control {
    /// New ticket keys.
    Secrets(Secrets),
    /// Certificates for connections that come from now on.
    Certificates(ServerSettings),
    /// Stop, gently.
    Drain,
}

/// What all workers share.
#[derive(Debug, Default)]
pub struct Shared {
    /// A store failed: every worker ends at once.
    pub failed: AtomicBool,
    /// Workers that are not drained: each is home to actors that the others' devices ask, so all
    /// stay until the last one has no connections.
    pub working: AtomicUsize,
    /// Workers whose shards owe something, as far as they said: what they owe each other is settled
    /// before the first one ends.
    pub owing: AtomicUsize,
    /// A worker ended: what others still owe it is not settled any more.
    pub ending: AtomicBool,
}

/// What a worker leaves behind.
#[derive(Debug, Clone, Copy)]
pub struct Remains {
    /// The largest message id, for the catalogue at a clean stop.
    pub max_stamp: u64,
    /// Whether its shard owed nothing.
    pub told: bool,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Worker {
    shard: Shard,
    outbox: Outbox,
    mesh: Mesh,
    disk: StoreDisk,
    logger: Logger,
    waker: Waker,
    control: Receiver<Control>,
    shared: Arc<Shared>,
    metrics: Arc<ShardMetrics>,
    listeners: Vec<ListenerId>,
    connections_max: u32,
    drain_ms: u64,
    drain_ends: Option<Instant>,
    drained: bool,
    /// As the others know it.
    owing: bool,
    published: Instant,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerParts {
    /// Its shard.
    pub shard: Shard,
    /// Its ends of the queues.
    pub mesh: Mesh,
    /// What performs its store's wishes.
    pub disk: StoreDisk,
    /// Its lines in the log.
    pub logger: Logger,
    /// Wakes its own loop.
    pub waker: Waker,
    /// From the main thread.
    pub control: Receiver<Control>,
    /// With all workers.
    pub shared: Arc<Shared>,
    /// Where its counters are published.
    pub metrics: Arc<ShardMetrics>,
    /// Its listeners, in the order of `EdgeConfig::listeners`.
    pub listeners: Vec<ListenerId>,
    /// Connections of the whole server, for the log.
    pub connections_max: u32,
    /// How long draining may take.
    pub drain_ms: u32,
}

impl Worker {
    /// A worker that is about to run.
    #[must_use]
    pub fn new(parts: WorkerParts) -> Self {
        Self {
            shard: parts.shard,
            outbox: Outbox::new(),
            mesh: parts.mesh,
            disk: parts.disk,
            logger: parts.logger,
            waker: parts.waker,
            control: parts.control,
            shared: parts.shared,
            metrics: parts.metrics,
            listeners: parts.listeners,
            connections_max: parts.connections_max,
            drain_ms: parts.drain_ms.into(),
            drain_ends: None,
            drained: false,
            owing: true,
            published: Instant::default(),
        }
    }

    /// For the catalogue at a clean stop.
    #[must_use]
    pub fn remains(&self) -> Remains {
        Remains { max_stamp: self.shard.store().max_stamp(), told: self.shard.owes_nothing() }
    }

    /// Whether this worker ends: when nobody has connections and nobody owes anything, or when
    /// waiting for that has taken too long.
    fn ends(&mut self, now: Now) -> bool {
        let Some(drain_ends) = self.drain_ends else { return false };
        let owing = !self.shard.owes_nothing();
        if owing && !self.owing {
            self.shared.owing.fetch_add(1, Ordering::SeqCst);
        } else if !owing && self.owing {
            self.shared.owing.fetch_sub(1, Ordering::SeqCst);
        }
        self.owing = owing;
        let nobody = |count: &AtomicUsize| count.load(Ordering::SeqCst) == 0;
        let done = self.drained && nobody(&self.shared.working) && nobody(&self.shared.owing);
        let left = self.drained && self.shared.ending.load(Ordering::SeqCst);
        let ends = done || left || now.monotonic >= drain_ends;
        if ends {
            self.shared.ending.store(true, Ordering::SeqCst);
        }
        ends
    }

    fn feed(&mut self, now: Now, input: Input<'_>) {
        self.shard.handle(now, input, &mut self.outbox);
    }

    fn take_control(&mut self, now: Now, actions: &mut Actions) {
        while let Ok(control) = self.control.try_recv() {
            match control {
                Control::Secrets(secrets) => self.feed(now, Input::Secrets(secrets)),
                Control::Certificates(settings) => {
                    self.feed(now, Input::Certificates(settings));
                }
                Control::Drain if self.drain_ends.is_none() => {
                    for listener in &self.listeners {
                        actions.close_listener(*listener);
                    }
                    self.drain_ends = Some(now.monotonic + Duration::from_ms(self.drain_ms));
                    self.feed(now, Input::Drain);
                }
                Control::Drain => {}
            }
        }
    }

    /// Performs the outbox. Says whether the process must stop.
    fn perform(&mut self, now: Now, actions: &mut Actions) -> bool {
        let mut fatal = false;
        for output in self.outbox.drain() {
            match output {
                Output::Send { edge, buffer } => actions.send(socket(edge), buffer),
                Output::Close { edge } => actions.close(socket(edge)),
                Output::Abort { edge } => actions.abort(socket(edge)),
                Output::Pause { edge } => actions.pause(socket(edge)),
                Output::Resume { edge } => actions.resume(socket(edge)),
                Output::PauseAccepting { listener } => {
                    actions.pause_listener(self.listeners[usize::from(listener)]);
                }
                Output::ResumeAccepting { listener } => {
                    actions.resume_listener(self.listeners[usize::from(listener)]);
                }
                Output::Forward { to, parcel } => self.mesh.push(to, parcel),
                Output::Store(op) => self.disk.submit(op, actions),
                Output::Report(report) => fatal |= self.logger.write(now.monotonic, &report),
                Output::Drained if self.drained => {}
                Output::Drained => {
                    self.drained = true;
                    self.shared.working.fetch_sub(1, Ordering::SeqCst);
                }
            }
        }
        fatal
    }

    fn publish(&mut self, now: Now) {
        if now.monotonic.since(self.published).as_ms() >= 100 {
            self.published = now.monotonic;
            self.metrics.publish(&self.shard);
            self.outbox.give_back();
        }
    }
}

impl Handler for Worker {
    fn on_event(&mut self, now: Now, event: Event<'_>, _actions: &mut Actions) {
        match event {
            Event::Opened { socket, listener, peer } => {
                let place = self.listeners.iter().position(|id| *id == listener);
                let listener = place.and_then(|place| u16::try_from(place).ok());
                let listener = listener.expect("the loop has no other listeners");
                let peer = peer.map(|peer| peer.ip());
                self.feed(now, Input::Opened { edge: edge(socket), listener, peer });
            }
            Event::Received { socket, bytes } => {
                self.feed(now, Input::Received { edge: edge(socket), bytes });
            }
            Event::Sent { socket, buffer } => {
                self.feed(now, Input::Sent { edge: edge(socket), buffer });
            }
            Event::Closed { socket, cause } => {
                let unacknowledged = cause == CloseCause::TimedOut;
                self.feed(now, Input::Closed { edge: edge(socket), unacknowledged });
            }
            Event::FileDone { token, result, buffer } => {
                self.disk.file_done(token, result, buffer);
            }
            Event::Tick => self.feed(now, Input::Tick),
            Event::ListenerPaused { listener: _, reason: Limit::Sockets { .. } } => {
                let report = Report::ConnectionsFull { limit: self.connections_max.into() };
                self.logger.write(now.monotonic, &report);
            }
            Event::ListenerPaused { listener: _, reason } => {
                tracing::warn!(%reason, "accepting is paused");
            }
            Event::Woken | Event::Connected { .. } | Event::ConnectFailed { .. } => {}
        }
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        self.take_control(now, actions);
        let (shard, outbox) = (&mut self.shard, &mut self.outbox);
        self.mesh.freed(|by, slots| shard.handle(now, Input::Slots { by, slots }, outbox));
        let mut more = self
            .mesh
            .arrived(|from, parcel| shard.handle(now, Input::Arrived { from, parcel }, outbox));
        while let Some(done) = self.disk.next_done() {
            self.shard.handle(now, Input::Stored(done), &mut self.outbox);
        }
        self.shard.end_batch(now, &mut self.outbox);
        if self.perform(now, actions) {
            self.shared.failed.store(true, Ordering::SeqCst);
        }
        more |= self.mesh.end_turn();
        more |= self.shard.has_more();
        if more {
            self.waker.wake();
        }
        self.metrics.turns.note(actions.last_turn());
        self.publish(now);
        if self.ends(now) || self.shared.failed.load(Ordering::SeqCst) {
            return BatchFlow::Stop;
        }
        self.shard.wakes_by().map_or(BatchFlow::Continue, BatchFlow::WakeBy)
    }
}

const fn socket(edge: EdgeId) -> SocketId {
    SocketId { slot: edge.slot, generation: edge.generation }
}

const fn edge(socket: SocketId) -> EdgeId {
    EdgeId { slot: socket.slot, generation: socket.generation }
}
