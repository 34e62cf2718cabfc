//! Users in a row. It grows and gives back a piece at a time: a ring buffer would keep the room of
//! a crowd until nearly all of it has gone by.

use roost_protocol::ids::UserKey;
use std::collections::VecDeque;

/// Users in one piece: 16 KiB.
const PIECE: usize = 1024;

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// All but the last are full, but for what was taken from the first.
    pieces: VecDeque<Vec<UserKey>>,
    /// How many were taken from the first piece.
    taken: usize,
    length: usize,
}

impl Order {
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, user: UserKey) {
        if self.pieces.back().is_none_or(|last| last.len() == PIECE) {
            self.pieces.push_back(Vec::with_capacity(PIECE));
        }
        let Some(last) = self.pieces.back_mut() else { unreachable!("one was pushed") };
        last.push(user);
        self.length += 1;
    }

    pub(super) fn pop(&mut self) -> Option<UserKey> {
        let is_only = self.pieces.len() == 1;
        let first = self.pieces.front_mut()?;
        let user = *first.get(self.taken)?;
        self.taken += 1;
        self.length -= 1;
        if self.taken == first.len() {
            self.taken = 0;
            if is_only {
                // It is needed again soon.
                first.clear();
            } else {
                self.pieces.pop_front();
            }
        }
        Some(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u128) -> UserKey {
        UserKey::from_u128(n)
    }

    #[test]
    fn users_come_out_as_they_went_in_and_leave_no_room_behind() {
        let mut order = Order::default();
        assert_eq!(order.pop(), None);
        for n in 0..10_000 {
            order.push(user(n));
        }
        assert_eq!((order.len(), order.pieces.len()), (10_000, 10_000_usize.div_ceil(PIECE)));
        for n in 0..9_000 {
            assert_eq!(order.pop(), Some(user(n)));
            assert!(order.pieces.len() <= order.len().div_ceil(PIECE) + 1);
        }
        // Round and round.
        for n in 9_000..100_000 {
            let next = order.pop();
            assert_eq!(next, Some(user(9_000 + (n - 9_000) % 1_000)));
            order.push(next.expect("there are a thousand"));
            assert!(order.pieces.len() <= 3);
        }
        for _ in 0..1_000 {
            assert!(order.pop().is_some());
        }
        assert_eq!((order.pop(), order.len()), (None, 0));
        assert!(order.pieces.iter().map(Vec::capacity).sum::<usize>() <= PIECE);
    }
}
