//! The engines that ours is compared with, each with the settings of somebody who wants it to win.
//! Keys are (stream, number) big-endian, values are bodies, nothing is compressed: bodies are
//! random, and no engine can gain by trying.

mod fjall;
mod redb;
#[cfg(feature = "peers")]
mod rocksdb;
mod sqlite;

use super::contestant::Contestant;
use super::engine::{Engine, Failure};
use std::path::Path;

/// All of them.
pub(super) const BUILT: &[Contestant] = &[
    Contestant::Fjall,
    #[cfg(feature = "peers")]
    Contestant::Rocksdb,
    Contestant::Redb,
    Contestant::Sqlite,
];

/// Opens one of them on a folder.
pub(super) fn open(
    peer: Contestant,
    folder: &Path,
    cache_bytes: u64,
) -> Result<Box<dyn Engine>, Failure> {
    match peer {
        Contestant::Fjall => Ok(Box::new(fjall::Fjall::open(folder, cache_bytes)?)),
        #[cfg(feature = "peers")]
        Contestant::Rocksdb => Ok(Box::new(rocksdb::Rocks::open(folder, cache_bytes)?)),
        Contestant::Redb => Ok(Box::new(redb::Redb::open(folder, cache_bytes)?)),
        Contestant::Sqlite => Ok(Box::new(sqlite::Sqlite::open(folder, cache_bytes)?)),
        #[cfg(not(feature = "peers"))]
        Contestant::Rocksdb => Err("rocksdb: build this program with --features peers".into()),
        Contestant::Bare | Contestant::Roost => Err("not a peer".into()),
    }
}

/// Its settings, in words.
pub(super) const fn settings(peer: Contestant) -> &'static str {
    match peer {
        Contestant::Fjall => fjall::SETTINGS,
        #[cfg(feature = "peers")]
        Contestant::Rocksdb => rocksdb::SETTINGS,
        #[cfg(not(feature = "peers"))]
        Contestant::Rocksdb => "",
        Contestant::Redb => redb::SETTINGS,
        Contestant::Sqlite => sqlite::SETTINGS,
        Contestant::Bare | Contestant::Roost => "",
    }
}

/// What SQLite calls itself.
pub(super) fn sqlite_version() -> String {
    ::rusqlite::version().to_owned()
}
