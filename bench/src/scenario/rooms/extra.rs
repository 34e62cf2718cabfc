//! What devices do in some scenarios besides writing and reading.

use super::Rooms;
use crate::swarm::{DeviceIndex, Swarm};
use crate::target::{Act, SeatIndex, Target, scramble};
use roost_protocol::time::{Duration, Instant};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// At most one device in so many is away at a time.
const AWAY_SHARE: usize = 5;
/// How often somebody else is looked for when the one that was drawn is away.
const DRAWS: u64 = 8;

/// See the module's comment.
#[derive(Debug)]
pub enum Extra {
    /// Nothing.
    None,
    /// Some readers stall by turns.
    Stalls(Stalls),
    /// A day's mix.
    Mix(Box<Mix>),
}

/// The last devices stop reading for a while, read on for as long, and so on.
#[derive(Debug)]
pub struct Stalls {
    from: DeviceIndex,
    count: u32,
    length: Duration,
    /// None: they have not begun.
    changes: Option<Instant>,
    are_stalled: bool,
}

impl Stalls {
    /// The last `count` of so many devices stall for so long at a time.
    #[must_use]
    pub const fn new(devices: u32, count: u32, length: Duration) -> Self {
        Self { from: devices - count, count, length, changes: None, are_stalled: false }
    }
}

/// How often devices do what, in shares of all they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Write in a direct conversation.
    pub direct: u32,
    /// Write in a group.
    pub group: u32,
    /// Type.
    pub typing: u32,
    /// Read what came.
    pub read: u32,
    /// Ask who is there.
    pub presence: u32,
    /// Look at old messages.
    pub history: u32,
    /// Leave, and come back later.
    pub leave: u32,
}

/// A day's mix.
#[derive(Debug)]
pub struct Mix {
    weights: Weights,
    away_for: Duration,
    directs: Vec<SeatIndex>,
    groups: Vec<SeatIndex>,
    away: VecDeque<(Instant, DeviceIndex)>,
    is_away: Vec<bool>,
    came_at: Vec<Instant>,
    drawn: u64,
}

impl Mix {
    /// Of devices that have nothing to do yet.
    #[must_use]
    pub fn new(weights: Weights, away_for: Duration, layout: &crate::target::Layout) -> Self {
        let (directs, groups) =
            layout.writers().into_iter().partition(|seat| layout.room_of(*seat).direct);
        let devices = layout.devices() as usize;
        Self {
            weights,
            away_for,
            directs,
            groups,
            away: VecDeque::new(),
            is_away: vec![false; devices],
            came_at: vec![Instant::default(); devices],
            drawn: 0,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.drawn += 1;
        scramble(self.drawn) % below.max(1)
    }

    fn pick(&mut self, from_groups: bool) -> Option<SeatIndex> {
        let count = if from_groups { self.groups.len() } else { self.directs.len() };
        let place = usize::try_from(self.draw(count as u64)).ok()?;
        let seats = if from_groups { &self.groups } else { &self.directs };
        seats.get(place).copied()
    }
}

impl Extra {
    /// How many readers of the one room stall.
    pub(super) const fn stallers(&self) -> u32 {
        match self {
            Self::Stalls(stalls) => stalls.count,
            Self::None | Self::Mix(_) => 0,
        }
    }

    /// Whether a reader is one that stalls.
    pub(super) const fn stalls(&self, device: DeviceIndex) -> bool {
        match self {
            Self::Stalls(stalls) => device >= stalls.from,
            Self::None | Self::Mix(_) => false,
        }
    }

    /// Since when a device is there.
    pub(super) fn came_at(&self, device: DeviceIndex) -> Instant {
        match self {
            Self::Mix(mix) => mix.came_at[device as usize],
            Self::None | Self::Stalls(_) => Instant::default(),
        }
    }

