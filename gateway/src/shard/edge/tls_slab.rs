//! The TLS of the connections that speak it, side by side: a box each would take what the allocator
//! rounds it up to, and would lie among what is left of handshakes.
//!
//! Nothing is moved, so nothing of a secret stays behind: whoever leaves is wiped where it was.

use super::transport::Tls;

/// Nobody has this place.
pub(crate) const NONE: u32 = u32::MAX;

/// What a piece takes: as much as the allocator hands out without a remainder.
const PIECE_BYTES: usize = 64 * 1024;
/// Places in one piece.
const PIECE: usize = PIECE_BYTES / size_of::<Place>();

/// What TLS keeps for an idle connection. The budget of a session is made of this; see docs on
/// memory before raising it.
pub(crate) const TLS_BYTES: usize = size_of::<Place>();
const _: () = assert!(TLS_BYTES == 144);

#[derive(Debug)]
enum Place {
    /// The next place of the piece that is free; [`PIECE`]: there is none.
    Free {
        next: u16,
    },
    Used(Tls),
}

/// A piece. Without a connection it has no memory.
#[derive(Debug, Default)]
struct Piece {
    places: Vec<Place>,
    used: usize,
    /// The first of those that were left; there may be more that were never used.
    free: Option<u16>,
}

impl Piece {
    const fn has_room(&self) -> bool {
        self.used < PIECE
    }

    fn insert(&mut self, tls: Tls) -> usize {
        self.used += 1;
        if let Some(free) = self.free {
            let place = &mut self.places[usize::from(free)];
            if let Place::Free { next } = place {
                self.free = (usize::from(*next) < PIECE).then_some(*next);
            }
            *place = Place::Used(tls);
            return free.into();
        }
        if self.places.capacity() == 0 {
            self.places.reserve_exact(PIECE);
        }
        self.places.push(Place::Used(tls));
        self.places.len() - 1
    }

    fn remove(&mut self, place: u16) {
        let none = u16::try_from(PIECE).expect("a piece is small");
        // An assignment, so that what was there is wiped in its place.
        self.places[usize::from(place)] = Place::Free { next: self.free.unwrap_or(none) };
        self.free = Some(place);
        self.used -= 1;
        if self.used == 0 {
            *self = Self::default();
        }
    }
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct TlsSlab {
    pieces: Vec<Piece>,
    /// Those before it are full.
    first_with_room: usize,
}

impl TlsSlab {
    /// Takes one in. Gives its place.
    pub(crate) fn insert(&mut self, tls: Tls) -> u32 {
        let from = self.first_with_room;
        let found = self.pieces.iter().skip(from).position(Piece::has_room);
        let index = found.map_or(self.pieces.len(), |behind| from + behind);
        if index == self.pieces.len() {
            self.pieces.push(Piece::default());
        }
        self.first_with_room = index;
        let place = index * PIECE + self.pieces[index].insert(tls);
        u32::try_from(place).expect("connections of a shard are counted in a u32")
    }

    /// What is in a place.
    pub(crate) fn get(&mut self, place: u32) -> Option<&mut Tls> {
        let (piece, place) = (place as usize / PIECE, place as usize % PIECE);
        match self.pieces.get_mut(piece)?.places.get_mut(place)? {
            Place::Used(tls) => Some(tls),
            Place::Free { .. } => None,
        }
    }

    /// Frees a place, if somebody has it.
    pub(crate) fn remove(&mut self, place: u32) {
        if self.get(place).is_none() {
            return;
        }
        let (piece, place) = (place as usize / PIECE, place as usize % PIECE);
        let place = u16::try_from(place).expect("a piece is small");
        self.pieces[piece].remove(place);
        self.first_with_room = self.first_with_room.min(piece);
        while self.pieces.last().is_some_and(|last| last.used == 0) {
            self.pieces.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_piece_has_no_remainder() {
        const { assert!(PIECE_BYTES - PIECE * size_of::<Place>() < size_of::<Place>()) };
    }

    #[test]
    fn a_piece_without_connections_has_no_memory() {
        let mut slab = TlsSlab::default();
        let places: Vec<u32> = (0..3 * PIECE).map(|_| slab.insert(Tls::NEW)).collect();
        assert_eq!(slab.pieces.len(), 3);
        for place in &places[..PIECE] {
            slab.remove(*place);
        }
        assert_eq!(slab.pieces[0].places.capacity(), 0);
        assert_eq!(slab.insert(Tls::NEW), 0, "the first one is used again first");
        for place in &places {
            slab.remove(*place);
        }
        assert!(slab.pieces.is_empty());
        assert!(slab.get(0).is_none() && slab.get(NONE).is_none());
    }

    proptest! {
        #[test]
        fn nobody_has_the_place_of_another(
            acts in proptest::collection::vec(any::<(bool, prop::sample::Index)>(), 1..2000),
        ) {
            let mut slab = TlsSlab::default();
            let mut taken = BTreeSet::new();
            for (comes, which) in acts {
                if comes || taken.is_empty() {
                    let place = slab.insert(Tls::Failed);
                    prop_assert!(taken.insert(place), "{place} is taken");
                } else {
                    let place = *taken.iter().nth(which.index(taken.len())).expect("there is one");
                    taken.remove(&place);
                    slab.remove(place);
                    slab.remove(place);
                    prop_assert!(slab.get(place).is_none());
                }
                let most = taken.last().map_or(0, |last| *last as usize + 1);
                prop_assert_eq!(slab.pieces.len(), most.div_ceil(PIECE));
            }
            for place in &taken {
                prop_assert!(matches!(slab.get(*place), Some(Tls::Failed)));
            }
        }
    }
}
