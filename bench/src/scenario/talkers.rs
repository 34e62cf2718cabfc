//! Those who stay and write to each other while many others leave and return. They have a loop of
//! their own, on a thread of its own: what the storm takes of the generator must not be measured
//! as the server's delay.

use super::load;
use super::storm::{ARRIVALS, IN_THE_CALM, IN_THE_STORM};
use super::talk::{self, Talk};
use crate::measure::{Meter, Metered};
use crate::swarm::{DeviceIndex, Flow, Frame, Scenario, Swarm};
use roost_event_loop::CloseCause;
use roost_protocol::time::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Messages of a pair that may be under way.
pub(crate) const AT_ONCE: u32 = 64;

/// What the storm wants of those who stay; each step follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Wish {
    /// Connect, and say nothing yet.
    Come,
    /// Write, before the others leave.
    Calm,
    /// Write, while the others leave and return.
    Storm,
    /// Write no more; it is over when everything arrived.
    End,
}

/// How far those who stay are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stand {
    /// Some are not connected yet.
    Coming,
    /// All are there.
    There,
    /// Nothing more comes of them: everything arrived, or something failed.
    Over,
}

/// Both, between the two threads.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    wish: Arc<AtomicU8>,
    stand: Arc<AtomicU8>,
}

impl Signals {
    /// The storm's side: asks for a step. A step back is none.
    pub(crate) fn want(&self, wish: Wish) {
        self.wish.fetch_max(wish as u8, Ordering::Release);
    }

    /// The storm's side.
    pub(crate) fn stand(&self) -> Stand {
        match self.stand.load(Ordering::Acquire) {
            0 => Stand::Coming,
            1 => Stand::There,
            _ => Stand::Over,
        }
    }

    pub(crate) fn stands(&self, stand: Stand) {
        self.stand.fetch_max(stand as u8, Ordering::Release);
    }

    fn wanted(&self) -> Wish {
        match self.wish.load(Ordering::Acquire) {
            0 => Wish::Come,
            1 => Wish::Calm,
            2 => Wish::Storm,
            _ => Wish::End,
        }
    }
}

/// What was found of them.
#[derive(Debug, Default)]
pub struct Findings {
    /// Of their messages.
    pub talk: talk::Findings,
    /// Their times, and how late they were themselves.
    pub metered: Metered,
    /// Whether the scheduler gave them the processor before the storm's thread.
    pub comes_first: bool,
    /// Why they ended before they were to.
    pub failure: Option<String>,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Talkers {
    talk: Talk,
    signals: Signals,
    meter: Meter,
    /// When the last message was due, from when the storm said that it is over.
    ended: Option<Instant>,
    failure: Option<String>,
}

impl Talkers {
    /// Before the first connection; `users` are all of them, `per_second` their messages.
    #[must_use]
    pub fn new(users: Vec<String>, per_second: u32, signals: Signals, meter: Meter) -> Self {
        let settings = talk::Settings {
            devices: 0..DeviceIndex::try_from(users.len()).unwrap_or(DeviceIndex::MAX),
            per_second,
            base: 0,
            at_once: AT_ONCE,
            flying_max: talk::FLYING_MAX,
            all_first: false,
            stages: IN_THE_CALM,
            always: true,
        };
        let talk = Talk::new(settings, Box::new(move |index| users[index as usize].clone()));
        Self { talk, signals, meter, ended: None, failure: None }
    }

    /// What was found.
    #[must_use]
    pub fn into_findings(self, now: Instant) -> Findings {
        let Self { talk, meter, failure, .. } = self;
        let metered = meter.finish(now);
        Findings { talk: talk.into_findings(), metered, comes_first: false, failure }
    }

    fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// Says whether it is over.
    fn advance(&mut self, swarm: &Swarm, now: Instant) -> bool {
        if self.signals.stand() == Stand::Coming && swarm.settled() {
            if let Some(why) = swarm.first_refusal() {
                let refused = swarm.counts().refused;
                self.fail(format!("{refused} of those who stay could not connect: {why}"));
            }
            self.signals.stands(Stand::There);
        }
        match self.signals.wanted() {
            Wish::Come => {}
            Wish::Calm if !self.talk.has_begun() => self.talk.begin(now),
            Wish::Calm => {}
            Wish::Storm => self.talk.measure_as(IN_THE_STORM),
            Wish::End => {
                self.talk.stop();
                let ended = *self.ended.get_or_insert(now);
                return self.talk.is_still() || now.since(ended) >= ARRIVALS;
            }
        }
        self.failure.is_some()
    }
}

impl Scenario for Talkers {
    fn frame(&mut self, swarm: &mut Swarm, index: DeviceIndex, frame: Frame<'_>, now: Instant) {
        if self.talk.has_begun() {
            self.talk.told(swarm, index, &frame, now, &mut self.meter);
        }
    }

    fn closed(&mut self, _: &mut Swarm, index: DeviceIndex, cause: CloseCause) {
        self.fail(load::disconnected(index, cause));
    }

    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        if swarm.settled() {
            swarm.start_heartbeats(now);
        }
        let over = self.advance(swarm, now);
        self.talk.turn(swarm, now, &mut self.meter);
        match self.talk.next_due() {
            _ if over => Flow::Stop,
            Some(due) if due > now => Flow::Until(due),
            // None is due any more; or one is and waits for an answer, which wakes the loop.
            Some(_) | None => Flow::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_or_a_stand_is_never_taken_back() {
        let signals = Signals::default();
        assert_eq!((signals.wanted(), signals.stand()), (Wish::Come, Stand::Coming));
        for (wish, then) in
            [(Wish::Storm, Wish::Storm), (Wish::Calm, Wish::Storm), (Wish::End, Wish::End)]
        {
            signals.want(wish);
            assert_eq!(signals.wanted(), then);
        }
        for (stand, then) in [(Stand::There, Stand::There), (Stand::Coming, Stand::There)] {
            signals.stands(stand);
            assert_eq!(signals.stand(), then);
        }
        signals.stands(Stand::Over);
        assert_eq!(signals.stand(), Stand::Over);
    }
}
