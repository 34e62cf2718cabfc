//! NATS: a room is a subject (or, if direct, one for each side). Core NATS accepts nothing; with
//! JetStream a stream stores all subjects of the run and acknowledges each message to its writer,
//! while readers hear it as in core NATS.

use super::layout::{Layout, SeatIndex};
use super::topics::{Topics, number, put_number};
use super::{Happened, Heartbeat, Promises, Refusal, Target};
use crate::swarm::DeviceIndex;
use std::io::Write as _;
use std::rc::Rc;

/// How often a device says that it is there.
const HEARTBEAT_MS: u32 = 60_000;
const PING: &[u8] = b"PING\r\n";
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\
    \"headers\":false,\"lang\":\"rust\",\"version\":\"0\",\"protocol\":1}\r\n";
/// Longest line of a server: INFO, with what it tells of itself.
const LINE_MAX_BYTES: usize = 1 << 16;
/// What a stream holds before it forgets its oldest messages.
const STREAM_MAX_BYTES: u64 = 1 << 30;

/// Whether and how messages are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Core NATS: not at all.
    None,
    /// JetStream in memory.
    Memory,
    /// JetStream in files.
    File {
        /// The server flushes each message before it acknowledges (`sync_interval: always`).
        flushes: bool,
    },
}

/// See the module's comment.
#[derive(Debug)]
pub struct Nats {
    topics: Topics,
    run: String,
    store: Store,
    is_ready: Vec<bool>,
}

impl Nats {
    /// Subjects begin with `run`.
    #[must_use]
    pub fn new(layout: Rc<Layout>, devices: u32, run: String, store: Store) -> Self {
        let topics = Topics::new(layout, format!("{run}.m"));
        Self { topics, run, store, is_ready: vec![false; devices as usize] }
    }

    /// What is said beside its figures.
    #[must_use]
    pub fn differences(store: Store) -> Vec<String> {
        let durability = match store {
            Store::None => {
                "durability: none, and nothing is accepted: a message counts as accepted when it \
                 is written; who is away misses it for good"
            }
            Store::Memory => "durability: none; accepted means in the memory of the stream",
            Store::File { flushes: false } => {
                "durability: accepted means written to a file; this server flushes it (fsync) only \
                 every two minutes and has no setting for each message (sync_interval came with \
                 2.10), so a loss of power loses messages"
            }
            Store::File { flushes: true } => {
                "durability: sync_interval always: accepted means on the disk"
            }
        };
        let mut lines = vec![durability.to_owned()];
        if store != Store::None {
            lines.push(
                "readers hear messages as in core NATS, perhaps before they are stored; no \
                 consumers: one for each device would cost more"
                    .to_owned(),
            );
        }
        lines.push("no second tick; a reader that falls far behind is disconnected".to_owned());
        lines
    }

