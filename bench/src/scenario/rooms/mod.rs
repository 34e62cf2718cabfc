//! Rooms in which devices write and read, on any target: pairs, a group with one writer, one
//! conversation as fast as it goes. What differs between those is the layout alone.
//!
//! In a closed loop the next message of a seat goes when one was accepted and is with all readers;
//! in an open loop messages are due at fixed times, whether or not earlier ones are through, and
//! every latency counts from when the message was due. The second tick is waited for by nobody,
//! but every message of a direct room must have it in the end, where the target has ticks. Each
//! body holds who wrote it and its number, so that a message which is missing, doubled or out of
//! order is seen.
//!
//! Devices acknowledge like those of the client crate: at once when they said nothing lately, else
//! what gathered within 100 ms goes in one.

mod extra;
mod findings;
mod flight;
mod gathering;
mod phases;

pub use extra::{Extra, Mix, Stalls, Weights};
pub use findings::Findings;

use super::load::{self, Load, Pace, UNANSWERED_MAX};
use crate::marks::Marks;
use crate::measure::Meter;
use crate::swarm::{DeviceIndex, Flow, Frame, Scenario, Swarm};
use crate::target::{Happened, Heartbeat, Layout, Promises, SeatIndex, Target, mark_body};
use flight::{InFlight, Writer};
use gathering::{Gathering, INTERVAL};
use phases::Phase;
use roost_event_loop::CloseCause;
use roost_protocol::time::{Duration, Instant};
use std::rc::Rc;

/// The stages of a message.
pub const STAGES: [&str; 5] = ["sent", "delivered", "last", "ticked", "missed"];
/// To the first tick: the target has it.
pub const SENT: usize = 0;
/// To each arrival.
pub const DELIVERED: usize = 1;
/// To the last arrival; only where there are several readers.
const LAST: usize = 2;
/// To the second tick.
pub const TICKED: usize = 3;
/// To the arrival at a device that was away when the message was due.
const MISSED: usize = 4;
/// First messages under way at a time: what a server takes at once is bounded.
const OPENING_MAX: u64 = 20_000;

/// Each device acknowledges at most once in so long, as the client crate's do.
pub const ACKNOWLEDGE_EVERY_MS: u64 = INTERVAL.ns / 1_000_000;

/// How lately a device acknowledged.
#[derive(Debug, Clone, Copy, Default)]
struct Quiet {
    /// Acknowledgements before that are gathered.
    until: Instant,
    /// Its next one waits in [`Gathering`].
    gathers: bool,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Rooms<T> {
    load: Load,
    layout: Rc<Layout>,
    target: T,
    promises: Promises,
    /// What the swarm has not been told yet.
    heartbeat: Option<Heartbeat>,
    quiet: Vec<Quiet>,
    gathering: Gathering,
    writers: Vec<SeatIndex>,
    /// By seat; those who do not write have an empty one.
    flights: Vec<Writer>,
    arrived: Marks,
    phase: Phase,
    phase_ends: Instant,
    /// Messages that are not through and, where there are ticks, not ticked.
    flying: u64,
    setting_up: u32,
    /// Writers that have said their first words.
    opened: usize,
    extra: Extra,
    next_due: u64,
    due_from: Instant,
    body: Vec<u8>,
    scratch: Vec<u8>,
    happened: Vec<Happened>,
    meter: Meter,
    findings: Findings,
}

impl<T: Target> Rooms<T> {
    /// Before the first connection.
    #[must_use]
    pub fn new(load: Load, layout: Rc<Layout>, target: T, meter: Meter) -> Self {
        let writers = layout.writers();
        let mut flights = vec![Writer::default(); layout.seat_count() as usize];
        for seat in &writers {
            let room = layout.room_of(*seat);
            flights[*seat as usize].waits_for_ticks = room.direct && target.promises().ticks;
            if let Pace::Window(window) = load.pace {
                let place = *seat - room.first;
                flights[*seat as usize].window = (window + room.writers - 1 - place) / room.writers;
            }
        }
        Self {
            promises: target.promises(),
            heartbeat: target.heartbeat(),
            arrived: Marks::of(&layout),
            flights,
            writers,
            phase: Phase::Connecting,
            phase_ends: Instant::default(),
            flying: 0,
            setting_up: 0,
            opened: 0,
            extra: Extra::None,
            next_due: 0,
            due_from: Instant::default(),
            body: (0..load.body_bytes).map(|at| at.to_le_bytes()[0]).collect(),
            scratch: Vec::new(),
            happened: Vec::new(),
            meter,
            findings: Findings::default(),
            quiet: vec![Quiet::default(); layout.devices() as usize],
            gathering: Gathering::default(),
            load,
            layout,
            target,
        }
    }

