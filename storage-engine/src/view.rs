//! What a store knows of the tables: a list that the keeper replaces as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::position::{SegmentId, StreamId};
use crate::table::TableRoot;

/// The tables, and the segments whose records are in them. Cheap to clone: the stores share it. A
/// table that is in no list any more stays readable for those who still hold this one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Counts the lists; a store never goes back to an older one.
    pub(crate) number: u64,
    /// In the order of their newest records; where two may hold the same stream, all records of
    /// the one are older than those of the other.
    pub(crate) tables: Arc<[Arc<TableRoot>]>,
    /// Segments that are not looked into any more.
    pub(crate) absorbed: Arc<BTreeSet<SegmentId>>,
}

impl View {
    /// The tables, those with the oldest records first.
    #[must_use]
    pub fn tables(&self) -> &[Arc<TableRoot>] {
        &self.tables
    }

    /// Bytes of all tables' files.
    pub(crate) fn table_bytes(&self) -> u64 {
        bytes_of(&self.tables)
    }

    /// The tables that may hold records of a stream, the newest first.
    pub(crate) fn tables_of(&self, stream: StreamId) -> impl Iterator<Item = &Arc<TableRoot>> {
        self.tables.iter().rev().filter(move |table| table.may_hold(stream))
    }
}

/// Bytes of some tables' files.
pub(crate) fn bytes_of(tables: &[Arc<TableRoot>]) -> u64 {
    tables.iter().map(|table| table.file_bytes()).sum()
}
