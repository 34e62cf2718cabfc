//! The rings that hold sockets. Each has a bounded table, so a loop opens further ones as it
//! grows; a socket's slot says which ring it is in.

use super::op::SLOTS_MAX;
use super::ring::Ring;
use super::slots::{Flag, Slot};
use crate::event::{Limit, SocketId};
use crate::gate::Pass;
use crate::listener::{AcceptError, descriptors_max};
use crate::settings::Settings;
use rustix::fd::BorrowedFd;
use std::collections::VecDeque;
use std::io;

/// After so many ticks rings go that nobody needed meanwhile: a crowd that has just left may come
/// back, and making a ring takes a moment.
const UNUSED_TICKS: u32 = 50;

/// A ring and the sockets in its table.
#[derive(Debug)]
pub(super) struct SocketRing {
    pub(super) ring: Ring,
    pub(super) slots: Vec<Slot>,
    /// Sockets to be received from.
    pub(super) to_receive: VecDeque<SocketId>,
    /// Sockets that had their share of this turn and have more.
    pub(super) later: Vec<SocketId>,
    /// Slots taken.
    used: u32,
    /// Slots that connects under way may take.
    reserved: u32,
    /// Slots that single accepts may take.
    accepting: u32,
}

impl SocketRing {
    fn new(slots: u32, generation: u32, eventfd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            ring: Ring::new(slots, Some(eventfd))?,
            slots: vec![Slot::free_after(generation); slots as usize],
            to_receive: VecDeque::new(),
            later: Vec::new(),
            used: 0,
            reserved: 0,
            accepting: 0,
        })
    }

    /// Slots that nothing has a claim to.
    pub(super) fn free(&self) -> u32 {
        let slots = u32::try_from(self.slots.len()).expect("a table is small");
        slots.saturating_sub(self.used + self.reserved + self.accepting)
    }

    pub(super) const fn reserve(&mut self, count: u32) {
        self.reserved += count;
    }

    pub(super) const fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    pub(super) const fn reserve_accepts(&mut self, count: u32) {
        self.accepting += count;
    }

    pub(super) const fn release_accept(&mut self) {
        self.accepting = self.accepting.saturating_sub(1);
    }

    pub(super) fn has_work(&mut self) -> bool {
        !self.to_receive.is_empty() || !self.later.is_empty() || self.ring.has_work()
    }

    /// Whether it has sockets, or will, or something of them is still to be looked at. Of a ring
    /// of which this is not so the kernel holds no pointers, but for a listener's accepts.
    fn is_used(&mut self) -> bool {
        self.used > 0 || self.reserved > 0 || self.has_work()
    }
}

/// All rings with sockets of a loop.
#[derive(Debug)]
pub(super) struct Rings {
    rings: Vec<SocketRing>,
    slots_per_ring: u32,
    sockets_max: u32,
    /// Of rings that went: the highest generation of their slots, so that no id comes again.
    generations: Vec<u32>,
    /// So many rings were needed at a time since it was last looked whether some may go.
    needed: usize,
    ticks: u32,
}

impl Rings {
    pub(super) fn new(settings: &Settings, eventfd: BorrowedFd<'_>) -> io::Result<Self> {
        // A table may not be larger than the limit of descriptors, though it takes none of them.
        let limit = u32::try_from(descriptors_max()).unwrap_or(u32::MAX);
        let sockets_max = settings.sockets_max.clamp(1, SLOTS_MAX);
        let slots_per_ring = settings.ring_slots.min(limit).min(sockets_max).max(1);
        let mut rings = Self {
            rings: Vec::new(),
            slots_per_ring,
            sockets_max,
            generations: Vec::new(),
            needed: 1,
            ticks: 0,
        };
        rings.add(eventfd)?;
        Ok(rings)
    }

