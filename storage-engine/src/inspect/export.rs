//! Gives every record of a store that counts, in order of streams, also while it is served.

use super::flaw::{Flaw, InspectError};
use super::look::Look;
use super::snapshot::{Progress, Snapshot, changed};
use super::streams::{FoundRecord, Parts, Streams};
use crate::position::{FileId, StreamId};
use crate::query::StoredRecord;

/// How often a server may take records into tables while they are being read.
const TRIES: u32 = 1000;

/// What exporting gave.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exported {
    /// Streams with records.
    pub streams: u64,
    /// Records given.
    pub records: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// What could not be read; all else was given.
    pub flaws: Vec<Flaw>,
}

/// Gives the records of one stream, or of all: streams in order, each one's records from the
/// oldest. Records that are void are left out. `give` answers whether it wants more.
///
/// # Errors
/// If the store cannot be looked at, or `give` wants no more. Damage is no error.
pub fn export(
    look: &mut dyn Look,
    only: Option<StreamId>,
    give: &mut dyn FnMut(&FoundRecord) -> bool,
    progress: Progress<'_>,
) -> Result<Exported, InspectError> {
    let mut exported = Exported::default();
    let mut from = only.unwrap_or(StreamId(0));
    for _try in 0..TRIES {
        let snapshot = Snapshot::take(look, progress)?;
        exported.flaws.extend_from_slice(&snapshot.flaws);
        let mut streams = Streams::from(&snapshot, from);
        let again = loop {
            let next = streams.next(look, from);
            let wanted = next.filter(|parts| only.is_none_or(|only| parts.stream == only));
            let Some(parts) = wanted else { break None };
            from = parts.stream;
            match loose(look, &mut streams, &snapshot, &parts) {
                None => break Some(parts.stream),
                Some(records) => {
                    let mut one = One { exported: &mut exported, give, stream: parts.stream };
                    if !one.give_all(look, &mut streams, &parts, records, progress) {
                        return Err(InspectError::Stopped);
                    }
                }
            }
        };
        exported.flaws.append(&mut streams.flaws);
        if again.is_none() {
            exported.flaws.sort();
            exported.flaws.dedup();
            return Ok(exported);
        }
    }
    Err(InspectError::Restless)
}

/// Reads what of a stream is in no table; none if some of it went into one meanwhile.
fn loose(
    look: &mut dyn Look,
    streams: &mut Streams<'_>,
    snapshot: &Snapshot,
    parts: &Parts,
) -> Option<Vec<(FileId, StoredRecord)>> {
    let mut records = Vec::with_capacity(parts.places.len());
    for (segment, place) in &parts.places {
        match streams.read_place(look, *segment, place) {
            Some(record) => records.push((FileId::Segment(*segment), record)),
            None if changed(look, &snapshot.bytes) => return None,
            None => streams.missed(*segment, place),
        }
    }
    Some(records)
}

/// One stream on its way out.
struct One<'a, 'b> {
    exported: &'a mut Exported,
    give: &'b mut dyn FnMut(&FoundRecord) -> bool,
    stream: StreamId,
}

impl One<'_, '_> {
    fn give_all(
        &mut self,
        look: &mut dyn Look,
        streams: &mut Streams<'_>,
        parts: &Parts,
        loose: Vec<(FileId, StoredRecord)>,
        progress: Progress<'_>,
    ) -> bool {
        let before = self.exported.records;
        for part in &parts.lines {
            let file = streams.file(part.0);
            if !streams.read_line(look, part, &mut |record| self.one(file, record)) {
                return false;
            }
            progress(part.1.bytes);
        }
        for (file, record) in loose {
            if !self.one(file, record) {
                return false;
            }
        }
        self.exported.streams += u64::from(self.exported.records > before);
        true
    }

    fn one(&mut self, file: FileId, record: StoredRecord) -> bool {
        self.exported.records += 1;
        self.exported.body_bytes += crate::layout::u64_of(record.body.len());
        (self.give)(&FoundRecord { stream: self.stream, file, record })
    }
}
