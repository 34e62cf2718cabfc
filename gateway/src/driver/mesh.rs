//! Queues between workers: one for each pair and direction, bounded, lock-free.
//!
//! The sending shard counts the places it knows to be free; this side tells it when the receiver
//! took something out. A sender that ran out asks to be woken (`starved`), so that nobody polls.

use crate::ids::ShardId;
use crate::shard::Parcel;
use crossbeam_utils::CachePadded;
use roost_event_loop::Waker;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Parcels taken from one queue in one turn, so that no neighbour holds up the rest.
const PARCELS_PER_TURN: usize = 1024;

#[derive(Debug)]
struct Outgoing {
    queue: Producer<Parcel>,
    /// Places the shard believes to be free.
    known_free: usize,
    starved: Arc<CachePadded<AtomicBool>>,
    pushed: bool,
}

#[derive(Debug)]
struct Incoming {
    queue: Consumer<Parcel>,
    starved: Arc<CachePadded<AtomicBool>>,
}

/// One worker's ends of all queues.
#[derive(Debug)]
pub struct Mesh {
    outgoing: Vec<Option<Outgoing>>,
    incoming: Vec<Option<Incoming>>,
    wakers: Vec<Waker>,
}

/// The queues of all workers; each takes its [`Mesh`].
#[must_use]
pub fn weave(shards: u8, slots: u32) -> Vec<Mesh> {
    let count = usize::from(shards);
    let slots = usize::try_from(slots).unwrap_or(usize::MAX);
    let empty = || Mesh {
        outgoing: (0..count).map(|_| None).collect(),
        incoming: (0..count).map(|_| None).collect(),
        wakers: Vec::new(),
    };
    let mut meshes: Vec<Mesh> = (0..count).map(|_| empty()).collect();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (producer, consumer) = RingBuffer::new(slots);
            let starved = Arc::new(CachePadded::new(AtomicBool::new(false)));
            meshes[from].outgoing[to] = Some(Outgoing {
                queue: producer,
                known_free: slots,
                starved: Arc::clone(&starved),
                pushed: false,
            });
            meshes[to].incoming[from] = Some(Incoming { queue: consumer, starved });
        }
    }
    meshes
}

impl Mesh {
    /// Who to wake, by shard.
    pub fn set_wakers(&mut self, wakers: Vec<Waker>) {
        self.wakers = wakers;
    }

    /// Puts a parcel into a queue. There is room: the shard counts.
    ///
    /// # Panics
    /// When there is none, or no shard of that number.
    pub fn push(&mut self, to: ShardId, parcel: Parcel) {
        let outgoing = self.outgoing[to.index()].as_mut().expect("a queue to every other shard");
        outgoing.known_free -= 1;
        outgoing.pushed = true;
        assert!(outgoing.queue.push(parcel).is_ok(), "the shard counts the places in the queue");
    }

    /// Wakes those that were sent something, and asks to be woken where there is no room.
    /// Says whether some room is already there again.
    pub(crate) fn end_turn(&mut self) -> bool {
        let mut room = false;
        for (outgoing, waker) in self.outgoing.iter_mut().zip(&self.wakers) {
            let Some(outgoing) = outgoing else { continue };
            if std::mem::take(&mut outgoing.pushed) {
                waker.wake();
            }
            if outgoing.known_free == 0 {
                outgoing.starved.store(true, Ordering::SeqCst);
                room |= outgoing.queue.slots() > 0;
            }
        }
        room
    }

    /// Places that became free since the last call, by shard.
    pub fn freed(&mut self, mut report: impl FnMut(ShardId, u32)) {
        for (index, outgoing) in self.outgoing.iter_mut().enumerate() {
            let Some(outgoing) = outgoing else { continue };
            let freed = outgoing.queue.slots() - outgoing.known_free;
            if freed > 0 {
                outgoing.known_free += freed;
                report(shard(index), u32::try_from(freed).expect("a queue's places fit a u32"));
            }
        }
    }

    /// Takes what arrived. Says whether there is more.
    pub fn arrived(&mut self, mut take: impl FnMut(ShardId, Parcel)) -> bool {
        let mut more = false;
        for (index, incoming) in self.incoming.iter_mut().enumerate() {
            let Some(incoming) = incoming else { continue };
            let mut taken = 0;
            while taken < PARCELS_PER_TURN
                && let Ok(parcel) = incoming.queue.pop()
            {
                taken += 1;
                take(shard(index), parcel);
            }
            more |= !incoming.queue.is_empty();
            if taken > 0 && incoming.starved.swap(false, Ordering::SeqCst) {
                self.wakers[index].wake();
            }
        }
        more
    }
}

fn shard(index: usize) -> ShardId {
    ShardId(u8::try_from(index).expect("shards are counted in a u8"))
}