    fn add(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<usize> {
        let before = u32::try_from(self.rings.len()).expect("few rings") * self.slots_per_ring;
        let slots = self.slots_per_ring.min(self.sockets_max - before);
        let generation = self.generations.get(self.rings.len()).copied().unwrap_or(0);
        self.rings.push(SocketRing::new(slots, generation, eventfd)?);
        Ok(self.rings.len() - 1)
    }

    /// A tick passed. Says how many rings are enough, when those behind them have not been needed
    /// for a while.
    pub(super) fn enough(&mut self) -> Option<usize> {
        let used = self.rings.iter_mut().rposition(SocketRing::is_used);
        self.needed = self.needed.max(used.map_or(1, |last| last + 1));
        self.ticks += 1;
        if self.ticks < UNUSED_TICKS {
            return None;
        }
        self.ticks = 0;
        let enough = std::mem::replace(&mut self.needed, 1);
        (enough < self.rings.len()).then_some(enough)
    }

    /// Whether a listener would find its place in the first so many.
    pub(super) fn have_plenty(&self, rings: usize) -> bool {
        self.rings.iter().take(rings).any(|ring| ring.free() > self.slots_per_ring / 8)
    }

    /// Gives rings back, with their tables and queues. No accepts are armed there.
    pub(super) fn keep(&mut self, rings: usize) {
        while self.rings.len() > rings {
            let Some(mut gone) = self.rings.pop() else { return };
            if gone.is_used() {
                // An answer that nobody waits for came just now: the next time.
                return self.rings.push(gone);
            }
            let highest = gone.slots.iter().map(|slot| slot.generation).max().unwrap_or(0);
            let index = self.rings.len();
            if self.generations.len() <= index {
                self.generations.resize(index + 1, 0);
            }
            self.generations[index] = highest;
        }
    }

    /// A ring with free slots: the first one with plenty, else a new one, else any.
    pub(super) fn with_room(&mut self, eventfd: BorrowedFd<'_>) -> Result<usize, Limit> {
        let plenty = self.slots_per_ring / 8;
        if let Some(index) = self.rings.iter().position(|ring| ring.free() > plenty) {
            return Ok(index);
        }
        let slots = self.rings.len() * self.slots_per_ring as usize;
        let mut limit = Limit::Sockets { max: self.sockets_max };
        if slots < self.sockets_max as usize {
            match self.add(eventfd) {
                Ok(index) => return Ok(index),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::ENOMEM);
                    limit = match AcceptError::from_errno(errno) {
                        AcceptError::Pause(limit) => limit,
                        AcceptError::Retry => Limit::Memory(errno),
                    };
                }
            }
        }
        self.rings.iter().position(|ring| ring.free() > 0).ok_or(limit)
    }

    /// Sockets that all rings together may have.
    pub(super) const fn sockets_max(&self) -> u32 {
        self.sockets_max
    }

    pub(super) const fn len(&self) -> usize {
        self.rings.len()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, SocketRing> {
        self.rings.iter_mut()
    }

    pub(super) fn at(&mut self, index: usize) -> &mut SocketRing {
        &mut self.rings[index]
    }

    /// The ring of a socket, and the socket's place in its table.
    pub(super) fn of(&mut self, slot: u32) -> (&mut SocketRing, u32) {
        let (ring, place) = (slot / self.slots_per_ring, slot % self.slots_per_ring);
        (&mut self.rings[ring as usize], place)
    }

    /// A socket's state, unless the id is an old one.
    pub(super) fn slot(&mut self, socket: SocketId) -> Option<&mut Slot> {
        let ring = self.rings.get_mut((socket.slot / self.slots_per_ring) as usize)?;
        let slot = ring.slots.get_mut((socket.slot % self.slots_per_ring) as usize)?;
        (slot.has(Flag::OPEN) && slot.generation == socket.generation).then_some(slot)
    }

    /// Sockets with a send that the kernel has not answered.
    pub(super) fn sending(&self) -> impl Iterator<Item = (&Ring, SocketId)> {
        self.rings.iter().enumerate().flat_map(move |(index, ring)| {
            let sending = (0u32..).zip(&ring.slots).filter(|(_, slot)| slot.has(Flag::SENDING));
            sending.map(move |(place, slot)| (&ring.ring, self.id(index, place, slot.generation)))
        })
    }

    /// The socket that has a place now, if there is one.
    pub(super) fn occupant(&self, ring: usize, place: u32) -> Option<SocketId> {
        let slot = &self.rings[ring].slots[place as usize];
        slot.has(Flag::OPEN).then(|| self.id(ring, place, slot.generation))
    }

    /// The kernel put a new socket into this place.
    pub(super) fn open(&mut self, ring: usize, place: u32, stands: Pass) -> SocketId {
        let entry = &mut self.rings[ring];
        entry.used += 1;
        entry.slots[place as usize].open(stands);
        let generation = entry.slots[place as usize].generation;
        self.id(ring, place, generation)
    }

    /// The kernel's place is free again.
    pub(super) fn free(&mut self, socket: SocketId) {
        let (ring, place) = self.of(socket.slot);
        ring.used -= 1;
        ring.slots[place as usize].free();
    }

    fn id(&self, ring: usize, place: u32, generation: u32) -> SocketId {
        let ring = u32::try_from(ring).expect("few rings");
        SocketId { slot: ring * self.slots_per_ring + place, generation }
    }
}
