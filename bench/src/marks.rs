//! How far each reader has got with each writer of its rooms.

use crate::swarm::DeviceIndex;
use crate::target::{Layout, SeatIndex};

/// The number of the newest message in order, for each seat and each writer of its room.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    begins: Vec<u32>,
    numbers: Vec<u64>,
}

impl Marks {
    /// Nothing has arrived.
    #[must_use]
    pub fn of(layout: &Layout) -> Self {
        let (mut begins, mut total) = (Vec::new(), 0);
        for seat in 0..layout.seat_count() {
            begins.push(total);
            total += layout.room_of(seat).writers;
        }
        Self { begins, numbers: vec![0; total as usize] }
    }

    fn place(&self, layout: &Layout, seat: SeatIndex, author: DeviceIndex) -> Option<usize> {
        let room = layout.room_of(seat);
        let writer = layout.writer(room, author)?;
        Some(self.begins[seat as usize] as usize + (writer - room.first) as usize)
    }

    /// None: this author does not write in this room.
    #[must_use]
    pub fn get(&self, layout: &Layout, seat: SeatIndex, author: DeviceIndex) -> Option<u64> {
        self.place(layout, seat, author).map(|place| self.numbers[place])
    }

    /// Notes the newest; of an author who does not write here, nothing.
    pub fn set(&mut self, layout: &Layout, seat: SeatIndex, author: DeviceIndex, number: u64) {
        if let Some(place) = self.place(layout, seat, author) {
            self.numbers[place] = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_of_a_room_are_kept_apart() {
        let layout = Layout::new(3, [(vec![2, 0, 1], 2, false), (vec![1, 2], 1, true)]);
        let mut marks = Marks::of(&layout);
        marks.set(&layout, 2, 0, 7);
        marks.set(&layout, 2, 1, 9);
        assert_eq!(marks.get(&layout, 2, 0), Some(7));
        assert_eq!(marks.get(&layout, 2, 2), Some(0));
        assert_eq!(marks.get(&layout, 1, 0), Some(0));
        assert_eq!(marks.get(&layout, 2, 1), None, "the third member does not write");
    }
}