    /// A line that is not MSG.
    fn line(
        &mut self,
        device: DeviceIndex,
        line: &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<(), Refusal> {
        if line == b"PING" {
            out.extend_from_slice(b"PONG\r\n");
        } else if line == b"PONG" {
            let is_ready = &mut self.is_ready[device as usize];
            happened.push(if *is_ready { Happened::Echoed } else { Happened::Ready });
            *is_ready = true;
        } else if !line.starts_with(b"INFO ") && line != b"+OK" {
            let line = String::from_utf8_lossy(line);
            return Err(Refusal(format!("device {device} was refused by NATS: {line}")));
        }
        Ok(())
    }

    fn message(
        &self,
        device: DeviceIndex,
        subject: &[u8],
        payload: &[u8],
        happened: &mut Vec<Happened>,
    ) -> Result<(), Refusal> {
        if let Some(what) = self.topics.arrived(device, subject, payload) {
            happened.push(what);
            return Ok(());
        }
        let Some(answered) = self.answered(subject) else { return Ok(()) };
        if payload.windows(8).any(|bytes| bytes == b"\"error\":") {
            let answer = String::from_utf8_lossy(payload);
            return Err(Refusal(format!("device {device} was refused by JetStream: {answer}")));
        }
        happened.push(answered);
        Ok(())
    }

    /// What an answer's subject says: `RUN.a.DEVICE.SEAT.NUMBER`, or `RUN.a.DEVICE.set`.
    fn answered(&self, subject: &[u8]) -> Option<Happened> {
        let rest = subject.strip_prefix(self.run.as_bytes())?.strip_prefix(b".a.")?;
        let mut parts = rest.split(|byte| *byte == b'.').skip(1);
        let first = parts.next()?;
        if first == b"set" {
            return Some(Happened::SetUp);
        }
        let seat = SeatIndex::try_from(number(first)?).ok()?;
        let number = number(parts.next()?)?;
        Some(Happened::Accepted { seat, number, place: number })
    }
}

/// The subject and length of a `MSG subject sid [reply] length`.
fn message_of(line: &[u8]) -> Option<(&[u8], usize)> {
    let mut words = line.strip_prefix(b"MSG ")?.split(|byte| *byte == b' ');
    let subject = words.next()?;
    let length = number(words.next_back()?)?;
    Some((subject, usize::try_from(length).ok()?))
}

impl Target for Nats {
    fn promises(&self) -> Promises {
        let durable = self.store == Store::File { flushes: true };
        Promises { accepts: self.store != Store::None, ticks: false, durable }
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        Some(Heartbeat { every_ms: HEARTBEAT_MS, bytes: PING })
    }

    fn open(&mut self, device: DeviceIndex, out: &mut Vec<u8>) {
        out.extend_from_slice(CONNECT);
        if self.store != Store::None {
            write!(out, "SUB {}.a.{device}.> 1\r\n", self.run).expect("memory takes all");
        }
        for (place, topic) in self.topics.read_by(device).into_iter().enumerate() {
            let name = self.topics.name(topic);
            write!(out, "SUB {name} {}\r\n", place + 2).expect("memory takes all");
        }
        out.extend_from_slice(PING);
    }

    fn receive(
        &mut self,
        device: DeviceIndex,
        bytes: &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<usize, Refusal> {
        let wrong = || Refusal(format!("device {device}: what came is not what NATS says"));
        let mut used = 0;
        while let Some(rest) = bytes.get(used..) {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                return if rest.len() > LINE_MAX_BYTES { Err(wrong()) } else { Ok(used) };
            };
            let line = rest[..end].strip_suffix(b"\r").ok_or_else(wrong)?;
            if let Some((subject, length)) = message_of(line) {
                let begin = end + 1;
                let Some(payload) = rest.get(begin..begin + length) else { return Ok(used) };
                let Some(newline) = rest.get(begin + length..begin + length + 2) else {
                    return Ok(used);
                };
                if newline != b"\r\n" {
                    return Err(wrong());
                }
                self.message(device, subject, payload, happened)?;
                used += begin + length + 2;
            } else {
                self.line(device, line, out, happened)?;
                used += end + 1;
            }
        }
        Ok(used)
    }

    fn set_up(&mut self, device: DeviceIndex, out: &mut Vec<u8>) -> u32 {
        if device != 0 || self.store == Store::None {
            return 0;
        }
        let run = &self.run;
        let storage = if self.store == Store::Memory { "memory" } else { "file" };
        let stream = format!(
            "{{\"name\":\"bench-{run}\",\"subjects\":[\"{run}.m.>\"],\"storage\":\"{storage}\",\
             \"retention\":\"limits\",\"discard\":\"old\",\"max_bytes\":{STREAM_MAX_BYTES},\
             \"max_consumers\":-1,\"max_msgs\":-1,\"num_replicas\":1}}"
        );
        let length = stream.len();
        write!(out, "PUB $JS.API.STREAM.CREATE.bench-{run} {run}.a.0.set {length}\r\n{stream}\r\n")
            .expect("memory takes all");
        1
    }

