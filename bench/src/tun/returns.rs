//! Devices that leave and return: what they kept, and how far they are back.

use super::bits::Bits;
use crate::measure::Meter;
use crate::scenario::storm::{BACK, WELCOMED, delay};
use crate::swarm::DeviceIndex;
use roost_protocol::time::Instant;
use std::collections::BTreeSet;

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Returns {
    tickets: Vec<Box<[u8]>>,
    /// When each device's connection stood.
    opened: Vec<Instant>,
    attempts: Vec<u8>,
    back_bits: Bits,
    /// When they began to return; none: they have not left yet.
    broke: Option<Instant>,
    /// Those who could not connect, by when they try again.
    later: BTreeSet<(Instant, DeviceIndex)>,
    /// Who is back.
    pub(super) back: u64,
    /// Attempts that failed and were repeated.
    pub(super) repeated: u64,
}

impl Returns {
    /// Nobody has left.
    pub(super) fn new(devices: u32) -> Self {
        Self {
            tickets: vec![Box::default(); devices as usize],
            opened: vec![Instant::default(); devices as usize],
            attempts: vec![0; devices as usize],
            back_bits: Bits::new(devices),
            broke: None,
            later: BTreeSet::new(),
            back: 0,
            repeated: 0,
        }
    }

    /// They return from now on.
    pub(super) const fn begin(&mut self, now: Instant) {
        self.broke = Some(now);
    }

    /// Whether they are returning.
    pub(super) const fn has_begun(&self) -> bool {
        self.broke.is_some()
    }

    /// A device's connection stands. Gives the ticket that it was given, if it was.
    pub(super) fn opened(&mut self, device: DeviceIndex, now: Instant) -> Option<&[u8]> {
        self.opened[device as usize] = now;
        Some(&*self.tickets[device as usize]).filter(|ticket| !ticket.is_empty())
    }

    /// The server took a device in.
    pub(super) fn welcomed(
        &mut self,
        device: DeviceIndex,
        ticket: &[u8],
        now: Instant,
        meter: &mut Meter,
    ) {
        self.tickets[device as usize] = ticket.into();
        if self.has_begun() {
            meter.sent();
            meter.took(WELCOMED, self.opened[device as usize], now);
        }
    }

    /// A device knows what it missed.
    pub(super) fn caught_up(&mut self, device: DeviceIndex, now: Instant, meter: &mut Meter) {
        if let Some(broke) = self.broke
            && !self.back_bits.get(device)
        {
            self.back_bits.set(device, true);
            self.back += 1;
            meter.delivered();
            meter.took(BACK, broke, now);
        }
    }

    /// A device could not connect: it waits as a client does, and tries again.
    pub(super) fn failed(&mut self, device: DeviceIndex, now: Instant) {
        let attempts = &mut self.attempts[device as usize];
        *attempts = attempts.saturating_add(1);
        self.later.insert((now + delay(device, *attempts), device));
        self.repeated += 1;
    }

    /// A device that is to try again now.
    pub(super) fn again(&mut self, now: Instant) -> Option<DeviceIndex> {
        let (due, device) = self.later.first().copied()?;
        (due <= now && self.later.pop_first().is_some()).then_some(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Observed;
    use crate::measure::progress::Progress;
    use crate::scenario::storm::STAGES;

    fn at(ms: u64) -> Instant {
        Instant { ns: ms * 1_000_000 }
    }

    #[test]
    fn who_returns_shows_its_ticket_and_is_back_once() {
        let progress = Progress::new(false);
        let mut meter = Meter::new(Observed::default(), &STAGES, BACK, false, progress);
        let mut returns = Returns::new(3);
        assert_eq!(returns.opened(1, at(1)), None);
        returns.welcomed(1, b"ticket", at(2), &mut meter);
        returns.caught_up(1, at(2), &mut meter);
        assert_eq!(returns.back, 0, "it never left");
        returns.begin(at(10));
        assert_eq!(returns.opened(1, at(11)), Some(&b"ticket"[..]));
        returns.welcomed(1, b"another", at(12), &mut meter);
        returns.caught_up(1, at(13), &mut meter);
        returns.caught_up(1, at(14), &mut meter);
        assert_eq!(returns.back, 1);
        assert_eq!(returns.opened(1, at(20)), Some(&b"another"[..]));
    }

    #[test]
    fn who_could_not_connect_tries_again_later() {
        let mut returns = Returns::new(2);
        returns.failed(1, at(0));
        assert_eq!((returns.again(at(0)), returns.repeated), (None, 1));
        assert_eq!(returns.again(at(600_000)), Some(1));
        assert_eq!(returns.again(at(600_000)), None);
    }
}
