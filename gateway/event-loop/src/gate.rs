//! Whose turn it is among those that come and those that go. What a socket says first costs the
//! most (a signature, a handshake, a user's state), and its end costs as much again; when a hundred
//! thousand come or go at once, whoever is connected and has something to say would wait behind all
//! of them. So first words and ends pass a gate, a bounded number in each turn, in order;
//! everything else goes past it.
//!
//! A socket costs nothing here while it does neither. Where it stands is kept in its slot.

use crate::event::SocketId;
use std::collections::VecDeque;

/// Where a socket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It was accepted and has said nothing yet.
    Newcomer,
    /// It stands in the queue.
    Queued,
    /// It goes past the gate until its end.
    Past,
}

/// Room that an empty queue keeps.
const KEPT: usize = 1024;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Each socket at most once; some have ended since.
    queue: VecDeque<SocketId>,
    per_turn: u32,
    left: u32,
}

impl Gate {
    pub(crate) fn new(per_turn: u32) -> Self {
        Self { queue: VecDeque::new(), per_turn: per_turn.max(1), left: 0 }
    }

    /// A turn begins: so many may pass again.
    pub(crate) const fn begin_turn(&mut self) {
        self.left = self.per_turn;
    }

    /// Who is next, if anybody may pass in this turn.
    pub(crate) fn next(&mut self) -> Option<SocketId> {
        if self.left == 0 {
            return None;
        }
        let next = self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > KEPT {
            // A burst is over: it leaves no memory.
            self.queue = VecDeque::new();
        }
        self.left -= u32::from(next.is_some());
        next
    }

    /// A socket has something that can be read: its first words, or its end when `leaves`. Gives
    /// where it stands then; `Past` means that it is to be read now.
    pub(crate) fn arrive(&mut self, socket: SocketId, stands: Pass, leaves: bool) -> Pass {
        match stands {
            Pass::Past if !leaves => Pass::Past,
            Pass::Queued => Pass::Queued,
            Pass::Past | Pass::Newcomer if self.left > 0 && self.queue.is_empty() => {
                self.left -= 1;
                Pass::Past
            }
            Pass::Past | Pass::Newcomer => {
                self.queue.push_back(socket);
                Pass::Queued
            }
        }
    }

    /// Whether somebody waits for the next turn.
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(slot: u32) -> SocketId {
        SocketId { slot, generation: 1 }
    }

    #[test]
    fn so_many_pass_in_a_turn_and_in_order() {
        let mut gate = Gate::new(3);
        gate.begin_turn();
        let stands: Vec<Pass> =
            (0..8).map(|slot| gate.arrive(socket(slot), Pass::Newcomer, slot % 2 == 0)).collect();
        assert_eq!(stands[..3], [Pass::Past; 3]);
        assert_eq!(stands[3..], [Pass::Queued; 5]);
        assert_eq!(gate.next(), None, "the turn's share is used up");
        gate.begin_turn();
        let passed: Vec<_> = std::iter::from_fn(|| gate.next()).collect();
        assert_eq!(passed, [socket(3), socket(4), socket(5)]);
        // Nobody overtakes.
        gate.begin_turn();
        assert_eq!(gate.arrive(socket(9), Pass::Newcomer, false), Pass::Queued);
        let passed: Vec<_> = std::iter::from_fn(|| gate.next()).collect();
        assert_eq!(passed, [socket(6), socket(7), socket(9)]);
        assert!(!gate.has_work());
    }

    #[test]
    fn whoever_is_past_it_is_not_held_until_the_end() {
        let mut gate = Gate::new(1);
        gate.begin_turn();
        assert_eq!(gate.arrive(socket(1), Pass::Newcomer, false), Pass::Past);
        for _ in 0..10 {
            assert_eq!(gate.arrive(socket(1), Pass::Past, false), Pass::Past);
        }
        assert_eq!(gate.arrive(socket(1), Pass::Past, true), Pass::Queued);
        assert_eq!(gate.arrive(socket(1), Pass::Queued, true), Pass::Queued, "once");
        gate.begin_turn();
        assert_eq!((gate.next(), gate.next()), (Some(socket(1)), None));
    }
}