    fn write(&mut self, seat: SeatIndex, number: u64, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"PUB ");
        out.extend_from_slice(self.topics.written(seat));
        if self.store != Store::None {
            let device = self.topics.layout().seat(seat).device;
            out.push(b' ');
            out.extend_from_slice(self.run.as_bytes());
            out.extend_from_slice(b".a.");
            for part in [u64::from(device), seat.into()] {
                put_number(part, out);
                out.push(b'.');
            }
            put_number(number, out);
        }
        out.push(b' ');
        put_number(body.len() as u64, out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }

    fn acknowledge(&mut self, _device: DeviceIndex, _out: &mut Vec<u8>) {}

    fn closed(&mut self, device: DeviceIndex) {
        self.is_ready[device as usize] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::body;

    fn nats(store: Store) -> Nats {
        Nats::new(Rc::new(Layout::pairs(1)), 2, "7".to_owned(), store)
    }

    #[test]
    fn a_device_is_ready_when_its_subscriptions_are() {
        let (mut nats, mut out, mut happened) = (nats(Store::Memory), Vec::new(), Vec::new());
        nats.open(1, &mut out);
        let said = String::from_utf8(out.clone()).unwrap();
        assert!(said.ends_with("}\r\nSUB 7.a.1.> 1\r\nSUB 7.m.s1 2\r\nPING\r\n"), "{said}");
        out.clear();
        let info = b"INFO {\"version\":\"2\"}\r\nPONG\r\nPING\r\nPONG\r\nPO";
        assert_eq!(nats.receive(1, info, &mut out, &mut happened), Ok(info.len() - 2));
        assert_eq!(out, b"PONG\r\n");
        assert_eq!(happened, [Happened::Ready, Happened::Echoed]);
    }

    #[test]
    fn messages_arrive_when_they_are_whole() {
        let (mut nats, mut out, mut happened) = (nats(Store::None), Vec::new(), Vec::new());
        nats.write(0, 5, &body(0, 5), &mut out);
        assert!(out.starts_with(b"PUB 7.m.s1 16\r\n"));
        let mut push = b"MSG 7.m.s1 2 16\r\n".to_vec();
        push.extend(body(0, 5));
        push.extend(b"\r\n");
        for end in 0..push.len() {
            assert_eq!(nats.receive(1, &push[..end], &mut out, &mut happened), Ok(0), "{end}");
        }
        assert_eq!(nats.receive(1, &push, &mut out, &mut happened), Ok(push.len()));
        assert_eq!(happened, [Happened::Arrived { seat: 1, author: 0, number: 5 }]);
    }

    #[test]
    fn a_stream_is_made_and_acknowledges() {
        let store = Store::File { flushes: false };
        let (mut nats, mut out, mut happened) = (nats(store), Vec::new(), Vec::new());
        assert_eq!((nats.set_up(1, &mut out), nats.set_up(0, &mut out)), (0, 1));
        assert!(out.starts_with(b"PUB $JS.API.STREAM.CREATE.bench-7 7.a.0.set "));
        out.clear();
        nats.write(0, 5, b"hello", &mut out);
        assert_eq!(out, b"PUB 7.m.s1 7.a.0.0.5 5\r\nhello\r\n");
        let answers = b"MSG 7.a.0.set 1 2\r\n{}\r\nMSG 7.a.0.0.5 1 9\r\n{\"seq\":1}\r\n";
        assert_eq!(nats.receive(0, answers, &mut out, &mut happened), Ok(answers.len()));
        let accepted = Happened::Accepted { seat: 0, number: 5, place: 5 };
        assert_eq!(happened, [Happened::SetUp, accepted]);
    }

    #[test]
    fn refusals_and_nonsense_end_the_run() {
        let mut nats = nats(Store::Memory);
        let refusals = [
            &b"-ERR 'Slow Consumer'\r\n"[..],
            b"hello\n",
            b"MSG 7.m.s0 1 1\r\nabc\r\n",
            b"MSG 7.a.0.0.5 1 10\r\n{\"error\":7\r\n",
        ];
        for wrong in refusals {
            nats.receive(0, wrong, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        }
    }
}
