//! Messages between devices that otherwise only say that they are there, or while many others
//! return: pairs that are spread over all of them, of which a random one writes whenever a message
//! is due. An open loop; every message must arrive once and in order. What devices are, with
//! sockets or without, is not its business: it is given frames and gives bytes.

use super::population::direct;
use super::retries::{BUSY, Retries};
use crate::measure::Meter;
use crate::swarm::{DeviceIndex, Frame, Swarm};
use crate::target::{mark_body, read_body, scramble};
use crate::wire::{self, ConversationBytes, Incoming, Pushed, Write};
use roost_protocol::time::{Duration, Instant};
use std::collections::BTreeMap;
use std::ops::Range;

/// Pairs: so many that each message wakes devices that nothing was heard of for long.
const PAIRS_MAX: u32 = 100_000;
/// Devices that a message a second takes where the next one of a pair waits for the second tick of
/// the last: it comes once a second.
pub const DEVICES_PER_RATE: u32 = 8;
/// The request ids of messages count from here.
const FIRST: u64 = 100;
/// Pairs that are tried before a message that is due waits.
const TRIES: u32 = 16;
/// Messages under way at a time; more are not written until some are through.
pub const FLYING_MAX: usize = 100_000;
/// Bytes of a body, the first 16 for checking.
const BODY_BYTES: usize = 100;
/// After so many the others are only counted.
const COMPLAINTS_MAX: usize = 5;

/// The name of a device's user.
pub type Names = Box<dyn Fn(DeviceIndex) -> String>;

/// The meter's stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    /// To the first tick.
    pub sent: usize,
    /// To the arrival.
    pub delivered: usize,
    /// To the second tick; none: nobody waits for it.
    pub ticked: Option<usize>,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who may be drawn.
    pub devices: Range<DeviceIndex>,
    /// Messages a second; none: nobody says anything.
    pub per_second: u32,
    /// Messages that each device has written to its next neighbour before.
    pub base: u32,
    /// Messages of a pair that may be under way.
    pub at_once: u32,
    /// Messages of all that may be under way.
    pub flying_max: usize,
    /// Every pair writes once, one after the other, before any is drawn.
    pub all_first: bool,
    /// What is measured.
    pub stages: Stages,
    /// Measure also outside of the measured phase.
    pub always: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    conversation: Option<ConversationBytes>,
    /// Messages written.
    number: u32,
    /// The number of the last one that arrived.
    arrived: u32,
    /// The place of the last one that was accepted.
    seq: u64,
    /// Those that are under way.
    open: u32,
}

/// A message that somebody still waits for something of.
#[derive(Debug, Clone, Copy)]
struct Flight {
    due: Instant,
    stages: Stages,
    /// Its place in the conversation, once it is accepted.
    seq: Option<u64>,
    arrived: bool,
    ticked: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Accepted and never arrived.
    pub lost: u64,
    /// Arrived again.
    pub duplicated: u64,
    /// Neither accepted nor refused.
    pub unanswered: u64,
    /// Sent again, because the server said that it is busy.
    pub repeated: u64,
    /// Refused, out of order, or told wrong.
    pub complaints: Vec<String>,
}

/// See the module's comment.
pub struct Talk {
    settings: Settings,
    pairs: Vec<Pair>,
    /// Of so many devices the first is a writer and the second its reader.
    stride: u32,
    names: Names,
    began: Option<Instant>,
    /// When the next message is due; none: no more are.
    next: Option<Instant>,
    /// Messages that were due.
    count: u64,
    /// So many of them were due before it began last.
    count_before: u64,
    /// By pair and number.
    flights: BTreeMap<(usize, u32), Flight>,
    body: Vec<u8>,
    /// For what devices with sockets say.
    scratch: Vec<u8>,
    retries: Retries,
    found: Findings,
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Talk").field("pairs", &self.pairs.len()).finish_non_exhaustive()
    }
}

impl Talk {
    /// Nobody says anything yet.
    #[must_use]
    pub fn new(settings: Settings, names: Names) -> Self {
        let devices = settings.devices.end.saturating_sub(settings.devices.start);
        let pairs = if settings.per_second > 0 { (devices / 2).min(PAIRS_MAX) } else { 0 };
        let pair = Pair { number: settings.base, arrived: settings.base, ..Pair::default() };
        Self {
            settings,
            pairs: vec![pair; pairs as usize],
            stride: (devices / pairs.max(1)).max(2),
            names,
            began: None,
            next: None,
            count: 0,
            count_before: 0,
            flights: BTreeMap::new(),
            body: (0..BODY_BYTES).map(|at| at.to_le_bytes()[0]).collect(),
            scratch: Vec::new(),
            retries: Retries::default(),
            found: Findings::default(),
        }
    }

