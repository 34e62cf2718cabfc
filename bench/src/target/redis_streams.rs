//! Redis streams: a room is a stream, written with XADD and read with XREAD. A read that waits
//! holds up its connection, so a device has a second one to read with: that of device `d` of `n` is
//! connection `n + d`.

use super::layout::{Layout, SeatIndex};
use super::redis::{PING, not_resp, refused};
use super::resp::{self, NotResp, Piece};
use super::topics::{Topic, Topics, number, put_number};
use super::{Happened, Heartbeat, Promises, Refusal, Target};
use crate::swarm::DeviceIndex;
use std::collections::VecDeque;
use std::rc::Rc;

/// Entries of a stream that are read at once.
const PAGE: &[u8] = b"128";

/// Where an entry stands in its stream.
type EntryId = (u64, u64);

/// See the module's comment.
#[derive(Debug)]
pub struct RedisStreams {
    topics: Topics,
    devices: u32,
    durable: bool,
    /// What was written and not answered, by device: answers come in order.
    unanswered: Vec<VecDeque<(SeatIndex, u64)>>,
    /// What each device reads, and up to where it has.
    reads: Vec<Vec<(Topic, EntryId)>>,
}

impl RedisStreams {
    /// Streams begin with `run`. `durable`: the server flushes before it answers.
    #[must_use]
    pub fn new(layout: Rc<Layout>, devices: u32, run: String, durable: bool) -> Self {
        let topics = Topics::new(layout, run);
        let from = |device| topics.read_by(device).into_iter().map(|topic| (topic, (0, 0)));
        let reads = (0..devices).map(|device| from(device).collect()).collect();
        let unanswered = (0..devices).map(|_| VecDeque::new()).collect();
        Self { topics, devices, durable, unanswered, reads }
    }

    /// What is said beside its figures.
    #[must_use]
    pub fn differences(durable: bool) -> Vec<String> {
        let durability = if durable {
            "durability: appendonly with appendfsync always, one flush for all commands of a turn \
             before they are answered: accepted means on the disk"
        } else {
            "durability: none with this configuration; accepted means in memory"
        };
        [
            durability,
            "two connections a device: XREAD BLOCK holds its connection up",
            "no second tick; streams are never trimmed in a run, so memory grows with what is \
             written",
        ]
        .map(str::to_owned)
        .into()
    }

    fn read_on(&self, device: DeviceIndex, out: &mut Vec<u8>) {
        let reads = &self.reads[device as usize];
        if reads.is_empty() {
            return;
        }
        let names: Vec<String> = reads.iter().map(|(topic, _)| self.topics.name(*topic)).collect();
        let ids: Vec<Vec<u8>> = reads.iter().map(|(_, id)| text(*id)).collect();
        let mut words: Vec<&[u8]> = vec![b"XREAD", b"COUNT", PAGE, b"BLOCK", b"0", b"STREAMS"];
        words.extend(names.iter().map(String::as_bytes));
        words.extend(ids.iter().map(Vec::as_slice));
        resp::command(&words, out);
    }

    /// An answer to a writer. None: it is not whole yet.
    fn answer(
        &mut self,
        device: DeviceIndex,
        rest: &mut &[u8],
        happened: &mut Vec<Happened>,
    ) -> Result<Option<()>, Refusal> {
        let piece = resp::cut(rest).map_err(|NotResp| not_resp(device))?;
        match piece {
            None => return Ok(None),
            Some(Piece::Bulk(Some(_))) => {
                let Some((seat, number)) = self.unanswered[device as usize].pop_front() else {
                    return Err(Refusal(format!("device {device}: an answer to nothing it asked")));
                };
                happened.push(Happened::Accepted { seat, number, place: number });
            }
            Some(Piece::Simple(b"PONG")) => happened.push(Happened::Ready),
            Some(Piece::Error(error)) => return Err(refused(device, error)),
            Some(_) => return Err(not_resp(device)),
        }
        Ok(Some(()))
    }

    /// A page of entries to a reader. None: it is not whole yet.
    fn page(
        &mut self,
        device: DeviceIndex,
        rest: &mut &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<Option<()>, Refusal> {
        let wrong = |NotResp| not_resp(device);
        let mut whole = *rest;
        if resp::skip(&mut whole, 1).map_err(wrong)?.is_none() {
            return Ok(None);
        }
        match resp::cut(rest).map_err(wrong)? {
            Some(Piece::Simple(b"PONG")) => happened.push(Happened::Ready),
            Some(Piece::Error(error)) => return Err(refused(device, error)),
            Some(Piece::Array(streams)) => {
                for _ in 0..streams {
                    let read = self.stream(device, rest, happened);
                    read.ok_or_else(|| not_resp(device))?;
                }
            }
            _ => return Err(not_resp(device)),
        }
        self.read_on(device, out);
        Ok(Some(()))
    }

    /// The entries of one stream. None: that is not what XREAD answers.
    fn stream(
        &mut self,
        device: DeviceIndex,
        rest: &mut &[u8],
        happened: &mut Vec<Happened>,
    ) -> Option<()> {
        let Piece::Array(2) = cut(rest)? else { return None };
        let Piece::Bulk(Some(name)) = cut(rest)? else { return None };
        let Piece::Array(entries) = cut(rest)? else { return None };
        let mut newest = None;
        for _ in 0..entries {
            let Piece::Array(2) = cut(rest)? else { return None };
            let Piece::Bulk(Some(id)) = cut(rest)? else { return None };
            let Piece::Array(2) = cut(rest)? else { return None };
            let (Piece::Bulk(_), Piece::Bulk(Some(body))) = (cut(rest)?, cut(rest)?) else {
                return None;
            };
            newest = Some(entry_id(id)?);
            happened.extend(self.topics.arrived(device, name, body));
        }
        let topics = &self.topics;
        let reads = &mut self.reads[device as usize];
        let of = reads.iter_mut().find(|(topic, _)| topics.name(*topic).as_bytes() == name)?;
        of.1 = newest.unwrap_or(of.1);
        Some(())
    }
}

fn cut<'a>(rest: &mut &'a [u8]) -> Option<Piece<'a>> {
    resp::cut(rest).ok().flatten()
}

