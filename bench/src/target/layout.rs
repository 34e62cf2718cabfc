//! Who talks with whom: rooms, and the seats of devices in them.

use crate::swarm::DeviceIndex;

/// A device's place in a room, counted from 0 over all rooms.
pub type SeatIndex = u32;

/// A place in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Of which room.
    pub room: u32,
    /// Whose.
    pub device: DeviceIndex,
}

/// A conversation: its seats stand side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The first of its seats.
    pub first: SeatIndex,
    /// How many it has.
    pub seats: u32,
    /// Those who write are the first of them.
    pub writers: u32,
    /// A room of two that is not a group: a target may have a simpler thing for it.
    pub direct: bool,
}

/// All rooms of a run.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    rooms: Vec<Room>,
    seats: Vec<Seat>,
    /// Seats in order of their devices, and where each device's begin.
    of_device: Vec<SeatIndex>,
    begins: Vec<u32>,
}

impl Layout {
    /// Of rooms: their devices, how many of those write, and whether it is direct.
    #[must_use]
    pub fn new(
        devices: u32,
        rooms: impl IntoIterator<Item = (Vec<DeviceIndex>, u32, bool)>,
    ) -> Self {
        let mut layout = Self::default();
        for (members, writers, direct) in rooms {
            let room = index(layout.rooms.len());
            let first = index(layout.seats.len());
            layout.rooms.push(Room { first, seats: index(members.len()), writers, direct });
            layout.seats.extend(members.into_iter().map(|device| Seat { room, device }));
        }
        layout.sort(devices);
        layout
    }

    /// Each two devices have a direct room, both write.
    #[must_use]
    pub fn pairs(pairs: u32) -> Self {
        Self::new(pairs * 2, (0..pairs).map(|pair| (vec![pair * 2, pair * 2 + 1], 2, true)))
    }

    /// The first device writes to a group of all.
    #[must_use]
    pub fn fanout(subscribers: u32) -> Self {
        let devices = subscribers + 1;
        Self::new(devices, [((0..devices).collect(), 1, false)])
    }

    /// The first of two devices writes to the other.
    #[must_use]
    pub fn hot() -> Self {
        Self::new(2, [(vec![0, 1], 1, true)])
    }

    fn sort(&mut self, devices: u32) {
        let mut counts = vec![0_u32; devices as usize + 1];
        for seat in &self.seats {
            counts[seat.device as usize + 1] += 1;
        }
        for device in 0..devices as usize {
            counts[device + 1] += counts[device];
        }
        self.begins = counts.clone();
        self.of_device = vec![0; self.seats.len()];
        for (seat, of) in self.seats.iter().enumerate() {
            let next = &mut counts[of.device as usize];
            self.of_device[*next as usize] = index(seat);
            *next += 1;
        }
    }

    /// How many devices there are.
    #[must_use]
    pub fn devices(&self) -> u32 {
        index(self.begins.len()).saturating_sub(1)
    }

    /// How many seats there are.
    #[must_use]
    pub fn seat_count(&self) -> u32 {
        index(self.seats.len())
    }

    /// All rooms.
    #[must_use]
    pub fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    /// A seat.
    #[must_use]
    pub fn seat(&self, seat: SeatIndex) -> Seat {
        self.seats[seat as usize]
    }

    /// The room of a seat.
    #[must_use]
    pub fn room_of(&self, seat: SeatIndex) -> Room {
        self.rooms[self.seat(seat).room as usize]
    }

    /// The seats of a device.
    #[must_use]
    pub fn seats_of(&self, device: DeviceIndex) -> &[SeatIndex] {
        let at = device as usize;
        &self.of_device[self.begins[at] as usize..self.begins[at + 1] as usize]
    }

    /// The device on the other side of a room of two.
    #[must_use]
    pub fn other(&self, seat: SeatIndex) -> DeviceIndex {
        let room = self.room_of(seat);
        let other = if seat == room.first { room.first + 1 } else { room.first };
        self.seat(other).device
    }

    /// The seat of a writer in a room.
    #[must_use]
    pub fn writer(&self, room: Room, author: DeviceIndex) -> Option<SeatIndex> {
        (room.first..room.first + room.writers).find(|seat| self.seat(*seat).device == author)
    }

    /// Everybody who writes: the first writer of each room, then the second.
    #[must_use]
    pub fn writers(&self) -> Vec<SeatIndex> {
        let most = self.rooms.iter().map(|room| room.writers).max().unwrap_or(0);
        let nth = |nth| {
            self.rooms.iter().filter(move |room| nth < room.writers).map(move |r| r.first + nth)
        };
        (0..most).flat_map(nth).collect()
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("seats, rooms and devices are counted in a u32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_sit_opposite_each_other() {
        let layout = Layout::pairs(3);
        assert_eq!((layout.devices(), layout.seat_count()), (6, 6));
        assert_eq!((layout.other(2), layout.other(3)), (3, 2));
        assert_eq!(layout.seats_of(5), [5]);
        assert_eq!(layout.writers(), [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn a_device_has_a_seat_in_each_of_its_rooms() {
        let layout =
            Layout::new(4, [(vec![3, 1], 2, true), (vec![0, 1, 2], 1, false), (vec![], 0, false)]);
        assert_eq!(layout.seats_of(1), [1, 3]);
        assert_eq!(layout.seats_of(0), [2]);
        assert_eq!(layout.writer(layout.rooms()[0], 1), Some(1));
        assert_eq!(layout.writer(layout.rooms()[1], 1), None);
        assert_eq!(layout.room_of(4).seats, 3);
    }
}
