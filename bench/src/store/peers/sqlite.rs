//! SQLite: a B-tree and a write-ahead log in C.

use crate::store::engine::{Batch, Engine, Failure, key, seq_of};
use rusqlite::{Connection, TransactionBehavior, params};
use std::path::Path;

/// What it is, for the report.
pub(super) const SETTINGS: &str = "page cache as given, pages of 4 KiB, journal_mode=WAL, \
     synchronous=FULL, checkpoint each 64 MiB of log, one WITHOUT ROWID table clustered by the \
     key, statements prepared once; settling is a truncating checkpoint, not VACUUM";

/// Pages of log between checkpoints: 64 MiB.
const CHECKPOINT_PAGES: u32 = 16_384;
const INSERT: &str = "INSERT INTO messages (key, body) VALUES (?1, ?2)";
const LAST: &str = "SELECT key, body FROM messages WHERE key BETWEEN ?1 AND ?2 \
     ORDER BY key DESC LIMIT ?3";

/// A connection.
pub(super) struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Opens a folder.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, Failure> {
        let connection = Connection::open(folder.join("messages.sqlite"))?;
        connection.pragma_update(None, "page_size", 4_096)?;
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(format!("the log is {mode}, not wal").into());
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "cache_size", -i64::try_from(cache_bytes / 1_024)?)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS messages (key BLOB PRIMARY KEY, body BLOB NOT NULL)
             WITHOUT ROWID",
        )?;
        Ok(Self { connection })
    }
}

impl Engine for Sqlite {
    fn commit(&mut self, batch: &Batch) -> Result<(), Failure> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for record in batch.records() {
                insert.execute(params![record.key().as_slice(), record.body])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn last(
        &mut self,
        stream: u128,
        limit: usize,
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<(), Failure> {
        let (first, last) = (key(stream, 0), key(stream, u64::MAX));
        let mut select = self.connection.prepare_cached(LAST)?;
        let limit = i64::try_from(limit)?;
        let mut rows = select.query(params![first.as_slice(), last.as_slice(), limit])?;
        while let Some(row) = rows.next()? {
            let key = row.get_ref(0)?.as_blob()?;
            visit(seq_of(key).ok_or("a key of another form")?, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }

    fn settle(self: Box<Self>, _at_rest: bool) -> Result<Box<dyn Engine>, Failure> {
        let busy: i64 =
            self.connection
                .pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |row| row.get(0))?;
        if busy == 0 { Ok(self) } else { Err("the log is in use".into()) }
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.connection.close().map_err(|(_, error)| error)?;
        Ok(())
    }
}
