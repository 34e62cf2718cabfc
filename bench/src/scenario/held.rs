//! `idle` on another broker: its devices connect, and say that they are there in its own words.

use super::idle::Idle;
use crate::swarm::{DeviceIndex, Flow, Frame, Scenario, Swarm};
use crate::target::{Happened, Target};
use roost_event_loop::CloseCause;
use roost_protocol::time::Instant;

/// See the module's comment.
#[derive(Debug)]
pub struct Held<T> {
    /// The scenario, which needs no words of Roost.
    pub idle: Idle,
    target: T,
    heartbeats_are_known: bool,
    out: Vec<u8>,
    happened: Vec<Happened>,
}

impl<T: Target> Held<T> {
    /// Puts them together.
    #[must_use]
    pub const fn new(idle: Idle, target: T) -> Self {
        Self { idle, target, heartbeats_are_known: false, out: Vec::new(), happened: Vec::new() }
    }
}

impl<T: Target> Scenario for Held<T> {
    fn open(&mut self, swarm: &mut Swarm, device: DeviceIndex) {
        self.target.open(device, swarm.out(device));
    }

    fn received(
        &mut self,
        swarm: &mut Swarm,
        device: DeviceIndex,
        bytes: &[u8],
        _now: Instant,
    ) -> usize {
        let received = self.target.receive(device, bytes, &mut self.out, &mut self.happened);
        let used = received.unwrap_or_else(|refusal| {
            swarm.refused(device, || refusal.to_string());
            bytes.len()
        });
        for happened in self.happened.drain(..) {
            match happened {
                Happened::Ready => swarm.welcomed(device),
                Happened::Echoed => swarm.counts.echoes += 1,
                Happened::HeartbeatEvery(ms) => swarm.heartbeat_every(ms),
                Happened::SetUp
                | Happened::Accepted { .. }
                | Happened::Arrived { .. }
                | Happened::Ticked { .. }
                | Happened::Acted
                | Happened::Refused
                | Happened::Pulled => {}
            }
        }
        if !self.out.is_empty() {
            swarm.out(device).append(&mut self.out);
        }
        used
    }

    fn frame(&mut self, _: &mut Swarm, _: DeviceIndex, _: Frame<'_>, _: Instant) {}

    fn closed(&mut self, swarm: &mut Swarm, device: DeviceIndex, cause: CloseCause) {
        self.idle.closed(swarm, device, cause);
    }

    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        if !std::mem::replace(&mut self.heartbeats_are_known, true)
            && let Some(heartbeat) = self.target.heartbeat()
        {
            swarm.heartbeat_is(heartbeat.bytes);
            swarm.heartbeat_every(heartbeat.every_ms);
        }
        self.idle.turn(swarm, now)
    }
}
