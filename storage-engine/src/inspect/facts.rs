//! What a store consists of, and where a stream's records lie.

use super::flaw::{Flaw, InspectError};
use super::lines::{Lines, Window, items_of, records_of};
use super::logs::Seen;
use super::look::Look;
use super::segment::Place;
use super::snapshot::{Progress, Snapshot};
use crate::layout::u64_of;
use crate::position::{SegmentId, StreamId, TableId};
use crate::record::Role;

pub use super::logs::SegmentState;

/// What a store consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreFacts {
    /// Starts so far.
    pub run: u32,
    /// Changes when what was shown may have been lost.
    pub incarnation: u64,
    /// Whether the last run ended with everything flushed.
    pub clean: bool,
    /// Whether the last run showed what was not flushed.
    pub interval: bool,
    /// No record of earlier runs has a larger stamp.
    pub max_stamp: u64,
    /// Tables and sealings so far.
    pub last_table: u64,
    /// Sealings so far.
    pub last_sealing: u64,
    /// Records with a smaller stamp may go.
    pub retained_from: u64,
    /// Where recovery said that the segments of earlier runs end.
    pub cuts: Vec<(SegmentId, u64)>,
    /// Segments that do not count.
    pub voided: Vec<SegmentId>,
    /// Segments whose records are in tables.
    pub absorbed: Vec<SegmentId>,
    /// All segments in the folder.
    pub segments: Vec<SegmentFacts>,
    /// The tables, oldest first.
    pub tables: Vec<TableFacts>,
    /// Files that wait to be used again, with their bytes.
    pub spares: Vec<(String, u64)>,
    /// Bytes kept free for sealing on a full disk.
    pub reserve_bytes: u64,
    /// Files that the next start removes, with their bytes.
    pub leftovers: Vec<(String, u64)>,
    /// What is wrong, as far as it is seen without reading the tables.
    pub flaws: Vec<Flaw>,
}

/// A segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentFacts {
    /// Its file.
    pub file: String,
    /// Which one.
    pub id: SegmentId,
    /// What it is for the store.
    pub state: SegmentState,
    /// Bytes of the file.
    pub bytes: u64,
    /// Where its records end.
    pub end: u64,
    /// Records that are in no table.
    pub records: u64,
    /// Streams they belong to.
    pub streams: u64,
    /// Commits that wrote them.
    pub commits: u64,
    /// Where damage begins, if there is some.
    pub damaged: Option<u64>,
}

/// A table; without its facts if it is damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableFacts {
    /// Its file.
    pub file: String,
    /// Which one.
    pub id: TableId,
    /// Bytes of the file.
    pub bytes: u64,
    /// What its root says.
    pub root: Option<RootFacts>,
}

/// What a table's root says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RootFacts {
    /// The oldest sealing whose records are in it.
    pub low: u64,
    /// The newest.
    pub high: u64,
    /// Streams.
    pub streams: u64,
    /// Records.
    pub records: u64,
    /// Streams of which it voids records of older tables.
    pub marks: u64,
    /// The smallest stamp, 0 if there is none.
    pub min_stamp: u64,
    /// The largest.
    pub max_stamp: u64,
    /// Partitions that have streams in it.
    pub partitions: u32,
    /// Bytes of memory that its root takes.
    pub memory_bytes: u64,
}

/// Says what a store consists of; reads the segments and the roots of the tables.
///
/// # Errors
/// If the store cannot be looked at. Damage is no error.
pub fn inspect(look: &mut dyn Look, progress: Progress<'_>) -> Result<StoreFacts, InspectError> {
    let snapshot = Snapshot::take(look, progress)?;
    let catalogue = &snapshot.catalogue;
    let tables = snapshot.tables.iter().map(|table| TableFacts {
        file: table.name.clone(),
        id: table.id,
        bytes: table.file_bytes,
        root: table.root.as_ref().map(|root| RootFacts {
            low: root.low,
            high: root.high,
            streams: root.streams,
            records: root.records,
            marks: root.marks,
            min_stamp: root.min_stamp,
            max_stamp: root.max_stamp,
            partitions: root.bitmap.iter().map(|byte| byte.count_ones()).sum(),
            memory_bytes: root.memory_bytes(),
        }),
    });
    Ok(StoreFacts {
        run: catalogue.run,
        incarnation: catalogue.incarnation,
        clean: catalogue.clean,
        interval: catalogue.interval,
        max_stamp: catalogue.max_stamp,
        last_table: catalogue.last_table,
        last_sealing: catalogue.last_sealing,
        retained_from: catalogue.retained_from,
        cuts: catalogue.cuts.iter().map(|(&segment, &end)| (segment, end)).collect(),
        voided: catalogue.voided.iter().copied().collect(),
        absorbed: catalogue.absorbed.iter().copied().collect(),
        segments: snapshot.segments.iter().map(|(&id, seen)| segment_facts(id, seen)).collect(),
        tables: tables.collect(),
        spares: snapshot.spares.clone(),
        reserve_bytes: snapshot.reserve_bytes,
        leftovers: snapshot.leftovers.clone(),
        flaws: snapshot.flaws.clone(),
    })
}

