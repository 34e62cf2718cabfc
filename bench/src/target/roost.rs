//! Roost as a target: direct conversations and groups, durable before the first tick, pushes that
//! were dropped for a slow reader are pulled again.

use super::again::{Again, Refused, is_for_the_moment};
use super::layout::{Layout, SeatIndex};
use super::{Act, Happened, Heartbeat, Promises, Refusal, Target, mark_body, read_body, scramble};
use crate::marks::Marks;
use crate::scenario::population::direct;
use crate::swarm::{DeviceIndex, Piece, cut_all};
use crate::wire::{self, ConversationBytes, Incoming, Pushed, Write};
use roost_protocol::frame::HEARTBEAT;
use roost_protocol::preface::PREFACE;
use roost_protocol::time::Instant;
use std::rc::Rc;

/// What a server says unless its Welcome says something else.
const HEARTBEAT_MS: u32 = 60_000;
/// Request ids: from here the kind of request, below it the place of the seat among the device's.
/// A write has the place plus one above, and the low bits of its number below.
const NUMBER_BITS: u32 = 20;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;
const PULL: u32 = 0xfff << NUMBER_BITS;
const CREATE: u32 = 0xffe << NUMBER_BITS;
const ACT: u32 = 0xffd << NUMBER_BITS;
/// The request id of Hello.
const HELLO: u64 = 1;

#[derive(Debug, Clone, Copy, Default)]
struct Seat {
    conversation: ConversationBytes,
    /// The server answered in this conversation: it is there.
    is_known: bool,
    seen: u64,
    written: u64,
    answered: u64,
    arrived_seq: u64,
    mark_due: bool,
    pull: Pull,
}

impl Seat {
    /// Requests hold the low bits of a number; few are unanswered, so the rest is known.
    fn number_of(&self, request: u32) -> u64 {
        let answered = u32::try_from(self.answered & u64::from(NUMBER_MASK)).expect("20 bits");
        let ahead = (request & NUMBER_MASK).wrapping_sub(answered) & NUMBER_MASK;
        self.answered + u64::from(ahead)
    }
}

/// Whether a device asks for what it missed in a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Pull {
    #[default]
    Idle,
    /// A page is under way.
    Asked,
    /// And it will not hold everything.
    AskedAndMore,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Roost {
    layout: Rc<Layout>,
    users: Vec<String>,
    tokens: Vec<String>,
    /// The number of each device's next connection.
    connection_numbers: Vec<u64>,
    /// Devices that left once: they have missed something.
    was_away: Vec<bool>,
    seats: Vec<Seat>,
    arrived: Marks,
    refused: Refused,
    /// The last body; all differ in their marks only.
    body: Vec<u8>,
}

impl Roost {
    /// What is said beside its figures.
    pub const DIFFERENCES: [&str; 1] =
        ["the first tick means that the message is on the disk (fdatasync)"];

    /// Users, their tokens, and the number of their first connections, above that of earlier runs.
    #[must_use]
    pub fn new(
        layout: Rc<Layout>,
        users: Vec<String>,
        tokens: Vec<String>,
        connection_number: u64,
    ) -> Self {
        let mut seats = vec![Seat::default(); layout.seat_count() as usize];
        for room in layout.rooms().iter().filter(|room| room.direct && room.seats == 2) {
            let name = |seat| &*users[layout.seat(seat).device as usize];
            let conversation = direct(name(room.first), name(room.first + 1));
            seats[room.first as usize].conversation = conversation;
            seats[room.first as usize + 1].conversation = conversation;
        }
        let devices = layout.devices() as usize;
        Self {
            seats,
            arrived: Marks::of(&layout),
            refused: Refused::new(connection_number),
            body: Vec::new(),
            connection_numbers: vec![connection_number; devices],
            was_away: vec![false; devices],
            layout,
            users,
            tokens,
        }
    }

