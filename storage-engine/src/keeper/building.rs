//! The file of a table while it is written.

use super::SLICE_BYTES;
use crate::error::DiskError;
use crate::layout::u64_of;
use crate::open::Folder;
use crate::position::TableId;
use crate::table::TableWriter;

/// Bytes that may wait in the device: a commit's own flush waits for them.
const UNFLUSHED_MAX: u64 = 4 << 20;

/// The file of a table that is being written.
#[derive(Debug)]
pub(super) struct Building {
    id: TableId,
    bytes: u64,
    unflushed: u64,
}

impl Building {
    /// Begins a file that will have about so many bytes.
    pub(super) fn begin(
        folder: &mut dyn Folder,
        id: TableId,
        bytes: u64,
    ) -> Result<Self, DiskError> {
        folder.make(&id.building_name(), bytes)?;
        Ok(Self { id, bytes: 0, unflushed: 0 })
    }

    pub(super) fn id(&self) -> TableId {
        self.id
    }

    /// Writes what is ready.
    pub(super) fn write(
        &mut self,
        folder: &mut dyn Folder,
        writer: &mut TableWriter,
    ) -> Result<u64, DiskError> {
        let name = self.id.building_name();
        let (at, ready) = writer.ready();
        let bytes = u64_of(ready.len());
        for (turn, slice) in (0_u64..).zip(ready.chunks(SLICE_BYTES)) {
            folder.write(&name, at + turn * u64_of(SLICE_BYTES), slice)?;
            self.unflushed += u64_of(slice.len());
            if self.unflushed >= UNFLUSHED_MAX {
                folder.relieve(&name)?;
                self.unflushed = 0;
            }
        }
        writer.written();
        self.bytes += bytes;
        Ok(bytes)
    }

    /// Gives the file the name under which the catalogue may count it.
    pub(super) fn end(&self, folder: &mut dyn Folder) -> Result<(), DiskError> {
        folder.end(&self.id.building_name(), self.bytes)?;
        folder.flush(&self.id.building_name())?;
        folder.rename(&self.id.building_name(), &self.id.table_name())?;
        folder.sync()
    }
}
