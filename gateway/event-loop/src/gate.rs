//! Whose turn it is among those that come and those that go. What a socket says first costs the
//! most (a signature, a handshake, a user's state), and its end costs as much again; when a hundred
//! thousand come or go at once, whoever is connected and has something to say would wait behind all
//! of them. So first words and ends pass a gate, a bounded number in each turn, in order, a
//! newcomer and a leaver by turns; everything else goes past it. How many depends on how long the
//! turn before took: a short turn stays short, and in long ones they have their share of the time.
//!
//! A socket costs nothing here while it does neither. Where it stands is kept in its slot.

use crate::event::SocketId;
use crate::settings::Settings;
use roost_protocol::time::Duration;
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

/// So many newcomers may wait.
const CROWD_MAX: usize = 32;
/// Room that an empty queue keeps.
const KEPT: usize = 1024;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Those with first words; some have ended since.
    coming: VecDeque<SocketId>,
    /// Those with an end; some have ended otherwise since.
    going: VecDeque<SocketId>,
    per_turn_max: u32,
    accepts_max: u32,
    turn_us_each: u32,
    left: u32,
    accepts: u32,
    /// Whose turn it is while both wait.
    goers_next: bool,
}

impl Gate {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            coming: VecDeque::new(),
            going: VecDeque::new(),
            per_turn_max: settings.gate_per_turn.max(1),
            accepts_max: settings.accepts_per_turn.max(1),
            turn_us_each: settings.turn_us_per_newcomer,
            left: 0,
            accepts: 1,
            goers_next: false,
        }
    }

    /// A turn begins: some may pass again, by how long the last one took.
    pub(crate) fn begin_turn(&mut self, last_turn: Duration) {
        let each_ns = u64::from(self.turn_us_each) * 1_000;
        let share = last_turn.ns.checked_div(each_ns);
        let share = share.map_or(u32::MAX, |share| u32::try_from(share).unwrap_or(u32::MAX)).max(1);
        self.left = share.min(self.per_turn_max);
        self.accepts = share.min(self.accepts_max);
    }

    /// How many connections each listener may take in this turn.
    pub(crate) const fn accepts(&self) -> u32 {
        self.accepts
    }

    /// Who is next, if anybody may pass in this turn. Whoever `is_there` no more takes nobody's
    /// place.
    pub(crate) fn next(&mut self, mut is_there: impl FnMut(SocketId) -> bool) -> Option<SocketId> {
        if self.left == 0 {
            return None;
        }
        let next = std::iter::from_fn(|| self.pop()).find(|socket| is_there(*socket));
        self.left -= u32::from(next.is_some());
        next
    }

    /// Takes the first of whichever queue has its turn.
    fn pop(&mut self) -> Option<SocketId> {
        self.goers_next = !self.goers_next;
        let queue = match (self.coming.is_empty(), self.going.is_empty()) {
            (true, _) => &mut self.going,
            (false, true) => &mut self.coming,
            (false, false) if self.goers_next => &mut self.going,
            (false, false) => &mut self.coming,
        };
        let next = queue.pop_front();
        if queue.is_empty() && queue.capacity() > KEPT {
            // A burst is over: it leaves no memory.
            *queue = VecDeque::new();
        }
        next
    }

    /// A socket has something that can be read: its first words, or its end when `leaves`. Gives
    /// where it stands then; `Past` means that it is to be read now.
    pub(crate) fn arrive(&mut self, socket: SocketId, stands: Pass, leaves: bool) -> Pass {
        let queue = match stands {
            Pass::Past if !leaves => return Pass::Past,
            Pass::Queued => return Pass::Queued,
            Pass::Past => &mut self.going,
            Pass::Newcomer => &mut self.coming,
        };
        if self.left > 0 && queue.is_empty() {
            self.left -= 1;
            return Pass::Past;
        }
        queue.push_back(socket);
        Pass::Queued
    }

    /// Whether somebody waits for the next turn.
    pub(crate) fn has_work(&self) -> bool {
        !self.coming.is_empty() || !self.going.is_empty()
    }

    /// Whether so many newcomers wait that further ones had better wait in the kernel, where no
    /// time runs for them.
    pub(crate) fn is_crowded(&self) -> bool {
        self.coming.len() >= CROWD_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(slot: u32) -> SocketId {
        SocketId { slot, generation: 1 }
    }

    fn gate(gate_per_turn: u32) -> Gate {
        let whole = Settings { turn_us_per_newcomer: 0, gate_per_turn, ..Settings::default() };
        Gate::new(&whole)
    }

    fn passed(gate: &mut Gate) -> Vec<u32> {
        gate.begin_turn(Duration::default());
        std::iter::from_fn(|| gate.next(|_| true)).map(|socket| socket.slot).collect()
    }

    #[test]
    fn so_many_pass_in_a_turn_and_in_order() {
        let mut gate = gate(3);
        gate.begin_turn(Duration::default());
        let stands: Vec<Pass> =
            (0..8).map(|slot| gate.arrive(socket(slot), Pass::Newcomer, false)).collect();
        assert_eq!(stands[..3], [Pass::Past; 3]);
        assert_eq!(stands[3..], [Pass::Queued; 5]);
        assert_eq!(gate.next(|_| true), None, "the turn's share is used up");
        assert_eq!(passed(&mut gate), [3, 4, 5]);
        // Nobody overtakes.
        gate.begin_turn(Duration::default());
        assert_eq!(gate.arrive(socket(9), Pass::Newcomer, false), Pass::Queued);
        assert_eq!(passed(&mut gate), [6, 7, 9]);
        assert!(!gate.has_work());
    }

    #[test]
    fn a_long_turn_is_shared_and_a_short_one_stays_short() {
        let settings = Settings { accepts_per_turn: 4, ..Settings::default() };
        let mut gate = Gate::new(&settings);
        for (last_turn_us, passes, accepts) in
            [(0, 1, 1), (99, 1, 1), (199, 1, 1), (200, 2, 2), (700, 7, 4), (3_600_000_000, 8, 4)]
        {
            gate.begin_turn(Duration { ns: last_turn_us * 1_000 });
            assert_eq!((gate.left, gate.accepts()), (passes, accepts), "{last_turn_us}");
        }
    }

    #[test]
    fn who_comes_does_not_wait_for_all_who_go() {
        let mut gate = gate(4);
        for slot in 0..100 {
            assert_eq!(gate.arrive(socket(slot), Pass::Past, true), Pass::Queued);
        }
        for slot in 100..110 {
            assert_eq!(gate.arrive(socket(slot), Pass::Newcomer, slot % 2 == 0), Pass::Queued);
        }
        assert_eq!(passed(&mut gate), [0, 100, 1, 101]);
        // Whoever is there no more takes nobody's place.
        gate.begin_turn(Duration::default());
        let gone = [socket(2), socket(102)];
        let there = || gate.next(|socket| !gone.contains(&socket));
        let passed: Vec<u32> = std::iter::from_fn(there).map(|socket| socket.slot).collect();
        assert_eq!(passed, [3, 103, 4, 104]);
    }

    #[test]
    fn a_crowd_waits_outside() {
        let mut gate = gate(2);
        for slot in 1..32 {
            gate.arrive(socket(slot), Pass::Newcomer, false);
        }
        assert!(!gate.is_crowded());
        gate.arrive(socket(32), Pass::Newcomer, false);
        assert!(gate.is_crowded());
        passed(&mut gate);
        assert!(!gate.is_crowded());
    }

    #[test]
    fn whoever_is_past_it_is_not_held_until_the_end() {
        let mut gate = gate(1);
        gate.begin_turn(Duration::default());
        assert_eq!(gate.arrive(socket(1), Pass::Newcomer, false), Pass::Past);
        for _ in 0..10 {
            assert_eq!(gate.arrive(socket(1), Pass::Past, false), Pass::Past);
        }
        assert_eq!(gate.arrive(socket(1), Pass::Past, true), Pass::Queued);
        assert_eq!(gate.arrive(socket(1), Pass::Queued, true), Pass::Queued, "once");
        assert_eq!(passed(&mut gate), [1]);
    }
}
