//! Pairs of users that write to each other.
//!
//! In a closed loop the next message goes when one was acknowledged to its sender (it is durable)
//! and has arrived at the peer; in an open loop messages are due at fixed times, whether or not
//! earlier ones are through, and every latency counts from when the message was due. The second
//! tick, which the server sends at most so often, is waited for by nobody, but every message must
//! have it in the end. Each body holds who wrote it and its number, so that a message which is
//! missing, doubled or out of order is seen.
//!
//! Devices acknowledge like those of the client crate: at once when they said nothing lately, else
//! what gathered within 100 ms goes in one.

mod findings;
mod marks;
mod side;

pub use findings::{Findings, Stages};
pub(super) use side::{read_body, scramble};

use super::load::{self, Load, PATIENCE, Pace, UNANSWERED_MAX};
use crate::latency::histogram;
use crate::process::{self, Usage};
use crate::swarm::{DeviceIndex, Flow, Frame, Scenario, Swarm};
use crate::wire::{self, ConversationBytes, Incoming, Pushed, Write};
use marks::Marks;
use roost_event_loop::CloseCause;
use roost_protocol::time::{Duration, Instant};
use side::{InFlight, Side};

/// The request id of a device's `History`; its writes count from 1 and never get there.
const PULL: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Opening,
    Warmup,
    Measuring,
    Draining,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Pairs {
    settings: Load,
    sides: Vec<Side>,
    phase: Phase,
    phase_ends: Instant,
    measuring: [Instant; 2],
    flying: u64,
    next_due: u64,
    due_from: Instant,
    marks: Marks,
    body: Vec<u8>,
    findings: Findings,
}

impl Pairs {
    /// Pairs that have not met.
    #[must_use]
    pub fn new(settings: Load) -> Self {
        let lateness = match settings.pace {
            Pace::Rate(_) => Some(histogram()),
            Pace::Window(_) => None,
        };
        Self {
            sides: settings.users.iter().map(|_| Side::default()).collect(),
            phase: Phase::Connecting,
            phase_ends: Instant::default(),
            measuring: [Instant { ns: u64::MAX }; 2],
            flying: 0,
            next_due: 0,
            due_from: Instant::default(),
            marks: Marks::default(),
            body: (0..settings.body_bytes).map(|at| at.to_le_bytes()[0]).collect(),
            findings: Findings { lateness, ..Findings::default() },
            settings,
        }
    }

    /// What was found; also counts what never came.
    #[must_use]
    pub fn into_findings(mut self) -> Findings {
        for index in 0..self.sides.len() {
            let side = &self.sides[index];
            let unanswered = side.in_flight.iter().filter(|message| message.seq == 0).count();
            let accepted = side.written - unanswered as u64;
            self.findings.unanswered += unanswered as u64;
            self.findings.lost += accepted.saturating_sub(self.sides[index ^ 1].arrived);
        }
        self.findings
    }

    fn fail(&mut self, why: String) {
        self.findings.failure.get_or_insert(why);
    }

    fn is_measured(&self, due: Instant) -> bool {
        self.measuring[0] <= due && due < self.measuring[1]
    }

    fn side(&mut self, index: DeviceIndex) -> &mut Side {
        &mut self.sides[index as usize]
    }

    fn write(&mut self, swarm: &mut Swarm, index: DeviceIndex, due: Instant) {
        let place = index as usize;
        let side = &mut self.sides[place];
        side.written += 1;
        side.in_flight.push_back(InFlight { due, seq: 0, arrived: false });
        side.unanswered += 1;
        self.flying += 1;
        self.body[..8].copy_from_slice(&u64::from(index).to_le_bytes());
        self.body[8..16].copy_from_slice(&side.written.to_le_bytes());
        let mut write = Write {
            conversation: &[0; 16],
            number: side.written,
            id: scramble(u64::from(index) << 40 | side.written),
            seen: side.seen,
            body: &self.body,
        };
        let out = swarm.out(index);
        if let Some(conversation) = &side.conversation {
            write.conversation = conversation;
            wire::send(&write, out);
        } else {
            wire::send_first(&self.settings.users[place ^ 1], &write, out);
        }
    }

