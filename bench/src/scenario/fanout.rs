//! One user writes to a group; everybody in it is connected and must get every message once and in
//! order. Devices acknowledge what they got at most ten times a second.

use super::load::{self, Load, PATIENCE, Pace, UNANSWERED_MAX};
use super::pairs::{read_body, scramble};
use crate::latency::histogram;
use crate::process::{self, Usage};
use crate::swarm::{DeviceIndex, Flow, Frame, Scenario, Swarm};
use crate::wire::{self, ConversationBytes, Incoming, Pushed, Write};
use hdrhistogram::Histogram;
use roost_event_loop::CloseCause;
use roost_protocol::time::{Duration, Instant};
use std::collections::VecDeque;

/// Who writes.
const PUBLISHER: DeviceIndex = 0;
/// The request that makes the group.
const CREATE: u32 = u32::MAX;
/// The request id of a device's `History`.
const PULL: u32 = u32::MAX - 1;
/// Between two acknowledgements of a device.
const ACKNOWLEDGE: Duration = Duration::from_ms(100);
/// Acknowledgements are spread over so many moments.
const SLICES: u32 = 50;

/// What the run found.
#[derive(Debug)]
pub struct Findings {
    /// First ticks while measuring.
    pub sent: u64,
    /// Arrivals while measuring, over all subscribers.
    pub delivered: u64,
    /// Accepted and not arrived at somebody, in the whole run.
    pub lost: u64,
    /// Arrived again, in the whole run.
    pub duplicated: u64,
    /// Pages pulled because pushes were dropped.
    pub pulls: u64,
    /// From due to the publisher's tick.
    pub sent_us: Histogram<u64>,
    /// From due to each arrival.
    pub delivered_us: Histogram<u64>,
    /// From due to the last arrival of each message.
    pub last_us: Histogram<u64>,
    /// When the last device was welcomed.
    pub connected: Option<Instant>,
    /// Begin and end of measuring.
    pub measured: Duration,
    /// The server at the begin and the end of measuring.
    pub server: [Option<Usage>; 2],
    /// Processor time of the generator while measuring.
    pub generator_cpu_us: u64,
    /// Buffers received while measuring.
    pub receives: u64,
    /// Why the run ended before it was done.
    pub failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Creating,
    Warmup,
    Measuring,
    Draining,
}

