//! Sockets that were closed in order and whose peer has not ended its direction yet. A kernel that
//! closes a socket while bytes are unread, or that gets bytes afterwards, answers with a reset,
//! which destroys what the peer has not read: the last words. So after them our direction ends,
//! and what the peer still sends is read and thrown away, within bounds.
//!
//! A socket costs nothing here before its close; whether it lingers is a bit of its slot.

use crate::event::SocketId;
use crate::settings::Settings;
use roost_protocol::time::{Duration, Instant};
use std::collections::{BTreeMap, VecDeque};

/// Ends for which room is kept.
const ENDS_ROOM: usize = 1_024;

/// All sockets of a loop that linger.
#[derive(Debug)]
pub(crate) struct Lingering {
    /// How much each may still send.
    left_bytes: BTreeMap<SocketId, usize>,
    /// When each ends whatever it does, the first to end first; some have ended since.
    ends: VecDeque<(Instant, SocketId)>,
    bytes_max: usize,
    time: Duration,
}

impl Lingering {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            left_bytes: BTreeMap::new(),
            ends: VecDeque::new(),
            bytes_max: settings.linger_bytes_max,
            time: Duration::from_ms(settings.linger_ms),
        }
    }

    pub(crate) fn begin(&mut self, socket: SocketId, now: Instant) {
        self.left_bytes.insert(socket, self.bytes_max);
        self.ends.push_back((now + self.time, socket));
    }

    /// Bytes of a socket were thrown away. Says whether it may send more.
    pub(crate) fn discard(&mut self, socket: SocketId, bytes: usize) -> bool {
        let Some(left) = self.left_bytes.get_mut(&socket) else { return false };
        *left = left.saturating_sub(bytes);
        *left > 0
    }

    /// A socket is closed, for whatever reason.
    pub(crate) fn end(&mut self, socket: SocketId) {
        self.left_bytes.remove(&socket);
    }

    /// The next socket whose time is over.
    pub(crate) fn next_overdue(&mut self, now: Instant) -> Option<SocketId> {
        while let Some((_, socket)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            if self.left_bytes.contains_key(&socket) {
                return Some(socket);
            }
        }
        if self.ends.is_empty() {
            self.ends.shrink_to(ENDS_ROOM);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_time_are_bounded() {
        let settings = Settings { linger_ms: 5, linger_bytes_max: 10, ..Settings::default() };
        let mut lingering = Lingering::new(&settings);
        let [one, two, three] = [1, 2, 3].map(|slot| SocketId { slot, generation: 0 });
        let at = |ms: u64| Instant { ns: ms * 1_000_000 };
        lingering.begin(one, at(0));
        lingering.begin(two, at(1));
        lingering.begin(three, at(2));
        assert!(lingering.discard(one, 9));
        assert!(!lingering.discard(one, 1));
        assert_eq!(lingering.next_overdue(at(4)), None);
        lingering.end(one);
        assert_eq!(lingering.next_overdue(at(6)), Some(two));
        assert_eq!(lingering.next_overdue(at(6)), None);
        assert_eq!(lingering.next_overdue(at(7)), Some(three));
        lingering.end(two);
        assert!(lingering.left_bytes.len() == 1 && lingering.ends.is_empty());
    }
}
