//! Messages between devices that otherwise only say that they are there: pairs that are spread over
//! all of them, of which a random one writes whenever a message is due. One message of a pair is on
//! its way at a time, so that what is lost, doubled or late is seen at once.

use super::population::direct;
use super::retries::{BUSY, Retries};
use crate::measure::Meter;
use crate::swarm::DeviceIndex;
use crate::target::{mark_body, read_body, scramble};
use crate::wire::{self, ConversationBytes, Incoming, Pushed, Write};
use roost_protocol::time::{Duration, Instant};

/// The stages of a message.
pub const STAGES: [&str; 3] = ["sent", "delivered", "ticked"];
const SENT: usize = 0;
/// The one that progress shows.
pub const DELIVERED: usize = 1;
const TICKED: usize = 2;

/// Pairs: so many that each message wakes devices that nothing was heard of for long.
const PAIRS_MAX: u32 = 100_000;
/// Devices that a message a second takes: the second tick comes once a second.
pub const DEVICES_PER_RATE: u32 = 8;
/// The request ids of messages count from here.
const FIRST: u64 = 100;
/// Pairs that are tried before a message that is due waits.
const TRIES: u32 = 16;
/// Bytes of a body, the first 16 for checking.
const BODY_BYTES: usize = 100;
/// After so many the others are only counted.
const COMPLAINTS_MAX: usize = 5;

/// The name of a device's user.
pub type Names = Box<dyn Fn(DeviceIndex) -> String>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Free,
    /// Written, and not yet at all of these.
    Under { accepted: bool, arrived: bool, ticked: bool },
}

#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    conversation: ConversationBytes,
    /// Messages written.
    number: u32,
    /// The number of the last one that arrived.
    arrived: u32,
    /// The place of the last one that was accepted.
    seq: u64,
    due: Instant,
    way: Way,
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
    /// Refused, or told wrong.
    pub complaints: Vec<String>,
}

/// See the module's comment.
pub struct Talk {
    pairs: Vec<Pair>,
    /// Of so many devices the first is a writer and the second its reader.
    stride: u32,
    names: Names,
    gap: Duration,
    next: Option<Instant>,
    /// Messages that were due.
    count: u64,
    under_way: u64,
    body: Vec<u8>,
    retries: Retries,
    found: Findings,
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Talk").field("pairs", &self.pairs.len()).finish_non_exhaustive()
    }
}

impl Talk {
    /// Nobody says anything yet. `rate`: messages a second, at least one and at most one for
    /// [`DEVICES_PER_RATE`] devices.
    #[must_use]
    pub fn new(devices: u32, rate: u32, names: Names) -> Self {
        let pairs = (devices / 2).clamp(1, PAIRS_MAX);
        Self {
            pairs: vec![Pair::default(); pairs as usize],
            stride: (devices / pairs).max(2),
            names,
            gap: Duration { ns: 1_000_000_000 / u64::from(rate.max(1)) },
            next: None,
            count: 0,
            under_way: 0,
            body: (0..BODY_BYTES).map(|at| at.to_le_bytes()[0]).collect(),
            retries: Retries::default(),
            found: Findings::default(),
        }
    }

    /// Messages are due from now on.
    pub const fn begin(&mut self, now: Instant) {
        self.next = Some(now);
    }

    /// No message is due any more.
    pub const fn stop(&mut self) {
        self.next = None;
    }