    pub(super) fn came(&mut self, device: DeviceIndex, now: Instant) {
        if let Self::Mix(mix) = self {
            mix.is_away[device as usize] = false;
            mix.came_at[device as usize] = now;
        }
    }
}

impl<T: Target> Rooms<T> {
    /// What is due may be something else than the next writer's message. None: it is not;
    /// otherwise the seat that writes, or nobody.
    pub(super) fn act_instead(
        &mut self,
        swarm: &mut Swarm,
        now: Instant,
    ) -> Option<Option<SeatIndex>> {
        let Extra::Mix(mix) = &mut self.extra else { return None };
        let of = mix.weights;
        let weights = [of.direct, of.group, of.typing, of.read, of.presence, of.history, of.leave];
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut draw = mix.draw(total);
        let kind = weights.iter().position(|weight| {
            let is_it = draw < u64::from(*weight);
            draw = draw.saturating_sub(u64::from(*weight));
            is_it
        });
        let kind = kind.unwrap_or(0);
        let mut seat = None;
        for _ in 0..DRAWS {
            let from_groups = kind == 1 || (kind > 1 && mix.draw(2) == 1);
            seat = mix.pick(from_groups).or_else(|| mix.pick(!from_groups));
            let device = seat.map(|seat| self.layout.seat(seat).device);
            if device.is_some_and(|device| !mix.is_away[device as usize]) {
                break;
            }
            seat = None;
        }
        let Some(seat) = seat else { return Some(None) };
        let (name, act) = match kind {
            0 | 1 => return Some(Some(seat)),
            2 => ("typing", Act::Typing(seat)),
            3 => ("read", Act::Read(seat)),
            4 => ("presence", Act::Presence(seat)),
            5 => ("history", Act::History(seat)),
            _ => {
                self.leave(swarm, seat, now);
                return Some(None);
            }
        };
        let device = self.layout.seat(seat).device;
        if self.target.act(device, act, &mut self.scratch).is_some() {
            *self.findings.acts.entry(name).or_default() += 1;
        }
        self.send_scratch(swarm, device);
        Some(None)
    }

    /// A device with nothing unanswered leaves.
    fn leave(&mut self, swarm: &mut Swarm, seat: SeatIndex, now: Instant) {
        let device = self.layout.seat(seat).device;
        let busy = |seat: &SeatIndex| {
            let flight = &self.flights[*seat as usize];
            flight.unanswered > 0 || !flight.waiting.is_empty()
        };
        let is_busy = self.layout.seats_of(device).iter().any(busy);
        let Extra::Mix(mix) = &mut self.extra else { return };
        if is_busy || mix.away.len() * AWAY_SHARE >= mix.is_away.len() || !swarm.is_ready(device) {
            return;
        }
        mix.is_away[device as usize] = true;
        mix.away.push_back((now + mix.away_for, device));
        swarm.leave(device);
        self.target.closed(device);
        *self.findings.acts.entry("left").or_default() += 1;
    }

    /// Whoever is due stalls, reads on or comes back.
    pub(super) fn stall_and_return(&mut self, swarm: &mut Swarm, now: Instant) {
        let is_loaded = self.is_loaded();
        match &mut self.extra {
            Extra::None => {}
            Extra::Stalls(stalls) if is_loaded => {
                let changes = *stalls.changes.get_or_insert(now);
                if now >= changes {
                    stalls.changes = Some(now + stalls.length);
                    stalls.are_stalled = !stalls.are_stalled;
                    for device in stalls.from..stalls.from + stalls.count {
                        swarm.stall(device, stalls.are_stalled);
                    }
                }
            }
            Extra::Stalls(_) => {}
            Extra::Mix(mix) => {
                while let Some((due, device)) = mix.away.front().copied()
                    && due <= now
                    && swarm.is_away(device)
                {
                    mix.away.pop_front();
                    swarm.come_back(device, None);
                }
            }
        }
    }

    /// Everybody reads on and comes back.
    pub(super) fn end_extra(&mut self, swarm: &mut Swarm) {
        match &mut self.extra {
            Extra::None => {}
            Extra::Stalls(stalls) => {
                stalls.are_stalled = false;
                for device in stalls.from..stalls.from + stalls.count {
                    swarm.stall(device, false);
                }
            }
            Extra::Mix(mix) => {
                for (due, _) in &mut mix.away {
                    *due = Instant::default();
                }
            }
        }
    }
}