    /// Messages are due from now on, if any are wanted and there is a pair.
    pub const fn begin(&mut self, now: Instant) {
        if !self.pairs.is_empty() {
            self.began = Some(now);
            self.next = Some(now);
            self.count_before = self.count;
        }
    }

    /// Whether there were as many messages as there are pairs.
    #[must_use]
    pub const fn has_been_round(&self) -> bool {
        self.count >= self.pairs.len() as u64
    }

    /// No message is due any more.
    pub const fn stop(&mut self) {
        self.next = None;
    }

    /// What is written from now on is measured as these stages.
    pub const fn measure_as(&mut self, stages: Stages) {
        self.settings.stages = stages;
    }

    /// Whether messages were ever due, so that frames of its devices are its business.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// Whether what this device says and hears is its business.
    #[must_use]
    pub fn has(&self, device: DeviceIndex) -> bool {
        self.settings.devices.contains(&device)
    }

    /// When the next message is due.
    #[must_use]
    pub const fn next_due(&self) -> Option<Instant> {
        self.next
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.flights.is_empty()
    }

    /// What was found; also counts what never came.
    #[must_use]
    pub fn into_findings(mut self) -> Findings {
        for flight in self.flights.values() {
            self.found.lost += u64::from(flight.seq.is_some() && !flight.arrived);
            self.found.unanswered += u64::from(flight.seq.is_none());
        }
        self.found.repeated = self.retries.count;
        self.found
    }

    /// Writes a message that is due, and says who sends it. None: none is due, or its turn comes
    /// later because everybody who was asked waits for something.
    pub fn write(
        &mut self,
        now: Instant,
        meter: &mut Meter,
        out: &mut Vec<u8>,
    ) -> Option<DeviceIndex> {
        if let Some((writer, request)) = self.retries.next(now) {
            let number = number_of(request)?;
            self.say(self.pair_of(writer)?, number, out);
            return Some(writer);
        }
        let has_room = self.flights.len() < self.settings.flying_max;
        let due = self.next.filter(|due| *due <= now && has_room)?;
        let pair = self.draw()?;
        self.count += 1;
        let since_begin = u128::from(self.count - self.count_before);
        let offset = since_begin * 1_000_000_000 / u128::from(self.settings.per_second);
        let offset = Duration { ns: u64::try_from(offset).ok()? };
        self.next = self.began.map(|began| began + offset);
        if self.settings.always {
            meter.late_at_any_time(due, now);
        } else {
            meter.late(due, now);
        }
        let of = &mut self.pairs[pair];
        of.number += 1;
        of.open += 1;
        let number = of.number;
        let stages = self.settings.stages;
        let flight = Flight { due, stages, seq: None, arrived: false, ticked: false };
        self.flights.insert((pair, number), flight);
        self.say(pair, number, out);
        Some(self.writer_of(pair))
    }

    /// A pair that may write.
    fn draw(&self) -> Option<usize> {
        let pairs = u64::try_from(self.pairs.len()).ok()?;
        if self.settings.all_first && self.count < pairs {
            return usize::try_from(self.count).ok();
        }
        (0..TRIES).find_map(|attempt| {
            let number = scramble(self.count << 8 | u64::from(attempt)) % pairs;
            let pair = usize::try_from(number).ok()?;
            (self.pairs[pair].open < self.settings.at_once).then_some(pair)
        })
    }

