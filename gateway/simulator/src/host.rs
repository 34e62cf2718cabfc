//! A machine: shards over one simulated disk, and the driver that performs what they want. It
//! decides nothing but when things happen.

use crate::checkers::contract::Contract;
use crate::plan::Plan;
use crate::prng::Prng;
use crate::simulation::{Event, MS, Simulation};
use crate::stopping::Stopping;
use crate::token;
use crate::trace::Broken;
use roost_gateway::ids::{EdgeId, ShardId};
use roost_gateway::shard::auth::ticket::{TicketKey, TicketKeys};
use roost_gateway::shard::auth::token::{TokenKeys, TokenRules};
use roost_gateway::shard::{
    EdgeConfig, Input, ListenerRules, Outbox, Output, Parcel, Report, Secrets, Shard, ShardConfig,
};
use roost_storage_engine::{
    DiskError, Kill, OpenError, OpenSettings, SimDisk, StoreDone, StoreOp, open,
};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Where a crash tears, what is being written gets so many sectors far, at most.
const TORN_STEPS: u32 = 12;

/// A planted bug, outside the product: the simulator must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// None.
    Nothing,
    /// Commits are answered as durable although nothing was flushed.
    NoFlush,
    /// One in so many parcels between shards is lost on the way.
    LostParcels(u64),
}

/// An input that waits for its turn.
#[derive(Debug)]
pub(crate) enum Waiting {
    Tick,
    Opened(EdgeId),
    Received(EdgeId, Vec<u8>),
    Sent(EdgeId, Vec<u8>),
    Closed(EdgeId),
    Arrived(ShardId, Parcel),
    Slots(ShardId, u32),
    Stored(StoreDone),
    Drain,
}

/// A shard and what waits for it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) shard: Shard,
    inbox: VecDeque<Waiting>,
    turn_due: bool,
    outbox: Outbox,
    pub(crate) contract: Contract,
    /// It has no connections any more and will get none.
    pub(crate) drained: bool,
    free_slots: Vec<u32>,
    slots: u32,
    generation: u32,
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) disk: SimDisk,
    pub(crate) seats: Vec<Seat>,
    /// Which start of the server it is; 0 before the first.
    pub(crate) process: u32,
    pub(crate) clock_ahead_ms: u64,
    pub(crate) sabotage: Sabotage,
    /// No commit is completed meanwhile.
    pub(crate) commits_wait: bool,
    /// But for so many.
    pub(crate) commits_left: u32,
    /// The next crash comes early in what is being written.
    pub(crate) torn: bool,
    /// It was told to stop.
    pub(crate) stopping: Option<Stopping>,
    /// It stopped cleanly and owed nothing: the next start has nothing to tell again.
    pub(crate) told: bool,
    /// Nothing that these shards hand on is popped meanwhile.
    pub(crate) queues_wait: BTreeSet<u8>,
    /// By (from, to).
    queues: Vec<VecDeque<Parcel>>,
    keys: Arc<TokenKeys>,
    prng: Prng,
    shards_next: u8,
}

impl Host {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            disk: SimDisk::new(),
            seats: Vec::new(),
            process: 0,
            clock_ahead_ms: 0,
            sabotage: Sabotage::Nothing,
            commits_wait: false,
            commits_left: 0,
            torn: false,
            stopping: None,
            told: false,
            queues_wait: BTreeSet::new(),
            queues: Vec::new(),
            keys: Arc::new(token::keys()),
            prng: Prng::new(plan.seed, 3),
            shards_next: plan.shards,
        }
    }

    pub(crate) const fn is_up(&self) -> bool {
        !self.seats.is_empty()
    }

    /// Whether there is such a shard.
    pub(crate) fn has(&self, shard: u8) -> bool {
        usize::from(shard) < self.seats.len()
    }

    fn seat(&mut self, shard: u8) -> &mut Seat {
        &mut self.seats[usize::from(shard)]
    }

    /// A free slot of a shard for a new connection.
    pub(crate) fn take_slot(&mut self, shard: u8) -> EdgeId {
        let seat = self.seat(shard);
        let slot = seat.free_slots.pop().unwrap_or_else(|| {
            seat.slots += 1;
            seat.slots - 1
        });
        seat.generation += 1;
        EdgeId { slot, generation: seat.generation }
    }

    /// The connection is gone: its slot may be used again behind the `Closed`.
    pub(crate) fn free_slot(&mut self, shard: u8, edge: EdgeId) {
        self.seat(shard).free_slots.push(edge.slot);
    }

    fn queue(&mut self, from: u8, to: u8) -> &mut VecDeque<Parcel> {
        let shards = self.seats.len();
        &mut self.queues[usize::from(from) * shards + usize::from(to)]
    }
}

impl Simulation {
    // ---- starting and ending ----

