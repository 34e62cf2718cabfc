//! fjall: a log-structured tree in Rust.

use crate::store::engine::{Batch, Engine, Failure, key, seq_of};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

/// What it is, for the report.
pub(super) const SETTINGS: &str = "block cache as given, memtable 64 MiB (fjall's default), \
     journals up to 512 MiB (default), a batch is written to the journal and fdatasynced \
     (PersistMode::SyncData), built without lz4, two worker threads (as many as processors, \
     default)";

/// A database with one keyspace.
pub(super) struct Fjall {
    messages: Keyspace,
    database: Database,
}

impl Fjall {
    /// Opens a folder.
    ///
    /// # Errors
    /// fjall's.
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, Failure> {
        let database = Database::builder(folder).cache_size(cache_bytes).open()?;
        let messages = database.keyspace("messages", KeyspaceCreateOptions::default)?;
        Ok(Self { messages, database })
    }
}

impl Engine for Fjall {
    fn commit(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut writing = self.database.batch().durability(Some(PersistMode::SyncData));
        for record in batch.records() {
            writing.insert(&self.messages, record.key(), record.body);
        }
        writing.commit()?;
        Ok(())
    }

    fn last(
        &mut self,
        stream: u128,
        limit: usize,
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<(), Failure> {
        let all = key(stream, 0)..=key(stream, u64::MAX);
        for found in self.messages.range(all).rev().take(limit) {
            let (key, body) = found.into_inner()?;
            visit(seq_of(&key).ok_or("a key of another form")?, &body);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, _at_rest: bool) -> Result<Box<dyn Engine>, Failure> {
        self.messages.rotate_memtable_and_wait()?;
        self.messages.major_compact()?;
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.database.persist(PersistMode::SyncAll)?;
        Ok(())
    }
}