    /// When the next message is due.
    #[must_use]
    pub const fn next_due(&self) -> Option<Instant> {
        self.next
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub const fn is_still(&self) -> bool {
        self.under_way == 0
    }

    /// What was found; also counts what never came.
    #[must_use]
    pub fn into_findings(mut self) -> Findings {
        for pair in &self.pairs {
            if let Way::Under { accepted, arrived, .. } = pair.way {
                self.found.lost += u64::from(accepted && !arrived);
                self.found.unanswered += u64::from(!accepted);
            }
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
        if let Some((writer, _)) = self.retries.next(now) {
            let pair = self.pair_of(writer)?;
            self.say(pair, out);
            return Some(writer);
        }
        let due = self.next.filter(|due| *due <= now)?;
        let count = u64::try_from(self.pairs.len()).ok()?;
        let pair = (0..TRIES).find_map(|attempt| {
            let number = scramble(self.count << 8 | u64::from(attempt)) % count;
            let pair = usize::try_from(number).ok()?;
            (self.pairs[pair].way == Way::Free).then_some(pair)
        })?;
        self.count += 1;
        self.next = Some(due + self.gap);
        self.under_way += 1;
        meter.late(due, now);
        let of = &mut self.pairs[pair];
        of.number += 1;
        of.due = due;
        of.way = Way::Under { accepted: false, arrived: false, ticked: false };
        self.say(pair, out);
        Some(self.writer_of(pair))
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
                self.accepted(pair, *seq, now, meter);
            }
            Incoming::Message(pushed) if !pushed.own => {
                self.arrived(pair, pushed, now, meter);
                if let Some(conversation) = pushed.conversation {
                    wire::delivered(&conversation, pushed.seq, out);
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
            Incoming::Welcome { .. }
            | Incoming::SendReply { .. }
            | Incoming::Message(_)
            | Incoming::History(_)
            | Incoming::Sync(_)
            | Incoming::GroupCreated { .. }
            | Incoming::Behind
            | Incoming::Other => {}
        }
    }

    fn complain(&mut self, what: impl FnOnce() -> String) {
        if self.found.complaints.len() < COMPLAINTS_MAX {
            self.found.complaints.push(what());
        }
    }

    fn writer_of(&self, pair: usize) -> DeviceIndex {
        u32::try_from(pair).expect("pairs are fewer than devices") * self.stride
    }

    fn pair_of(&self, device: DeviceIndex) -> Option<usize> {
        let pair = (device / self.stride) as usize;
        (device % self.stride < 2 && pair < self.pairs.len()).then_some(pair)
    }

    /// The message of a pair that is on its way.
    fn say(&mut self, pair: usize, out: &mut Vec<u8>) {
        let writer = self.writer_of(pair);
        let of = &mut self.pairs[pair];
        mark_body(&mut self.body, writer, of.number.into());
        let is_first = of.seq == 0;
        if is_first {
            of.conversation = direct(&(self.names)(writer), &(self.names)(writer + 1));
        }
        let write = Write {
            conversation: &of.conversation,
            number: of.number.into(),
            id: scramble(u64::from(writer) << 32 | u64::from(of.number)),
            seen: of.seq,
            body: &self.body,
        };
        let request = u32::try_from(FIRST).expect("it is small") + of.number;
        if is_first {
            wire::send_first(request, &(self.names)(writer + 1), &write, out);
        } else {
            wire::send_as(request, &write, out);
        }
    }

    fn accepted(&mut self, pair: usize, seq: u64, now: Instant, meter: &mut Meter) {
        let of = &mut self.pairs[pair];
        of.seq = of.seq.max(seq);
        if let Way::Under { accepted, .. } = &mut of.way
            && !std::mem::replace(accepted, true)
        {
            meter.sent();
            meter.took(SENT, of.due, now);
            self.settle(pair);
        }
    }

    fn arrived(&mut self, pair: usize, pushed: &Pushed<'_>, now: Instant, meter: &mut Meter) {
        let Some((author, number)) = read_body(pushed.body) else { return };
        if author != u64::from(self.writer_of(pair)) {
            return self.complain(|| format!("a message of {author} came to pair {pair}"));
        }
        let of = &mut self.pairs[pair];
        if number <= of.arrived.into() {
            self.found.duplicated += 1;
            return;
        }
        let missing = number - u64::from(of.arrived) - 1;
        of.arrived = u32::try_from(number).unwrap_or(u32::MAX);
        if let Way::Under { arrived, .. } = &mut of.way {
            *arrived = true;
            meter.delivered();
            meter.took(DELIVERED, of.due, now);
        }
        self.found.lost += missing;
        self.settle(pair);
    }

    fn ticked(&mut self, pair: usize, far: u64, now: Instant, meter: &mut Meter) {
        let of = &mut self.pairs[pair];
        if let Way::Under { accepted: true, ticked, .. } = &mut of.way
            && far >= of.seq
            && !std::mem::replace(ticked, true)
        {
            meter.ticked();
            meter.took(TICKED, of.due, now);
            self.settle(pair);
        }
    }

    fn settle(&mut self, pair: usize) {
        let of = &mut self.pairs[pair];
        if of.way == (Way::Under { accepted: true, arrived: true, ticked: true }) {
            of.way = Way::Free;
            self.under_way -= 1;
        }
    }
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

    struct World {
        talk: Talk,
        meter: Meter,
        out: Vec<u8>,
    }

    impl World {
        fn new() -> Self {
            let mut talk = Talk::new(2, 10, Box::new(|index| format!("user{index}")));
            talk.begin(at(0));
            let progress = Progress::new(false);
            let meter = Meter::new(Observed::default(), &STAGES, DELIVERED, true, progress);
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
        let mut world = World::new();
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
    fn what_is_doubled_or_left_out_is_counted() {
        let mut world = World::new();
        world.write(0);
        world.arrive(1, 7);
        world.arrive(1, 7);
        world.arrive(3, 9);
        let found = world.talk.into_findings();
        assert_eq!((found.lost, found.unanswered, found.duplicated), (1, 1, 1));
    }

    #[test]
    fn a_busy_server_is_asked_again_and_a_refusal_is_told() {
        let mut world = World::new();
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
        let talk = Talk::new(1_000_000, 10, Box::new(|index| index.to_string()));
        assert_eq!(talk.pair_of(999_990), Some(99_999));
        assert_eq!(talk.pair_of(999_991), Some(99_999));
        assert_eq!(talk.pair_of(999_992), None);
        assert_eq!(talk.writer_of(99_999), 999_990);
        assert_eq!(Talk::new(1, 1, Box::new(|_| String::new())).pairs.len(), 1);
    }
}
