//! Sends under way. Few sockets send at any moment, so a socket keeps a small index into this
//! table and no buffer of its own.

/// Places that stay when all sends are over.
const KEPT_MAX: usize = 1_024;

/// A place in `Sends`. Fits where a socket keeps its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SendIndex(u32);

impl SendIndex {
    /// No send is outstanding.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn is_some(self) -> bool {
        self != Self::NONE
    }

    const fn at(self) -> usize {
        self.0 as usize
    }
}

/// One buffer and how much of it went out.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    pub(crate) buffer: Vec<u8>,
    pub(crate) done: usize,
}

impl Unsent {
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer[self.done..]
    }
}

/// All sends under way of one loop.
#[derive(Debug, Default)]
pub(crate) struct Sends {
    entries: Vec<Unsent>,
    free: Vec<u32>,
}

impl Sends {
    pub(crate) fn insert(&mut self, buffer: Vec<u8>) -> SendIndex {
        let unsent = Unsent { buffer, done: 0 };
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = unsent;
            return SendIndex(index);
        }
        self.entries.push(unsent);
        SendIndex(u32::try_from(self.entries.len() - 1).expect("fewer sends than sockets"))
    }

    pub(crate) fn get_mut(&mut self, index: SendIndex) -> &mut Unsent {
        &mut self.entries[index.at()]
    }

    /// Ends a send and hands its buffer back.
    pub(crate) fn remove(&mut self, index: SendIndex) -> Vec<u8> {
        self.free.push(index.0);
        let buffer = std::mem::take(&mut self.entries[index.at()]).buffer;
        if self.free.len() == self.entries.len() && self.entries.len() > KEPT_MAX {
            // A crowd's sends are over: they leave no memory.
            *self = Self::default();
        }
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_leaves_no_memory() {
        let mut sends = Sends::default();
        let all: Vec<SendIndex> = (0..5_000).map(|_| sends.insert(vec![1])).collect();
        for index in all {
            assert_eq!(sends.remove(index), [1]);
        }
        assert_eq!((sends.entries.capacity(), sends.free.capacity()), (0, 0));
        let first = sends.insert(vec![2]);
        assert_eq!(sends.remove(first), [2]);
    }

    #[test]
    fn places_are_reused() {
        let mut sends = Sends::default();
        let first = sends.insert(vec![1, 2]);
        let second = sends.insert(vec![3]);
        sends.get_mut(first).done = 1;
        assert_eq!(sends.get_mut(first).rest(), [2]);
        assert_eq!(sends.remove(first), [1, 2]);
        assert_eq!(sends.insert(vec![4]), first);
        assert_eq!(sends.get_mut(first).rest(), [4]);
        assert_eq!(sends.get_mut(second).rest(), [3]);
    }
}