    fn replied(
        &mut self,
        swarm: &mut Swarm,
        index: DeviceIndex,
        request: u64,
        seq: u64,
        conversation: Option<ConversationBytes>,
        now: Instant,
    ) {
        let side = self.side(index);
        let Some(message) = side.flying(request) else {
            return self.fail(format!("an answer to request {request}, which is not under way"));
        };
        let first = message.seq == 0;
        message.seq = seq;
        let (due, through) = (message.due, first && message.arrived);
        side.unanswered -= usize::from(first);
        side.seen = side.seen.max(seq);
        side.conversation = side.conversation.or(conversation);
        if self.phase == Phase::Measuring {
            self.findings.sent += 1;
        }
        if self.is_measured(due) {
            self.findings.stages.sent.saturating_record(now.since(due).ns / 1_000);
        }
        match self.settings.pace {
            Pace::Window(_) if through => self.write_next(swarm, index, now),
            Pace::Window(_) => {}
            Pace::Rate(_) => self.write_waiting(swarm, index),
        }
    }

    /// Closed loop: a message of this device is through, so the next one goes.
    fn write_next(&mut self, swarm: &mut Swarm, index: DeviceIndex, now: Instant) {
        if matches!(self.phase, Phase::Warmup | Phase::Measuring) {
            self.write(swarm, index, now);
        }
    }

    /// A message came, pushed or in a page. Says whether one before it is missing.
    fn arrived(
        &mut self,
        swarm: &mut Swarm,
        index: DeviceIndex,
        pushed: &Pushed<'_>,
        now: Instant,
    ) -> bool {
        let Some((author, number)) = read_body(pushed.body) else {
            self.fail("a body of somebody else".to_owned());
            return false;
        };
        let side = self.side(index);
        if author != u64::from(index ^ 1) || number > side.arrived + 1 {
            return true;
        }
        if number <= side.arrived {
            self.findings.duplicated += 1;
            return false;
        }
        side.arrived = number;
        side.arrived_seq = pushed.seq;
        side.seen = side.seen.max(pushed.seq);
        side.mark_due = true;
        if self.phase == Phase::Measuring {
            self.findings.delivered += 1;
        }
        let Some(message) = self.side(index ^ 1).flying(number) else { return false };
        message.arrived = true;
        let (due, through) = (message.due, message.seq != 0);
        if self.is_measured(due) {
            self.findings.stages.delivered.saturating_record(now.since(due).ns / 1_000);
        }
        if through && matches!(self.settings.pace, Pace::Window(_)) {
            self.write_next(swarm, index ^ 1, now);
        }
        false
    }

    /// Says how far a device has got.
    fn mark(&mut self, swarm: &mut Swarm, index: DeviceIndex, now: Instant) {
        let side = &mut self.sides[index as usize];
        if let (true, Some(conversation)) = (side.mark_due, side.conversation) {
            side.mark_due = false;
            side.quiet_until = now + marks::INTERVAL;
            wire::delivered(&conversation, side.arrived_seq, swarm.out(index));
        }
    }

    /// Says what has gathered for long enough.
    fn mark_due(&mut self, swarm: &mut Swarm, now: Instant) {
        while let Some(index) = self.marks.next(now) {
            self.side(index).mark_gathers = false;
            self.mark(swarm, index, now);
        }
    }

    fn pull(&mut self, swarm: &mut Swarm, index: DeviceIndex) {
        let side = self.side(index);
        if side.pulling {
            side.pull_again = true;
            return;
        }
        let Some(conversation) = side.conversation else { return };
        side.pulling = true;
        let after = side.arrived_seq;
        wire::history(PULL, &conversation, after, swarm.out(index));
        self.findings.pulls += 1;
    }