    /// A frame came to a device; what it says to that is appended.
    pub fn frame(
        &mut self,
        device: DeviceIndex,
        request: u64,
        says: &Incoming<'_>,
        now: Instant,
        meter: &mut Meter,
        out: &mut Vec<u8>,
    ) {
        let Some(pair) = self.pair_of(device) else { return };
        match says {
            Incoming::SendReply { seq, .. } if request >= FIRST => {
                self.retries.answered(device, request);
                if let Some(number) = number_of(request) {
                    self.accepted((pair, number), *seq, now, meter);
                }
            }
            Incoming::Message(pushed) => {
                if let Some(conversation) = pushed.conversation {
                    wire::delivered(&conversation, pushed.seq, out);
                }
                if !pushed.own {
                    self.arrived(pair, pushed, now, meter);
                }
            }
            Incoming::Receipts(body) => {
                let far = wire::receipts(body).max().unwrap_or(0);
                self.ticked(pair, far, now, meter);
            }
            Incoming::Error { code: BUSY, .. } if request >= FIRST => {
                self.retries.put(device, request, now);
            }
            Incoming::Error { code, .. } => {
                meter.error();
                self.complain(|| format!("device {device}: a message was refused: error {code}"));
            }
            Incoming::Behind => self.complain(|| format!("device {device} fell behind")),
            Incoming::Welcome { .. }
            | Incoming::SendReply { .. }
            | Incoming::History(_)
            | Incoming::Sync(_)
            | Incoming::GroupCreated { .. }
            | Incoming::Other => {}
        }
    }

    fn complain(&mut self, what: impl FnOnce() -> String) {
        if self.found.complaints.len() < COMPLAINTS_MAX {
            self.found.complaints.push(what());
        }
    }

    fn writer_of(&self, pair: usize) -> DeviceIndex {
        let pair = u32::try_from(pair).expect("pairs are fewer than devices");
        self.settings.devices.start + pair * self.stride
    }

    fn pair_of(&self, device: DeviceIndex) -> Option<usize> {
        let place = device.checked_sub(self.settings.devices.start)?;
        let pair = (place / self.stride) as usize;
        (place % self.stride < 2 && pair < self.pairs.len()).then_some(pair)
    }

    /// A message of a pair.
    fn say(&mut self, pair: usize, number: u32, out: &mut Vec<u8>) {
        let writer = self.writer_of(pair);
        let of = &mut self.pairs[pair];
        mark_body(&mut self.body, writer, number.into());
        let names = &self.names;
        let conversation =
            of.conversation.get_or_insert_with(|| direct(&names(writer), &names(writer + 1)));
        let write = Write {
            conversation,
            number: number.into(),
            id: scramble(u64::from(writer) << 32 | u64::from(number)),
            seen: of.seq,
            body: &self.body,
        };
        let request = u32::try_from(FIRST).expect("it is small") + number;
        if number == 1 {
            wire::send_first(request, &names(writer + 1), &write, out);
        } else {
            wire::send_as(request, &write, out);
        }
    }

    fn accepted(&mut self, key: (usize, u32), seq: u64, now: Instant, meter: &mut Meter) {
        let of = &mut self.pairs[key.0];
        of.seq = of.seq.max(seq);
        let Some(flight) = self.flights.get_mut(&key).filter(|of| of.seq.is_none()) else { return };
        flight.seq = Some(seq);
        let flight = *flight;
        meter.sent();
        self.measure(meter, flight.stages.sent, flight.due, now);
        self.land(key);
    }

    fn arrived(&mut self, pair: usize, pushed: &Pushed<'_>, now: Instant, meter: &mut Meter) {
        let Some((author, number)) = read_body(pushed.body) else { return };
        if author != u64::from(self.writer_of(pair)) {
            return self.complain(|| format!("a message of device {author} came to pair {pair}"));
        }
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let newest = &mut self.pairs[pair].arrived;
        if number <= *newest {
            self.found.duplicated += 1;
            return;
        }
        let expected = *newest + 1;
        *newest = number;
        if number != expected {
            self.complain(|| format!("message {number} of device {author} came before {expected}"));
        }
        if let Some(flight) = self.flights.get_mut(&(pair, number)) {
            flight.arrived = true;
            let flight = *flight;
            meter.delivered();
            self.measure(meter, flight.stages.delivered, flight.due, now);
        }
        self.land((pair, number));
    }

    /// The reader has everything up to a place.
    fn ticked(&mut self, pair: usize, far: u64, now: Instant, meter: &mut Meter) {
        let Some(stage) = self.settings.stages.ticked else { return };
        let mut landed = Vec::new();
        for (key, flight) in self.flights.range_mut((pair, 0)..=(pair, u32::MAX)) {
            if flight.seq.is_some_and(|seq| seq <= far) && !flight.ticked {
                flight.ticked = true;
                landed.push((*key, flight.due));
            }
        }
        for (key, due) in landed {
            meter.ticked();
            self.measure(meter, stage, due, now);
            self.land(key);
        }
    }

