//! Merges tables into one, a slice at a time: older and newer records of a stream come together,
//! what marks void and what snapshots stand for is left out. A chunk of each stream is held, never
//! a whole one.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Damage, DiskError};
use crate::layout::usize_of;
use crate::position::{FileId, StreamId, TableId};
use crate::query::StoredRecord;
use crate::record::{Fields, Role};
use crate::table::{Cursor, Item, Line, NO_CHUNK, Piece, ReadTable, TableRoot, TableWriter, Voids};

/// A merge under way.
#[derive(Debug)]
pub(crate) struct Merge {
    /// Oldest first.
    pub(crate) inputs: Vec<Arc<TableRoot>>,
    cursors: Vec<Cursor>,
    pub(crate) writer: TableWriter,
    /// Nothing older is left for marks to void.
    bottom: bool,
    pub(crate) retained_from: u64,
    pub(crate) damage: Vec<Damage>,
    joining: Option<Joining>,
    /// The input that is being read; after an error the one that could not be.
    reading: Option<TableId>,
}

/// A stream that is being written.
#[derive(Debug)]
struct Joining {
    stream: StreamId,
    voids: Voids,
    /// Its parts that are not written yet, the oldest first.
    parts: VecDeque<Part>,
    /// The input and chunk with the last record at which loading may begin: it stands for state
    /// before it, and for messages that are too old.
    snapshot: Option<(usize, u32)>,
}

/// A stream's part in an input.
#[derive(Clone, Copy, Debug)]
struct Part {
    input: usize,
    /// Records with a seq below it are void.
    floor: u64,
    /// The number of the chunk that comes next.
    chunk: u32,
}

impl Merge {
    pub(crate) fn new(
        inputs: Vec<Arc<TableRoot>>,
        writer: TableWriter,
        bottom: bool,
        retained_from: u64,
    ) -> Self {
        let cursors = inputs.iter().map(|_input| Cursor::new()).collect();
        let (damage, joining, reading) = (Vec::new(), None, None);
        Self { inputs, cursors, writer, bottom, retained_from, damage, joining, reading }
    }

    /// The input that could not be read, if that is what went wrong.
    pub(crate) fn unread(&self) -> Option<TableId> {
        self.reading
    }

    /// Takes chunks until so many bytes wait to be written. Answers whether all were taken.
    pub(crate) fn step(&mut self, bytes: usize, read: ReadTable<'_>) -> Result<bool, DiskError> {
        let done = self.step_reading(bytes, read)?;
        self.reading = None;
        Ok(done)
    }

    fn step_reading(&mut self, bytes: usize, read: ReadTable<'_>) -> Result<bool, DiskError> {
        while self.writer.waiting_bytes() < bytes {
            match self.joining.take() {
                Some(joining) => self.join(joining, &mut *read)?,
                None => {
                    if !self.begin(&mut *read)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Begins the next stream; answers whether there is one.
    fn begin(&mut self, read: ReadTable<'_>) -> Result<bool, DiskError> {
        let mut next: Option<StreamId> = None;
        for (cursor, root) in self.cursors.iter_mut().zip(&self.inputs) {
            self.reading = Some(root.id);
            if let Some(line) = cursor.peek(root, &mut *read)? {
                next = Some(next.map_or(line.stream, |next| next.min(line.stream)));
            }
        }
        let Some(stream) = next else { return Ok(false) };
        let mut lines: Vec<(usize, Line)> = Vec::new();
        for (input, (cursor, root)) in self.cursors.iter_mut().zip(&self.inputs).enumerate() {
            self.reading = Some(root.id);
            let line = cursor.peek(root, &mut *read)?;
            if line.is_some_and(|line| line.stream == stream) {
                lines.extend(cursor.begin(root, &mut *read)?.map(|line| (input, line)));
            }
        }
        // What newer parts void of older ones.
        let (mut floor, mut deletes) = (0, false);
        let mut parts = VecDeque::new();
        let mut snapshot = None;
        for &(input, line) in lines.iter().rev() {
            parts.push_front(Part { input, floor, chunk: 0 });
            floor = floor.max(line.floor);
            if line.snapshot != NO_CHUNK && snapshot.is_none() {
                snapshot = Some((input, line.snapshot));
            }
            if line.deletes {
                deletes = true;
                break;
            }
        }
        let snapshot = match snapshot {
            Some(at) if self.has_snapshot(stream, at, &mut *read)? => Some(at),
            _ => None,
        };
        let voids = if self.bottom { Voids::default() } else { Voids { floor, deletes } };
        self.writer.begin_stream(stream);
        self.joining = Some(Joining { stream, voids, parts, snapshot });
        Ok(true)
    }

    /// Whether the record is still there that stands for others: if it is damaged, they stay.
    fn has_snapshot(
        &mut self,
        stream: StreamId,
        (input, chunk): (usize, u32),
        read: ReadTable<'_>,
    ) -> Result<bool, DiskError> {
        let root = &self.inputs[input];
        self.reading = Some(root.id);
        let Some((_, bytes)) = self.cursors[input].look_at(root, chunk, read)? else {
            return Ok(false);
        };
        let records = root.decode(&bytes, stream, &mut Vec::new());
        Ok(records.iter().any(|record| record.snapshot_start))
    }

    /// Adds the next chunk of a stream, or ends it.
    fn join(&mut self, mut joining: Joining, read: ReadTable<'_>) -> Result<(), DiskError> {
        let Some(part) = joining.parts.front_mut() else {
            self.writer.end_stream(joining.voids);
            return Ok(());
        };
        let root = &self.inputs[part.input];
        self.reading = Some(root.id);
        match self.cursors[part.input].chunk(root, read)? {
            Some((item, bytes)) => {
                let part_now = *part;
                part.chunk += 1;
                self.add(&joining, part_now, item, &bytes);
            }
            None => drop(joining.parts.pop_front()),
        }
        self.joining = Some(joining);
        Ok(())
    }

    /// Adds the records of a chunk that are still wanted.
    fn add(&mut self, joining: &Joining, part: Part, item: Item, bytes: &Bytes) {
        let (mut faults, stream) = (Vec::new(), joining.stream);
        let root = &self.inputs[part.input];
        let records = root.decode(bytes, stream, &mut faults);
        let file = FileId::Table(root.id);
        self.damage.extend(faults.iter().map(|fault| Damage {
            file,
            offset: item.offset + fault.at,
            stream: Some(stream),
        }));
        // Records before this place are before the last one at which loading may begin.
        let here = (part.input, part.chunk);
        let begin = match joining.snapshot {
            Some(snapshot) if snapshot == here => {
                records.iter().rposition(|record| record.snapshot_start).unwrap_or(0)
            }
            Some(snapshot) if here < snapshot => records.len(),
            _ => 0,
        };
        for (place, record) in records.iter().enumerate() {
            let void = record.seq > 0 && record.seq < part.floor;
            let old = record.stamp > 0 && record.stamp < self.retained_from;
            if !void && (place >= begin || (record.seq > 0 && !old)) {
                self.writer.add(&piece_of(record));
            }
        }
        if records.len() < usize_of(item.count) {
            for _fault in &faults {
                self.writer.add(&Piece::Damaged);
            }
        }
    }
}

/// A record as it goes into a table.
pub(crate) fn piece_of(record: &StoredRecord) -> Piece<'_> {
    let StoredRecord { number, seq, stamp, kind, snapshot_start, .. } = *record;
    let role = if snapshot_start { Role::Snapshot } else { Role::Plain };
    let fields = Fields { number, seq, stamp, kind, role, control: false };
    Piece::Parts { fields, body: &record.body }
}
