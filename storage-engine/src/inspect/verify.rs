//! Looks at every checksum there is.

use std::collections::BTreeSet;

use super::flaw::{Flaw, FlawKind, InspectError};
use super::lines::{Window, items_of, records_of};
use super::look::Look;
use super::snapshot::{Progress, Snapshot, TableSeen, changed};
use crate::error::DiskError;
use crate::layout::{BLOCK_BYTES, block_is_whole, u32_of, u64_at, u64_of};
use crate::position::{StreamId, TableId};
use crate::query::StoredRecord;
use crate::table::{HEADER_BYTES, Item, Line, NO_CHUNK, Page, TableRoot};

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
    /// Where the next chunk, list or page should begin.
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
        for page in 0..self.root.pages() {
            self.page(look, page, flaws);
            let now = self.at.min(self.window.size);
            progress(now.saturating_sub(told));
            told = told.max(now);
        }
        let footer = self.window.size.saturating_sub(u64::from(BLOCK_BYTES));
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

    fn page(&mut self, look: &mut dyn Look, page: usize, flaws: &mut Vec<Flaw>) {
        let (at, bytes) = self.root.page_range(page);
        let name = self.window.name.clone();
        // Not through the window: what was read ahead of the chunks before a leaf stays.
        let read = look.bytes(&name, at, bytes);
        let found = read.and_then(|block| {
            let lines = self.root.lines_of(&block, at).ok_or(DiskError::Corrupt { offset: at })?;
            let tight = self.root.has_leaves()
                || Page::parse(&block, at).is_some_and(|page| page.is_tight());
            Ok((lines, tight))
        });
        let ((lines, end), tight) = match found {
            Ok(found) => found,
            Err(error) => {
                flaws.push(Flaw::reading(&name, at, error, FlawKind::Page));
                self.complete = false;
                self.at = at.saturating_add(u64::from(bytes));
                return;
            }
        };
        if !tight {
            flaws.push(Flaw::new(&name, at, FlawKind::Mismatch));
        }
        let first = self.root.keys.first(page);
        let firsts = lines.iter().find_map(|line| line.as_ref().ok()).map(|line| line.stream);
        let named = match firsts {
            Some(stream) if self.root.has_leaves() => stream == first,
            Some(stream) => {
                stream >= first && (page == 0 || self.last.is_none_or(|one| one < first))
            }
            None => !self.root.has_leaves(),
        };
        if !named {
            flaws.push(Flaw::new(&name, at, FlawKind::Order));
        }
        for line in &lines {
            match line {
                Ok(line) => {
                    self.order(line, page, flaws);
                    self.line(look, line, flaws);
                }
                Err(at) => {
                    self.complete = false;
                    flaws.push(Flaw::new(&name, *at, FlawKind::Chunk));
                }
            }
        }
        if self.complete && self.at != at {
            flaws.push(Flaw::new(&name, self.at, FlawKind::Mismatch));
        }
        self.at = end;
    }

    fn order(&mut self, line: &Line, page: usize, flaws: &mut Vec<Flaw>) {
        let in_order = self.last.is_none_or(|last| last < line.stream);
        let known = self.root.page_of(line.stream) == Some(page);
        if !in_order || !known {
            let (at, _) = self.root.page_range(page);
            flaws.push(Flaw::new(&self.window.name, at, FlawKind::Order).of(line.stream));
        }
        self.last = Some(line.stream);
    }

    fn line(&mut self, look: &mut dyn Look, line: &Line, flaws: &mut Vec<Flaw>) {
        self.streams += 1;
        self.marks += u64::from(line.floor > 0 || line.deletes);
        let before = flaws.len();
        let root = self.root;
        let items = items_of(look, &mut self.window, (root, line), flaws);
        let mut tally = Tally::default();
        for item in &items {
            let of = (root, line.stream);
            let records = records_of(look, &mut self.window, of, item, flaws);
            self.records += u64_of(records.len());
            if flaws.len() == before && !tally.add(item, &records, line) {
                let flaw = Flaw::new(&self.window.name, item.offset, FlawKind::Mismatch);
                flaws.push(flaw.of(line.stream));
            }
        }
        // In leaves' tables all chunks lie before their leaf; else those of the list do.
        let (begin, chunks_end) = if root.has_leaves() {
            (line.begin(), line.begin().saturating_add(line.chunk_bytes()))
        } else {
            (line.offset, line.offset.saturating_add(line.bytes))
        };
        let outside = line.listed > 0 || (root.has_leaves() && line.chunks() > 0);
        let placed =
            !outside || (begin == self.at && (line.listed == 0 || line.list_at == chunks_end));
        if flaws.len() > before {
            self.complete = false;
        } else if !tally.is(line) || !placed {
            let flaw = Flaw::new(&self.window.name, line.begin(), FlawKind::Mismatch);
            flaws.push(flaw.of(line.stream));
        }
        if outside {
            self.at = chunks_end.saturating_add(u64::from(line.list_bytes));
        }
    }
}

/// What a stream's chunks add up to.
#[derive(Default)]
struct Tally {
    begin: Option<u64>,
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
    fn add(&mut self, item: &Item, records: &[StoredRecord], line: &Line) -> bool {
        let seqs = || records.iter().map(|record| record.seq).filter(|&seq| seq > 0);
        let (first, last) = (seqs().min().unwrap_or(0), seqs().max().unwrap_or(0));
        // The newest one lies in a page.
        let is_last = line.last.is_some_and(|last| last.offset == item.offset);
        let follows = is_last || self.next.is_none_or(|next| next == item.offset);
        self.next = item.offset.checked_add(u64::from(item.stored));
        self.begin.get_or_insert(item.offset);
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

    /// Whether they are what the line says.
    fn is(&self, line: &Line) -> bool {
        let snapshot = self.snapshot.unwrap_or(NO_CHUNK);
        self.begin.is_none_or(|begin| begin == line.begin())
            && self.bytes == line.chunk_bytes()
            && self.chunks == line.chunks()
            && self.count == u64::from(line.count)
            && self.sequenced == u64::from(line.sequenced)
            && (self.first_seq, self.last_seq) == (line.first_seq, line.last_seq)
            && snapshot == line.snapshot
    }
}
