//! One host, some devices, a network between them and one clock: everything that happens is an
//! event in one queue, everything drawn comes from the seed.

use crate::device::Device;
use crate::extension::Extension;
use crate::faults::Faults;
use crate::history::History;
use crate::host::Host;
use crate::network::Network;
use crate::people::People;
use crate::plan::Plan;
use crate::prng::Prng;
use crate::probe::Probe;
use crate::questions::Put;
use crate::shadow::Shadow;
use crate::trace::{Broken, Trace};
use crate::workload::Workload;
use roost_protocol::time::{Instant, Now, Timestamp};
use std::collections::BTreeMap;

/// 2026-12-01, when every simulation begins.
const WALL_START_MS: u64 = 1_796_083_200_000;
/// A virtual millisecond in nanoseconds.
pub(crate) const MS: u64 = 1_000_000;
/// Events of one simulation: past it something goes round in circles.
const EVENTS_MAX: u64 = 20_000_000;

/// Something that will happen. What belongs to a process, an app or a connection names it, and is
/// void when that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// 100 ms are over for the shards of this process.
    Tick { process: u32 },
    /// A shard takes its inputs.
    Turn { process: u32, shard: u8 },
    /// A shard pops parcels of a queue.
    Pop { process: u32, from: u8, to: u8 },
    /// The disk completes something.
    Disk { process: u32 },
    /// A connection attempt arrives.
    Connecting { connection: u64 },
    /// A driver's send is over.
    SendDone { connection: u64 },
    /// Bytes arrive at the server.
    Up { connection: u64 },
    /// Bytes arrive at the device.
    Down { connection: u64 },
    /// The server learns that a connection is gone.
    ServerClosed { connection: u64 },
    /// The device learns it.
    ClientClosed { connection: u64 },
    /// A session's deadline.
    Wake { device: usize, life: u32 },
    /// A device's storage confirms.
    Persisted { device: usize, life: u32 },
    /// The app's backend gives a token.
    Token { device: usize, life: u32 },
    /// A person opens an app that had given up.
    Reopen { device: usize, life: u32 },
    /// A phone ends a notification extension.
    ExtensionEnds { extension: usize },
    /// An app is started.
    AppStart { device: usize },
    /// A person does something.
    Act,
    /// Something breaks.
    Fault,
    /// The power goes, or the process dies, whatever runs.
    Crash { power: bool },
    /// The server was told to stop so long ago that it is killed.
    StopLate { process: u32 },
    /// The server is started.
    Restart,
    /// What was broken for a while is whole again.
    Mend,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Simulation {
    pub(crate) plan: Plan,
    pub(crate) now_ns: u64,
    pub(crate) trace: Trace,
    pub(crate) host: Host,
    pub(crate) network: Network,
    pub(crate) people: People,
    pub(crate) devices: Vec<Device>,
    /// The devices of each user.
    by_user: Vec<Vec<usize>>,
    /// What devices asked, by tag.
    pub(crate) questions: Vec<Put>,
    pub(crate) probes: Vec<Probe>,
    /// Notification extensions that ran, and run.
    pub(crate) extensions: Vec<Extension>,
    pub(crate) workload: Workload,
    pub(crate) faults: Faults,
    pub(crate) shadow: Shadow,
    pub(crate) history: History,
    pub(crate) schedule: Prng,
    /// Probes made so far.
    pub(crate) probed: u64,
    queue: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    happened: u64,
}

impl Simulation {
    /// A world as planned; the server is not started. Words are kept only when `told`.
    #[must_use]
    pub fn new(plan: Plan, told: bool) -> Self {
        let seed = plan.seed;
        Self {
            now_ns: MS,
            trace: Trace::new(told),
            host: Host::new(&plan),
            network: Network::new(seed),
            people: People::default(),
            devices: Vec::new(),
            by_user: Vec::new(),
            questions: Vec::new(),
            probes: Vec::new(),
            extensions: Vec::new(),
            workload: Workload::new(seed),
            faults: Faults::new(seed),
            shadow: Shadow::default(),
            history: History::default(),
            schedule: Prng::new(seed, 2),
            probed: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            happened: 0,
            plan,
        }
    }

