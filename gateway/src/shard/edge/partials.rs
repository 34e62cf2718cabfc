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

#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    since: Instant,
}

impl Partials {
    /// Takes out what a connection left.
    pub(crate) fn take(&mut self, edge: EdgeId) -> Option<(Vec<u8>, Instant)> {
        let partial = self.held.remove(&edge)?;
        self.by_age.remove(&(partial.since, edge));
        self.bytes -= partial.bytes.capacity();
        Some((partial.bytes, partial.since))
    }

    /// Keeps what a connection left; `since` is when the first of it came.
    pub(crate) fn put(&mut self, edge: EdgeId, mut bytes: Vec<u8>, since: Instant) {
        if bytes.capacity() > bytes.len() * 2 {
            bytes.shrink_to_fit();
        }
        self.bytes += bytes.capacity();
        self.by_age.insert((since, edge), ());
        let before = self.held.insert(edge, Partial { bytes, since });
        assert!(before.is_none(), "one partial a connection");
    }

    /// Whether a connection left something.
    pub(crate) fn holds(&self, edge: EdgeId) -> bool {
        self.held.contains_key(&edge)
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
