//! Halves of frames, and whole ones that must wait: in a pool with a byte cap and a deadline. Past
//! the cap the oldest connections are closed, so that nobody's half frame costs others anything.

use crate::ids::EdgeId;
use roost_protocol::time::Instant;
use std::collections::BTreeMap;

/// The pool of a shard.
#[derive(Debug, Default)]
pub(crate) struct Partials {
    held: BTreeMap<EdgeId, Partial>,
    by_age: BTreeMap<(Instant, EdgeId), ()>,
    bytes: usize,
}

/// What a connection left.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) bytes: Vec<u8>,
    /// What was taken of it already. Frames that wait are taken a few at a time, so the bytes
    /// behind them are not moved each time.
    from: usize,
    /// When the first of it came.
    pub(crate) since: Instant,
}

impl Partial {
    pub(crate) const fn new(bytes: Vec<u8>, since: Instant) -> Self {
        Self { bytes, from: 0, since }
    }

    /// What is still to be taken.
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }

    /// What is left when so many more bytes of the rest were taken.
    pub(crate) fn without(mut self, taken: usize, since: Instant) -> Self {
        self.from += taken;
        if self.from * 2 > self.bytes.len() {
            self.bytes.drain(..self.from);
            self.from = 0;
        }
        self.since = since;
        self
    }
}

impl Partials {
    /// Takes out what a connection left.
    pub(crate) fn take(&mut self, edge: EdgeId) -> Option<Partial> {
        let partial = self.held.remove(&edge)?;
        self.by_age.remove(&(partial.since, edge));
        self.bytes -= partial.bytes.capacity();
        Some(partial)
    }

    /// Keeps what a connection left.
    pub(crate) fn put(&mut self, edge: EdgeId, mut partial: Partial) {
        if partial.bytes.capacity() > partial.bytes.len() * 2 {
            partial.bytes.shrink_to_fit();
        }
        self.bytes += partial.bytes.capacity();
        self.by_age.insert((partial.since, edge), ());
        let before = self.held.insert(edge, partial);
        assert!(before.is_none(), "one partial a connection");
    }

    /// The connection that has been here longest.
    pub(crate) fn oldest(&self) -> Option<(Instant, EdgeId)> {
        self.by_age.keys().next().copied()
    }

    /// Bytes held.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}
