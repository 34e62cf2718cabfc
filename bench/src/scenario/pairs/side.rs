//! One device of a pair: what it wrote and what it holds.

use crate::wire::ConversationBytes;
use roost_protocol::time::Instant;
use std::collections::VecDeque;

#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) due: Instant,
    /// 0 until the server answered.
    pub(super) seq: u64,
    /// The peer has it.
    pub(super) arrived: bool,
}

/// One device, half of a pair; its peer differs in the last bit of the index.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) conversation: Option<ConversationBytes>,
    pub(super) written: u64,
    /// Not ticked twice yet.
    pub(super) in_flight: VecDeque<InFlight>,
    /// How many of them the server has not answered.
    pub(super) unanswered: usize,
    pub(super) waiting: VecDeque<Instant>,
    pub(super) watermark: u64,
    pub(super) seen: u64,
    pub(super) arrived: u64,
    pub(super) arrived_seq: u64,
    /// Something came that was not acknowledged.
    pub(super) mark_due: bool,
    /// It waits in [`super::marks::Marks`].
    pub(super) mark_gathers: bool,
    /// Acknowledgements before that are gathered.
    pub(super) quiet_until: Instant,
    pub(super) pulling: bool,
    pub(super) pull_again: bool,
}

impl Side {
    /// The message of that number that is not ticked twice yet.
    pub(super) fn flying(&mut self, number: u64) -> Option<&mut InFlight> {
        let first = self.written + 1 - self.in_flight.len() as u64;
        let place = usize::try_from(number.checked_sub(first)?).ok()?;
        self.in_flight.get_mut(place)
    }
}

/// Who wrote a body, and its number.
pub(in crate::scenario) fn read_body(body: &[u8]) -> Option<(u64, u64)> {
    let (author, rest) = body.split_first_chunk::<8>()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*author), u64::from_le_bytes(*number)))
}

/// Spreads numbers over 64 bits; different ones stay different (`splitmix64`).
pub(in crate::scenario) const fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_on_their_way_are_found_by_number() {
        let mut side = Side { written: 7, ..Side::default() };
        let flying = |seq| InFlight { due: Instant::default(), seq, arrived: false };
        side.in_flight.extend([flying(50), flying(60), flying(0)]);
        let seq = |side: &mut Side, number| side.flying(number).map(|message| message.seq);
        assert_eq!((seq(&mut side, 4), seq(&mut side, 5)), (None, Some(50)));
        assert_eq!((seq(&mut side, 7), seq(&mut side, 8)), (Some(0), None));
    }

    #[test]
    fn different_writes_have_different_ids() {
        let ids: std::collections::BTreeSet<u64> = (0..10_000).map(scramble).collect();
        assert!(ids.len() == 10_000 && !ids.contains(&0));
    }
}
