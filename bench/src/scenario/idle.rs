//! Connections that only say that they are there.

use super::load;
use super::population::{Population, Ties};
use crate::process::{self, Usage};
use crate::swarm::{DeviceIndex, Flow, Frame, Scenario, Swarm};
use crate::wire::Incoming;
use roost_event_loop::CloseCause;
use roost_protocol::time::{Duration, Instant};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The user id of each device.
    pub users: Vec<String>,
    /// What users have.
    pub ties: Ties,
    /// From the last message to measuring, so that what connecting and writing caused is over.
    pub settle: Duration,
    /// How long to hold the connections and measure.
    pub hold: Duration,
    /// The server's process, if it can be seen.
    pub server_pid: Option<u32>,
}

/// What was seen at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// The server's process.
    pub server: Option<Usage>,
    /// The kernel's memory, for both ends of all connections and everything else.
    pub slab_bytes: u64,
    /// Processor time of the generator.
    pub generator_cpu_us: u64,
    /// Resident memory of the generator.
    pub generator_rss_bytes: u64,
    /// Heartbeats sent.
    pub heartbeats: u64,
    /// When.
    pub at: Instant,
}

/// What the run found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Before the first connection.
    pub empty: Look,
    /// When the last device was welcomed.
    pub connected: Look,
    /// Begin of holding.
    pub hold_begin: Look,
    /// End of holding.
    pub hold_end: Look,
    /// Why the run ended before it was done.
    pub failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Begin,
    Connecting,
    Populating,
    Settling,
    Holding,
    Draining,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Idle {
    settings: Settings,
    population: Population,
    phase: Phase,
    phase_ends: Instant,
    findings: Findings,
}

impl Idle {
    /// Before the first connection.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut idle = Self {
            population: Population::new(settings.ties, settings.users.clone()),
            settings,
            phase: Phase::Begin,
            phase_ends: Instant::default(),
            findings: Findings::default(),
        };
        idle.findings.empty = idle.look(0, Instant::default());
        idle
    }

    /// What was found.
    #[must_use]
    pub fn into_findings(self) -> Findings {
        self.findings
    }

    fn look(&self, heartbeats: u64, at: Instant) -> Look {
        let own = Usage::of(std::process::id()).unwrap_or_default();
        Look {
            server: self.settings.server_pid.and_then(Usage::of),
            slab_bytes: process::kernel_slab_bytes(),
            generator_cpu_us: process::own_thread_cpu_us(),
            generator_rss_bytes: own.rss_bytes,
            heartbeats,
            at,
        }
    }

    fn fail(&mut self, why: String) {
        self.findings.failure.get_or_insert(why);
    }

    fn enter(&mut self, phase: Phase, ends: Instant) {
        self.phase = phase;
        self.phase_ends = ends;
    }
}

impl Scenario for Idle {
    fn frame(&mut self, swarm: &mut Swarm, index: DeviceIndex, frame: Frame<'_>, _: Instant) {
        self.population.frame(swarm, index, &frame);
        if let Incoming::Error { code } = frame.says {
            self.fail(format!("device {index}: error {code}"));
        }
    }

    fn frames_end(&mut self, _: &mut Swarm, _: DeviceIndex, _: Instant) {}

    fn closed(&mut self, _: &mut Swarm, index: DeviceIndex, cause: CloseCause) {
        self.fail(load::disconnected(index, cause));
    }

    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        let over = now >= self.phase_ends;
        let heartbeats = swarm.counts().heartbeats;
        let look = |idle: &Self| idle.look(heartbeats, now);
        match self.phase {
            Phase::Begin => {
                swarm.start_heartbeats(now);
                self.enter(Phase::Connecting, now);
            }
            Phase::Connecting if swarm.settled() => {
                self.findings.connected = look(self);
                if let Some(why) = swarm.first_refusal() {
                    let refused = swarm.counts().refused;
                    self.fail(format!("{refused} devices could not connect: {why}"));
                }
                self.enter(Phase::Populating, now);
            }
            Phase::Populating if self.population.step(swarm) => {
                self.enter(Phase::Settling, now + self.settings.settle);
            }
            Phase::Settling if over => {
                self.findings.hold_begin = look(self);
                self.enter(Phase::Holding, now + self.settings.hold);
            }
            Phase::Holding if over => {
                self.findings.hold_end = look(self);
                swarm.stop_heartbeats();
                self.enter(Phase::Draining, now + Duration::from_seconds(2));
            }
            Phase::Draining if over || swarm.counts().echoes == swarm.counts().heartbeats => {
                return Flow::Stop;
            }
            Phase::Connecting
            | Phase::Populating
            | Phase::Settling
            | Phase::Holding
            | Phase::Draining => {}
        }
        Flow::Wait
    }
}