    /// What happened, as a number and in words.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// How often the server was started.
    #[must_use]
    pub const fn starts(&self) -> u32 {
        self.host.process
    }

    /// A device of a user, who is new if the name is.
    pub(crate) fn add_device(&mut self, name: &str, user_name: &str) -> usize {
        let (user, index) = (self.people.add(user_name), self.devices.len());
        let user_id = self.people.id(user).clone();
        self.by_user.resize(self.people.len(), Vec::new());
        self.by_user[user].push(index);
        self.devices.push(Device::new(name, user, user_id, index, self.plan.seed));
        let _token = self.renew_token(index);
        index
    }

    /// The devices of a user.
    pub(crate) fn devices_of(&self, user: usize) -> impl Iterator<Item = usize> {
        self.by_user.get(user).into_iter().flatten().copied()
    }

    /// Both clocks.
    pub(crate) const fn now(&self) -> Now {
        Now {
            monotonic: Instant { ns: self.now_ns },
            wall: Timestamp { ms: WALL_START_MS + self.now_ns / MS + self.host.clock_ahead_ms },
        }
    }

    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        self.trace.tell(self.now_ns, line);
    }

    /// Lets something happen after a delay.
    pub(crate) fn after(&mut self, delay_ns: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((self.now_ns + delay_ns, self.scheduled), event);
    }

    /// Lets the next thing happen, unless it lies behind `until_ns`: then it is that time.
    ///
    /// # Errors
    /// A promise was broken.
    pub(crate) fn step(&mut self, until_ns: u64) -> Result<bool, Broken> {
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        if next.is_none_or(|at| at > until_ns) {
            self.now_ns = self.now_ns.max(until_ns);
            return Ok(false);
        }
        let Some(((at, number), event)) = self.queue.pop_first() else { return Ok(false) };
        self.now_ns = self.now_ns.max(at);
        self.happened += 1;
        if self.happened > EVENTS_MAX {
            return Err(Broken::new("the world does not come to rest"));
        }
        self.trace.number(at);
        self.trace.number(number);
        self.happen(event)?;
        Ok(true)
    }

    /// Lets everything happen until a time.
    ///
    /// # Errors
    /// A promise was broken.
    pub(crate) fn run_until(&mut self, until_ns: u64) -> Result<(), Broken> {
        while self.step(until_ns)? {}
        Ok(())
    }

    /// Lets everything happen for some milliseconds.
    ///
    /// # Errors
    /// A promise was broken.
    pub(crate) fn run_for_ms(&mut self, ms: u64) -> Result<(), Broken> {
        self.run_until(self.now_ns + ms * MS)
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Tick { process } => self.tick(process),
            Event::Turn { process, shard } => self.turn(process, shard),
            Event::Pop { process, from, to } => self.pop(process, from, to),
            Event::Disk { process } => self.disk(process),
            Event::Connecting { connection } => self.connecting(connection),
            Event::SendDone { connection } => self.send_done(connection),
            Event::Up { connection } => self.up(connection),
            Event::Down { connection } => self.down(connection),
            Event::ServerClosed { connection } => self.server_closed(connection),
            Event::ClientClosed { connection } => self.client_closed(connection),
            Event::Wake { device, life } => self.wake(device, life),
            Event::Persisted { device, life } => self.persisted(device, life),
            Event::Token { device, life } => self.token(device, life),
            Event::Reopen { device, life } => self.reopen(device, life),
            Event::ExtensionEnds { extension } => {
                self.extension_ends(extension);
                Ok(())
            }
            Event::AppStart { device } => self.app_start(device),
            Event::Act => self.act(),
            Event::Fault => self.fault(),
            Event::Crash { power } => {
                if !self.faults.over {
                    self.fail_over(power);
                }
                Ok(())
            }
            Event::StopLate { process } => {
                self.stop_late(process);
                Ok(())
            }
            Event::Restart => self.restart(None),
            Event::Mend => {
                self.mend();
                Ok(())
            }
        }
    }
}