    fn seat(&mut self, seat: SeatIndex) -> &mut Seat {
        &mut self.seats[seat as usize]
    }

    /// The seat of a device in a conversation.
    fn seat_in(&self, device: DeviceIndex, id: &ConversationBytes) -> Option<SeatIndex> {
        let seats = self.layout.seats_of(device);
        seats.iter().copied().find(|seat| self.seats[*seat as usize].conversation == *id)
    }

    fn place_of(&self, device: DeviceIndex, seat: SeatIndex) -> u32 {
        let place = self.layout.seats_of(device).iter().position(|of| *of == seat);
        u32::try_from(place.unwrap_or_default()).expect("a device has few seats")
    }

    fn seat_at(&self, device: DeviceIndex, place: u32) -> Result<SeatIndex, Refusal> {
        let seat = self.layout.seats_of(device).get(place as usize).copied();
        seat.ok_or_else(|| Refusal(format!("device {device}: an answer to nothing it asked")))
    }

    fn frame(
        &mut self,
        device: DeviceIndex,
        content: &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<(), Refusal> {
        let (request, says) = wire::read(content);
        let kind = u32::try_from(request).unwrap_or_default();
        let (kind, place) = (kind & !NUMBER_MASK, kind & NUMBER_MASK);
        match says {
            Incoming::SendReply { seq, .. } => self.replied(device, request, seq, happened)?,
            Incoming::Message(pushed) if !pushed.own => {
                let seat = pushed.conversation.and_then(|id| self.seat_in(device, &id));
                if let Some(seat) = seat {
                    self.pushed(device, seat, &pushed, out, happened);
                }
            }
            Incoming::Receipts(body) => {
                for receipt in wire::room_receipts(body).filter(|receipt| receipt.member == 0) {
                    let seat = receipt.conversation.and_then(|id| self.seat_in(device, &id));
                    happened.extend(
                        seat.map(|seat| Happened::Ticked { seat, place: receipt.delivered }),
                    );
                }
            }
            Incoming::History(body) if kind == PULL => {
                let seat = self.seat_at(device, place)?;
                self.pulled(device, seat, body, out, happened)?;
            }
            Incoming::Behind => self.pull_all(device, out, happened),
            Incoming::GroupCreated { conversation } => {
                let seat = self.seat_at(device, place)?;
                let room = self.layout.room_of(seat);
                for of in &mut self.seats[room.first as usize..][..room.seats as usize] {
                    (of.conversation, of.is_known) = (conversation, true);
                }
                happened.push(Happened::SetUp);
            }
            Incoming::Welcome { heartbeat_ms, .. } => {
                happened.push(Happened::HeartbeatEvery(heartbeat_ms));
                happened.push(Happened::Ready);
                self.catch_up(device, out, happened);
            }
            Incoming::Error { code, after_ms } => {
                self.refused(device, request, code, after_ms)?;
                happened.push(Happened::Refused);
            }
            Incoming::History(_) | Incoming::Other if kind == ACT => happened.push(Happened::Acted),
            Incoming::History(_) | Incoming::Message(_) | Incoming::Sync(_) | Incoming::Other => {}
        }
        Ok(())
    }

    fn replied(
        &mut self,
        device: DeviceIndex,
        request: u64,
        seq: u64,
        happened: &mut Vec<Happened>,
    ) -> Result<(), Refusal> {
        let request = u32::try_from(request).unwrap_or_default();
        let place = (request >> NUMBER_BITS).wrapping_sub(1);
        let seat = self.seat_at(device, place)?;
        let of = self.seat(seat);
        let number = of.number_of(request);
        of.answered = number.max(of.answered);
        of.seen = of.seen.max(seq);
        of.is_known = true;
        self.refused.accepted(seat, number);
        happened.push(Happened::Accepted { seat, number, place: seq });
        Ok(())
    }

    /// A request was refused: repeated later, if the server means that.
    fn refused(
        &mut self,
        device: DeviceIndex,
        request: u64,
        code: u64,
        after_ms: u32,
    ) -> Result<(), Refusal> {
        if request == HELLO {
            return Err(Refusal(refused_hello(device, code)));
        }
        let why =
            || Refusal(format!("device {device}: request {request} was refused: error {code}"));
        let request = u32::try_from(request).map_err(|_| why())?;
        if !is_for_the_moment(code) {
            return Err(why());
        }
        let place = request & NUMBER_MASK;
        match request & !NUMBER_MASK {
            PULL => self.refused.put(Again::Pull(self.seat_at(device, place)?), after_ms),
            CREATE => self.refused.put(Again::Create(self.seat_at(device, place)?), after_ms),
            // What somebody did besides writing is not done, and not counted as answered.
            ACT => {}
            _ => {
                let seat = self.seat_at(device, (request >> NUMBER_BITS).wrapping_sub(1))?;
                let of = &self.seats[seat as usize];
                let (number, written) = (of.number_of(request), of.written);
                if !self.refused.put_write(seat, number, written, after_ms) {
                    return Err(why());
                }
            }
        }
        Ok(())
    }

    fn create(&self, device: DeviceIndex, seat: SeatIndex, out: &mut Vec<u8>) {
        let room = self.layout.room_of(seat);
        let members = (room.first + 1)..(room.first + room.seats);
        let name = |seat| self.users[self.layout.seat(seat).device as usize].clone();
        let request = CREATE | self.place_of(device, seat);
        wire::create_group(request, u128::from(seat) + 1, members.map(name).collect(), out);
    }

    fn say(&self, seat: SeatIndex, number: u64, body: &[u8], out: &mut Vec<u8>) {
        let device = self.layout.seat(seat).device;
        let place = self.place_of(device, seat);
        let low = u32::try_from(number & u64::from(NUMBER_MASK)).expect("20 bits");
        let request = (place + 1) << NUMBER_BITS | low;
        let of = &self.seats[seat as usize];
        let write = Write {
            conversation: &of.conversation,
            number,
            id: scramble(u64::from(seat) << 40 | number),
            seen: of.seen,
            body,
        };
        if of.is_known {
            wire::send_as(request, &write, out);
        } else {
            let other = self.layout.other(seat);
            wire::send_first(request, &self.users[other as usize], &write, out);
        }
    }

    fn pushed(
        &mut self,
        device: DeviceIndex,
        seat: SeatIndex,
        pushed: &Pushed<'_>,
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) {
        let Some((author, number)) = writer_of(pushed) else { return };
        let held = self.arrived.get(&self.layout, seat, author);
        let of = self.seat(seat);
        if held.is_none_or(|held| number == held + 1) && of.pull == Pull::Idle {
            self.arrived(seat, author, number, pushed.seq, happened);
        } else if held.is_some_and(|held| number <= held) {
            happened.push(Happened::Arrived { seat, author, number });
        } else {
            self.pull(device, seat, out, happened);
        }
    }

    fn arrived(
        &mut self,
        seat: SeatIndex,
        author: DeviceIndex,
        number: u64,
        seq: u64,
        happened: &mut Vec<Happened>,
    ) {
        self.arrived.set(&self.layout, seat, author, number);
        let of = self.seat(seat);
        of.arrived_seq = of.arrived_seq.max(seq);
        of.seen = of.seen.max(seq);
        of.mark_due = true;
        happened.push(Happened::Arrived { seat, author, number });
    }

    fn pull(
        &mut self,
        device: DeviceIndex,
        seat: SeatIndex,
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) {
        let place = self.place_of(device, seat);
        let of = self.seat(seat);
        if of.pull != Pull::Idle {
            of.pull = Pull::AskedAndMore;
        } else if of.conversation != ConversationBytes::default() {
            of.pull = Pull::Asked;
            wire::history(PULL | place, &of.conversation, of.arrived_seq, out);
            happened.push(Happened::Pulled);
        }
    }

    fn pull_all(&mut self, device: DeviceIndex, out: &mut Vec<u8>, happened: &mut Vec<Happened>) {
        for at in 0..self.layout.seats_of(device).len() {
            let seat = self.layout.seats_of(device)[at];
            self.pull(device, seat, out, happened);
        }
    }

    /// A device that was away asks for what it missed.
    fn catch_up(&mut self, device: DeviceIndex, out: &mut Vec<u8>, happened: &mut Vec<Happened>) {
        if std::mem::take(&mut self.was_away[device as usize]) {
            self.pull_all(device, out, happened);
        }
    }

    fn pulled(
        &mut self,
        device: DeviceIndex,
        seat: SeatIndex,
        body: &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<(), Refusal> {
        let (messages, more) = wire::page(body);
        for message in &messages {
            let Some((author, number)) = writer_of(message) else { continue };
            let Some(held) = self.arrived.get(&self.layout, seat, author) else { continue };
            if message.own || number <= held {
                continue;
            }
            if number > held + 1 {
                return Err(Refusal(format!("device {device}: a page lacks a message")));
            }
            self.arrived(seat, author, number, message.seq, happened);
        }
        let of = self.seat(seat);
        if std::mem::take(&mut of.pull) == Pull::AskedAndMore || more {
            self.pull(device, seat, out, happened);
        }
        Ok(())
    }
}

fn writer_of(message: &Pushed<'_>) -> Option<(DeviceIndex, u64)> {
    let (author, number) = read_body(message.body)?;
    Some((DeviceIndex::try_from(author).ok()?, number))
}

fn refused_hello(device: DeviceIndex, code: u64) -> String {
    format!(
        "device {device} was refused with error {code} at Hello; if the token is what is wrong: \
         --data must be the folder of the server that is measured"
    )
}

impl Target for Roost {
    fn promises(&self) -> Promises {
        Promises { accepts: true, ticks: true, durable: true }
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        Some(Heartbeat { every_ms: HEARTBEAT_MS, bytes: &[HEARTBEAT] })
    }

    fn open(&mut self, device: DeviceIndex, out: &mut Vec<u8>) {
        let at = device as usize;
        out.extend_from_slice(&PREFACE);
        let mut id = [0xbe; 16];
        id[..4].copy_from_slice(&device.to_le_bytes());
        let number = self.connection_numbers[at];
        self.connection_numbers[at] += 1;
        wire::hello(self.tokens[at].clone(), id, number, out);
    }

    fn receive(
        &mut self,
        device: DeviceIndex,
        bytes: &[u8],
        out: &mut Vec<u8>,
        happened: &mut Vec<Happened>,
    ) -> Result<usize, Refusal> {
        let mut told = Ok(());
        let used = cut_all(bytes, |piece| {
            if told.is_ok() {
                told = match piece {
                    Piece::Heartbeat => Ok(()),
                    Piece::Frame(content) => self.frame(device, content, out, happened),
                    Piece::Broken(error) => {
                        let why = format!("device {device}: what came is no frame: {error:?}");
                        Err(Refusal(why))
                    }
                };
            }
        });
        told.map(|()| used)
    }

    fn set_up(&mut self, device: DeviceIndex, out: &mut Vec<u8>) -> u32 {
        let mut begun = 0;
        for seat in self.layout.seats_of(device) {
            let room = self.layout.room_of(*seat);
            if !room.direct && room.first == *seat {
                self.create(device, *seat, out);
                begun += 1;
            }
        }
        begun
    }

    fn write(&mut self, seat: SeatIndex, number: u64, body: &[u8], out: &mut Vec<u8>) {
        if self.body.len() != body.len() {
            self.body = body.to_vec();
        }
        self.seats[seat as usize].written = number;
        if !self.refused.waits(seat, number) {
            self.say(seat, number, body, out);
        }
    }

    fn again(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<DeviceIndex> {
        let again = self.refused.next(now)?;
        let (Again::Write(seat, ..) | Again::Pull(seat) | Again::Create(seat)) = again;
        let device = self.layout.seat(seat).device;
        match again {
            Again::Write(_, first, last) => {
                let mut body = std::mem::take(&mut self.body);
                for number in first..=last {
                    mark_body(&mut body, device, number);
                    self.say(seat, number, &body, out);
                }
                self.body = body;
            }
            // Who left meanwhile pulls when it is back.
            Again::Pull(_) if self.seats[seat as usize].pull == Pull::Idle => {}
            Again::Pull(_) => {
                let of = &self.seats[seat as usize];
                let request = PULL | self.place_of(device, seat);
                wire::history(request, &of.conversation, of.arrived_seq, out);
            }
            Again::Create(_) => self.create(device, seat, out),
        }
        Some(device)
    }

    fn acknowledge(&mut self, device: DeviceIndex, out: &mut Vec<u8>) {
        for seat in self.layout.seats_of(device) {
            let of = &mut self.seats[*seat as usize];
            if std::mem::take(&mut of.mark_due) {
                wire::delivered(&of.conversation, of.arrived_seq, out);
            }
        }
    }

    fn act(&mut self, device: DeviceIndex, act: Act, out: &mut Vec<u8>) -> Option<u32> {
        let (Act::Typing(seat) | Act::Read(seat) | Act::History(seat) | Act::Presence(seat)) = act;
        let request = ACT | self.place_of(device, seat);
        let of = &self.seats[seat as usize];
        match act {
            Act::Typing(_) => wire::typing(&of.conversation, out),
            Act::Read(_) if of.arrived_seq == 0 => {}
            Act::Read(_) => wire::mark_read(&of.conversation, of.arrived_seq, out),
            Act::History(_) => {
                wire::history(request, &of.conversation, of.arrived_seq.saturating_sub(20), out);
                return Some(1);
            }
            Act::Presence(_) => {
                let room = self.layout.room_of(seat);
                let others = (room.first..room.first + room.seats.min(10)).filter(|at| *at != seat);
                let name = |seat| self.users[self.layout.seat(seat).device as usize].clone();
                let group = (!room.direct).then_some(&of.conversation);
                wire::query_presence(request, group, others.map(name).collect(), out);
                return Some(1);
            }
        }
        Some(0)
    }

    fn closed(&mut self, device: DeviceIndex) {
        self.was_away[device as usize] = true;
        for seat in self.layout.seats_of(device) {
            let of = &mut self.seats[*seat as usize];
            of.pull = Pull::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::mark_body;
    use bytes::Bytes;
    use roost_protocol::wire::server_frame::Body;
    use roost_protocol::{encode, wire as messages};

    fn pair() -> Roost {
        let users = vec!["ann".to_owned(), "bob".to_owned()];
        Roost::new(Rc::new(Layout::pairs(1)), users.clone(), users, 1)
    }

    fn told(roost: &mut Roost, device: DeviceIndex, request: u32, body: Body) -> Vec<Happened> {
        let (mut bytes, mut out, mut happened) = (Vec::new(), Vec::new(), Vec::new());
        encode::server(request, body, &mut bytes);
        let used = roost.receive(device, &bytes, &mut out, &mut happened).unwrap();
        assert_eq!(used, bytes.len());
        happened
    }

    fn message(roost: &Roost, number: u64, seq: u64) -> messages::Message {
        let mut body = vec![0; 16];
        mark_body(&mut body, 0, number);
        messages::Message {
            conversation: Bytes::copy_from_slice(&roost.seats[0].conversation),
            seq,
            content: Some(messages::message::Content::Body(body.into())),
            ..messages::Message::default()
        }
    }

    #[test]
    fn a_reply_names_the_seat_and_number_however_many_were_written() {
        let mut roost = pair();
        roost.seats[1].answered = (1 << NUMBER_BITS) - 1;
        let request = 1 << NUMBER_BITS;
        let reply = messages::SendReply { seq: 7, ..Default::default() };
        let happened = told(&mut roost, 1, request, Body::Send(reply));
        let accepted = Happened::Accepted { seat: 1, number: 1 << NUMBER_BITS, place: 7 };
        assert_eq!(happened, [accepted]);
    }

    #[test]
    fn a_gap_is_pulled_and_nothing_is_taken_until_it_is_filled() {
        let mut roost = pair();
        let first = message(&roost, 1, 1);
        let arrived = |number| Happened::Arrived { seat: 1, author: 0, number };
        assert_eq!(told(&mut roost, 1, 0, Body::Message(first)), [arrived(1)]);
        let third = message(&roost, 3, 3);
        assert_eq!(told(&mut roost, 1, 0, Body::Message(third)), [Happened::Pulled]);
        let page = messages::HistoryReply {
            messages: vec![message(&roost, 2, 2), message(&roost, 3, 3)],
            ..Default::default()
        };
        let happened = told(&mut roost, 1, PULL, Body::History(page));
        assert_eq!(happened, [arrived(2), arrived(3)]);
        let again = message(&roost, 3, 3);
        assert_eq!(
            told(&mut roost, 1, 0, Body::Message(again)),
            [arrived(3)],
            "told, to be counted"
        );
    }

    #[test]
    fn a_page_without_the_message_ends_the_run() {
        let mut roost = pair();
        let third = message(&roost, 3, 3);
        assert_eq!(told(&mut roost, 1, 0, Body::Message(third.clone())), [Happened::Pulled]);
        let page = messages::HistoryReply { messages: vec![third], ..Default::default() };
        let mut bytes = Vec::new();
        encode::server(PULL, Body::History(page), &mut bytes);
        let refusal = roost.receive(1, &bytes, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        assert!(refusal.0.contains("lacks"), "{refusal}");
    }

    #[test]
    fn a_busy_server_is_told_the_same_again_in_order() {
        let mut roost = pair();
        let (mut body, mut first) = (vec![7; 20], Vec::new());
        for number in 1..=2 {
            mark_body(&mut body, 0, number);
            roost.write(0, number, &body, &mut first);
        }
        for (number, code) in [(1, 48), (2, 46)] {
            let error = messages::Error { code, ..Default::default() };
            let request = 1 << NUMBER_BITS | number;
            assert_eq!(told(&mut roost, 0, request, Body::Error(error)), [Happened::Refused]);
        }
        let mut out = Vec::new();
        mark_body(&mut body, 0, 3);
        roost.write(0, 3, &body, &mut out);
        assert!(out.is_empty(), "it waits behind the others");
        roost.write(1, 1, &body, &mut out);
        assert!(!out.is_empty(), "another seat does not");
        out.clear();
        assert_eq!(roost.again(Instant { ns: 1_000_000 }, &mut out), None);
        assert_eq!(roost.again(Instant { ns: 10_000_000_000 }, &mut out), Some(0));
        assert!(out.starts_with(&first) && out.len() > first.len(), "one and two, and three");
        let error = messages::Error { code: 41, ..Default::default() };
        let mut bytes = Vec::new();
        encode::server(1 << NUMBER_BITS | 3, Body::Error(error), &mut bytes);
        assert!(roost.receive(0, &bytes, &mut Vec::new(), &mut Vec::new()).is_err());
    }

    #[test]
    fn half_a_frame_is_left() {
        let mut roost = pair();
        let mut bytes = vec![HEARTBEAT];
        encode::server(0, Body::Message(message(&roost, 1, 1)), &mut bytes);
        let mut happened = Vec::new();
        let cut = bytes.len() - 1;
        let used = roost.receive(1, &bytes[..cut], &mut Vec::new(), &mut happened).unwrap();
        assert_eq!((used, happened.len()), (1, 0));
    }
}
