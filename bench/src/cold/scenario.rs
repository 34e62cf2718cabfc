//! The generator's part: connects, says what the script says, and counts what comes back.

use super::script::{Act, Order, Step, What, Who};
use crate::measure::progress::Progress;
use crate::measure::{Look, Meter, Observed};
use crate::scenario::load::{Pace, disconnected};
use crate::scenario::rooms::{self, DELIVERED, SENT};
use crate::scenario::talk::{self, Stages, Talk};
use crate::server::Server;
use crate::swarm::{DeviceIndex, Flow, Frame, Scenario, Swarm, cut};
use crate::target::scramble;
use crate::wire::Incoming;
use roost_event_loop::CloseCause;
use roost_protocol::frame::HEARTBEAT;
use roost_protocol::time::{Duration, Instant};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

/// What the bare echo is sent in place of a message: about as long as one.
const ECHO: [u8; 160] = [b'x'; 160];
/// Under way when something is said for the first time by everybody.
const FIRST_AT_ONCE: u64 = 64;
/// No more is under way with a pace: a server that cannot follow is not buried.
const UNDER_WAY_MAX: u64 = 10_000;
/// Messages of a pair that may be under way.
const PAIR_AT_ONCE: u32 = 64;
/// Devices that are drawn before what is due waits.
const TRIES: u32 = 16;
/// How long what is under way may take at the end.
const PATIENCE: Duration = Duration::from_seconds(20);
/// With so many messages a second one is due whenever there is room for one.
const ALWAYS_DUE: u32 = 1_000_000;

/// A server that is spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    pub(super) address: SocketAddr,
    pub(super) pid: Option<u32>,
}

impl Side {
    pub(super) const fn of(server: &Server) -> Self {
        Self { address: server.address, pid: server.pid }
    }
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Settings {
    /// In the order of [`Who::BOTH`].
    pub(super) sides: [Side; 2],
    pub(super) pace: Pace,
    pub(super) script: Vec<Act>,
    /// The user of each device; the bare echo's have none but take a place.
    pub(super) users: Vec<String>,
}

/// One measured step.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) name: &'static str,
    pub(super) who: Who,
    /// What came back.
    pub(super) count: u64,
    pub(super) looks: [Look; 2],
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) measured: Vec<Measured>,
    pub(super) failures: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The next act begins.
    Next,
    Connecting,
    Warming,
    Measuring,
    Draining,
}

/// What was said and came back since a step began.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    said: u64,
    came: u64,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Cold {
    settings: Settings,
    acts: std::vec::IntoIter<Act>,
    step: Option<Step>,
    phase: Phase,
    phase_ends: Instant,
    step_began: Instant,
    traffic: Traffic,
    /// Where the next of each server's devices is, in turn.
    cursors: [DeviceIndex; 2],
    drawn: u64,
    /// Bytes that have yet to come back from the bare echo. Such a device says nothing meanwhile:
    /// the bare echo has one send at a time for each.
    open: BTreeMap<DeviceIndex, usize>,
    /// Those who write messages.
    talks: Vec<Talk>,
    meter: Meter,
    begun: Option<(Look, u64)>,
    found: Findings,
}

impl Cold {
    /// Before the first connection.
    pub(super) fn new(mut settings: Settings) -> Self {
        let users: Rc<[String]> = std::mem::take(&mut settings.users).into();
        let acts = std::mem::take(&mut settings.script);
        let pace = settings.pace;
        let talks = groups(&acts).into_iter().map(|devices| talk(devices, pace, &users)).collect();
        let progress = Progress::new(false);
        Self {
            settings,
            acts: acts.into_iter(),
            step: None,
            phase: Phase::Next,
            phase_ends: Instant::default(),
            step_began: Instant::default(),
            traffic: Traffic::default(),
            cursors: [0; 2],
            drawn: 0,
            open: BTreeMap::new(),
            talks,
            meter: Meter::new(Observed::default(), &rooms::STAGES, DELIVERED, true, progress),
            begun: None,
            found: Findings::default(),
        }
    }

    /// What was found.
    pub(super) fn into_findings(self) -> Findings {
        let Self { talks, mut found, acts, .. } = self;
        for of in talks.into_iter().map(Talk::into_findings) {
            found.failures.extend(of.complaints);
            let missing = of.lost + of.unanswered + of.duplicated;
            if missing > 0 {
                found.failures.push(format!("{missing} messages were lost, doubled or unanswered"));
            }
        }
        if acts.len() > 0 && found.failures.is_empty() {
            found.failures.push("ended by a signal: this is what there was".to_owned());
        }
        found
    }

    fn fail(&mut self, why: String) {
        if self.found.failures.is_empty() {
            self.found.failures.push(why);
        }
    }

    const fn side(&self, who: Who) -> Side {
        self.settings.sides[who.place()]
    }

