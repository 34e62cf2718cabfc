//! Redis publish and subscribe: a room is a channel, and a device one connection in RESP3, which
//! both publishes and hears.

use super::layout::{Layout, SeatIndex};
use super::resp::{self, NotResp, Piece};
use super::topics::Topics;
use super::{Happened, Heartbeat, Promises, Refusal, Target};
use crate::swarm::DeviceIndex;
use std::collections::VecDeque;
use std::rc::Rc;

/// How often a device says that it is there.
const HEARTBEAT_MS: u32 = 60_000;
pub(super) const PING: &[u8] = b"PING\r\n";

#[derive(Debug, Default)]
struct Device {
    is_ready: bool,
    /// What was published and not answered: answers come in order.
    unanswered: VecDeque<(SeatIndex, u64)>,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Redis {
    topics: Topics,
    devices: Vec<Device>,
}

impl Redis {
    /// What is said beside its figures.
    pub const DIFFERENCES: [&str; 3] = [
        "durability: none; a message is only in the buffers of those who are connected, whatever \
         the server keeps on its disk",
        "accepted means handed to the buffers of its readers; who is away misses it for good",
        "no second tick, no order over conversations, nothing can be read again",
    ];

    /// Channels begin with `run`.
    #[must_use]
    pub fn new(layout: Rc<Layout>, devices: u32, run: String) -> Self {
        let devices = (0..devices).map(|_| Device::default()).collect();
        Self { topics: Topics::new(layout, run), devices }
    }

    /// One answer or push. None: it is not whole yet.
    fn one(
        &mut self,
        device: DeviceIndex,
        rest: &mut &[u8],
        happened: &mut Vec<Happened>,
    ) -> Result<Option<()>, Refusal> {
        let of = &mut self.devices[device as usize];
        let wrong = |NotResp| not_resp(device);
        let Some(piece) = resp::cut(rest).map_err(wrong)? else { return Ok(None) };
        match piece {
            Piece::Number(_) => {
                let Some((seat, number)) = of.unanswered.pop_front() else {
                    return Err(Refusal(format!("device {device}: an answer to nothing it asked")));
                };
                happened.push(Happened::Accepted { seat, number, place: number });
            }
            Piece::Push(3) => {
                let (kind, name, body) = (resp::cut(rest), resp::cut(rest), resp::cut(rest));
                let (kind, name) = (kind.map_err(wrong)?, name.map_err(wrong)?);
                let Some(body) = body.map_err(wrong)? else { return Ok(None) };
                if let (
                    Some(Piece::Bulk(Some(b"message"))),
                    Some(Piece::Bulk(Some(name))),
                    Piece::Bulk(Some(body)),
                ) = (kind, name, body)
                {
                    happened.extend(self.topics.arrived(device, name, body));
                }
            }
            Piece::Simple(b"PONG") if of.is_ready => happened.push(Happened::Echoed),
            Piece::Simple(b"PONG") => {
                of.is_ready = true;
                happened.push(Happened::Ready);
            }
            Piece::Error(error) => return Err(refused(device, error)),
            Piece::Array(count) | Piece::Push(count) => {
                return resp::skip(rest, count).map_err(wrong);
            }
            Piece::Map(count) => {
                return resp::skip(rest, count.saturating_mul(2)).map_err(wrong);
            }
            Piece::Simple(_) | Piece::Bulk(_) | Piece::Other => {}
        }
        Ok(Some(()))
    }
}

pub(super) fn not_resp(device: DeviceIndex) -> Refusal {
    Refusal(format!("device {device}: what came is not what Redis says"))
}

pub(super) fn refused(device: DeviceIndex, error: &[u8]) -> Refusal {
    let error = String::from_utf8_lossy(error);
    Refusal(format!("device {device} was refused by Redis: {error}; it must be version 6 or newer"))
}

impl Target for Redis {
    fn promises(&self) -> Promises {
        Promises { accepts: true, ticks: false, durable: false }
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        Some(Heartbeat { every_ms: HEARTBEAT_MS, bytes: PING })
    }

