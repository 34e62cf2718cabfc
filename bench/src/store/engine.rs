//! What a storage engine must do to be measured, and what it is given.

use super::hold::Held;
use super::workload::fill_body;
use std::error::Error;

/// Why a measurement did not happen. Five libraries fail in five ways; nobody tells them apart.
pub type Failure = Box<dyn Error + Send + Sync>;

/// One record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Its stream.
    pub stream: u128,
    /// Its number in the stream, from 1.
    pub seq: u64,
    /// Its content.
    pub body: &'a [u8],
}

impl Record<'_> {
    /// The key that peers store it under, in the order of (stream, seq).
    #[must_use]
    pub fn key(&self) -> [u8; 24] {
        key(self.stream, self.seq)
    }
}

/// Stream and number, big-endian.
#[must_use]
pub fn key(stream: u128, seq: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&stream.to_be_bytes());
    key[16..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// The number in a key.
#[must_use]
pub fn seq_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(16..24)?.try_into().ok()?))
}

/// Records that are committed together, in one piece of memory that is used again and again.
#[derive(Debug)]
pub struct Batch {
    body_bytes: usize,
    names: Vec<(u128, u64)>,
    bodies: Vec<u8>,
}

impl Batch {
    /// An empty one for so many records.
    #[must_use]
    pub fn new(records: usize, body_bytes: usize) -> Self {
        let bodies = vec![0; records * body_bytes];
        Self { body_bytes, names: Vec::with_capacity(records), bodies }
    }

    /// Adds a record with the body that `fill_body` gives it, for reading to check.
    pub fn push(&mut self, stream: u128, seq: u64) {
        let start = self.names.len() * self.body_bytes;
        fill_body(stream, seq, &mut self.bodies[start..start + self.body_bytes]);
        self.names.push((stream, seq));
    }

    /// Adds a record with the random bytes that lie in its place since an earlier `push`, so that
    /// the clock of a measurement does not see them made.
    pub fn push_again(&mut self, stream: u128, seq: u64) {
        self.names.push((stream, seq));
    }

    /// Forgets the records, not their bytes.
    pub fn clear(&mut self) {
        self.names.clear();
    }

    /// How many records it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let bodies = self.bodies.chunks_exact(self.body_bytes);
        let named = self.names.iter().zip(bodies);
        named.map(|(&(stream, seq), body)| Record { stream, seq, body })
    }
}

/// A storage engine, open on a folder.
pub trait Engine {
    /// Appends all records and returns when they would survive a power cut.
    ///
    /// # Errors
    /// The engine's own.
    fn commit(&mut self, batch: &Batch) -> Result<(), Failure>;

    /// Visits the last records of a stream, newest first, `limit` at most.
    ///
    /// # Errors
    /// The engine's own.
    fn last(
        &mut self,
        stream: u128,
        limit: usize,
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<(), Failure>;

    /// Brings everything into the form that it is to stay in: flushed, sealed, merged. `at_rest`:
    /// the form that it has when nothing was written for long, if that is another one.
    ///
    /// # Errors
    /// The engine's own.
    fn settle(self: Box<Self>, at_rest: bool) -> Result<Box<dyn Engine>, Failure>;

    /// From here on counts how long each append holds the calling thread, too, if it can.
    fn watch(&mut self) {}

    /// How long it held the calling thread, if it keeps count.
    fn held(&self) -> Option<Held> {
        None
    }

    /// Ends as a program that stops in peace does.
    ///
    /// # Errors
    /// The engine's own.
    fn close(self: Box<Self>) -> Result<(), Failure>;
}