    fn pulled(&mut self, swarm: &mut Swarm, index: DeviceIndex, body: &[u8], now: Instant) {
        let (messages, more) = wire::page(body);
        for message in messages.iter().filter(|message| !message.own) {
            let held = message.seq <= self.side(index).arrived_seq;
            if !held && self.arrived(swarm, index, message, now) {
                self.fail("a page lacks a message".to_owned());
            }
        }
        let side = self.side(index);
        side.pulling = false;
        if more || std::mem::take(&mut side.pull_again) {
            self.pull(swarm, index);
        }
    }

    /// Ticks what the watermark covers.
    fn finish(&mut self, index: DeviceIndex, now: Instant) {
        let (mut finished, measuring) = (0_u64, self.measuring);
        let side = &mut self.sides[index as usize];
        while let Some(message) = side.in_flight.front()
            && message.seq != 0
            && message.seq <= side.watermark
        {
            if measuring[0] <= message.due && message.due < measuring[1] {
                let us = now.since(message.due).ns / 1_000;
                self.findings.stages.ticked.saturating_record(us);
            }
            side.in_flight.pop_front();
            finished += 1;
        }
        self.flying -= finished;
        if self.phase == Phase::Measuring {
            self.findings.ticked += finished;
        }
    }

    /// Open loop: writes what is due and had to wait for room.
    fn write_waiting(&mut self, swarm: &mut Swarm, index: DeviceIndex) {
        while self.side(index).unanswered < UNANSWERED_MAX
            && let Some(due) = self.side(index).waiting.pop_front()
        {
            self.write(swarm, index, due);
        }
    }

    /// Open loop: everything that is due by now, one device after the other.
    fn write_due(&mut self, swarm: &mut Swarm, rate: u32, now: Instant) {
        let (sides, pairs) = (u64::from(swarm.devices()), u64::from(swarm.devices() / 2));
        loop {
            let offset = u128::from(self.next_due) * 1_000_000_000 / u128::from(rate);
            let offset = u64::try_from(offset).expect("a run is shorter than centuries");
            let due = self.due_from + Duration { ns: offset };
            if due > now {
                return;
            }
            let place = self.next_due % sides;
            let place = if place < pairs { place * 2 } else { (place - pairs) * 2 + 1 };
            let index = DeviceIndex::try_from(place).expect("it is a device");
            self.next_due += 1;
            if self.side(index).unanswered < UNANSWERED_MAX {
                if let Some(lateness) = &mut self.findings.lateness {
                    lateness.saturating_record(now.since(due).ns / 1_000);
                }
                self.write(swarm, index, due);
            } else {
                self.side(index).waiting.push_back(due);
            }
        }
    }

    fn enter(&mut self, phase: Phase, ends: Instant) {
        self.phase = phase;
        self.phase_ends = ends;
    }

    fn begin(&mut self, swarm: &mut Swarm, now: Instant) {
        self.enter(Phase::Warmup, now + self.settings.warmup);
        self.due_from = now;
        if let Pace::Window(window) = self.settings.pace {
            for index in 0..swarm.devices() {
                for _ in 0..(window + 1 - index % 2) / 2 {
                    self.write(swarm, index, now);
                }
            }
        }
    }

    fn measure(&mut self, swarm: &Swarm, now: Instant) {
        let ends = now + self.settings.measure;
        self.enter(Phase::Measuring, ends);
        self.measuring = [now, ends];
        self.findings.server[0] = self.settings.server_pid.and_then(Usage::of);
        self.findings.generator_cpu_us = process::own_thread_cpu_us();
        self.findings.buffers = [swarm.counts().sends, swarm.counts().receives];
        if let Some(lateness) = &mut self.findings.lateness {
            lateness.reset();
        }
    }

