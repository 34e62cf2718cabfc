//! Connections that only say that they are there, and, if wanted, a few messages among them.

use super::anew::{self, Anew, Restart, Step};
use super::load;
use super::population::{Population, Ties};
use super::rooms::{DELIVERED, SENT};
use super::talk::{self, Stages, Talk};
use crate::agents;
use crate::measure::{Look, Meter, Metered, Observed};
use crate::swarm::{DeviceIndex, Flow, Frame, Scenario, Swarm};
use crate::wire::Incoming;
use roost_event_loop::CloseCause;
use roost_protocol::time::{Duration, Instant};
use std::rc::Rc;

/// How long what is under way at the end may take: heartbeats, and messages.
const ECHOES: Duration = Duration::from_seconds(2);
const ARRIVALS: Duration = Duration::from_seconds(20);
/// Messages of a pair that may be under way.
const AT_ONCE: u32 = 64;

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
    /// Before the first connection; with a restart, before the first return.
    pub empty: Option<Look>,
    /// When the last device was welcomed, or was back and up to date.
    pub connected: Option<Look>,
    /// With a restart, resident memory of the first server before the first connection.
    pub first_rss_bytes: Option<u64>,
    /// Of the restart.
    pub anew: Option<anew::Findings>,
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
    Restarting,
    Settling,
    Holding,
    Draining,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Idle {
    settings: Settings,
    population: Population,
    talk: Talk,
    /// None: the server stays.
    anew: Option<Anew>,
    phase: Phase,
    phase_ends: Instant,
    meter: Meter,
    findings: Findings,
}

impl Idle {
    /// Before the first connection. With a restart what users have is made on another server than
    /// the one that is measured.
    #[must_use]
    pub fn new(mut settings: Settings, meter: Meter, restart: Option<Restart>) -> Self {
        let users: Rc<[String]> = std::mem::take(&mut settings.users).into();
        let population = Population::new(settings.ties, Rc::clone(&users));
        let (observed, written) = (settings.observed, population.written_to_neighbour());
        let settle = settings.settle;
        let of = |restart| Anew::new(Rc::clone(&users), written, restart, observed, settle);
        let anew = restart.map(of);
        let talk = talk::Settings {
            devices: 0..DeviceIndex::try_from(users.len()).unwrap_or(0),
            per_second: settings.messages_per_second,
            base: written + u32::from(anew.is_some()),
            at_once: AT_ONCE,
            flying_max: talk::FLYING_MAX,
            all_first: false,
            stages: Stages { sent: SENT, delivered: DELIVERED, ticked: None },
            always: false,
        };
        let mut idle = Self {
            talk: Talk::new(talk, Box::new(move |index| users[index as usize].clone())),
            population,
            anew,
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
    pub fn into_findings(self, now: Instant) -> Findings {
        let Self { talk, meter, anew, mut findings, .. } = self;
        findings.anew = anew.map(Anew::into_findings);
        findings.has_messages = talk.has_begun();
        let found = talk.into_findings();
        (findings.lost, findings.unanswered) = (found.lost, found.unanswered);
        (findings.duplicated, findings.repeated) = (found.duplicated, found.repeated);
        if !found.complaints.is_empty() {
            findings.failure.get_or_insert_with(|| found.complaints.join("; "));
        }
        findings.metered = meter.finish(now);
        findings
    }

    fn fail(&mut self, why: String) {
        self.findings.failure.get_or_insert(why);
    }

    fn enter(&mut self, phase: Phase, ends: Instant) {
        self.phase = phase;
        self.phase_ends = ends;
        if phase != Phase::Holding {
            let name = match phase {
                Phase::Restarting => "restarting",
                Phase::Settling => "settling",
                Phase::Begin
                | Phase::Connecting
                | Phase::Populating
                | Phase::Holding
                | Phase::Draining => "connecting",
            };
            self.meter.enter(name, None);
        }
    }

    /// The server is started anew, and everybody comes to it.
    fn restart(&mut self, swarm: &mut Swarm, now: Instant) {
        let Some(anew) = &mut self.anew else { return };
        match anew.step(swarm, now) {
            Step::Goes => {}
            Step::Restarted(observed) => {
                self.settings.observed = observed;
                self.meter.observe(observed);
                self.findings.connected = None;
            }
            Step::Calm => {
                let before = self.findings.empty.take().unwrap_or_default();
                self.findings.first_rss_bytes = before.server.map(|server| server.rss_bytes);
                let generator_rss_bytes = before.generator_rss_bytes;
                let empty = Look::at(self.settings.observed, now);
                self.findings.empty = Some(Look { generator_rss_bytes, ..empty });
            }
            Step::Back => self.findings.connected = Some(Look::at(self.settings.observed, now)),
            Step::Over => self.enter(Phase::Settling, now + self.settings.settle),
            Step::Failed(why) => self.fail(why),
        }
    }
}

impl Scenario for Idle {
    fn frame(&mut self, swarm: &mut Swarm, index: DeviceIndex, frame: Frame<'_>, now: Instant) {
        if self.talk.has_begun() {
            self.talk.told(swarm, index, &frame, now, &mut self.meter);
            return;
        }
        if let (Phase::Restarting, Some(anew)) = (self.phase, &mut self.anew) {
            anew.frame(swarm, index, &frame, now);
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
        self.talk.turn(swarm, now, &mut self.meter);
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
                let then = if self.anew.is_some() { Phase::Restarting } else { Phase::Settling };
                self.enter(then, now + self.settings.settle);
            }
            Phase::Restarting => {
                self.restart(swarm, now);
                if self.findings.failure.is_some() {
                    return Flow::Stop;
                }
            }
            Phase::Settling if over => {
                self.findings.heartbeats = heartbeats;
                self.meter.begin(now, self.settings.hold);
                self.talk.begin(now);
                self.enter(Phase::Holding, now + self.settings.hold);
            }
            Phase::Holding if over => {
                self.findings.heartbeats = heartbeats - self.findings.heartbeats;
                self.meter.end(now);
                swarm.stop_heartbeats();
                self.talk.stop();
                let rest = if self.talk.has_begun() { ARRIVALS } else { ECHOES };
                self.enter(Phase::Draining, now + rest);
            }
            Phase::Draining
                if over
                    || swarm.counts().echoes == swarm.counts().heartbeats
                        && self.talk.is_still() =>
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
