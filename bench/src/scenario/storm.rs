//! Everybody leaves at once and everybody returns at once, as after a fault of the network: with
//! resume tickets, as a client does, and with its delays when a connection cannot be had. Each
//! device asks for what it missed, and is back when it knows. Some may stay, and write to each
//! other before, while the others leave, and while they return.

use super::load;
use super::talk::Stages;
use super::talkers::{Signals, Stand, Wish};
use crate::agents;
use crate::measure::{Look, Meter, Metered, Observed};
use crate::swarm::{DeviceIndex, Flow, Frame, SYNC, Scenario, Swarm};
use crate::target::scramble;
use crate::wire::{self, Incoming};
use roost_client::limits::{BACKOFF_BASE, BACKOFF_MAX, BACKOFF_MIN};
use roost_event_loop::CloseCause;
use roost_protocol::preface::PREFACE;
use roost_protocol::time::{Duration, Instant};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The stages: to the Welcome from when the connection stood, to being up to date from when the
/// storm broke; then of those who stay, in the calm and from when the others leave, to the first
/// tick and to the arrival.
pub const STAGES: [&str; 6] =
    ["welcomed", "back", "calm_sent", "calm_delivered", "storm_sent", "storm_delivered"];
/// The stage to the Welcome.
pub(crate) const WELCOMED: usize = 0;
/// The stage that progress shows.
pub const BACK: usize = 1;
/// The stages of those who stay, before the others leave.
pub(crate) const IN_THE_CALM: Stages = Stages { sent: 2, delivered: 3, ticked: None };
/// The same from then on.
pub(crate) const IN_THE_STORM: Stages = Stages { sent: 4, delivered: 5, ticked: None };
/// How long what those who stay have written may take to arrive at the end.
pub(crate) const ARRIVALS: Duration = Duration::from_seconds(20);
/// Devices that are told to leave, or to come back, in one turn: so those who are under way are
/// heard in between.
pub(crate) const PART: usize = 16;
/// How long leaving may take.
const PATIENCE: Duration = Duration::from_seconds(60);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// One token for each device that leaves and returns.
    pub tokens: Vec<String>,
    /// Those who stay, if any do.
    pub talkers: Option<Signals>,
    /// Where the server is.
    pub server: SocketAddr,
    /// Between the last Welcome and the storm.
    pub calm: Duration,
    /// How long they stay away.
    pub away: Duration,
    /// How long the return may take.
    pub within: Duration,
    /// Where the server can be seen.
    pub observed: Observed,
}

/// What the run found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Devices that left.
    pub left: u64,
    /// Devices that are back.
    pub back: u64,
    /// Attempts that failed and were repeated.
    pub repeated: u64,
    /// From the first attempt to the last device's being back.
    pub took: Duration,
    /// When everybody had connected for the first time.
    pub connected: Option<Instant>,
    /// Before the storm and after it.
    pub looks: [Option<Look>; 2],
    /// Latencies.
    pub metered: Metered,
    /// Why the run ended before it was done.
    pub failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Calm,
    Leaving,
    Away,
    Returning,
    Draining,
}

#[derive(Debug, Clone, Default)]
struct Device {
    ticket: Box<[u8]>,
    opened: Instant,
    attempts: u8,
    is_back: bool,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Storm {
    settings: Settings,
    devices: Vec<Device>,
    /// They in the order in which they leave, and then in that in which they return.
    order: Vec<DeviceIndex>,
    /// So many of them were told to.
    told: usize,
    phase: Phase,
    phase_ends: Instant,
    broke: Instant,
    later: BTreeSet<(Instant, DeviceIndex)>,
    meter: Meter,
    findings: Findings,
}

impl Storm {
    /// Before the first connection.
    #[must_use]
    pub fn new(settings: Settings, meter: Meter) -> Self {
        let count = DeviceIndex::try_from(settings.tokens.len()).unwrap_or(DeviceIndex::MAX);
        Self {
            devices: vec![Device::default(); settings.tokens.len()],
            order: in_disorder(count),
            told: 0,
            settings,
            phase: Phase::Connecting,
            phase_ends: Instant { ns: u64::MAX },
            broke: Instant::default(),
            later: BTreeSet::new(),
            meter,
            findings: Findings::default(),
        }
    }