    fn measure(&self, meter: &mut Meter, stage: usize, due: Instant, now: Instant) {
        if self.settings.always {
            meter.took_at_any_time(stage, due, now);
        } else {
            meter.took(stage, due, now);
        }
    }

    /// Forgets a message of which nobody waits for anything.
    fn land(&mut self, key: (usize, u32)) {
        let is_through = |of: &Flight| {
            of.seq.is_some() && of.arrived && (of.ticked || of.stages.ticked.is_none())
        };
        if self.flights.get(&key).is_some_and(is_through) {
            self.flights.remove(&key);
            self.pairs[key.0].open -= 1;
        }
    }

    /// For devices with sockets: writes everything that is due.
    pub(crate) fn turn(&mut self, swarm: &mut Swarm, now: Instant, meter: &mut Meter) {
        let mut out = std::mem::take(&mut self.scratch);
        while let Some(writer) = self.write(now, meter, &mut out) {
            swarm.out(writer).append(&mut out);
        }
        self.scratch = out;
    }

    /// For devices with sockets: takes what concerns it.
    pub(crate) fn told(
        &mut self,
        swarm: &mut Swarm,
        device: DeviceIndex,
        frame: &Frame<'_>,
        now: Instant,
        meter: &mut Meter,
    ) {
        let mut out = std::mem::take(&mut self.scratch);
        self.frame(device, frame.request, &frame.says, now, meter, &mut out);
        if !out.is_empty() {
            swarm.out(device).append(&mut out);
        }
        self.scratch = out;
    }
}