fn entry_id(text: &[u8]) -> Option<EntryId> {
    let dash = text.iter().position(|byte| *byte == b'-')?;
    Some((number(&text[..dash])?, number(&text[dash + 1..])?))
}

fn text((ms, place): EntryId) -> Vec<u8> {
    let mut text = Vec::new();
    put_number(ms, &mut text);
    text.push(b'-');
    put_number(place, &mut text);
    text
}

impl Target for RedisStreams {
    fn promises(&self) -> Promises {
        Promises { accepts: true, ticks: false, durable: self.durable }
    }

    /// A connection whose read waits could not answer.
    fn heartbeat(&self) -> Option<Heartbeat> {
        None
    }

    fn connections_per_device(&self) -> u32 {
        2
    }

    fn open(&mut self, _connection: DeviceIndex, out: &mut Vec<u8>) {
        out.extend_from_slice(PING);
    }

    fn receive(
        &mut self,
        connection: DeviceIndex,
        bytes: &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<usize, Refusal> {
        let mut rest = bytes;
        loop {
            let before = rest;
            if rest.is_empty() {
                return Ok(bytes.len());
            }
            let done = match connection.checked_sub(self.devices) {
                None => self.answer(connection, &mut rest, happened)?,
                Some(device) => self.page(device, &mut rest, out, happened)?,
            };
            if done.is_none() {
                return Ok(bytes.len() - before.len());
            }
        }
    }

    fn set_up(&mut self, _device: DeviceIndex, _out: &mut Vec<u8>) -> u32 {
        0
    }

    fn write(&mut self, seat: SeatIndex, number: u64, body: &[u8], out: &mut Vec<u8>) {
        let device = self.topics.layout().seat(seat).device;
        self.unanswered[device as usize].push_back((seat, number));
        resp::command(&[b"XADD", self.topics.written(seat), b"*", b"b", body], out);
    }

    fn acknowledge(&mut self, _device: DeviceIndex, _out: &mut Vec<u8>) {}

    fn closed(&mut self, connection: DeviceIndex) {
        if let Some(unanswered) = self.unanswered.get_mut(connection as usize) {
            unanswered.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::body;

    #[test]
    fn a_writer_adds_and_is_answered_with_an_id() {
        let mut streams = RedisStreams::new(Rc::new(Layout::pairs(1)), 2, "7".to_owned(), true);
        let (mut out, mut happened) = (Vec::new(), Vec::new());
        streams.write(1, 3, b"hello", &mut out);
        let expected = "*5\r\n$4\r\nXADD\r\n$4\r\n7.s0\r\n$1\r\n*\r\n$1\r\nb\r\n$5\r\nhello\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
        let used = streams.receive(1, b"$3\r\n1-0\r\n$3", &mut out, &mut happened);
        assert_eq!(used, Ok(9));
        assert_eq!(happened, [Happened::Accepted { seat: 1, number: 3, place: 3 }]);
    }

    #[test]
    fn a_reader_reads_on_behind_what_it_has() {
        let mut streams = RedisStreams::new(Rc::new(Layout::pairs(1)), 2, "7".to_owned(), true);
        let (mut out, mut happened) = (Vec::new(), Vec::new());
        assert_eq!(streams.receive(2, b"+PONG\r\n", &mut out, &mut happened), Ok(7));
        let read = |id: &str| {
            format!(
                "*8\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$3\r\n128\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n\
                 $7\r\nSTREAMS\r\n$4\r\n7.s0\r\n${}\r\n{id}\r\n",
                id.len()
            )
        };
        assert_eq!(String::from_utf8_lossy(&out), read("0-0"));
        let mut page =
            b"*1\r\n*2\r\n$4\r\n7.s0\r\n*1\r\n*2\r\n$4\r\n12-3\r\n*2\r\n$1\r\nb\r\n$16\r\n"
                .to_vec();
        page.extend(body(1, 8));
        page.extend(b"\r\n");
        out.clear();
        assert_eq!(streams.receive(2, &page[..page.len() - 1], &mut out, &mut happened), Ok(0));
        assert_eq!(streams.receive(2, &page, &mut out, &mut happened), Ok(page.len()));
        let arrived = Happened::Arrived { seat: 0, author: 1, number: 8 };
        assert_eq!(happened, [Happened::Ready, arrived]);
        assert_eq!(String::from_utf8_lossy(&out), read("12-3"));
    }

    #[test]
    fn nonsense_ends_the_run() {
        let mut streams = RedisStreams::new(Rc::new(Layout::pairs(1)), 2, String::new(), false);
        for (connection, wrong) in
            [(0, "$1\r\n1\r\n"), (0, ":1\r\n"), (2, "*1\r\n:1\r\n"), (3, "-x\r\n")]
        {
            let bytes = wrong.as_bytes();
            streams.receive(connection, bytes, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        }
    }
}