    /// Plants a bug outside the product.
    pub fn sabotage(&mut self, sabotage: Sabotage) {
        self.host.sabotage = sabotage;
    }

    /// Starts the server, with so many shards or as many as drawn.
    pub(crate) fn restart(&mut self, shards: Option<u8>) -> Result<(), Broken> {
        if self.host.is_up() {
            return Ok(());
        }
        let shards = shards.unwrap_or(self.host.shards_next);
        let told = std::mem::take(&mut self.host.told);
        let settings = OpenSettings {
            shards,
            settings: self.plan.store,
            fresh_incarnation: self.host.prng.number(),
        };
        let opened = match open(&mut self.host.disk, &settings) {
            Ok(opened) => opened,
            Err(OpenError::Folder {
                error: error @ (DiskError::Stopped | DiskError::Full | DiskError::Io { .. }),
                ..
            }) => {
                self.tell(|| format!("the server does not get to its feet: {error}"));
                let power = self.faults.next_is_power();
                self.crash_disk(power);
                self.after(MS, Event::Restart);
                return Ok(());
            }
            Err(error) => return Err(Broken::new(format!("the store does not open: {error}"))),
        };
        self.host.disk.stop_after(None);
        self.host.disk.attach(opened.keeper, shards);
        self.host.commits_wait = false;
        self.host.queues_wait.clear();
        self.host.process += 1;
        let (process, run) = (self.host.process, opened.run);
        self.tell(|| format!("the server starts with {shards} shards, run {run}"));
        for (segment, length) in &opened.report.cuts {
            self.tell(|| format!("the log was cut at {length} in {segment}"));
        }
        let (incarnation, count) = (opened.incarnation, usize::from(shards));
        self.host.queues = (0..count * count).map(|_| VecDeque::new()).collect();
        if told && opened.stores.iter().any(|store| !store.replay_streams().is_empty()) {
            return Err(Broken::new("something is told again after a clean stop"));
        }
        for (id, store) in (0..shards).zip(opened.stores) {
            let config = self.shard_config(id, shards, incarnation);
            let mut shard = Shard::open(config, store);
            let now = self.now();
            let mut outbox = Outbox::new();
            shard.handle(now, Input::Secrets(secrets(process, id)), &mut outbox);
            self.host.seats.push(Seat {
                shard,
                inbox: VecDeque::new(),
                turn_due: false,
                outbox,
                contract: Contract::new(),
                drained: false,
                free_slots: Vec::new(),
                slots: 0,
                generation: 0,
            });
        }
        for shard in 0..shards {
            self.turn_soon(shard);
        }
        self.after(self.plan.tick_ms * MS, Event::Tick { process });
        self.after_restart();
        Ok(())
    }

    fn shard_config(&mut self, id: u8, shards: u8, incarnation: u64) -> ShardConfig {
        ShardConfig {
            id: ShardId(id),
            shards,
            node: 0,
            limits: self.plan.limits.clone(),
            edges: EdgeConfig {
                tenant: String::new(),
                token_keys: Arc::clone(&self.host.keys),
                token_rules: TokenRules::default(),
                listeners: [ListenerRules::PLAIN].into(),
                tls: None,
                incarnation,
                server_run: u64::from(self.host.process),
            },
            seed: self.host.prng.number(),
        }
    }

    /// The process is gone, with everything in memory and on the way.
    pub(crate) fn crash(&mut self, power: bool) {
        let what = if power { "the power goes" } else { "the process is killed" };
        self.tell(|| what.to_owned());
        self.host.stopping = None;
        self.host.seats.clear();
        self.host.queues.clear();
        self.crash_disk(power);
        self.network_crash();
    }

    pub(crate) fn crash_disk(&mut self, power: bool) {
        let kill = if power { Kill::PowerCut } else { Kill::Process };
        let torn = std::mem::take(&mut self.host.torn) || self.plan.torn;
        let prng = &mut self.host.prng;
        // Of two outcomes each is as likely; more are the steps that still happen.
        let mut chance = |below: u32| {
            let below = if torn && below > 2 { below.min(TORN_STEPS) } else { below };
            prng.below_u32(below)
        };
        self.host.disk.crash(kill, &mut chance);
        let most = u64::from(self.plan.shards_max);
        if self.host.prng.percent(40) {
            self.host.shards_next = u8::try_from(self.host.prng.range(1, most)).unwrap_or(1);
        }
        if self.plan.seed != 0 {
            self.host.clock_ahead_ms = self.host.prng.below(3_000);
        }
    }

    // ---- turns ----

    /// Gives a shard an input; it is taken in one of the next turns.
    pub(crate) fn give(&mut self, shard: u8, input: Waiting) {
        self.host.seat(shard).inbox.push_back(input);
        self.turn_soon(shard);
    }