/// The number of the message that a request wrote.
fn number_of(request: u64) -> Option<u32> {
    u32::try_from(request.checked_sub(FIRST)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Observed;
    use crate::measure::progress::Progress;
    use bytes::Bytes;
    use roost_protocol::wire::message::Content;
    use roost_protocol::wire::server_frame::Body;
    use roost_protocol::{encode, frame, wire as messages};

    const STAGES: [&str; 3] = ["sent", "delivered", "ticked"];
    const TICKED: Stages = Stages { sent: 0, delivered: 1, ticked: Some(2) };

    fn settings(devices: Range<DeviceIndex>, at_once: u32, stages: Stages) -> Settings {
        let (flying_max, all_first) = (FLYING_MAX, false);
        let base = 0;
        Settings {
            devices,
            per_second: 10,
            base,
            at_once,
            flying_max,
            all_first,
            stages,
            always: false,
        }
    }

    fn names() -> Names {
        Box::new(|index| format!("user{index}"))
    }

    struct World {
        talk: Talk,
        meter: Meter,
        out: Vec<u8>,
    }

    impl World {
        fn new(settings: Settings) -> Self {
            let mut talk = Talk::new(settings, names());
            talk.begin(at(0));
            let progress = Progress::new(false);
            let meter = Meter::new(Observed::default(), &STAGES, 1, true, progress);
            Self { talk, meter, out: Vec::new() }
        }

        fn write(&mut self, ms: u64) -> Option<DeviceIndex> {
            self.talk.write(at(ms), &mut self.meter, &mut self.out)
        }

        fn told(&mut self, device: DeviceIndex, request: u32, body: Body) {
            let mut bytes = Vec::new();
            encode::server(request, body, &mut bytes);
            let Ok(frame::Cut::Frame { content, .. }) = frame::cut(&bytes, 1 << 20) else {
                panic!("a frame")
            };
            let (request, says) = wire::read(content);
            let (meter, out) = (&mut self.meter, &mut self.out);
            self.talk.frame(device, request, &says, at(50), meter, out);
        }

        fn accept(&mut self, number: u32, seq: u64) {
            let reply = messages::SendReply { seq, ..Default::default() };
            self.told(0, 100 + number, Body::Send(reply));
        }

        fn arrive(&mut self, number: u64, seq: u64) {
            let mut body = vec![0; BODY_BYTES];
            mark_body(&mut body, 0, number);
            let message = messages::Message {
                conversation: Bytes::copy_from_slice(&[4; 16]),
                seq,
                content: Some(Content::Body(body.into())),
                ..Default::default()
            };
            self.told(1, 0, Body::Message(message));
        }

        fn tick(&mut self, delivered: u64) {
            let receipt = messages::Receipt { delivered, ..Default::default() };
            self.told(0, 0, Body::Receipts(messages::Receipts { receipts: vec![receipt] }));
        }
    }

    fn at(ms: u64) -> Instant {
        Instant { ns: ms * 1_000_000 }
    }

    #[test]
    fn the_next_message_of_a_pair_waits_until_the_last_is_through() {
        let mut world = World::new(settings(0..2, 1, TICKED));
        assert_eq!(world.write(0), Some(0));
        assert_eq!(world.write(100), None, "the only pair is busy");
        world.accept(1, 7);
        world.arrive(1, 7);
        assert!(!world.out.is_empty() && !world.talk.is_still());
        world.tick(7);
        assert!(world.talk.is_still());
        assert_eq!(world.write(99), None, "not due");
        assert_eq!(world.write(100), Some(0));
        world.accept(2, 8);
        world.tick(7);
        let found = world.talk.into_findings();
        assert_eq!((found.lost, found.unanswered, found.duplicated), (1, 0, 0));
    }

    #[test]
    fn what_is_doubled_or_out_of_order_is_told() {
        let mut world = World::new(settings(0..2, 3, TICKED));
        for due in [0, 100, 200] {
            assert_eq!(world.write(due), Some(0), "three may be under way");
        }
        assert_eq!(world.write(300), None);
        (1..=3).for_each(|number| world.accept(number, number.into()));
        world.arrive(1, 1);
        world.arrive(1, 1);
        world.arrive(3, 3);
        let found = world.talk.into_findings();
        assert_eq!((found.lost, found.unanswered, found.duplicated), (1, 0, 1));
        assert_eq!(found.complaints, ["message 3 of device 0 came before 2"]);
    }

    #[test]
    fn without_second_ticks_nobody_waits_for_them() {
        let stages = Stages { ticked: None, ..TICKED };
        let mut world = World::new(Settings { base: 1, ..settings(0..2, 1, stages) });
        world.write(0);
        world.accept(2, 7);
        assert!(!world.talk.is_still());
        world.arrive(2, 7);
        assert!(world.talk.is_still(), "number 1 was written before");
        assert!(world.talk.into_findings().complaints.is_empty());
    }

    #[test]
    fn a_tick_is_of_everything_up_to_its_place() {
        let mut world = World::new(settings(0..2, 3, TICKED));
        for (number, due) in [(1, 0), (2, 100), (3, 200)] {
            world.write(due);
            world.accept(number, u64::from(number) + 6);
            world.arrive(number.into(), u64::from(number) + 6);
        }
        world.tick(8);
        assert_eq!(world.talk.flights.len(), 1);
        world.tick(9);
        assert!(world.talk.is_still());
    }

    #[test]
    fn a_busy_server_is_asked_again_and_a_refusal_is_told() {
        let mut world = World::new(settings(0..2, 1, TICKED));
        world.write(0);
        world.talk.stop();
        world.out.clear();
        let error = |code| Body::Error(messages::Error { code, ..Default::default() });
        world.told(0, 101, error(i32::try_from(BUSY).unwrap()));
        assert_eq!(world.write(10_000), Some(0));
        assert!(!world.out.is_empty());
        world.told(0, 101, error(3));
        let found = world.talk.into_findings();
        assert_eq!((found.repeated, found.complaints.len()), (1, 1));
    }

    #[test]
    fn pairs_are_spread_over_all_devices() {
        let talk = |devices| Talk::new(settings(devices, 1, TICKED), names());
        let of_many = talk(0..1_000_000);
        assert_eq!(of_many.pair_of(999_990), Some(99_999));
        assert_eq!(of_many.pair_of(999_991), Some(99_999));
        assert_eq!(of_many.pair_of(999_992), None);
        assert_eq!(of_many.writer_of(99_999), 999_990);
        let behind = talk(10..15);
        assert_eq!((behind.pairs.len(), behind.writer_of(1)), (2, 12));
        assert_eq!([9, 10, 13, 14].map(|at| behind.pair_of(at)), [None, Some(0), Some(1), None]);
        assert!(behind.has(14) && !behind.has(9));
    }

    #[test]
    fn nobody_speaks_where_nobody_is_or_is_to() {
        let nothing = Settings { per_second: 0, ..settings(0..100, 1, TICKED) };
        for settings in [nothing, settings(0..1, 1, TICKED), settings(0..0, 1, TICKED)] {
            let mut talk = Talk::new(settings, names());
            talk.begin(at(0));
            assert!(!talk.has_begun() && talk.pairs.is_empty() && talk.is_still());
        }
    }
}
