//! redb: a copy-on-write B-tree in Rust.

use crate::store::engine::{Batch, Engine, Failure, key, seq_of};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use std::path::Path;

/// What it is, for the report.
pub(super) const SETTINGS: &str = "cache as given, Durability::Immediate, one-phase commit, \
     no quick repair (defaults); keys of fixed size; settling is compact()";

const MESSAGES: TableDefinition<'_, &[u8; 24], &[u8]> = TableDefinition::new("messages");

/// A database of one table.
pub(super) struct Redb {
    database: Database,
}

impl Redb {
    /// Opens a folder.
    ///
    /// # Errors
    /// redb's.
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, Failure> {
        let mut builder = Database::builder();
        builder.set_cache_size(usize::try_from(cache_bytes)?);
        Ok(Self { database: builder.create(folder.join("messages.redb"))? })
    }
}

impl Engine for Redb {
    fn commit(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut writing = self.database.begin_write()?;
        writing.set_durability(Durability::Immediate)?;
        {
            let mut table = writing.open_table(MESSAGES)?;
            for record in batch.records() {
                table.insert(&record.key(), record.body)?;
            }
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
        let table = self.database.begin_read()?.open_table(MESSAGES)?;
        let (first, last) = (key(stream, 0), key(stream, u64::MAX));
        for found in table.range::<&[u8; 24]>(&first..=&last)?.rev().take(limit) {
            let (key, body) = found?;
            visit(seq_of(key.value()).ok_or("a key of another form")?, body.value());
        }
        Ok(())
    }

    fn settle(mut self: Box<Self>, _at_rest: bool) -> Result<Box<dyn Engine>, Failure> {
        while self.database.compact()? {}
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }
}