#[derive(Debug)]
struct InFlight {
    due: Instant,
    answered: bool,
    /// Subscribers who lack it.
    left: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Subscriber {
    arrived: u64,
    seq: u64,
    mark_due: bool,
    pulling: bool,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Fanout {
    settings: Load,
    subscribers: Vec<Subscriber>,
    group: Option<ConversationBytes>,
    phase: Phase,
    phase_ends: Instant,
    measuring: [Instant; 2],
    written: u64,
    unanswered: usize,
    in_flight: VecDeque<InFlight>,
    next_due: u64,
    due_from: Instant,
    marked: u64,
    mark_from: Instant,
    body: Vec<u8>,
    findings: Findings,
}

impl Fanout {
    /// Before the first connection.
    #[must_use]
    pub fn new(settings: Load) -> Self {
        let findings = Findings {
            sent: 0,
            delivered: 0,
            lost: 0,
            duplicated: 0,
            pulls: 0,
            sent_us: histogram(),
            delivered_us: histogram(),
            last_us: histogram(),
            connected: None,
            measured: Duration::default(),
            server: [None; 2],
            generator_cpu_us: 0,
            receives: 0,
            failure: None,
        };
        Self {
            subscribers: vec![Subscriber::default(); settings.users.len()],
            group: None,
            phase: Phase::Connecting,
            phase_ends: Instant::default(),
            measuring: [Instant { ns: u64::MAX }; 2],
            written: 0,
            unanswered: 0,
            in_flight: VecDeque::new(),
            next_due: 0,
            due_from: Instant::default(),
            marked: 0,
            mark_from: Instant::default(),
            body: (0..settings.body_bytes).map(|at| at.to_le_bytes()[0]).collect(),
            findings,
            settings,
        }
    }

    /// What was found; also counts what never came.
    #[must_use]
    pub fn into_findings(mut self) -> Findings {
        let accepted = self.written - self.unanswered as u64;
        let lacks = |of: &Subscriber| accepted.saturating_sub(of.arrived);
        self.findings.lost = self.subscribers.iter().skip(1).map(lacks).sum();
        self.findings
    }

    fn fail(&mut self, why: String) {
        self.findings.failure.get_or_insert(why);
    }

    fn is_measured(&self, due: Instant) -> bool {
        self.measuring[0] <= due && due < self.measuring[1]
    }

    /// A message that is not through yet, by its number.
    fn flying(&mut self, number: u64) -> Option<&mut InFlight> {
        let first = self.written + 1 - self.in_flight.len() as u64;
        let place = usize::try_from(number.checked_sub(first)?).ok()?;
        self.in_flight.get_mut(place)
    }

    fn write(&mut self, swarm: &mut Swarm, due: Instant) {
        let Some(group) = self.group else { return };
        self.written += 1;
        self.unanswered += 1;
        let left = swarm.devices() - 1;
        self.in_flight.push_back(InFlight { due, answered: false, left });
        self.body[..8].copy_from_slice(&u64::from(PUBLISHER).to_le_bytes());
        self.body[8..16].copy_from_slice(&self.written.to_le_bytes());
        let write = Write {
            conversation: &group,
            number: self.written,
            id: scramble(self.written),
            seen: self.written,
            body: &self.body,
        };
        wire::send(&write, swarm.out(PUBLISHER));
    }

    fn replied(&mut self, swarm: &mut Swarm, number: u64, now: Instant) {
        let Some(message) = self.flying(number) else {
            return self.fail(format!("an answer to request {number}, which is not under way"));
        };
        message.answered = true;
        let due = message.due;
        self.unanswered -= 1;
        if self.phase == Phase::Measuring {
            self.findings.sent += 1;
        }
        if self.is_measured(due) {
            self.findings.sent_us.saturating_record(now.since(due).ns / 1_000);
        }
        self.go_on(swarm, now);
    }

    fn arrived(
        &mut self,
        swarm: &mut Swarm,
        index: DeviceIndex,
        pushed: &Pushed<'_>,
        now: Instant,
    ) {
        let Some((_, number)) = read_body(pushed.body) else { return };
        let subscriber = &mut self.subscribers[index as usize];
        if number > subscriber.arrived + 1 {
            return self.pull(swarm, index);
        }
        if number <= subscriber.arrived {
            self.findings.duplicated += 1;
            return;
        }
        subscriber.arrived = number;
        subscriber.seq = pushed.seq;
        subscriber.mark_due = true;
        if self.phase == Phase::Measuring {
            self.findings.delivered += 1;
        }
        let Some(message) = self.flying(number) else { return };
        message.left -= 1;
        let (due, last) = (message.due, message.left == 0);
        if self.is_measured(due) {
            let us = now.since(due).ns / 1_000;
            self.findings.delivered_us.saturating_record(us);
            if last {
                self.findings.last_us.saturating_record(us);
            }
        }
        if last {
            self.go_on(swarm, now);
        }
    }

    /// Forgets what is through; in a closed loop the next messages go.
    fn go_on(&mut self, swarm: &mut Swarm, now: Instant) {
        let through = |message: &InFlight| message.answered && message.left == 0;
        while self.in_flight.front().is_some_and(through) {
            self.in_flight.pop_front();
        }
        if let Pace::Window(window) = self.settings.pace
            && matches!(self.phase, Phase::Warmup | Phase::Measuring)
        {
            while self.in_flight.len() < window as usize && self.unanswered < UNANSWERED_MAX {
                self.write(swarm, now);
            }
        }
    }

    fn pull(&mut self, swarm: &mut Swarm, index: DeviceIndex) {
        let Some(group) = self.group else { return };
        let subscriber = &mut self.subscribers[index as usize];
        if !std::mem::replace(&mut subscriber.pulling, true) {
            wire::history(PULL, &group, subscriber.seq, swarm.out(index));
            self.findings.pulls += 1;
        }
    }

    fn pulled(&mut self, swarm: &mut Swarm, index: DeviceIndex, body: &[u8], now: Instant) {
        let (messages, more) = wire::page(body);
        self.subscribers[index as usize].pulling = false;
        let mut held = 0;
        for message in &messages {
            if message.seq > self.subscribers[index as usize].seq {
                self.arrived(swarm, index, message, now);
                held = message.seq;
            }
        }
        if more && held > 0 {
            self.pull(swarm, index);
        }
    }

    /// Open loop: everything that is due by now.
    fn write_due(&mut self, swarm: &mut Swarm, rate: u32, now: Instant) {
        loop {
            let offset = self.next_due * 1_000_000_000 / u64::from(rate);
            let due = self.due_from + Duration { ns: offset };
            if due > now || self.unanswered >= UNANSWERED_MAX {
                return;
            }
            self.next_due += 1;
            self.write(swarm, due);
        }
    }

    /// Devices acknowledge what they got since their last acknowledgement, some at each moment.
    fn acknowledge(&mut self, swarm: &mut Swarm, now: Instant) {
        let Some(group) = self.group else { return };
        let slice_ns = ACKNOWLEDGE.ns / u64::from(SLICES);
        let wanted = now.since(self.mark_from).ns / slice_ns;
        let begin = self.marked.max(wanted.saturating_sub(u64::from(SLICES)));
        for slice in begin..wanted {
            let first = u32::try_from(slice % u64::from(SLICES)).expect("it is below the slices");
            for index in (first..swarm.devices()).step_by(SLICES as usize) {
                let subscriber = &mut self.subscribers[index as usize];
                if std::mem::take(&mut subscriber.mark_due) {
                    wire::delivered(&group, subscriber.seq, swarm.out(index));
                }
            }
        }
        self.marked = wanted;
    }

    fn enter(&mut self, phase: Phase, ends: Instant) {
        self.phase = phase;
        self.phase_ends = ends;
    }

    fn advance(&mut self, swarm: &mut Swarm, now: Instant) -> bool {
        let over = now >= self.phase_ends;
        match self.phase {
            Phase::Connecting if swarm.settled() => {
                self.findings.connected = Some(now);
                if let Some(why) = swarm.first_refusal() {
                    self.fail(format!("devices could not connect: {why}"));
                    return true;
                }
                self.enter(Phase::Creating, now + PATIENCE);
                let members = self.settings.users[1..].to_vec();
                wire::create_group(CREATE, 1, members, swarm.out(PUBLISHER));
            }
            Phase::Creating if self.group.is_some() => {
                self.enter(Phase::Warmup, now + self.settings.warmup);
                self.due_from = now;
                self.go_on(swarm, now);
            }
            Phase::Creating if over => self.fail("the group was not made in time".to_owned()),
            Phase::Warmup if over => {
                let ends = now + self.settings.measure;
                self.enter(Phase::Measuring, ends);
                self.measuring = [now, ends];
                self.findings.server[0] = self.settings.server_pid.and_then(Usage::of);
                self.findings.generator_cpu_us = process::own_thread_cpu_us();
                self.findings.receives = swarm.counts().receives;
            }
            Phase::Measuring if over => {
                self.findings.measured = now.since(self.measuring[0]);
                self.findings.server[1] = self.settings.server_pid.and_then(Usage::of);
                let cpu_us = process::own_thread_cpu_us();
                self.findings.generator_cpu_us = cpu_us - self.findings.generator_cpu_us;
                self.findings.receives = swarm.counts().receives - self.findings.receives;
                self.enter(Phase::Draining, now + PATIENCE);
            }
            Phase::Draining => return over || self.in_flight.is_empty(),
            Phase::Connecting | Phase::Creating | Phase::Warmup | Phase::Measuring => {}
        }
        self.findings.failure.is_some()
    }
}

impl Scenario for Fanout {
    fn frame(&mut self, swarm: &mut Swarm, index: DeviceIndex, frame: Frame<'_>, now: Instant) {
        match frame.says {
            Incoming::SendReply { .. } => self.replied(swarm, frame.request, now),
            Incoming::GroupCreated { conversation } => self.group = Some(conversation),
            Incoming::Message(pushed) if !pushed.own => self.arrived(swarm, index, &pushed, now),
            Incoming::History(body) => self.pulled(swarm, index, body, now),
            Incoming::Behind => self.pull(swarm, index),
            Incoming::Error { code } => {
                self.fail(load::refused(index, frame.request, code));
            }
            Incoming::Message(_)
            | Incoming::Receipts(_)
            | Incoming::Sync(_)
            | Incoming::Welcome { .. }
            | Incoming::Other => {}
        }
    }

    fn frames_end(&mut self, _: &mut Swarm, _: DeviceIndex, _: Instant) {}

    fn closed(&mut self, _: &mut Swarm, index: DeviceIndex, cause: CloseCause) {
        self.fail(load::disconnected(index, cause));
    }

    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        swarm.start_heartbeats(now);
        if self.mark_from == Instant::default() {
            self.mark_from = now;
        }
        if self.advance(swarm, now) {
            return Flow::Stop;
        }
        self.acknowledge(swarm, now);
        match (self.phase, self.settings.pace) {
            (Phase::Warmup | Phase::Measuring, Pace::Rate(rate)) => {
                self.write_due(swarm, rate, now);
                Flow::Spin
            }
            _ => Flow::Wait,
        }
    }
}
