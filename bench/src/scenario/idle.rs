//! Connections that only say that they are there, and, if wanted, a few messages among them.

use super::chatter::{Chatter, Talk};
use super::load;
use super::population::{Population, Ties};
use super::rooms::{DELIVERED, SENT};
use crate::agents;
use crate::measure::{Look, Meter, Metered, Observed};
use crate::swarm::{DeviceIndex, Flow, Frame, Scenario, Swarm};
use crate::wire::Incoming;
use roost_event_loop::CloseCause;
use roost_protocol::time::{Duration, Instant};

/// How long what is under way at the end may take: heartbeats, and messages.
const ECHOES: Duration = Duration::from_seconds(2);
const ARRIVALS: Duration = Duration::from_seconds(20);

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
    /// Messages a second between devices drawn at random, while holding.
    pub messages_per_second: u32,
    /// What this program took before it made anything for a device.
    pub rss_before_bytes: u64,
    /// Where the server can be seen.
    pub observed: Observed,
}

/// What the run found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Before the first connection.
    pub empty: Option<Look>,
    /// When the last device was welcomed.
    pub connected: Option<Look>,
    /// Heartbeats sent while holding.
    pub heartbeats: u64,
    /// Accepted messages that never arrived, messages without an answer, and what arrived twice.
    pub lost: u64,
    /// See `lost`.
    pub unanswered: u64,
    /// See `lost`.
    pub duplicated: u64,
    /// Messages that were written again because the server had no room.
    pub repeated: u64,
    /// Whether messages were wanted.
    pub has_messages: bool,
    /// The hold.
    pub metered: Metered,
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
    chatter: Chatter,
    phase: Phase,
    phase_ends: Instant,
    meter: Meter,
    findings: Findings,
}

impl Idle {
    /// Before the first connection.
    #[must_use]
    pub fn new(mut settings: Settings, meter: Meter) -> Self {
        let population = Population::new(settings.ties, std::mem::take(&mut settings.users));
        let talk = Talk {
            per_second: settings.messages_per_second,
            devices: 0..DeviceIndex::try_from(population.users().len()).unwrap_or(0),
            base: population.written_to_neighbour(),
            stages: [SENT, DELIVERED],
            always: false,
        };
        let mut idle = Self {
            chatter: Chatter::new(talk),
            population,
            settings,
            phase: Phase::Begin,
            phase_ends: Instant::default(),
            meter,
            findings: Findings::default(),
        };
        let empty = Look::at(idle.settings.observed, Instant::default());
        let generator_rss_bytes = idle.settings.rss_before_bytes;
        idle.findings.empty = Some(Look { generator_rss_bytes, ..empty });
        idle
    }

    /// When the last device was welcomed.
    #[must_use]
    pub fn connected(&self) -> Option<Instant> {
        self.findings.connected.map(|look| look.at)
    }

    /// What was found.
    #[must_use]
    pub fn into_findings(mut self, now: Instant) -> Findings {
        (self.findings.lost, self.findings.unanswered) = self.chatter.open();
        self.findings.duplicated = self.chatter.duplicated;
        self.findings.repeated = self.chatter.repeated();
        self.findings.has_messages = self.chatter.has_begun();
        if let Some(failure) = self.chatter.failure.take() {
            self.fail(failure);
        }
        self.findings.metered = self.meter.finish(now);
        self.findings
    }

    fn fail(&mut self, why: String) {
        self.findings.failure.get_or_insert(why);
    }

    fn enter(&mut self, phase: Phase, ends: Instant) {
        self.phase = phase;
        self.phase_ends = ends;
        if phase != Phase::Holding {
            let name = if phase == Phase::Settling { "settling" } else { "connecting" };
            self.meter.enter(name, None);
        }
    }
}

impl Scenario for Idle {
    fn frame(&mut self, swarm: &mut Swarm, index: DeviceIndex, frame: Frame<'_>, now: Instant) {
        if self.chatter.has_begun() {
            self.chatter.frame(swarm, index, &frame, now, &mut self.meter);
            return;
        }
        self.population.frame(swarm, index, &frame);
        if let Incoming::Error { code, .. } = frame.says {
            self.fail(format!("device {index}: error {code}"));
        }
    }

    fn closed(&mut self, _: &mut Swarm, index: DeviceIndex, cause: CloseCause) {
        self.fail(load::disconnected(index, cause));
    }

    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        let over = now >= self.phase_ends;
        let heartbeats = swarm.counts().heartbeats;
        self.meter.turn(now, swarm.ready().into());
        self.chatter.turn(swarm, self.population.users(), now, &mut self.meter);
        match self.phase {
            Phase::Begin => {
                swarm.start_heartbeats(now);
                self.enter(Phase::Connecting, now);
            }
            Phase::Connecting if swarm.settled() => {
                self.findings.connected = Some(Look::at(self.settings.observed, now));
                if let Some(why) = swarm.first_refusal() {
                    let refused = swarm.counts().refused;
                    self.fail(format!("{refused} devices could not connect: {why}"));
                }
                self.enter(Phase::Populating, now);
                if self.findings.failure.is_some() {
                    return Flow::Stop;
                }
            }
            Phase::Populating if self.population.step(swarm) && agents::is_open() => {
                self.enter(Phase::Settling, now + self.settings.settle);
            }
            Phase::Settling if over => {
                self.findings.heartbeats = heartbeats;
                self.meter.begin(now, self.settings.hold);
                self.chatter.begin(now);
                self.enter(Phase::Holding, now + self.settings.hold);
            }
            Phase::Holding if over => {
                self.findings.heartbeats = heartbeats - self.findings.heartbeats;
                self.meter.end(now);
                swarm.stop_heartbeats();
                self.chatter.stop();
                let rest = if self.chatter.has_begun() { ARRIVALS } else { ECHOES };
                self.enter(Phase::Draining, now + rest);
            }
            Phase::Draining
                if over
                    || swarm.counts().echoes == swarm.counts().heartbeats
                        && self.chatter.is_done() =>
            {
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