    /// What was found.
    #[must_use]
    pub fn into_findings(self, now: Instant) -> Findings {
        let Self { meter, mut findings, .. } = self;
        findings.metered = meter.finish(now);
        findings
    }

    fn fail(&mut self, why: String) {
        self.meter.error();
        self.findings.failure.get_or_insert(why);
    }

    /// Asks something of those who stay.
    fn want(&self, wish: Wish) {
        if let Some(talkers) = &self.settings.talkers {
            talkers.want(wish);
        }
    }

    /// How far those who stay are; without any, so far that nobody waits for them.
    fn stand(&self, without: Stand) -> Stand {
        self.settings.talkers.as_ref().map_or(without, Signals::stand)
    }

    fn enter(&mut self, phase: Phase, name: &'static str, ends: Instant) {
        (self.phase, self.phase_ends) = (phase, ends);
        self.meter.enter(name, Some(ends));
    }

    fn advance(&mut self, swarm: &mut Swarm, now: Instant) -> bool {
        let over = now >= self.phase_ends;
        if self.phase != Phase::Draining && self.stand(Stand::There) == Stand::Over {
            self.fail("those who stay did not stay".to_owned());
            return true;
        }
        match self.phase {
            Phase::Connecting if swarm.settled() && self.stand(Stand::There) == Stand::There => {
                self.findings.connected = Some(now);
                if let Some(why) = swarm.first_refusal() {
                    let refused = swarm.counts().refused;
                    self.fail(format!("{refused} devices could not connect: {why}"));
                }
                self.want(Wish::Calm);
                self.enter(Phase::Calm, "calm", now + self.settings.calm);
            }
            Phase::Calm if over && agents::is_open() => {
                self.findings.looks[0] = Some(Look::at(self.settings.observed, now));
                self.want(Wish::Storm);
                self.findings.left = u64::from(swarm.ready());
                self.enter(Phase::Leaving, "leaving", now + PATIENCE);
            }
            Phase::Leaving if u64::from(swarm.counts().left) >= self.findings.left => {
                self.enter(Phase::Away, "away", now + self.settings.away);
            }
            Phase::Leaving if self.told < self.order.len() => {
                self.next_part().iter().for_each(|index| swarm.leave(*index));
            }
            Phase::Leaving if over => self.fail("leaving took too long".to_owned()),
            Phase::Away if over => self.break_loose(swarm, now),
            Phase::Returning if self.findings.back == self.findings.left => {
                self.findings.took = now.since(self.broke);
                self.findings.looks[1] = Some(Look::at(self.settings.observed, now));
                self.meter.end(now);
                self.want(Wish::End);
                self.enter(Phase::Draining, "draining", now + ARRIVALS);
            }
            Phase::Draining if over || self.stand(Stand::Over) == Stand::Over => return true,
            Phase::Returning if over => {
                let missing = self.findings.left - self.findings.back;
                self.fail(format!("{missing} devices did not come back in time"));
            }
            Phase::Returning => {
                self.next_part().iter().for_each(|index| swarm.come_back(*index, None));
                self.try_again(swarm, now);
            }
            Phase::Connecting | Phase::Calm | Phase::Leaving | Phase::Away | Phase::Draining => {}
        }
        self.findings.failure.is_some()
    }

    fn break_loose(&mut self, swarm: &mut Swarm, now: Instant) {
        self.broke = now;
        self.enter(Phase::Returning, "returning", now + self.settings.within);
        self.meter.begin(now, self.settings.within);
        swarm.redirect(self.settings.server, u32::MAX);
        self.told = 0;
    }

    /// The next of those who are told to leave, or to come back.
    fn next_part(&mut self) -> &[DeviceIndex] {
        let from = self.told;
        self.told = from.saturating_add(PART).min(self.order.len());
        &self.order[from..self.told]
    }