    /// The same with readers that stall, or with devices that do more than write.
    #[must_use]
    pub fn with(self, extra: Extra) -> Self {
        Self { extra, ..self }
    }

    /// What was found; also counts what never came.
    #[must_use]
    pub fn into_findings(mut self, now: Instant) -> Findings {
        self.findings.lost = self.lacking() + self.findings.missed;
        let unanswered: usize = self.flights.iter().map(|flight| flight.unanswered).sum();
        self.findings.unanswered = unanswered as u64;
        self.findings.metered = self.meter.finish(now);
        self.findings
    }

    /// Accepted messages that somebody has not got yet, over all readers.
    fn lacking(&self) -> u64 {
        let mut lacking = 0;
        for room in self.layout.rooms() {
            for writer in room.first..room.first + room.writers {
                let author = self.layout.seat(writer).device;
                let accepted = self.flights[writer as usize].accepted();
                for reader in (room.first..room.first + room.seats).filter(|at| *at != writer) {
                    let arrived = self.arrived.get(&self.layout, reader, author).unwrap_or(0);
                    lacking += accepted.saturating_sub(arrived);
                }
            }
        }
        lacking
    }

    fn fail(&mut self, why: String) {
        self.meter.error();
        self.findings.failure.get_or_insert(why);
    }

    fn write(&mut self, swarm: &mut Swarm, seat: SeatIndex, due: Instant, now: Instant) {
        let of = self.layout.seat(seat);
        let left = self.layout.room_of(seat).seats - 1 - self.extra.stallers();
        let number = self.flights[seat as usize].write(due, left);
        self.flying += 1;
        mark_body(&mut self.body, of.device, number);
        self.target.write(seat, number, &self.body, swarm.out(of.device));
        if !self.promises.accepts {
            self.accepted(swarm, seat, number, number, now);
        }
    }

    fn accepted(
        &mut self,
        swarm: &mut Swarm,
        seat: SeatIndex,
        number: u64,
        place: u64,
        now: Instant,
    ) {
        let flight = &mut self.flights[seat as usize];
        let Some(message) = flight.get(number) else {
            return self.fail(format!("seat {seat}: an answer to message {number}, not under way"));
        };
        if message.place != 0 {
            return self.fail(format!("seat {seat}: message {number} was answered twice"));
        }
        message.place = place.max(1);
        let message = *message;
        flight.unanswered -= 1;
        if self.promises.accepts {
            self.meter.sent();
            self.meter.took(SENT, message.due, now);
        }
        self.tick(seat, now);
        self.step(swarm, seat, message, now);
        self.write_waiting(swarm, seat, now);
    }

