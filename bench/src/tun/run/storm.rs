//! `storm` over devices without sockets: all who do not stay leave, and return.

use super::{Phase, Run};
use crate::measure::Look;
use crate::scenario::storm::{ARRIVALS, IN_THE_STORM, PART, in_disorder};
use crate::scenario::talk::Talk;
use crate::swarm::DeviceIndex;
use roost_protocol::time::{Duration, Instant};

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    /// Devices below it leave and return; the others stay.
    pub leavers: DeviceIndex,
    /// Between the last Welcome and the storm.
    pub calm: Duration,
    /// How long they stay away.
    pub away: Duration,
    /// How long the return may take.
    pub within: Duration,
    /// Handshakes under way at a time.
    pub at_once: u32,
}

/// What a storm found.
#[derive(Debug, Clone, Default)]
pub struct StormFindings {
    /// Devices that left.
    pub left: u64,
    /// Devices that are back.
    pub back: u64,
    /// Attempts that failed and were repeated.
    pub repeated: u64,
    /// From the first attempt to the last device's being back.
    pub took: Duration,
    /// Before the storm and after it.
    pub looks: [Option<Look>; 2],
}

impl Run<'_> {
    /// What is due of a storm.
    pub(super) fn storm(&mut self, storm: Storm, now: Instant) {
        let over = now >= self.phase_ends;
        match self.phase {
            Phase::Calm if over => {
                self.findings.storm.looks[0] = Some(Look::at(self.settings.observed, now));
                if let Some(talk) = &mut self.guests.talk {
                    talk.measure_as(IN_THE_STORM);
                }
                let ready = (0..storm.leavers).filter(|of| self.guests.is_ready(*of));
                self.findings.storm.left = ready.count() as u64;
                self.guests.leaving_below = storm.leavers;
                self.progress_at = now;
                self.enter(Phase::Going, now);
            }
            Phase::Going => {
                self.let_some_go(storm.leavers, now);
                if u64::from(self.guests.counts.left) >= self.findings.storm.left {
                    self.enter(Phase::Away, now + storm.away);
                } else if self.is_silent(now) {
                    self.fail("leaving took too long".to_owned());
                    self.let_all_go(now);
                }
            }
            Phase::Away if over => self.break_loose(storm, now),
            Phase::Returning => self.come_back(storm, over, now),
            Phase::Begin
            | Phase::Connecting
            | Phase::Settling
            | Phase::Holding
            | Phase::Calm
            | Phase::Away
            | Phase::Draining
            | Phase::Leaving
            | Phase::Over => {}
        }
    }

    fn break_loose(&mut self, storm: Storm, now: Instant) {
        self.guests.leaving_below = 0;
        if let Some(returns) = &mut self.guests.returns {
            returns.begin(now);
        }
        self.guests.meter.begin(now, storm.within);
        self.order = in_disorder(storm.leavers);
        self.broke = now;
        self.enter(Phase::Returning, now + storm.within);
    }

    fn come_back(&mut self, storm: Storm, over: bool, now: Instant) {
        let Some(returns) = &mut self.guests.returns else { return };
        if returns.back >= self.findings.storm.left {
            self.findings.storm.took = now.since(self.broke);
            self.findings.storm.looks[1] = Some(Look::at(self.settings.observed, now));
            self.guests.meter.end(now);
            self.heartbeats_from = None;
            if let Some(talk) = &mut self.guests.talk {
                talk.stop();
            }
            return self.enter(Phase::Draining, now + ARRIVALS);
        }
        if over {
            let missing = self.findings.storm.left - returns.back;
            self.fail(format!("{missing} devices did not come back in time"));
            return self.let_all_go(now);
        }
        for _ in 0..PART {
            if self.guests.connecting >= storm.at_once {
                break;
            }
            let again = self.guests.returns.as_mut().and_then(|of| of.again(now));
            let Some(next) = again.or_else(|| self.order.pop()) else { break };
            if self.crowd.is_away(next) {
                self.guests.begin(next);
                self.crowd.connect(next, now);
            } else if let Some(returns) = &mut self.guests.returns {
                // The server has refused it and not closed the connection yet.
                returns.failed(next, now);
            }
        }
    }

    /// Whether what those who stayed wrote is through.
    pub(super) fn is_quiet_after_storm(&self) -> bool {
        self.guests.talk.as_ref().is_none_or(Talk::is_still)
    }
}
