//! Looks at every checksum there is.

use std::collections::BTreeSet;

use super::flaw::{Flaw, FlawKind, InspectError};
use super::lines::{Window, items_of, records_of};
use super::look::Look;
use super::snapshot::{Progress, Snapshot, TableSeen, changed};
use crate::error::DiskError;
use crate::filter;
use crate::layout::{block_is_whole, u32_of, u64_at, u64_of};
use crate::position::{StreamId, TableId};
use crate::query::StoredRecord;
use crate::table::{HEADER_BYTES, Item, LEAF_BYTES, Line, NO_CHUNK, TableRoot, read_leaf};

/// How often a server may merge tables while they are being checked.
const TRIES: u32 = 100;

/// What verifying found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    /// Files whose content was checked.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whole records seen.
    pub records: u64,
    /// What is damaged, by file and offset.
    pub flaws: Vec<Flaw>,
}

/// Checks every byte that has a checksum in the files that count, and whether what they say of
/// each other is true.
///
/// # Errors
/// If the store cannot be looked at. Damage is no error.
pub fn verify(look: &mut dyn Look, progress: Progress<'_>) -> Result<Verified, InspectError> {
    let mut snapshot = Snapshot::take(look, progress)?;
    let mut verified = Verified { flaws: snapshot.flaws.clone(), ..Verified::default() };
    verified.files += 1;
    verified.bytes += u64_of(snapshot.bytes.len());
    for seen in snapshot.segments.values().filter(|seen| seen.counts()) {
        verified.files += 1;
        verified.bytes += seen.end;
        verified.records += u64_of(seen.records().count());
    }
    let mut checked = BTreeSet::new();
    for _try in 0..TRIES {
        if verify_tables(look, &snapshot, &mut checked, &mut verified, progress) {
            verified.flaws.sort();
            verified.flaws.dedup();
            return Ok(verified);
        }
        // Some were merged meanwhile: the new ones are checked too.
        snapshot = Snapshot::take(look, &mut |_bytes| ())?;
    }
    Err(InspectError::Restless)
}

/// Checks the tables that were not checked yet. Answers whether all that there are were.
fn verify_tables(
    look: &mut dyn Look,
    snapshot: &Snapshot,
    checked: &mut BTreeSet<TableId>,
    verified: &mut Verified,
    progress: Progress<'_>,
) -> bool {
    for table in &snapshot.tables {
        let Some(root) = &table.root else { continue };
        if checked.contains(&table.id) {
            continue;
        }
        let mut flaws = Vec::new();
        let mut check = TableCheck::new(table, root);
        check.run(look, progress, &mut flaws);
        let gone = flaws.iter().any(|flaw| flaw.kind == FlawKind::Missing);
        if gone && changed(look, &snapshot.bytes) {
            return false;
        }
        checked.insert(table.id);
        verified.files += 1;
        verified.bytes += table.file_bytes;
        verified.records += check.records;
        verified.flaws.append(&mut flaws);
    }
    true
}

/// One table being checked.
struct TableCheck<'a> {
    root: &'a TableRoot,
    window: Window,
    /// Where the next chunk, list or leaf should begin.
    at: u64,
    last: Option<StreamId>,
    streams: u64,
    records: u64,
    marks: u64,
    /// Whether everything so far was there, so that totals can be compared.
    complete: bool,
}

impl<'a> TableCheck<'a> {
    fn new(table: &TableSeen, root: &'a TableRoot) -> Self {
        Self {
            root,
            window: Window::new(&table.name, table.file_bytes),
            at: HEADER_BYTES,
            last: None,
            streams: 0,
            records: 0,
            marks: 0,
            complete: true,
        }
    }

    fn run(&mut self, look: &mut dyn Look, progress: Progress<'_>, flaws: &mut Vec<Flaw>) {
        let name = self.window.name.clone();
        match self.window.get(look, 0, HEADER_BYTES) {
            Ok(head) if block_is_whole(&head, 0) && u64_at(&head, 24) == self.root.id.0 => {}
            Ok(_) => flaws.push(Flaw::new(&name, 0, FlawKind::Identity)),
            Err(error) => return flaws.push(Flaw::reading(&name, 0, error, FlawKind::Identity)),
        }
        let mut told = 0;
        for leaf in 0..self.root.leaves() {
            self.leaf(look, leaf, flaws);
            let now = self.at.min(self.window.size);
            progress(now.saturating_sub(told));
            told = told.max(now);
        }
        let footer = self.window.size.saturating_sub(u64::from(LEAF_BYTES));
        let root = self.root;
        let said = (root.streams, root.records, root.marks);
        if self.complete && said != (self.streams, self.records, self.marks) {
            flaws.push(Flaw::new(&name, footer, FlawKind::Total));
        }
        if self.complete && self.at != root.end {
            flaws.push(Flaw::new(&name, root.end, FlawKind::Total));
        }
        progress(self.window.size.saturating_sub(told));
    }

