//! Who is measured.

use super::bare::{self, Bare};
use super::engine::{Engine, Failure};
use super::peers;
use super::roost::{self, Roost};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// The versions that were built.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// An engine, or the bare file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Contestant {
    /// No engine: what the disk can do.
    #[value(skip)]
    Bare,
    /// Ours.
    #[value(skip)]
    Roost,
    /// A log-structured tree in Rust
    Fjall,
    /// A log-structured tree in C++
    Rocksdb,
    /// A copy-on-write B-tree in Rust
    Redb,
    /// A B-tree with a write-ahead log in C
    Sqlite,
}

impl Contestant {
    /// The peers that this program was built with.
    #[must_use]
    pub const fn peers() -> &'static [Self] {
        peers::BUILT
    }

    /// Whether ours is compared with it.
    #[must_use]
    pub const fn is_peer(self) -> bool {
        !matches!(self, Self::Bare | Self::Roost)
    }

    /// Its name in reports and of its folders.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Roost => "roost",
            Self::Fjall => "fjall",
            Self::Rocksdb => "rocksdb",
            Self::Redb => "redb",
            Self::Sqlite => "sqlite",
        }
    }

    /// Its version.
    #[must_use]
    pub fn version(self) -> String {
        match self {
            Self::Bare => String::new(),
            Self::Roost => locked("roost-storage-engine"),
            Self::Fjall => locked("fjall"),
            Self::Rocksdb if option_env!("ROCKSDB_LIB_DIR").is_some() => {
                format!("the system's, by librocksdb-sys {}", locked("librocksdb-sys"))
            }
            Self::Rocksdb => locked("librocksdb-sys"),
            Self::Redb => locked("redb"),
            Self::Sqlite => peers::sqlite_version(),
        }
    }

    /// Its settings, in words.
    #[must_use]
    pub const fn settings(self) -> &'static str {
        match self {
            Self::Bare => bare::SETTINGS,
            Self::Roost => roost::SETTINGS,
            Self::Fjall | Self::Rocksdb | Self::Redb | Self::Sqlite => peers::settings(self),
        }
    }

    /// Bytes that a record brings besides its body: ours has stream, number, seq, stamp, kind and
    /// a flag to keep, the others only the key that was made for them.
    #[must_use]
    pub const fn bytes_beside_body(self) -> u64 {
        if matches!(self, Self::Roost) { 42 } else { 24 }
    }

    /// Opens it on a folder, which is made if it is not there.
    ///
    /// # Errors
    /// Its own; or it was not built in.
    pub fn open(self, folder: &Path, cache_bytes: u64) -> Result<Box<dyn Engine>, Failure> {
        fs::create_dir_all(folder)?;
        match self {
            Self::Bare => Ok(Box::new(Bare::open(folder)?)),
            Self::Roost => Ok(Box::new(Roost::open(folder)?)),
            Self::Fjall | Self::Rocksdb | Self::Redb | Self::Sqlite => {
                peers::open(self, folder, cache_bytes)
            }
        }
    }
}

/// The version of a package in the lock file.
fn locked(package: &str) -> String {
    let entry = format!("name = \"{package}\"\nversion = \"");
    let found = LOCK.split_once(&entry).and_then(|(_, rest)| rest.split('"').next());
    found.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_what_was_built() {
        assert_eq!(Contestant::Roost.version(), env!("CARGO_PKG_VERSION"));
        for peer in Contestant::peers() {
            assert!(peer.version().contains('.') && !peer.settings().is_empty());
        }
    }
}