    fn arrived(
        &mut self,
        swarm: &mut Swarm,
        seat: SeatIndex,
        (author, number): (DeviceIndex, u64),
        now: Instant,
    ) {
        let Some(held) = self.arrived.get(&self.layout, seat, author) else {
            return self
                .fail(format!("seat {seat}: a message of somebody who does not write here"));
        };
        if number <= held {
            self.findings.duplicated += 1;
            return self.meter.error();
        }
        if number > held + 1 {
            self.findings.missed += number - held - 1;
            self.meter.error();
        }
        self.arrived.set(&self.layout, seat, author, number);
        self.meter.delivered();
        let room = self.layout.room_of(seat);
        let reader = self.layout.seat(seat).device;
        if self.extra.stalls(reader) {
            return;
        }
        let writer = self.layout.writer(room, author).expect("the marks know the author");
        let Some(message) = self.flights[writer as usize].get(number) else { return };
        message.left = message.left.saturating_sub(1);
        let message = *message;
        let stage = if message.due < self.extra.came_at(reader) { MISSED } else { DELIVERED };
        self.meter.took(stage, message.due, now);
        if message.left == 0 && room.seats > 2 {
            self.meter.took(LAST, message.due, now);
        }
        self.step(swarm, writer, message, now);
    }

    /// A message was accepted or arrived: if it is through, the next one may go.
    fn step(&mut self, swarm: &mut Swarm, seat: SeatIndex, message: InFlight, now: Instant) {
        if message.place == 0 || message.left > 0 {
            return;
        }
        self.flights[seat as usize].open -= 1;
        self.forget(seat);
        if matches!(self.phase, Phase::Warmup | Phase::Measuring) {
            self.fill(swarm, seat, now);
        }
    }

    /// Closed loop: as many messages as there is room for.
    fn fill(&mut self, swarm: &mut Swarm, seat: SeatIndex, now: Instant) {
        while self.flights[seat as usize].may_write() {
            self.write(swarm, seat, now, now);
        }
    }

    /// Notes second ticks.
    fn tick(&mut self, seat: SeatIndex, now: Instant) {
        while let Some(due) = self.flights[seat as usize].next_tick() {
            self.meter.ticked();
            self.meter.took(TICKED, due, now);
        }
        self.forget(seat);
    }

    /// Forgets what nobody waits for any more.
    fn forget(&mut self, seat: SeatIndex) {
        self.flying -= self.flights[seat as usize].forget();
    }

    /// Open loop: writes what is due and had to wait for room.
    fn write_waiting(&mut self, swarm: &mut Swarm, seat: SeatIndex, now: Instant) {
        while self.flights[seat as usize].unanswered < UNANSWERED_MAX
            && let Some(due) = self.flights[seat as usize].waiting.pop_front()
        {
            self.write(swarm, seat, due, now);
        }
    }

    /// Open loop: everything that is due by now, one writer after the other.
    fn write_due(&mut self, swarm: &mut Swarm, rate: u32, now: Instant) {
        let writers = self.writers.len() as u64;
        loop {
            let offset = u128::from(self.next_due) * 1_000_000_000 / u128::from(rate);
            let offset = u64::try_from(offset).expect("a run is shorter than centuries");
            let due = self.due_from + Duration { ns: offset };
            if due > now || writers == 0 {
                return;
            }
            let place = usize::try_from(self.next_due % writers).expect("it is below the writers");
            self.next_due += 1;
            let seat = match self.act_instead(swarm, now) {
                None => self.writers[place],
                Some(None) => continue,
                Some(Some(seat)) => seat,
            };
            if self.flights[seat as usize].unanswered < UNANSWERED_MAX {
                self.meter.late(due, now);
                self.write(swarm, seat, due, now);
            } else {
                self.flights[seat as usize].waiting.push_back(due);
            }
        }
    }

    /// Whose connection that is.
    fn owner(&self, connection: DeviceIndex) -> DeviceIndex {
        connection % self.layout.devices().max(1)
    }

    /// What came is acknowledged at once, or together with what comes within a while.
    fn acknowledge_or_gather(&mut self, swarm: &mut Swarm, device: DeviceIndex, now: Instant) {
        let quiet = &mut self.quiet[device as usize];
        if quiet.until <= now {
            self.acknowledge(swarm, device, now);
        } else if !quiet.gathers {
            quiet.gathers = true;
            self.gathering.put(device, quiet.until);
        }
    }

    /// A device that left meanwhile does it when it is back.
    fn acknowledge(&mut self, swarm: &mut Swarm, device: DeviceIndex, now: Instant) {
        if !swarm.is_ready(device) {
            return;
        }
        self.quiet[device as usize].until = now + INTERVAL;
        self.target.acknowledge(device, &mut self.scratch);
        self.send_scratch(swarm, device);
    }

