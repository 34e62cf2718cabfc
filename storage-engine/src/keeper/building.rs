//! The file of a table while it is written.

use super::SLICE_BYTES;
use crate::error::DiskError;
use crate::layout::u64_of;
use crate::open::Folder;
use crate::position::TableId;
use crate::table::TableWriter;

/// The file of a table that is being written.
pub(super) struct Building {
    pub(super) id: TableId,
}

impl Building {
    pub(super) fn begin(folder: &mut dyn Folder, id: TableId) -> Result<Self, DiskError> {
        folder.make(&id.building_name())?;
        Ok(Self { id })
    }

    /// Writes what is ready and flushes it.
    pub(super) fn write(
        &self,
        folder: &mut dyn Folder,
        writer: &mut TableWriter,
    ) -> Result<u64, DiskError> {
        let (at, bytes) = writer.take_ready();
        let name = self.id.building_name();
        for (turn, slice) in (0_u64..).zip(bytes.chunks(SLICE_BYTES)) {
            folder.write(&name, at + turn * u64_of(SLICE_BYTES), slice)?;
            folder.flush(&name)?;
        }
        Ok(u64_of(bytes.len()))
    }

    /// Gives the file the name under which the catalogue may count it.
    pub(super) fn end(&self, folder: &mut dyn Folder) -> Result<(), DiskError> {
        folder.rename(&self.id.building_name(), &self.id.table_name())?;
        folder.sync()
    }
}