    fn drain(&mut self, swarm: &Swarm, now: Instant) {
        self.findings.measured = now.since(self.measuring[0]);
        self.findings.server[1] = self.settings.server_pid.and_then(Usage::of);
        let before = self.findings.generator_cpu_us;
        self.findings.generator_cpu_us = process::own_thread_cpu_us().saturating_sub(before);
        let after = [swarm.counts().sends, swarm.counts().receives];
        let before = self.findings.buffers;
        self.findings.buffers = [after[0] - before[0], after[1] - before[1]];
        self.enter(Phase::Draining, now + PATIENCE);
        for side in &mut self.sides {
            self.findings.unsent += side.waiting.len() as u64;
            side.waiting.clear();
        }
    }

    /// Goes on to the next phase when it is time. Says whether the run is over.
    fn advance(&mut self, swarm: &mut Swarm, now: Instant) -> bool {
        let over = now >= self.phase_ends;
        match self.phase {
            Phase::Connecting if swarm.settled() => {
                self.findings.connected = Some(now);
                if let Some(why) = swarm.first_refusal() {
                    self.fail(format!(
                        "{} devices could not connect: {why}",
                        swarm.counts().refused
                    ));
                    return true;
                }
                self.enter(Phase::Opening, now + PATIENCE);
                for index in 0..swarm.devices() {
                    self.write(swarm, index, now);
                }
            }
            Phase::Opening if self.flying == 0 => self.begin(swarm, now),
            Phase::Opening if over => {
                self.fail(format!("{} first messages were not delivered in time", self.flying));
            }
            Phase::Warmup if over => self.measure(swarm, now),
            Phase::Measuring if over => self.drain(swarm, now),
            Phase::Draining => return over || self.flying == 0,
            Phase::Connecting | Phase::Opening | Phase::Warmup | Phase::Measuring => {}
        }
        self.findings.failure.is_some()
    }
}

impl Scenario for Pairs {
    fn frame(&mut self, swarm: &mut Swarm, index: DeviceIndex, frame: Frame<'_>, now: Instant) {
        match frame.says {
            Incoming::SendReply { seq, conversation } => {
                self.replied(swarm, index, frame.request, seq, conversation, now);
                self.finish(index, now);
            }
            Incoming::Message(pushed) if !pushed.own => {
                if self.arrived(swarm, index, &pushed, now) {
                    self.pull(swarm, index);
                }
            }
            Incoming::Receipts(body) => {
                let side = self.side(index);
                side.watermark = wire::receipts(body).fold(side.watermark, u64::max);
                self.finish(index, now);
            }
            Incoming::History(body) => self.pulled(swarm, index, body, now),
            Incoming::Behind => self.pull(swarm, index),
            Incoming::Error { code } => {
                self.fail(load::refused(index, frame.request, code));
            }
            Incoming::Message(_)
            | Incoming::Sync(_)
            | Incoming::GroupCreated { .. }
            | Incoming::Welcome { .. }
            | Incoming::Other => {}
        }
    }

    /// What came is acknowledged at once, or together with what comes within a while.
    fn frames_end(&mut self, swarm: &mut Swarm, index: DeviceIndex, now: Instant) {
        let side = &mut self.sides[index as usize];
        if !side.mark_due {
        } else if side.quiet_until <= now {
            self.mark(swarm, index, now);
        } else if !side.mark_gathers {
            side.mark_gathers = true;
            self.marks.put(index, side.quiet_until);
        }
    }

    fn closed(&mut self, _swarm: &mut Swarm, index: DeviceIndex, cause: CloseCause) {
        self.fail(load::disconnected(index, cause));
    }

    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        swarm.start_heartbeats(now);
        self.mark_due(swarm, now);
        if self.advance(swarm, now) {
            return Flow::Stop;
        }
        match (self.phase, self.settings.pace) {
            (Phase::Warmup | Phase::Measuring, Pace::Rate(rate)) => {
                self.write_due(swarm, rate, now);
                Flow::Spin
            }
            _ => Flow::Wait,
        }
    }
}
