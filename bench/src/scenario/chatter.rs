//! Durable messages between devices drawn at random, each writing to its neighbour: what it costs
//! to be spoken to when a million others are silent, or while they all return. An open loop; every
//! message must arrive once, in order.

use super::population::direct;
use super::retries::{BUSY, Retries};
use crate::measure::Meter;
use crate::swarm::{DeviceIndex, Frame, Swarm};
use crate::target::scramble;
use crate::wire::{self, Incoming, Write};
use roost_protocol::time::Instant;
use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of a body: who writes, which message of theirs it is, and filling.
const BODY_BYTES: usize = 100;
/// Messages that are under way at a time; more are not written until some have arrived.
const FLYING_MAX: usize = 20_000;

/// A message that somebody still waits for something of.
#[derive(Debug, Clone, Copy)]
struct Flight {
    due: Instant,
    /// The meter's stages of its first tick and its arrival.
    stages: [usize; 2],
    accepted: bool,
    arrived: bool,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub(super) struct Talk {
    /// Messages a second.
    pub(super) per_second: u32,
    /// Who may be drawn.
    pub(super) devices: Range<DeviceIndex>,
    /// Each device's number before its first message: what it wrote to its neighbour before.
    pub(super) base: u32,
    /// The meter's stages of first ticks and arrivals.
    pub(super) stages: [usize; 2],
    /// Measure also outside of the measured phase.
    pub(super) always: bool,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Chatter {
    talk: Talk,
    began: Option<Instant>,
    written: u64,
    flights: BTreeMap<(DeviceIndex, u32), Flight>,
    /// Messages of each device so far, and those of them that came to its neighbour.
    numbers: Vec<(u32, u32)>,
    retries: Retries,
    pub(super) duplicated: u64,
    /// The first thing that went wrong.
    pub(super) failure: Option<String>,
}

impl Chatter {
    /// Nothing is written yet.
    pub(super) fn new(talk: Talk) -> Self {
        Self {
            talk,
            began: None,
            written: 0,
            flights: BTreeMap::new(),
            numbers: Vec::new(),
            retries: Retries::default(),
            duplicated: 0,
            failure: None,
        }
    }

    /// From now on messages are due.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.talk.per_second > 0 && !self.talk.devices.is_empty() {
            self.began = Some(now);
            self.numbers = vec![(self.talk.base, self.talk.base); self.talk.devices.len()];
        }
    }

    /// Whether it is the business of this device.
    pub(super) fn has(&self, device: DeviceIndex) -> bool {
        self.talk.devices.contains(&device)
    }

    /// What is written from now on is measured as these stages.
    pub(super) const fn measure_as(&mut self, stages: [usize; 2]) {
        self.talk.stages = stages;
    }

    /// No more messages are written.
    pub(super) const fn stop(&mut self) {
        self.talk.per_second = 0;
    }