    /// Whoever could not connect waits as a client does, and tries again.
    fn try_again(&mut self, swarm: &mut Swarm, now: Instant) {
        for index in swarm.take_failed() {
            let device = &mut self.devices[index as usize];
            device.attempts = device.attempts.saturating_add(1);
            let delay = delay(index, device.attempts);
            self.later.insert((now + delay, index));
            self.findings.repeated += 1;
            self.meter.error();
        }
        while let Some((due, index)) = self.later.first().copied()
            && due <= now
        {
            self.later.pop_first();
            swarm.come_back(index, None);
        }
    }
}

/// All of them, not in the order in which they came the first time.
pub(crate) fn in_disorder(devices: DeviceIndex) -> Vec<DeviceIndex> {
    let mut order: Vec<DeviceIndex> = (0..devices).collect();
    order.sort_unstable_by_key(|index| scramble(u64::from(*index)));
    order
}

/// Delays that double within the client's bounds, each drawn from the whole range below it.
pub(crate) fn delay(index: DeviceIndex, attempts: u8) -> Duration {
    let factor = 1_u64 << u32::from(attempts.saturating_sub(1)).min(16);
    let most = BACKOFF_BASE.ns.saturating_mul(factor).min(BACKOFF_MAX.ns);
    let range = most.saturating_sub(BACKOFF_MIN.ns).max(1);
    let drawn = scramble(u64::from(index) << 8 | u64::from(attempts)) % range;
    Duration { ns: BACKOFF_MIN.ns + drawn }
}

impl Scenario for Storm {
    fn open(&mut self, swarm: &mut Swarm, index: DeviceIndex) {
        let (number, id) = swarm.next_connection(index);
        let device = &self.devices[index as usize];
        let out = swarm.out(index);
        out.extend_from_slice(&PREFACE);
        if device.ticket.is_empty() {
            let token = self.settings.tokens[index as usize].clone();
            wire::hello(token, id, number, out);
        } else {
            wire::hello_again(&device.ticket, id, number, out);
        }
        // A client asks for what it missed in the same breath.
        wire::sync(SYNC, 0, out);
    }

    fn greeted(&mut self, index: DeviceIndex, now: Instant) {
        self.devices[index as usize].opened = now;
    }

    fn frame(&mut self, _: &mut Swarm, index: DeviceIndex, frame: Frame<'_>, now: Instant) {
        let device = &mut self.devices[index as usize];
        let returning = self.phase == Phase::Returning;
        match frame.says {
            Incoming::Welcome { ticket, .. } => {
                device.ticket = ticket.into();
                if returning {
                    self.meter.sent();
                    self.meter.took(WELCOMED, device.opened, now);
                }
            }
            Incoming::Sync(_) if returning && !device.is_back => {
                device.is_back = true;
                self.findings.back += 1;
                self.meter.delivered();
                self.meter.took(BACK, self.broke, now);
            }
            Incoming::Error { code, .. } => {
                self.fail(load::refused(index, frame.request, code));
            }
            Incoming::Sync(_)
            | Incoming::SendReply { .. }
            | Incoming::Message(_)
            | Incoming::Receipts(_)
            | Incoming::History(_)
            | Incoming::GroupCreated { .. }
            | Incoming::Behind
            | Incoming::Other => {}
        }
    }

    fn closed(&mut self, _: &mut Swarm, index: DeviceIndex, cause: CloseCause) {
        self.fail(load::disconnected(index, cause));
    }

    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        if matches!(self.phase, Phase::Connecting | Phase::Returning) {
            swarm.start_heartbeats(now);
        }
        self.meter.turn(now, swarm.ready().into());
        if self.advance(swarm, now) { Flow::Stop } else { Flow::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_within_the_bounds_of_the_client() {
        for index in 0..100 {
            for attempts in 1..20 {
                let delay = delay(index, attempts);
                assert!((BACKOFF_MIN.ns..=BACKOFF_MAX.ns).contains(&delay.ns));
                assert!(delay.ns <= BACKOFF_BASE.ns << attempts);
            }
        }
    }
}
