//! Rooms as topics: what brokers call channels, subjects, streams or topics.
//!
//! A direct room is a topic for each of the two, to which the other one writes: nobody gets what
//! it wrote itself. A group is one topic; who writes there gets its own messages back where a
//! broker cannot leave that out, and looks away. Names hold the run's number, so that nothing of
//! an earlier run at the same broker is in the way, and end in `.s` and a seat or `.r` and a room.

use super::layout::{Layout, SeatIndex};
use super::{Happened, read_body};
use crate::swarm::DeviceIndex;
use std::rc::Rc;

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// What is written to one seat of a direct room.
    Seat(SeatIndex),
    /// What is written in a group.
    Room(u32),
}

/// All topics of a run.
#[derive(Debug)]
pub(super) struct Topics {
    layout: Rc<Layout>,
    prefix: String,
    /// Where each seat writes to, by seat.
    names: Vec<Box<[u8]>>,
}

impl Topics {
    /// Their names begin with `prefix`.
    pub(super) fn new(layout: Rc<Layout>, prefix: String) -> Self {
        let mut topics = Self { layout, prefix, names: Vec::new() };
        topics.names = (0..topics.layout.seat_count())
            .map(|seat| topics.name(topics.of_writer(seat)).into_bytes().into_boxed_slice())
            .collect();
        topics
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where a seat writes to.
    pub(super) fn of_writer(&self, seat: SeatIndex) -> Topic {
        let room = self.layout.room_of(seat);
        if room.direct && room.seats == 2 {
            Topic::Seat(if seat == room.first { room.first + 1 } else { room.first })
        } else {
            Topic::Room(self.layout.seat(seat).room)
        }
    }

    /// The name of where a seat writes to.
    pub(super) fn written(&self, seat: SeatIndex) -> &[u8] {
        &self.names[seat as usize]
    }

    pub(super) fn name(&self, topic: Topic) -> String {
        match topic {
            Topic::Seat(seat) => format!("{}.s{seat}", self.prefix),
            Topic::Room(room) => format!("{}.r{room}", self.prefix),
        }
    }

    /// What a device reads: nothing of a group in which only it writes.
    pub(super) fn read_by(&self, device: DeviceIndex) -> Vec<Topic> {
        let seats = self.layout.seats_of(device).iter();
        let topic = |seat: &SeatIndex| {
            let room = self.layout.room_of(*seat);
            if room.direct && room.seats == 2 {
                Some(Topic::Seat(*seat))
            } else {
                let is_alone = room.writers == 1 && *seat == room.first;
                (!is_alone).then(|| Topic::Room(self.layout.seat(*seat).room))
            }
        };
        seats.filter_map(topic).collect()
    }

    /// The seat of a device that reads a topic of this name.
    pub(super) fn reader(&self, device: DeviceIndex, name: &[u8]) -> Option<SeatIndex> {
        match parse(name)? {
            Topic::Seat(seat) => self.layout.seats_of(device).contains(&seat).then_some(seat),
            Topic::Room(room) => {
                let mut seats = self.layout.seats_of(device).iter().copied();
                seats.find(|seat| self.layout.seat(*seat).room == room)
            }
        }
    }

    /// What it means that a body came to a device: nothing if it is its own.
    pub(super) fn arrived(
        &self,
        device: DeviceIndex,
        name: &[u8],
        body: &[u8],
    ) -> Option<Happened> {
        let seat = self.reader(device, name)?;
        let (author, number) = read_body(body)?;
        let author = DeviceIndex::try_from(author).ok()?;
        (author != device).then_some(Happened::Arrived { seat, author, number })
    }
}

/// What a name is for: its last part.
fn parse(name: &[u8]) -> Option<Topic> {
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let (kind, digits) = name.get(dot + 1..)?.split_first()?;
    let number = u32::try_from(number(digits)?).ok()?;
    match kind {
        b's' => Some(Topic::Seat(number)),
        b'r' => Some(Topic::Room(number)),
        _ => None,
    }
}

/// A number in decimal digits; none if there is anything else.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Appends a number in decimal digits.
pub(super) fn put_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::body;

    #[test]
    fn direct_rooms_have_a_topic_for_each_side_and_groups_one() {
        let layout = Layout::new(4, [(vec![3, 1], 2, true), (vec![0, 1, 2], 2, false)]);
        let topics = Topics::new(Rc::new(layout), "7f".to_owned());
        assert_eq!((topics.written(0), topics.written(1)), (&b"7f.s1"[..], &b"7f.s0"[..]));
        assert_eq!((topics.written(2), topics.written(3)), (&b"7f.r1"[..], &b"7f.r1"[..]));
        assert_eq!(topics.read_by(1), [Topic::Seat(1), Topic::Room(1)]);
        assert_eq!((topics.reader(1, b"7f.s1"), topics.reader(3, b"7f.s1")), (Some(1), None));
        assert_eq!((topics.reader(2, b"7f.r1"), topics.reader(2, b"7f.x1")), (Some(4), None));
    }

    #[test]
    fn who_writes_alone_in_a_group_does_not_read_it() {
        let topics = Topics::new(Rc::new(Layout::fanout(2)), String::new());
        assert_eq!((topics.read_by(0), topics.read_by(2)), (vec![], vec![Topic::Room(0)]));
    }

    #[test]
    fn own_messages_do_not_arrive() {
        let layout = Layout::new(3, [(vec![0, 1, 2], 2, false)]);
        let topics = Topics::new(Rc::new(layout), String::new());
        let arrived = Happened::Arrived { seat: 1, author: 0, number: 9 };
        assert_eq!(topics.arrived(1, b".r0", &body(0, 9)), Some(arrived));
        assert_eq!(topics.arrived(0, b".r0", &body(0, 9)), None);
    }

    #[test]
    fn numbers_are_digits() {
        let mut out = Vec::new();
        for value in [0, 7, 10, u64::MAX] {
            put_number(value, &mut out);
            out.push(b' ');
        }
        assert_eq!(out, b"0 7 10 18446744073709551615 ");
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(
            (number(b""), number(b"1x"), number(b"18446744073709551616")),
            (None, None, None)
        );
    }
}