fn segment_facts(id: SegmentId, seen: &Seen) -> SegmentFacts {
    let mut streams: Vec<StreamId> = seen.records().map(|place| place.stream).collect();
    let records = u64_of(streams.len());
    streams.sort_unstable();
    streams.dedup();
    SegmentFacts {
        file: seen.name.clone(),
        id,
        state: seen.state,
        bytes: seen.file_bytes,
        end: seen.end,
        records,
        streams: u64_of(streams.len()),
        commits: seen.scan.as_ref().map_or(0, |scan| scan.commits),
        damaged: seen.damaged,
    }
}

/// What a file holds of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamPart {
    /// The file.
    pub file: String,
    /// The table's line of the stream; none for a segment.
    pub line: Option<LineFacts>,
    /// Its whole records there, the oldest first; void ones too.
    pub records: Vec<RecordFacts>,
}

/// A table's line of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineFacts {
    /// The place of the first chunk.
    pub offset: u64,
    /// Bytes of all chunks.
    pub bytes: u64,
    /// Chunks.
    pub chunks: u32,
    /// Records of older files with a seq below are void; 0 if none are.
    pub floor: u64,
    /// All records of older files are void.
    pub deletes: bool,
}

/// A record without its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordFacts {
    /// The place of the record in a segment, or of its chunk in a table.
    pub offset: u64,
    /// The number in its stream, 0 if none.
    pub number: u64,
    /// The second number, 0 if none.
    pub seq: u64,
    /// The writer's time, 0 if none.
    pub stamp: u64,
    /// What it is for the writer.
    pub kind: u8,
    /// What it is for the store: `record`, `snapshot`, `trim` or `delete`.
    pub role: &'static str,
    /// Bytes of its body.
    pub body_bytes: u64,
}

/// Everything that is stored of one stream, the oldest file first, and what of it is damaged.
///
/// # Errors
/// If the store cannot be looked at. Damage is no error.
pub fn inspect_stream(
    look: &mut dyn Look,
    stream: StreamId,
    progress: Progress<'_>,
) -> Result<(Vec<StreamPart>, Vec<Flaw>), InspectError> {
    let snapshot = Snapshot::take(look, progress)?;
    let mut flaws = snapshot.flaws.clone();
    let mut parts = Vec::new();
    for table in &snapshot.tables {
        let Some(root) = &table.root else { continue };
        if !root.may_hold(stream) {
            continue;
        }
        let mut lines = Lines::from(table, root, stream);
        let mut line = lines.peek(look, root, &mut flaws);
        while line.is_some_and(|line| line.stream < stream) {
            lines.pop();
            line = lines.peek(look, root, &mut flaws);
        }
        let Some(line) = line.filter(|line| line.stream == stream) else { continue };
        let mut window = Window::new(&table.name, table.file_bytes);
        let mut records = Vec::new();
        for item in items_of(look, &mut window, (root, &line), &mut flaws) {
            let found = records_of(look, &mut window, (root, stream), &item, &mut flaws);
            records.extend(found.iter().map(|record| RecordFacts {
                offset: item.offset,
                number: record.number,
                seq: record.seq,
                stamp: record.stamp,
                kind: record.kind,
                role: if record.snapshot_start { "snapshot" } else { "record" },
                body_bytes: u64_of(record.body.len()),
            }));
        }
        let facts = LineFacts {
            offset: line.begin(),
            bytes: line.chunk_bytes(),
            chunks: line.chunks(),
            floor: line.floor,
            deletes: line.deletes,
        };
        parts.push(StreamPart { file: table.name.clone(), line: Some(facts), records });
    }
    for seen in snapshot.segments.values() {
        let places = seen.records().filter(|place| place.stream == stream);
        let records: Vec<RecordFacts> = places.map(record_facts).collect();
        if !records.is_empty() {
            parts.push(StreamPart { file: seen.name.clone(), line: None, records });
        }
    }
    Ok((parts, flaws))
}

fn record_facts(place: &Place) -> RecordFacts {
    RecordFacts {
        offset: u64::from(place.offset),
        number: place.number,
        seq: place.seq,
        stamp: place.stamp,
        kind: place.kind,
        role: match place.role {
            Role::Plain => "record",
            Role::Snapshot => "snapshot",
            Role::Trim => "trim",
            Role::Delete => "delete",
        },
        body_bytes: u64::from(place.body_bytes),
    }
}