    fn leaf(&mut self, look: &mut dyn Look, leaf: usize, flaws: &mut Vec<Flaw>) {
        let at = self.root.leaf_at(leaf);
        let name = self.window.name.clone();
        let block = match look_ahead(&self.window, look, at) {
            Ok(block) => read_leaf(&block, at).ok_or(DiskError::Corrupt { offset: at }),
            Err(error) => Err(error),
        };
        let lines = match block {
            Ok(lines) => lines,
            Err(error) => {
                flaws.push(Flaw::reading(&name, at, error, FlawKind::Leaf));
                self.complete = false;
                self.at = at.saturating_add(u64::from(LEAF_BYTES));
                return;
            }
        };
        if lines.first().map(|line| line.stream) != Some(self.root.first_of(leaf)) {
            flaws.push(Flaw::new(&name, at, FlawKind::Order));
        }
        for line in &lines {
            let in_order = self.last.is_none_or(|last| last < line.stream);
            let known = self.root.leaf_of(line.stream).map(|leaf| self.root.leaf_at(leaf))
                == Some(at)
                && filter::has_partition(&self.root.bitmap, line.stream);
            if !in_order || !known {
                flaws.push(Flaw::new(&name, at, FlawKind::Order).of(line.stream));
            }
            self.last = Some(line.stream);
            self.line(look, line, flaws);
        }
        if self.complete && self.at != at {
            flaws.push(Flaw::new(&name, self.at, FlawKind::Mismatch));
        }
        self.at = at.saturating_add(u64::from(LEAF_BYTES));
    }

    fn line(&mut self, look: &mut dyn Look, line: &Line, flaws: &mut Vec<Flaw>) {
        self.streams += 1;
        self.marks += u64::from(line.floor > 0 || line.deletes);
        let before = flaws.len();
        let items = items_of(look, &mut self.window, line, flaws);
        let mut tally = Tally::default();
        for item in &items {
            let records = records_of(look, &mut self.window, line.stream, item, flaws);
            self.records += u64_of(records.len());
            if flaws.len() == before && !tally.add(item, &records) {
                let flaw = Flaw::new(&self.window.name, item.offset, FlawKind::Mismatch);
                flaws.push(flaw.of(line.stream));
            }
        }
        if flaws.len() > before {
            self.complete = false;
        } else if !tally.is(line, &items, self.at) {
            let flaw = Flaw::new(&self.window.name, line.offset, FlawKind::Mismatch);
            flaws.push(flaw.of(line.stream));
        }
        let chunks_end = line.offset.saturating_add(line.bytes);
        let list_bytes = if items.len() > 1 { u64::from(line.list_bytes()) } else { 0 };
        self.at = chunks_end.saturating_add(list_bytes);
    }
}

/// A leaf's block without losing what was read ahead of the chunks before it.
fn look_ahead(window: &Window, look: &mut dyn Look, at: u64) -> Result<Vec<u8>, DiskError> {
    let fits = at.checked_add(u64::from(LEAF_BYTES)).is_some_and(|end| end <= window.size);
    if fits { look.bytes(&window.name, at, LEAF_BYTES) } else { Err(DiskError::Short) }
}

/// What a stream's chunks add up to.
#[derive(Default)]
struct Tally {
    bytes: u64,
    next: Option<u64>,
    count: u64,
    sequenced: u64,
    first_seq: u64,
    last_seq: u64,
    snapshot: Option<u32>,
    chunks: u32,
}

impl Tally {
    /// Adds a chunk; answers whether its item says what it is.
    fn add(&mut self, item: &Item, records: &[StoredRecord]) -> bool {
        let seqs = || records.iter().map(|record| record.seq).filter(|&seq| seq > 0);
        let (first, last) = (seqs().min().unwrap_or(0), seqs().max().unwrap_or(0));
        let follows = self.next.is_none_or(|next| next == item.offset);
        self.next = item.offset.checked_add(u64::from(item.stored));
        self.bytes = self.bytes.saturating_add(u64::from(item.stored));
        self.count += u64_of(records.len());
        self.sequenced += u64_of(seqs().count());
        self.last_seq = self.last_seq.max(last);
        if self.first_seq == 0 || (first > 0 && first < self.first_seq) {
            self.first_seq = first;
        }
        if records.iter().any(|record| record.snapshot_start) {
            self.snapshot = Some(self.chunks);
        }
        self.chunks = self.chunks.saturating_add(1);
        follows
            && u32_of(records.len()) == item.count
            && (first, last) == (item.first_seq, item.last_seq)
    }

    /// Whether they are what the line says, and lie where the last thing ended.
    fn is(&self, line: &Line, items: &[Item], at: u64) -> bool {
        let snapshot = self.snapshot.unwrap_or(NO_CHUNK);
        let begins = items.first().is_none_or(|first| first.offset == line.offset);
        begins
            && line.offset == at
            && self.bytes == line.bytes
            && self.chunks == line.chunks
            && self.count == u64::from(line.count)
            && self.sequenced == u64::from(line.sequenced)
            && (self.first_seq, self.last_seq) == (line.first_seq, line.last_seq)
            && snapshot == line.snapshot
    }
}
