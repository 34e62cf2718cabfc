//! What inspecting asks of a folder: to look, and nothing else.

use crate::error::DiskError;
use crate::open::Folder;

/// A folder that is looked at. Another process may change it meanwhile.
pub trait Look {
    /// The names of all files.
    ///
    /// # Errors
    /// If the folder cannot be read.
    fn names(&mut self) -> Result<Vec<String>, DiskError>;

    /// The bytes of a file.
    ///
    /// # Errors
    /// `Missing` if there is none.
    fn size(&mut self, name: &str) -> Result<u64, DiskError>;

    /// Some bytes of a file, all of them. A file that was read before may be read under its name
    /// after it lost it.
    ///
    /// # Errors
    /// `Short` if the file ends before.
    fn bytes(&mut self, name: &str, offset: u64, bytes: u32) -> Result<Vec<u8>, DiskError>;

    /// Forgets what was held open: from here on files are what their names say now.
    fn refresh(&mut self);
}

/// A folder that was opened for more, looked at.
#[expect(missing_debug_implementations, reason = "a folder need not be printable")]
pub struct Watched<'a>(pub &'a mut dyn Folder);

impl Look for Watched<'_> {
    fn names(&mut self) -> Result<Vec<String>, DiskError> {
        self.0.list()
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        self.0.length(name)
    }

    fn bytes(&mut self, name: &str, offset: u64, bytes: u32) -> Result<Vec<u8>, DiskError> {
        self.0.read_range(name, offset, bytes)
    }

    fn refresh(&mut self) {}
}