    fn turn_soon(&mut self, shard: u8) {
        let process = self.host.process;
        let seat = self.host.seat(shard);
        if !seat.turn_due {
            seat.turn_due = true;
            let delay = self.plan.turn.draw(&mut self.schedule);
            self.after(delay, Event::Turn { process, shard });
        }
    }

    pub(crate) fn tick(&mut self, process: u32) -> Result<(), Broken> {
        if process != self.host.process || !self.host.is_up() {
            return Ok(());
        }
        let shards = u8::try_from(self.host.seats.len()).unwrap_or(u8::MAX);
        for shard in 0..shards {
            self.give(shard, Waiting::Tick);
        }
        self.after(self.plan.tick_ms * MS, Event::Tick { process });
        Ok(())
    }

    pub(crate) fn turn(&mut self, process: u32, shard: u8) -> Result<(), Broken> {
        if process != self.host.process || !self.host.is_up() {
            return Ok(());
        }
        let now = self.now();
        let prng = &mut self.schedule;
        let seat = &mut self.host.seats[usize::from(shard)];
        seat.turn_due = false;
        let waiting = seat.inbox.len();
        let taken = if prng.percent(30) { prng.place(waiting + 1) } else { waiting };
        for input in seat.inbox.drain(..taken) {
            seat.contract.input(&input);
            feed(&mut seat.shard, now, input, &mut seat.outbox);
        }
        let begun = seat.outbox.len();
        seat.shard.end_batch(now, &mut seat.outbox);
        let outputs: Vec<Output> = seat.outbox.drain().collect();
        seat.contract.batch(&outputs, begun)?;
        let (more, left) = (seat.shard.has_more(), !seat.inbox.is_empty());
        for output in outputs {
            self.perform(shard, output)?;
            if !self.host.is_up() {
                return Ok(());
            }
        }
        if left {
            self.turn_soon(shard);
        } else if more && !self.host.seat(shard).turn_due {
            let seat = self.host.seat(shard);
            seat.turn_due = true;
            seat.inbox.push_back(Waiting::Tick);
            let delay = self.schedule.range(1, 5) * MS;
            self.after(delay, Event::Turn { process, shard });
        }
        self.look_at_stop()
    }

    fn perform(&mut self, shard: u8, output: Output) -> Result<(), Broken> {
        match output {
            Output::Send { edge, buffer } => self.server_send(shard, edge, buffer),
            Output::Close { edge } => self.server_close(shard, edge, false),
            Output::Abort { edge } => self.server_close(shard, edge, true),
            Output::Pause { edge } => self.server_pause(shard, edge, true),
            Output::Resume { edge } => self.server_pause(shard, edge, false),
            Output::PauseAccepting { .. } | Output::ResumeAccepting { .. } => {
                return Err(Broken::new("a rate of connections holds that nobody set"));
            }
            Output::Forward { to, parcel } => return self.forward(shard, to.0, parcel),
            Output::Store(op) => self.submit(shard, op),
            Output::Report(report) => self.report(shard, &report)?,
            Output::Drained => self.host.seat(shard).drained = true,
        }
        Ok(())
    }

    fn report(&mut self, shard: u8, report: &Report) -> Result<(), Broken> {
        self.tell(|| format!("shard {shard} reports {report:?}"));
        match report {
            Report::StoreFailed { .. } => {
                self.crash(false);
                let delay = self.schedule.range(1, 500) * MS;
                self.after(delay, Event::Restart);
            }
            Report::Corrupt(_) | Report::Unreadable { .. } | Report::UserIdCollision => {
                return Err(Broken::new(format!("shard {shard} reports {report:?}")));
            }
            Report::StorageFull
            | Report::StorageRoom
            | Report::NotTidied { .. }
            | Report::Retold { .. }
            | Report::HalfFramePoolFull { .. }
            | Report::SendQueuesFull { .. }
            | Report::ConnectionsFull { .. }
            | Report::ClockBehind { .. }
            | Report::HelloRefused { .. }
            | Report::Refused { .. } => {}
        }
        Ok(())
    }

    // ---- queues between shards ----

    fn queue_delay(&mut self, from: u8, to: u8) -> u64 {
        let slow = self.plan.slow_queue == Some(from) && from != to;
        let delay = if slow { self.plan.slow } else { self.plan.queue };
        delay.draw(&mut self.schedule)
    }

    fn forward(&mut self, from: u8, to: u8, parcel: Parcel) -> Result<(), Broken> {
        let most = usize::try_from(self.plan.limits.queue_slots).unwrap_or(usize::MAX);
        if let Sabotage::LostParcels(every) = self.host.sabotage
            && self.host.prng.below(every) == 0
        {
            self.give(from, Waiting::Slots(ShardId(to), 1));
            return Ok(());
        }
        let queue = self.host.queue(from, to);
        queue.push_back(parcel);
        let length = queue.len();
        if length > most {
            return Err(Broken::new(format!("the queue from {from} to {to} overflows: {length}")));
        }
        if length == 1 {
            let process = self.host.process;
            let delay = self.queue_delay(from, to);
            self.after(delay, Event::Pop { process, from, to });
        }
        Ok(())
    }

