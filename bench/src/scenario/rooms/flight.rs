//! What one seat wrote and how far it is.

use roost_protocol::time::Instant;
use std::collections::VecDeque;

#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) due: Instant,
    /// 0 until the target answered.
    pub(super) place: u64,
    /// Readers who lack it.
    pub(super) left: u32,
}

impl InFlight {
    const fn is_through(&self) -> bool {
        self.place != 0 && self.left == 0
    }
}

/// A seat that writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Writer {
    pub(super) written: u64,
    /// The newest messages, in order.
    in_flight: VecDeque<InFlight>,
    /// Of `in_flight`, how many at the front are ticked.
    ticked: usize,
    pub(super) watermark: u64,
    pub(super) waits_for_ticks: bool,
    /// Not answered yet.
    pub(super) unanswered: usize,
    /// Not through yet.
    pub(super) open: u32,
    /// Closed loop: as many may be open.
    pub(super) window: u32,
    /// Open loop: due, and no room.
    pub(super) waiting: VecDeque<Instant>,
}

impl Writer {
    /// Notes a message and gives its number.
    pub(super) fn write(&mut self, due: Instant, readers: u32) -> u64 {
        self.written += 1;
        self.unanswered += 1;
        self.open += 1;
        self.in_flight.push_back(InFlight { due, place: 0, left: readers });
        self.written
    }

    /// How many the target accepted.
    pub(super) const fn accepted(&self) -> u64 {
        self.written - self.unanswered as u64
    }

    /// Closed loop: whether there is room for another.
    pub(super) const fn may_write(&self) -> bool {
        self.open < self.window && self.unanswered < super::UNANSWERED_MAX
    }

    /// The message of that number, if somebody still waits for something of it.
    pub(super) fn get(&mut self, number: u64) -> Option<&mut InFlight> {
        let first = self.written + 1 - self.in_flight.len() as u64;
        let place = usize::try_from(number.checked_sub(first)?).ok()?;
        self.in_flight.get_mut(place)
    }

    /// When the next message was due that the watermark covers and that was not ticked.
    pub(super) fn next_tick(&mut self) -> Option<Instant> {
        let next = self.in_flight.get(self.ticked)?;
        let covered = self.waits_for_ticks && next.place != 0 && next.place <= self.watermark;
        covered.then(|| {
            self.ticked += 1;
            next.due
        })
    }

    /// Drops what is done at the front. Says how many that were.
    pub(super) fn forget(&mut self) -> u64 {
        let mut forgotten = 0;
        while self.in_flight.front().is_some_and(InFlight::is_through)
            && (!self.waits_for_ticks || self.ticked > 0)
        {
            self.in_flight.pop_front();
            self.ticked = self.ticked.saturating_sub(1);
            forgotten += 1;
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_on_their_way_are_found_by_number() {
        let mut writer = Writer { written: 4, ..Writer::default() };
        for _ in 0..3 {
            writer.write(Instant::default(), 1);
        }
        assert!(writer.get(4).is_none() && writer.get(8).is_none());
        writer.get(6).unwrap().place = 60;
        assert_eq!(writer.get(6).map(|message| message.place), Some(60));
    }

    #[test]
    fn a_message_is_forgotten_when_it_is_through_and_ticked() {
        let mut writer = Writer { waits_for_ticks: true, ..Writer::default() };
        for number in 1..=2 {
            writer.write(Instant { ns: number }, 1);
            *writer.get(number).unwrap() =
                InFlight { due: Instant { ns: number }, place: number * 10, left: 0 };
        }
        assert_eq!(writer.forget(), 0, "nothing is ticked");
        writer.watermark = 10;
        assert_eq!(writer.next_tick(), Some(Instant { ns: 1 }));
        assert_eq!(writer.next_tick(), None);
        assert_eq!((writer.forget(), writer.forget()), (1, 0));
        writer.waits_for_ticks = false;
        assert_eq!(writer.forget(), 1);
    }
}