    fn look(&self, who: Who, now: Instant) -> Look {
        Look::at(Observed { pid: self.side(who).pid, ..Observed::default() }, now)
    }

    /// The talk of a step's devices.
    fn talk(&self, step: &Step) -> Option<&Talk> {
        self.talks.iter().find(|talk| talk.has(step.among.start))
    }

    fn talk_mut(&mut self, step: &Step) -> Option<&mut Talk> {
        self.talks.iter_mut().find(|talk| talk.has(step.among.start))
    }

    fn begin(&mut self, act: Act, swarm: &mut Swarm, now: Instant) {
        match act {
            Act::Connect(who, devices) => {
                let rate = swarm.connect_rate();
                swarm.redirect(self.side(who).address, rate);
                devices.for_each(|device| swarm.come_back(device, None));
                self.phase = Phase::Connecting;
            }
            Act::Say(step) => {
                self.traffic = Traffic::default();
                self.step_began = now;
                (self.phase, self.phase_ends) = (Phase::Warming, now + step.warmup);
                self.cursors[step.who.place()] =
                    self.cursors[step.who.place()].clamp(step.among.start, step.among.end - 1);
                if step.what == What::Messages
                    && let Some(talk) = self.talk_mut(&step)
                {
                    talk.begin(now);
                }
                self.step = Some(step);
            }
        }
    }

    /// Says what is due.
    fn say(&mut self, step: &Step, swarm: &mut Swarm, now: Instant) {
        let bytes: &[u8] = match step.what {
            What::Nothing => return,
            What::Messages => return self.write(step, swarm, now),
            What::Heartbeats => &[HEARTBEAT],
            What::Echoes => &ECHO,
        };
        let everybody = u64::from(step.among.end - step.among.start);
        let came = self.traffic.came;
        let due = match (step.name, self.settings.pace) {
            (None, Pace::Window(_) | Pace::Rate(_)) => everybody.min(came + FIRST_AT_ONCE),
            (Some(_), Pace::Window(window)) => came + u64::from(window),
            (Some(_), Pace::Rate(rate)) => {
                let since_us = u128::from(now.since(self.step_began).ns / 1_000);
                let due = u64::try_from(since_us * u128::from(rate) / 1_000_000);
                due.unwrap_or(u64::MAX).min(came + UNDER_WAY_MAX)
            }
        };
        while self.traffic.said < due {
            let Some(device) = self.next(step) else { return };
            if step.who == Who::Bare {
                self.open.insert(device, bytes.len());
            }
            swarm.out(device).extend_from_slice(bytes);
            self.traffic.said += 1;
        }
    }

    fn write(&mut self, step: &Step, swarm: &mut Swarm, now: Instant) {
        let talk = self.talks.iter_mut().find(|talk| talk.has(step.among.start));
        if let Some(talk) = talk {
            talk.turn(swarm, now, &mut self.meter);
        }
    }

    /// Who says something next; none: whoever would be still waits for an echo.
    fn next(&mut self, step: &Step) -> Option<DeviceIndex> {
        if step.order == Order::AtRandom {
            let count = u64::from(step.among.end - step.among.start).max(1);
            return (0..TRIES).find_map(|_| {
                self.drawn += 1;
                let drawn = DeviceIndex::try_from(scramble(self.drawn) % count).ok()?;
                let device = step.among.start + drawn;
                (!self.open.contains_key(&device)).then_some(device)
            });
        }
        let cursor = &mut self.cursors[step.who.place()];
        let device = *cursor;
        if self.open.contains_key(&device) {
            return None;
        }
        *cursor = if device + 1 < step.among.end { device + 1 } else { step.among.start };
        Some(device)
    }

    /// What came back since the step began.
    fn came(&self, step: &Step) -> u64 {
        if step.what == What::Messages { self.meter.total().delivered } else { self.traffic.came }
    }

    /// Whether everybody has said something for the first time.
    fn is_round(&self, step: &Step) -> bool {
        match step.what {
            What::Nothing => true,
            What::Messages => self.talk(step).is_none_or(Talk::has_been_round),
            What::Heartbeats | What::Echoes => {
                self.traffic.said >= u64::from(step.among.end - step.among.start)
            }
        }
    }

    fn is_still(&self, step: &Step) -> bool {
        match step.what {
            What::Nothing => true,
            What::Messages => self.talk(step).is_none_or(Talk::is_still),
            What::Heartbeats | What::Echoes => self.traffic.came >= self.traffic.said,
        }
    }

    fn drain(&mut self, step: &Step, now: Instant) {
        if let Some(talk) = self.talk_mut(step) {
            talk.stop();
        }
        (self.phase, self.phase_ends) = (Phase::Draining, now + PATIENCE);
    }