    pub(crate) fn pop(&mut self, process: u32, from: u8, to: u8) -> Result<(), Broken> {
        if process != self.host.process || !self.host.is_up() {
            return Ok(());
        }
        if self.host.queues_wait.contains(&from) {
            self.after(MS, Event::Pop { process, from, to });
            return Ok(());
        }
        let waiting = self.host.queue(from, to).len();
        let taken = self.schedule.place(waiting) + 1;
        for _ in 0..taken {
            let Some(parcel) = self.host.queue(from, to).pop_front() else { break };
            self.give(to, Waiting::Arrived(ShardId(from), parcel));
        }
        let slots = u32::try_from(taken.min(waiting)).unwrap_or(0);
        self.give(from, Waiting::Slots(ShardId(to), slots));
        if !self.host.queue(from, to).is_empty() {
            let delay = self.queue_delay(from, to);
            self.after(delay, Event::Pop { process, from, to });
        }
        Ok(())
    }

    // ---- the disk ----

    fn submit(&mut self, shard: u8, op: StoreOp) {
        let commit = matches!(op, StoreOp::Commit { .. });
        let op = match (op, self.host.sabotage) {
            (StoreOp::Commit { id, parts, sync: true }, Sabotage::NoFlush) => {
                StoreOp::Commit { id, parts, sync: false }
            }
            (op, _) => op,
        };
        self.host.disk.submit(shard, op);
        let delay = if commit { self.plan.commit } else { self.plan.disk };
        let delay = delay.draw(&mut self.schedule);
        let process = self.host.process;
        self.after(delay, Event::Disk { process });
    }

    pub(crate) fn disk(&mut self, process: u32) -> Result<(), Broken> {
        let pending = self.host.disk.pending().len();
        if process != self.host.process || !self.host.is_up() || pending == 0 {
            return Ok(());
        }
        let held = self.host.commits_wait && self.host.commits_left == 0;
        let waits = |op: &StoreOp| held && matches!(op, StoreOp::Commit { .. });
        let ready = self.host.disk.pending().iter().enumerate();
        let ready: Vec<usize> =
            ready.filter(|(_, (_, op))| !waits(op)).map(|(index, _)| index).collect();
        if ready.len() < pending {
            self.after(MS, Event::Disk { process });
        }
        if ready.is_empty() {
            return Ok(());
        }
        let index = self.schedule.pick(&ready);
        if matches!(self.host.disk.pending()[index].1, StoreOp::Commit { .. }) {
            self.host.commits_left = self.host.commits_left.saturating_sub(1);
        }
        let prng = &mut self.host.prng;
        let (shard, done) = self.host.disk.complete(index, &mut |below| prng.below_u32(below));
        // Other shards hear of new tables.
        for _new in pending..=self.host.disk.pending().len() {
            let delay = self.plan.disk.draw(&mut self.schedule);
            self.after(delay, Event::Disk { process });
        }
        self.give(shard, Waiting::Stored(done));
        Ok(())
    }
}

fn feed(shard: &mut Shard, now: roost_protocol::time::Now, input: Waiting, outbox: &mut Outbox) {
    match input {
        Waiting::Tick => shard.handle(now, Input::Tick, outbox),
        Waiting::Opened(edge) => {
            shard.handle(now, Input::Opened { edge, listener: 0, peer: None }, outbox)
        }
        Waiting::Received(edge, mut bytes) => {
            shard.handle(now, Input::Received { edge, bytes: &mut bytes }, outbox);
        }
        Waiting::Sent(edge, buffer) => shard.handle(now, Input::Sent { edge, buffer }, outbox),
        Waiting::Closed(edge) => {
            shard.handle(now, Input::Closed { edge, unacknowledged: false }, outbox);
        }
        Waiting::Arrived(from, parcel) => {
            shard.handle(now, Input::Arrived { from, parcel }, outbox);
        }
        Waiting::Slots(by, slots) => shard.handle(now, Input::Slots { by, slots }, outbox),
        Waiting::Drain => shard.handle(now, Input::Drain, outbox),
        Waiting::Stored(done) => shard.handle(now, Input::Stored(done), outbox),
    }
}

fn secrets(process: u32, shard: u8) -> Secrets {
    let mut nonce_prefix = [0; 8];
    nonce_prefix[..4].copy_from_slice(&process.to_le_bytes());
    nonce_prefix[4] = shard;
    let current = TicketKey { id: 1, key: [7; 32] };
    Secrets { ticket_keys: TicketKeys::new(current, Vec::new()), nonce_prefix }
}
