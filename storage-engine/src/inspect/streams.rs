//! All streams of a snapshot in order, each with its parts from all files, and what of it is void.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::flaw::{Flaw, FlawKind};
use super::lines::{Lines, Window, items_of, records_of};
use super::look::Look;
use super::segment::Place;
use super::snapshot::Snapshot;
use crate::layout::u64_of;
use crate::position::{FileId, SegmentId, StreamId};
use crate::query::StoredRecord;
use crate::record::{Form, Mask, Role, stored};
use crate::table::{Line, TableRoot};

/// A table while its lines are walked.
struct Source {
    root: Arc<TableRoot>,
    lines: Lines,
    window: Window,
}

/// A stream's parts, and what newer ones void.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) stream: StreamId,
    /// Its line in each table that has one, the oldest first, with the seq below which records of
    /// it are void; none of them counts if the seq is none.
    pub(crate) lines: Vec<(usize, Line, Option<u64>)>,
    /// Its records that are in no table and not void.
    pub(crate) places: Vec<(SegmentId, Place)>,
}

/// A record, and the file it lies in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundRecord {
    /// Whose it is.
    pub stream: StreamId,
    /// Where it lies.
    pub file: FileId,
    /// What it is.
    pub record: StoredRecord,
}

/// See the module's comment.
pub(crate) struct Streams<'a> {
    snapshot: &'a Snapshot,
    sources: Vec<Source>,
    /// What is in no table, by stream.
    loose: BTreeMap<StreamId, Vec<(SegmentId, Place)>>,
    pub(crate) flaws: Vec<Flaw>,
}

impl<'a> Streams<'a> {
    /// From a stream on.
    pub(crate) fn from(snapshot: &'a Snapshot, stream: StreamId) -> Self {
        let tables = snapshot.tables.iter().filter_map(|table| {
            let root = Arc::clone(table.root.as_ref()?);
            let lines = Lines::from(table, &root, stream);
            Some(Source { root, lines, window: Window::new(&table.name, table.file_bytes) })
        });
        let mut loose: BTreeMap<StreamId, Vec<(SegmentId, Place)>> = BTreeMap::new();
        for (&id, seen) in &snapshot.segments {
            for place in seen.records().filter(|place| place.stream >= stream) {
                loose.entry(place.stream).or_default().push((id, *place));
            }
        }
        let mut streams = Self { snapshot, sources: tables.collect(), loose, flaws: Vec::new() };
        streams.sources.sort_by_key(|source| source.root.high);
        streams
    }

    /// The next stream that has parts and is not before `from`.
    pub(crate) fn next(&mut self, look: &mut dyn Look, from: StreamId) -> Option<Parts> {
        let mut next = self.loose.keys().next().copied();
        for source in &mut self.sources {
            while let Some(line) = source.lines.peek(look, &source.root, &mut self.flaws) {
                if line.stream >= from {
                    next = Some(next.map_or(line.stream, |next| next.min(line.stream)));
                    break;
                }
                source.lines.pop();
            }
        }
        let stream = next?;
        let mut lines = Vec::new();
        for (place, source) in self.sources.iter_mut().enumerate() {
            let line = source.lines.peek(look, &source.root, &mut self.flaws);
            if let Some(line) = line.filter(|line| line.stream == stream) {
                source.lines.pop();
                lines.push((place, line, Some(0)));
            }
        }
        let places = self.loose.remove(&stream).unwrap_or_default();
        Some(void(stream, lines, places))
    }

    /// The file of a table by its place in `Parts`.
    pub(crate) fn file(&self, table: usize) -> FileId {
        FileId::Table(self.sources[table].root.id)
    }

    /// Gives the records of a part that is in a table, a chunk at a time, without what is void.
    pub(crate) fn read_line(
        &mut self,
        look: &mut dyn Look,
        part: &(usize, Line, Option<u64>),
        give: &mut dyn FnMut(StoredRecord) -> bool,
    ) -> bool {
        let (table, line, Some(floor)) = part else { return true };
        let source = &mut self.sources[*table];
        let root = &source.root;
        for item in items_of(look, &mut source.window, (root, line), &mut self.flaws) {
            let of = (&**root, line.stream);
            let records = records_of(look, &mut source.window, of, &item, &mut self.flaws);
            let kept = records.into_iter().filter(|one| one.seq == 0 || one.seq >= *floor);
            for record in kept {
                if !give(record) {
                    return false;
                }
            }
        }
        true
    }

    /// A record that is in no table; none if it is not there any more.
    pub(crate) fn read_place(
        &self,
        look: &mut dyn Look,
        segment: SegmentId,
        place: &Place,
    ) -> Option<StoredRecord> {
        let seen = self.snapshot.segments.get(&segment)?;
        let scan = seen.scan.as_ref()?;
        let mask = Mask::new(segment, scan.salt, Form::of(scan.version));
        let bytes = look.bytes(&seen.name, u64::from(place.offset), place.length).ok()?;
        stored(&Bytes::from(bytes), place.stream, mask.at(place.offset))
    }

    /// Says that a record was there and is not.
    pub(crate) fn missed(&mut self, segment: SegmentId, place: &Place) {
        let name = self.snapshot.segments.get(&segment).map(|seen| seen.name.clone());
        let name = name.unwrap_or_else(|| segment.active_name());
        let flaw = Flaw::new(&name, u64::from(place.offset), FlawKind::Record);
        self.flaws.push(flaw.of(place.stream));
    }
}

/// What marks leave: each voids what is older than itself.
fn void(
    stream: StreamId,
    mut lines: Vec<(usize, Line, Option<u64>)>,
    mut places: Vec<(SegmentId, Place)>,
) -> Parts {
    let (mut floor, mut deleted) = (0, false);
    let before = places.len();
    let mut kept = Vec::with_capacity(places.len());
    while let Some((segment, place)) = places.pop() {
        match place.role {
            _ if deleted => {}
            Role::Delete => deleted = true,
            Role::Trim => floor = floor.max(place.seq),
            Role::Plain | Role::Snapshot => {
                if place.seq == 0 || place.seq >= floor {
                    kept.push((segment, place));
                }
            }
        }
    }
    assert!(kept.len() <= before, "records only go");
    kept.reverse();
    for (_table, line, shown) in lines.iter_mut().rev() {
        *shown = (!deleted).then_some(floor);
        floor = floor.max(line.floor);
        deleted |= line.deletes;
    }
    Parts { stream, lines, places: kept }
}

impl Parts {
    /// Bytes of its records that are in no table.
    pub(crate) fn loose_bytes(&self) -> u64 {
        self.places.iter().map(|(_, place)| u64::from(place.length)).sum()
    }

    /// Bytes of its chunks.
    pub(crate) fn table_bytes(&self) -> u64 {
        self.lines.iter().map(|(_, line, _)| line.chunk_bytes()).sum()
    }

    /// Records of it that are in no table.
    pub(crate) fn loose_records(&self) -> u64 {
        u64_of(self.places.len())
    }
}