    fn advance(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        if self.phase == Phase::Connecting && swarm.settled() {
            if let Some(why) = swarm.first_refusal() {
                self.fail(format!("{} could not connect: {why}", swarm.counts().refused));
            }
            self.phase = Phase::Next;
        }
        if !self.found.failures.is_empty() {
            return Flow::Stop;
        }
        if self.phase == Phase::Next {
            let Some(act) = self.acts.next() else { return Flow::Stop };
            self.begin(act, swarm, now);
            return Flow::Wait;
        }
        if let Some(step) = self.step.clone() {
            self.go_on(&step, swarm, now);
        }
        Flow::Wait
    }

    fn go_on(&mut self, step: &Step, swarm: &mut Swarm, now: Instant) {
        let is_over = now >= self.phase_ends;
        match self.phase {
            Phase::Warming if step.name.is_none() && self.is_round(step) => self.drain(step, now),
            Phase::Warming if step.name.is_some() && is_over => {
                self.begun = Some((self.look(step.who, now), self.came(step)));
                (self.phase, self.phase_ends) = (Phase::Measuring, now + step.length);
            }
            Phase::Measuring if is_over => {
                if let (Some(name), Some((look, before))) = (step.name, self.begun.take()) {
                    let count = self.came(step) - before;
                    let looks = [look, self.look(step.who, now)];
                    self.found.measured.push(Measured { name, who: step.who, count, looks });
                }
                self.drain(step, now);
            }
            Phase::Draining if self.is_still(step) => self.phase = Phase::Next,
            Phase::Draining if is_over => {
                self.fail(format!("not all came back from the {} server", step.who.name()));
            }
            Phase::Warming | Phase::Measuring => self.say(step, swarm, now),
            Phase::Next | Phase::Connecting | Phase::Draining => {}
        }
        if self.phase == Phase::Draining && step.what == What::Messages {
            // What was refused for the moment is written again.
            self.write(step, swarm, now);
        }
    }

    fn is_bare(&self, device: DeviceIndex) -> bool {
        self.step.as_ref().is_some_and(|step| step.who == Who::Bare && step.among.contains(&device))
    }
}

/// Those among whom messages are written.
fn groups(acts: &[Act]) -> Vec<Range<DeviceIndex>> {
    let mut groups: Vec<Range<DeviceIndex>> = Vec::new();
    for act in acts {
        if let Act::Say(Step { what: What::Messages, among, .. }) = act
            && !groups.contains(among)
        {
            groups.push(among.clone());
        }
    }
    groups
}

fn talk(devices: Range<DeviceIndex>, pace: Pace, users: &Rc<[String]>) -> Talk {
    let (per_second, flying_max) = match pace {
        Pace::Rate(rate) => (rate, UNDER_WAY_MAX),
        Pace::Window(window) => (ALWAYS_DUE, window.into()),
    };
    let settings = talk::Settings {
        devices,
        per_second,
        base: 0,
        at_once: PAIR_AT_ONCE,
        flying_max: usize::try_from(flying_max).unwrap_or(usize::MAX),
        all_first: true,
        stages: Stages { sent: SENT, delivered: DELIVERED, ticked: None },
        always: false,
    };
    let users = Rc::clone(users);
    Talk::new(settings, Box::new(move |index| users[index as usize].clone()))
}

impl Scenario for Cold {
    fn open(&mut self, swarm: &mut Swarm, device: DeviceIndex) {
        if swarm.has_token(device) {
            swarm.hello(device);
        } else {
            swarm.welcomed(device);
        }
    }

    fn received(
        &mut self,
        swarm: &mut Swarm,
        device: DeviceIndex,
        bytes: &[u8],
        now: Instant,
    ) -> usize {
        if !self.is_bare(device) {
            let before = swarm.counts().echoes;
            let used = cut(self, swarm, device, bytes, now);
            self.traffic.came += swarm.counts().echoes - before;
            return used;
        }
        match self.open.remove(&device) {
            Some(missing) if missing > bytes.len() => {
                self.open.insert(device, missing - bytes.len());
            }
            Some(_) => self.traffic.came += 1,
            None => self.fail(format!("device {device}: nobody asked for what the echo said")),
        }
        bytes.len()
    }

    fn frame(&mut self, swarm: &mut Swarm, device: DeviceIndex, frame: Frame<'_>, now: Instant) {
        if let Some(talk) = self.talks.iter_mut().find(|talk| talk.has(device)) {
            talk.told(swarm, device, &frame, now, &mut self.meter);
        } else if let Incoming::Error { code, .. } = frame.says {
            self.fail(format!("device {device}: error {code}"));
        }
    }

    fn closed(&mut self, _: &mut Swarm, device: DeviceIndex, cause: CloseCause) {
        self.fail(disconnected(device, cause));
    }

    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        self.advance(swarm, now)
    }
}