    /// What the target wants a device to send, if anything: a device without words has no buffer.
    fn send_scratch(&mut self, swarm: &mut Swarm, device: DeviceIndex) {
        if !self.scratch.is_empty() {
            swarm.out(device).extend_from_slice(&self.scratch);
            self.scratch.clear();
        }
    }

    fn happen(&mut self, swarm: &mut Swarm, device: DeviceIndex, what: Happened, now: Instant) {
        match what {
            Happened::Ready => {
                swarm.welcomed(device);
                self.extra.came(self.owner(device), now);
            }
            Happened::HeartbeatEvery(ms) => swarm.heartbeat_every(ms),
            Happened::SetUp => self.setting_up = self.setting_up.saturating_sub(1),
            Happened::Accepted { seat, number, place } => {
                self.accepted(swarm, seat, number, place, now);
            }
            Happened::Arrived { seat, author, number } => {
                self.arrived(swarm, seat, (author, number), now);
            }
            Happened::Ticked { seat, place } => {
                let flight = &mut self.flights[seat as usize];
                flight.watermark = flight.watermark.max(place);
                self.tick(seat, now);
            }
            Happened::Echoed => swarm.counts.echoes += 1,
            Happened::Pulled => self.findings.pulls += 1,
            Happened::Refused => self.findings.repeated += 1,
            Happened::Acted => self.findings.answered += 1,
        }
    }
}

impl<T: Target> Scenario for Rooms<T> {
    fn open(&mut self, swarm: &mut Swarm, device: DeviceIndex) {
        self.target.open(device, swarm.out(device));
    }

    fn received(
        &mut self,
        swarm: &mut Swarm,
        device: DeviceIndex,
        bytes: &[u8],
        now: Instant,
    ) -> usize {
        let mut happened = std::mem::take(&mut self.happened);
        let mut used = bytes.len();
        match self.target.receive(device, bytes, &mut self.scratch, &mut happened) {
            Ok(count) => used = count,
            Err(refusal) if swarm.is_ready(device) => self.fail(refusal.to_string()),
            Err(refusal) => swarm.refused(device, || refusal.to_string()),
        }
        let has_come = |what: &Happened| matches!(what, Happened::Arrived { .. } | Happened::Ready);
        let has_come = happened.iter().any(has_come);
        for what in happened.drain(..) {
            self.happen(swarm, device, what, now);
        }
        self.happened = happened;
        self.send_scratch(swarm, device);
        if has_come {
            self.acknowledge_or_gather(swarm, self.owner(device), now);
        }
        used
    }

    fn frame(&mut self, _: &mut Swarm, _: DeviceIndex, _: Frame<'_>, _: Instant) {}

    fn closed(&mut self, _: &mut Swarm, device: DeviceIndex, cause: CloseCause) {
        self.target.closed(device);
        self.fail(load::disconnected(device, cause));
    }

    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow {
        if let Some(heartbeat) = self.heartbeat.take() {
            swarm.heartbeat_is(heartbeat.bytes);
            swarm.heartbeat_every(heartbeat.every_ms);
        }
        swarm.start_heartbeats(now);
        if self.advance(swarm, now) {
            return Flow::Stop;
        }
        self.meter.turn(now, swarm.ready().into());
        self.stall_and_return(swarm, now);
        while let Some(device) = self.target.again(now, &mut self.scratch) {
            self.send_scratch(swarm, device);
        }
        while let Some(device) = self.gathering.next(now) {
            self.quiet[device as usize].gathers = false;
            self.acknowledge(swarm, device, now);
        }
        match (self.phase, self.load.pace) {
            (Phase::Warmup | Phase::Measuring, Pace::Rate(rate)) => {
                self.write_due(swarm, rate, now);
                Flow::Spin
            }
            _ => Flow::Wait,
        }
    }
}
