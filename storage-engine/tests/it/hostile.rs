//! Damage drawn at random: an error or a hole, never a panic. The body is the fuzz target's.

#[path = "../../fuzz/bodies.rs"]
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "it is built by cargo-fuzz, too, without these lints"
)]
mod bodies;

use crate::world::Dice;

#[test]
fn any_damage_is_survived() {
    for seed in 0..400 {
        let mut dice = Dice(seed * 7919 + 1);
        let length = 8 + dice.below(60);
        let input: Vec<u8> = (0..length).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
        bodies::folder(&input);
    }
}

/// Damage in tables only, with checksums that are right all the same: what is behind them is
/// reached.
#[test]
fn pages_that_lie_with_right_checksums_are_survived() {
    for seed in 0..600 {
        let mut dice = Dice(seed * 104_729 + 5);
        let mut input = Vec::new();
        for _ in 0..=dice.below(3) {
            let length = 1 + dice.below(6);
            let place = [dice.below(256), dice.below(32), 0, length];
            // The files of tables come first in the order of names.
            input.extend([0x80 | 2, u8::try_from(dice.below(3)).unwrap()]);
            input.extend(place.map(|byte| u8::try_from(byte).unwrap()));
            input.extend((0..length).map(|_| u8::try_from(dice.below(256)).unwrap()));
        }
        bodies::folder(&input);
    }
}

/// What the fuzzer found: each was a panic once.
#[test]
fn found_damage_is_survived() {
    // A number of streams that no leaf has lines for.
    bodies::folder(b"\xff\x0a\x7b\x41\x25\xf0\xf0\x6d\x91\x41\x6d\x6d\x00\x6d");
}
