//! What a store holds, in numbers.

use std::collections::BTreeSet;

use super::flaw::{Flaw, InspectError};
use super::look::Look;
use super::snapshot::{Progress, Snapshot};
use super::streams::Streams;
use crate::layout::u64_of;
use crate::position::StreamId;

/// Streams that are named.
const BIGGEST: usize = 10;
/// The last place of the histogram counts all streams that are in more tables.
const TABLES_COUNTED: usize = 8;

/// A stream and what it takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StreamSize {
    /// Bytes on disk.
    pub bytes: u64,
    /// Records that count.
    pub records: u64,
    /// Which one.
    pub stream: StreamId,
}

/// Numbers of a store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreNumbers {
    /// Streams with records that count.
    pub streams: u64,
    /// Records that count.
    pub records: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Bytes of all files, but for the reserve.
    pub disk_bytes: u64,
    /// Bytes of the tables.
    pub table_bytes: u64,
    /// Bytes of the bodies of records in tables that count.
    pub table_body_bytes: u64,
    /// Bytes of the chunks in tables.
    pub chunk_bytes: u64,
    /// Records that are in no table.
    pub unsealed_records: u64,
    /// Bytes of segments up to where their records end.
    pub unsealed_bytes: u64,
    /// Bytes of files that wait to be used again.
    pub spare_bytes: u64,
    /// Bytes kept free for sealing on a full disk.
    pub reserve_bytes: u64,
    /// Bytes of files that the next start removes.
    pub leftover_bytes: u64,
    /// Bytes of memory that the tables' roots take.
    pub root_bytes: u64,
    /// Streams that are in so many tables: none, one, two and so on; the last counts all above.
    pub tables_a_stream: [u64; TABLES_COUNTED + 1],
    /// The ten that take most, the biggest first.
    pub biggest: Vec<StreamSize>,
    /// What could not be counted.
    pub flaws: Vec<Flaw>,
}

/// Counts everything; reads all records.
///
/// # Errors
/// If the store cannot be looked at. Damage is no error.
pub fn stats(look: &mut dyn Look, progress: Progress<'_>) -> Result<StoreNumbers, InspectError> {
    let snapshot = Snapshot::take(look, progress)?;
    let mut numbers = of_files(&snapshot);
    let mut streams = Streams::from(&snapshot, StreamId(0));
    let mut biggest: BTreeSet<StreamSize> = BTreeSet::new();
    let mut from = StreamId(0);
    while let Some(parts) = streams.next(look, from) {
        from = parts.stream;
        let (mut records, mut body_bytes) = (0, 0);
        for part in &parts.lines {
            streams.read_line(look, part, &mut |record| {
                records += 1;
                body_bytes += u64_of(record.body.len());
                true
            });
            progress(part.1.chunk_bytes());
        }
        numbers.table_body_bytes += body_bytes;
        numbers.chunk_bytes += parts.table_bytes();
        body_bytes +=
            parts.places.iter().map(|(_, place)| u64::from(place.body_bytes)).sum::<u64>();
        records += parts.loose_records();
        numbers.unsealed_records += parts.loose_records();
        numbers.records += records;
        numbers.body_bytes += body_bytes;
        if records > 0 {
            numbers.streams += 1;
            numbers.tables_a_stream[parts.lines.len().min(TABLES_COUNTED)] += 1;
            let bytes = parts.table_bytes() + parts.loose_bytes();
            biggest.insert(StreamSize { bytes, records, stream: parts.stream });
            if biggest.len() > BIGGEST {
                biggest.pop_first();
            }
        }
    }
    numbers.flaws.append(&mut streams.flaws);
    numbers.flaws.sort();
    numbers.flaws.dedup();
    numbers.biggest = biggest.into_iter().rev().collect();
    Ok(numbers)
}

/// What the files themselves say.
fn of_files(snapshot: &Snapshot) -> StoreNumbers {
    let sum = |files: &[(String, u64)]| files.iter().map(|(_, bytes)| *bytes).sum::<u64>();
    let segments = || snapshot.segments.values();
    let mut numbers = StoreNumbers {
        table_bytes: snapshot.tables.iter().map(|table| table.file_bytes).sum(),
        unsealed_bytes: segments().filter(|seen| seen.counts()).map(|seen| seen.end).sum(),
        spare_bytes: sum(&snapshot.spares),
        reserve_bytes: snapshot.reserve_bytes,
        leftover_bytes: sum(&snapshot.leftovers),
        root_bytes: snapshot.roots().map(|root| root.memory_bytes()).sum(),
        flaws: snapshot.flaws.clone(),
        ..StoreNumbers::default()
    };
    let files: u64 = segments().map(|seen| seen.file_bytes).sum();
    let others = numbers.table_bytes + numbers.spare_bytes + numbers.leftover_bytes;
    numbers.disk_bytes = files + others + u64_of(snapshot.bytes.len());
    numbers
}