    fn open(&mut self, device: DeviceIndex, out: &mut Vec<u8>) {
        resp::command(&[b"HELLO", b"3"], out);
        for topic in self.topics.read_by(device) {
            resp::command(&[b"SUBSCRIBE", self.topics.name(topic).as_bytes()], out);
        }
        out.extend_from_slice(PING);
    }

    fn receive(
        &mut self,
        device: DeviceIndex,
        bytes: &[u8],
        _out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<usize, Refusal> {
        let mut rest = bytes;
        loop {
            let before = rest;
            if self.one(device, &mut rest, happened)?.is_none() {
                return Ok(bytes.len() - before.len());
            }
        }
    }

    fn set_up(&mut self, _device: DeviceIndex, _out: &mut Vec<u8>) -> u32 {
        0
    }

    fn write(&mut self, seat: SeatIndex, number: u64, body: &[u8], out: &mut Vec<u8>) {
        let device = self.topics.layout().seat(seat).device;
        self.devices[device as usize].unanswered.push_back((seat, number));
        resp::command(&[b"PUBLISH", self.topics.written(seat), body], out);
    }

    fn acknowledge(&mut self, _device: DeviceIndex, _out: &mut Vec<u8>) {}

    fn closed(&mut self, device: DeviceIndex) {
        self.devices[device as usize] = Device::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::body;

    fn receive(redis: &mut Redis, device: DeviceIndex, bytes: &[u8]) -> (usize, Vec<Happened>) {
        let mut happened = Vec::new();
        let used = redis.receive(device, bytes, &mut Vec::new(), &mut happened).unwrap();
        (used, happened)
    }

    #[test]
    fn a_device_says_hello_subscribes_and_asks_whether_that_was_done() {
        let mut redis = Redis::new(Rc::new(Layout::pairs(1)), 2, "7".to_owned());
        let mut out = Vec::new();
        redis.open(1, &mut out);
        let expected =
            "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\n7.s1\r\nPING\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
        let answer =
            b"%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n>3\r\n$9\r\nsubscribe\r\n$4\r\n7.s1\r\n\
            :1\r\n+PONG\r\n+PONG\r\n";
        let (used, happened) = receive(&mut redis, 1, answer);
        assert_eq!((used, happened), (answer.len(), vec![Happened::Ready, Happened::Echoed]));
    }

    #[test]
    fn what_is_published_is_answered_and_arrives_at_the_other() {
        let mut redis = Redis::new(Rc::new(Layout::pairs(1)), 2, "7".to_owned());
        let mut out = Vec::new();
        redis.write(0, 5, b"hello", &mut out);
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$4\r\n7.s1\r\n$5\r\nhello\r\n");
        let accepted = Happened::Accepted { seat: 0, number: 5, place: 5 };
        assert_eq!(receive(&mut redis, 0, b":1\r\n"), (4, vec![accepted]));
        let mut push = b">3\r\n$7\r\nmessage\r\n$4\r\n7.s1\r\n$16\r\n".to_vec();
        push.extend(body(0, 5));
        push.extend(b"\r\n");
        let arrived = Happened::Arrived { seat: 1, author: 0, number: 5 };
        for cut in 0..push.len() {
            assert_eq!(receive(&mut redis, 1, &push[..cut]), (0, vec![]), "{cut}");
        }
        assert_eq!(receive(&mut redis, 1, &push), (push.len(), vec![arrived]));
    }

    #[test]
    fn refusals_and_nonsense_end_the_run() {
        let mut redis = Redis::new(Rc::new(Layout::pairs(1)), 2, String::new());
        for wrong in [&b"-NOAUTH no\r\n"[..], b"hello\r\n", b":1\r\n"] {
            redis.receive(0, wrong, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        }
    }
}
