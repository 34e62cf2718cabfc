//! What is stored: the same messages in the same random order for every engine, so that reading
//! can be checked without remembering anything.

use serde::{Deserialize, Serialize};

/// Messages of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// How many messages.
    pub messages: u64,
    /// Over how many conversations, each as likely as any other at every message.
    pub conversations: u32,
    /// Bytes of a message.
    pub body_bytes: usize,
}

/// A pseudo-random sequence (splitmix64): fast, and its own past is not needed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed, the same numbers.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below a bound that is not zero.
    pub fn below(&mut self, bound: u32) -> u32 {
        let wide = u128::from(self.number()) * u128::from(bound);
        u32::try_from(wide >> 64).expect("the product of 64 and 32 bits has 96")
    }
}

const fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// The stream of a conversation: no order, as if it were a hash.
#[must_use]
pub fn stream_of(index: u32) -> u128 {
    let mut random = Random::new(u64::from(index) << 20);
    u128::from(random.number()) << 64 | u128::from(random.number())
}

/// The random body of a record, which follows from its name.
pub fn fill_body(stream: u128, seq: u64, body: &mut [u8]) {
    let low = u64::try_from(stream & u128::from(u64::MAX)).expect("masked to 64 bits");
    let mut random = Random::new(low ^ mix(seq));
    for piece in body.chunks_mut(8) {
        piece.copy_from_slice(&random.number().to_le_bytes()[..piece.len()]);
    }
}

/// Whether a body is what `fill_body` makes.
#[must_use]
pub fn is_body_of(stream: u128, seq: u64, body: &[u8]) -> bool {
    let mut expected = vec![0; body.len()];
    fill_body(stream, seq, &mut expected);
    body == expected
}

impl Workload {
    /// All messages in their order: conversation and number in it.
    pub fn order(self) -> impl Iterator<Item = (u32, u64)> {
        let length = usize::try_from(self.conversations).expect("usize has at least 32 bits");
        let mut counts = vec![0_u64; length];
        let mut random = Random::new(4711);
        (0..self.messages).map(move |_| {
            let conversation = random.below(self.conversations);
            let count = &mut counts[usize::try_from(conversation).expect("as above")];
            *count += 1;
            (conversation, *count)
        })
    }

    /// How many messages each conversation has.
    #[must_use]
    pub fn counts(self) -> Vec<u64> {
        let length = usize::try_from(self.conversations).expect("usize has at least 32 bits");
        let mut counts = vec![0; length];
        for (conversation, seq) in self.order() {
            counts[usize::try_from(conversation).expect("as above")] = seq;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Workload = Workload { messages: 10_000, conversations: 100, body_bytes: 20 };

    #[test]
    fn numbers_of_a_conversation_are_dense_and_counted() {
        let mut seen = vec![0; 100];
        for (conversation, seq) in SMALL.order() {
            let last = &mut seen[usize::try_from(conversation).unwrap()];
            assert_eq!(seq, *last + 1);
            *last = seq;
        }
        assert_eq!(seen, SMALL.counts());
        assert!(seen.iter().all(|&count| (50..150).contains(&count)));
    }

    #[test]
    fn bodies_follow_from_names_and_from_nothing_else() {
        let mut body = [0; 20];
        fill_body(stream_of(3), 7, &mut body);
        assert!(is_body_of(stream_of(3), 7, &body));
        assert!(!is_body_of(stream_of(3), 8, &body) && !is_body_of(stream_of(4), 7, &body));
        body[19] ^= 1;
        assert!(!is_body_of(stream_of(3), 7, &body));
    }
}
