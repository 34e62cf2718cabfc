//! From connecting to the last arrival.

use super::{OPENING_MAX, Rooms};
use crate::agents;
use crate::scenario::load::{PATIENCE, Pace};
use crate::swarm::Swarm;
use crate::target::Target;
use roost_protocol::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    SettingUp,
    Opening,
    Warmup,
    Measuring,
    Draining,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::SettingUp => "set up",
            Self::Opening => "opening",
            Self::Warmup => "warm-up",
            Self::Measuring => "measuring",
            Self::Draining => "draining",
        }
    }
}

impl<T: Target> Rooms<T> {
    fn enter(&mut self, phase: Phase, ends: Instant) {
        self.phase = phase;
        self.phase_ends = ends;
        self.meter.enter(phase.name(), Some(ends));
    }

    /// Goes on to the next phase when it is time. Says whether the run is over.
    pub(super) fn advance(&mut self, swarm: &mut Swarm, now: Instant) -> bool {
        let over = now >= self.phase_ends;
        match self.phase {
            Phase::Connecting if swarm.settled() => self.connected(swarm, now),
            Phase::SettingUp if self.setting_up == 0 => self.open_rooms(swarm, now),
            Phase::SettingUp if over => {
                self.fail(format!("{} groups were not made in time", self.setting_up));
            }
            Phase::Opening if self.opened < self.writers.len() => self.open_some(swarm, now),
            Phase::Opening if self.flying == 0 => {
                if agents::is_open() {
                    self.warm_up(swarm, now);
                }
            }
            Phase::Opening if over => {
                self.fail(format!("{} first messages were not delivered in time", self.flying));
            }
            Phase::Warmup if over => {
                self.enter(Phase::Measuring, now + self.load.measure);
                self.meter.begin(now, self.load.measure);
                self.findings.begin(swarm);
            }
            Phase::Measuring if over => self.drain(swarm, now),
            Phase::Draining => {
                return over || (self.flying == 0 && self.everybody_has_everything());
            }
            Phase::Connecting
            | Phase::SettingUp
            | Phase::Opening
            | Phase::Warmup
            | Phase::Measuring => {}
        }
        self.findings.failure.is_some()
    }

    /// Whether messages are due.
    pub(super) const fn is_loaded(&self) -> bool {
        matches!(self.phase, Phase::Warmup | Phase::Measuring)
    }

    fn connected(&mut self, swarm: &mut Swarm, now: Instant) {
        self.findings.connected = Some(now);
        if let Some(why) = swarm.first_refusal() {
            let refused = swarm.counts().refused;
            return self.fail(format!("{refused} devices could not connect: {why}"));
        }
        self.enter(Phase::SettingUp, now + PATIENCE);
        for device in 0..self.layout.devices() {
            self.setting_up += self.target.set_up(device, &mut self.scratch);
            self.send_scratch(swarm, device);
        }
    }

    /// Everybody who writes says something once, and is heard by all.
    fn open_rooms(&mut self, swarm: &mut Swarm, now: Instant) {
        self.enter(Phase::Opening, now + PATIENCE);
        self.open_some(swarm, now);
    }

    fn open_some(&mut self, swarm: &mut Swarm, now: Instant) {
        while self.opened < self.writers.len() && self.flying < OPENING_MAX {
            self.write(swarm, self.writers[self.opened], now, now);
            self.opened += 1;
            self.phase_ends = now + PATIENCE;
        }
    }

    /// Readers that stalled are not waited for by messages, but in the end.
    fn everybody_has_everything(&self) -> bool {
        self.extra.stallers() == 0 || self.lacking() == 0
    }

    fn warm_up(&mut self, swarm: &mut Swarm, now: Instant) {
        self.enter(Phase::Warmup, now + self.load.warmup);
        self.due_from = now;
        if matches!(self.load.pace, Pace::Window(_)) {
            for at in 0..self.writers.len() {
                self.fill(swarm, self.writers[at], now);
            }
        }
    }

    fn drain(&mut self, swarm: &mut Swarm, now: Instant) {
        self.meter.end(now);
        self.findings.end(swarm);
        self.enter(Phase::Draining, now + PATIENCE);
        self.end_extra(swarm);
        for flight in &mut self.flights {
            self.findings.unsent += flight.waiting.len() as u64;
            flight.waiting.clear();
        }
    }
}