    /// Whether frames of devices are its business.
    pub(super) const fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// Accepted messages that have not arrived, and messages without an answer.
    pub(super) fn open(&self) -> (u64, u64) {
        let count = |of: fn(&Flight) -> bool| self.flights.values().filter(|it| of(it)).count();
        (count(|it| it.accepted && !it.arrived) as u64, count(|it| !it.accepted) as u64)
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_done(&self) -> bool {
        self.flights.is_empty()
    }

    /// How often the server had no room.
    pub(super) const fn repeated(&self) -> u64 {
        self.retries.count
    }

    /// Writes what is due.
    pub(super) fn turn(
        &mut self,
        swarm: &mut Swarm,
        users: &[String],
        now: Instant,
        meter: &mut Meter,
    ) {
        while let Some((device, request)) = self.retries.next(now) {
            let number = u32::try_from(request).expect("it is one of our numbers");
            self.write(swarm, users, device, number);
        }
        let Some(began) = self.began else { return };
        let per_second = u64::from(self.talk.per_second);
        let due_ns = |number: u64| number * 1_000_000_000 / per_second.max(1);
        let count = self.numbers.len() as u64;
        while per_second > 0
            && self.flights.len() < FLYING_MAX
            && due_ns(self.written) <= now.since(began).ns
        {
            let due = Instant { ns: began.ns + due_ns(self.written) };
            let place = scramble(self.written) % count;
            let place = DeviceIndex::try_from(place).expect("it is a device");
            let device = self.talk.devices.start + place;
            self.written += 1;
            let number = self.numbers[place as usize].0 + 1;
            self.numbers[place as usize].0 = number;
            let stages = self.talk.stages;
            let flight = Flight { due, stages, accepted: false, arrived: false };
            self.flights.insert((device, number), flight);
            if self.talk.always {
                meter.late_at_any_time(due, now);
            } else {
                meter.late(due, now);
            }
            self.write(swarm, users, device, number);
        }
    }

    /// Takes what concerns it. Devices acknowledge what comes to them.
    pub(super) fn frame(
        &mut self,
        swarm: &mut Swarm,
        index: DeviceIndex,
        frame: &Frame<'_>,
        now: Instant,
        meter: &mut Meter,
    ) {
        match frame.says {
            Incoming::SendReply { .. } => {
                let key = (index, u32::try_from(frame.request).unwrap_or(u32::MAX));
                if let Some(flight) = self.flights.get_mut(&key)
                    && !std::mem::replace(&mut flight.accepted, true)
                {
                    meter.sent();
                    let (stage, due) = (flight.stages[0], flight.due);
                    self.measure(meter, stage, due, now);
                }
                self.land(key);
            }
            Incoming::Message(pushed) => {
                if let Some(conversation) = pushed.conversation {
                    wire::delivered(&conversation, pushed.seq, swarm.out(index));
                }
                if !pushed.own
                    && let Some(key) = named(pushed.body)
                {
                    self.arrived(key, now, meter);
                }
            }
            Incoming::Behind => self.fail(|| format!("device {index}: behind")),
            Incoming::Error { code: BUSY, .. } => self.retries.put(index, frame.request, now),
            Incoming::Error { code, .. } => {
                meter.error();
                self.fail(|| format!("device {index}: error {code}"));
            }
            Incoming::Welcome { .. }
            | Incoming::Receipts(_)
            | Incoming::History(_)
            | Incoming::Sync(_)
            | Incoming::GroupCreated { .. }
            | Incoming::Other => {}
        }
    }

    fn arrived(&mut self, key: (DeviceIndex, u32), now: Instant, meter: &mut Meter) {
        let (device, number) = key;
        let place = device.wrapping_sub(self.talk.devices.start) as usize;
        let Some((_, newest)) = self.numbers.get_mut(place) else { return };
        if number <= *newest {
            self.duplicated += 1;
            return;
        }
        let expected = *newest + 1;
        *newest = number;
        if number != expected {
            self.fail(|| format!("message {number} of device {device} came before {expected}"));
        }
        if let Some(flight) = self.flights.get_mut(&key) {
            flight.arrived = true;
            meter.delivered();
            let (stage, due) = (flight.stages[1], flight.due);
            self.measure(meter, stage, due, now);
        }
        self.land(key);
    }

    fn measure(&self, meter: &mut Meter, stage: usize, due: Instant, now: Instant) {
        if self.talk.always {
            meter.took_at_any_time(stage, due, now);
        } else {
            meter.took(stage, due, now);
        }
    }

    fn land(&mut self, key: (DeviceIndex, u32)) {
        if self.flights.get(&key).is_some_and(|flight| flight.accepted && flight.arrived) {
            self.flights.remove(&key);
        }
    }

    fn fail(&mut self, why: impl FnOnce() -> String) {
        self.failure.get_or_insert_with(why);
    }

    /// A device writes to its neighbour.
    fn write(&self, swarm: &mut Swarm, users: &[String], device: DeviceIndex, number: u32) {
        let Range { start, end } = self.talk.devices;
        let neighbour = if device + 1 < end { device + 1 } else { start };
        let (own, peer) = (&users[device as usize], &users[neighbour as usize]);
        let mut body = [0x2e; BODY_BYTES];
        body[..4].copy_from_slice(&device.to_le_bytes());
        body[4..8].copy_from_slice(&number.to_le_bytes());
        let write = Write {
            conversation: &direct(own, peer),
            number: number.into(),
            id: scramble(u64::from(device) << 32 | u64::from(number)),
            seen: 0,
            body: &body,
        };
        if number == 1 {
            wire::send_first(number, peer, &write, swarm.out(device));
        } else {
            wire::send_as(number, &write, swarm.out(device));
        }
    }
}

/// Whose message this is, and which one, if it is one of ours.
fn named(body: &[u8]) -> Option<(DeviceIndex, u32)> {
    if body.len() != BODY_BYTES {
        return None;
    }
    let (device, rest) = body.split_first_chunk::<4>()?;
    let number = rest.first_chunk::<4>()?;
    Some((DeviceIndex::from_le_bytes(*device), u32::from_le_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Observed;
    use crate::measure::progress::Progress;

    fn meter() -> Meter {
        Meter::new(Observed::default(), &["sent", "delivered"], 1, true, Progress::new(false))
    }

    fn chatter() -> Chatter {
        let talk = Talk { per_second: 100, devices: 10..13, base: 0, stages: [0, 1], always: true };
        let mut chatter = Chatter::new(talk);
        chatter.begin(Instant { ns: 1 });
        chatter
    }

    fn flies(chatter: &mut Chatter, device: DeviceIndex, number: u32) {
        let due = Instant { ns: 1 };
        let flight = Flight { due, stages: [0, 1], accepted: false, arrived: false };
        chatter.flights.insert((device, number), flight);
    }

    #[test]
    fn a_message_that_comes_twice_is_counted() {
        let (mut chatter, mut meter) = (chatter(), meter());
        flies(&mut chatter, 11, 1);
        chatter.arrived((11, 1), Instant { ns: 9 }, &mut meter);
        assert_eq!((chatter.duplicated, chatter.open()), (0, (0, 1)), "it lacks its tick");
        chatter.arrived((11, 1), Instant { ns: 9 }, &mut meter);
        assert_eq!(chatter.duplicated, 1);
        assert_eq!(chatter.failure, None);
    }

    #[test]
    fn a_message_that_overtakes_another_fails_the_run() {
        let (mut chatter, mut meter) = (chatter(), meter());
        chatter.arrived((12, 2), Instant { ns: 9 }, &mut meter);
        assert_eq!(chatter.failure.as_deref(), Some("message 2 of device 12 came before 1"));
    }

    #[test]
    fn what_was_accepted_and_never_came_is_open() {
        let mut chatter = chatter();
        flies(&mut chatter, 10, 1);
        chatter.flights.get_mut(&(10, 1)).unwrap().accepted = true;
        flies(&mut chatter, 10, 2);
        assert_eq!(chatter.open(), (1, 1));
    }

    #[test]
    fn a_body_names_its_message() {
        let mut body = [0; BODY_BYTES];
        body[..8].copy_from_slice(&[7, 0, 0, 0, 9, 1, 0, 0]);
        assert_eq!(named(&body), Some((7, 265)));
        assert_eq!(named(&body[1..]), None);
    }
}
