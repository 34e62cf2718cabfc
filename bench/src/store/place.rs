//! Where stores are kept while they are measured.

use super::contestant::Contestant;
use super::engine::Failure;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder of this run, removed with all that is in it when it is dropped.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    is_kept: bool,
}

impl Place {
    /// A new folder in one that is there or is made.
    ///
    /// # Errors
    /// The system's.
    pub fn new(parent: &Path) -> Result<Self, Failure> {
        let folder = parent.join(format!("roost-bench-store-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self { folder: fs::canonicalize(folder)?, is_kept: false })
    }

    /// A folder that stays, with what earlier runs left in it.
    ///
    /// # Errors
    /// The system's.
    pub fn kept(parent: &Path) -> Result<Self, Failure> {
        let folder = parent.join("roost-bench-stores");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder: fs::canonicalize(folder)?, is_kept: true })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of one store.
    #[must_use]
    pub fn store(&self, contestant: Contestant, what: &str) -> PathBuf {
        self.folder.join(format!("{}-{what}", contestant.name()))
    }

    /// Removes a store that is no longer needed, unless stores are kept.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, store: &Path) -> Result<(), Failure> {
        if !self.is_kept && store.exists() {
            drop(fs::remove_file(Self::mark(store)));
            fs::remove_dir_all(store)?;
        }
        Ok(())
    }

    /// A file that lies beside a store that was built to its end.
    #[must_use]
    pub fn mark(store: &Path) -> PathBuf {
        store.with_extension("built")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_kept {
            // There is nobody left to tell.
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}
