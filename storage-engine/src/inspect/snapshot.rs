//! A store as it is at one moment: the catalogue, the roots of its tables, and every record that is
//! in no table yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flaw::{Flaw, FlawKind, InspectError};
use super::logs::{Seen, SegmentState, judge};
use super::look::Look;
use super::segment::Scan;
use crate::catalogue::{self, Catalogue, CatalogueFault};
use crate::error::DiskError;
use crate::header::HeaderFault;
use crate::keeper::RESERVE;
use crate::layout::{BLOCK_BYTES, VERSION, block_is_whole, u32_at, u64_at};
use crate::position::{SegmentId, TableId};
use crate::settings::Settings;
use crate::table::TableRoot;

/// How often a store that changes is looked at anew.
const TRIES: u32 = 20;
/// A catalogue has 16 bytes for each file; no folder has so many.
const CATALOGUE_MAX_BYTES: u32 = 64 << 20;

/// Told of bytes that were read.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

/// A table of the store.
#[derive(Clone, Debug)]
pub(crate) struct TableSeen {
    pub(crate) id: TableId,
    pub(crate) name: String,
    pub(crate) file_bytes: u64,
    /// None if it is damaged.
    pub(crate) root: Option<Arc<TableRoot>>,
}

/// See the module's comment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) catalogue: Catalogue,
    pub(crate) bytes: Vec<u8>,
    /// Oldest first; damaged ones have no place and come last.
    pub(crate) tables: Vec<TableSeen>,
    pub(crate) segments: BTreeMap<SegmentId, Seen>,
    pub(crate) spares: Vec<(String, u64)>,
    pub(crate) reserve_bytes: u64,
    /// Files that a start would remove, with their bytes.
    pub(crate) leftovers: Vec<(String, u64)>,
    /// What is wrong with all this.
    pub(crate) flaws: Vec<Flaw>,
}

/// What happened while a snapshot was made.
enum Outcome {
    Done(Box<Snapshot>),
    /// A file vanished that was there.
    Changed,
}

/// The bytes that making a snapshot reads, and those that reading all tables does.
///
/// # Errors
/// If the folder cannot be read.
pub fn total_bytes(look: &mut dyn Look) -> Result<(u64, u64), InspectError> {
    let names = look.names().map_err(|error| disk("the data folder", error))?;
    let (mut segments, mut tables) = (0, 0);
    for name in names {
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("active" | "sealed") => segments += look.size(&name).unwrap_or(0),
            Some("table") => tables += look.size(&name).unwrap_or(0),
            _ => {}
        }
    }
    Ok((segments, tables))
}

pub(super) fn disk(file: &str, error: DiskError) -> InspectError {
    InspectError::Disk { file: file.to_owned(), error }
}

impl Snapshot {
    /// Looks at a store. If a server runs on it, it is one moment of it: what was being written
    /// then may be missing.
    ///
    /// # Errors
    /// If there is no store, or what says which files count cannot be read.
    pub fn take(look: &mut dyn Look, progress: Progress<'_>) -> Result<Self, InspectError> {
        let mut flawed = None;
        for _try in 0..TRIES {
            look.refresh();
            let Outcome::Done(snapshot) = attempt(look, progress)? else { continue };
            // What is damaged may only have been in the middle of being written.
            if snapshot.flaws.is_empty() || flawed.as_ref() == Some(&snapshot.flaws) {
                return Ok(*snapshot);
            }
            flawed = Some(snapshot.flaws);
        }
        Err(InspectError::Restless)
    }

    /// What is wrong with it as far as taking it could tell: what a start would refuse, mostly.
    #[must_use]
    pub fn flaws(&self) -> &[Flaw] {
        &self.flaws
    }

    /// The whole tables, oldest first.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Arc<TableRoot>> {
        self.tables.iter().filter_map(|table| table.root.as_ref())
    }
}

/// Whether another catalogue counts now.
pub(super) fn changed(look: &mut dyn Look, before: &[u8]) -> bool {
    look.refresh();
    !matches!(read_catalogue(look), Ok(Some(bytes)) if bytes == before)
}

fn read_catalogue(look: &mut dyn Look) -> Result<Option<Vec<u8>>, InspectError> {
    let read = look.size(catalogue::NAME).and_then(|bytes| {
        let bytes = u32::try_from(bytes).map_err(|_too_long| DiskError::Corrupt { offset: 0 })?;
        look.bytes(catalogue::NAME, 0, bytes.min(CATALOGUE_MAX_BYTES))
    });
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(DiskError::Missing) => Ok(None),
        Err(error) => Err(disk(catalogue::NAME, error)),
    }
}

/// What a folder lists, by what it is.
#[derive(Default)]
struct Names {
    segments: BTreeMap<SegmentId, bool>,
    tables: BTreeSet<TableId>,
    spares: Vec<String>,
    unfinished: Vec<String>,
    reserve: bool,
}

fn sort_names(names: Vec<String>) -> Names {
    let mut sorted = Names::default();
    for name in names {
        sorted.reserve |= name == RESERVE;
        let Some((id, ending)) = name.split_once('.') else { continue };
        let Some(id) = u64::from_str_radix(id, 16).ok().filter(|_| id.len() == 16) else {
            continue;
        };
        match ending {
            "active" => drop(sorted.segments.entry(SegmentId(id)).or_insert(false)),
            "sealed" => drop(sorted.segments.insert(SegmentId(id), true)),
            "table" => drop(sorted.tables.insert(TableId(id))),
            "spare" => sorted.spares.push(name),
            "new" | "building" => sorted.unfinished.push(name),
            _ => {}
        }
    }
    sorted
}

fn attempt(look: &mut dyn Look, progress: Progress<'_>) -> Result<Outcome, InspectError> {
    // The names first: what a server takes into a table meanwhile, the catalogue then says.
    let listed = look.names().map_err(|error| disk("the data folder", error))?;
    let names = sort_names(listed);
    let bytes = read_catalogue(look)?;
    let Some(bytes) = bytes else {
        let empty = names.segments.is_empty() && names.tables.is_empty();
        return Err(if empty { InspectError::NoStore } else { InspectError::NoCatalogue });
    };
    let catalogue = Catalogue::decode(&bytes).map_err(|fault| match fault {
        CatalogueFault::Bad => InspectError::BadCatalogue,
        CatalogueFault::Newer(version) => {
            InspectError::Newer { file: catalogue::NAME.to_owned(), version }
        }
    })?;
    let mut flaws = Vec::new();
    let tables = load_tables(look, &catalogue, &mut flaws);
    let mut segments = BTreeMap::new();
    // The newest first: what follows a record in its log is never there without it then.
    for (&id, &sealed) in names.segments.iter().rev() {
        let mut seen = Seen {
            name: if sealed { id.sealed_name() } else { id.active_name() },
            state: state_of(&catalogue, id, sealed),
            file_bytes: 0,
            sealed: None,
            scan: None,
            end: 0,
            damaged: None,
        };
        seen.file_bytes = look.size(&seen.name).unwrap_or(0);
        let wanted = matches!(seen.state, SegmentState::Cut | SegmentState::Written);
        if wanted && !read_segment(look, id, sealed, &mut seen, &mut flaws)? {
            return Ok(Outcome::Changed);
        }
        progress(seen.file_bytes);
        segments.insert(id, seen);
    }
    judge(&catalogue, &mut segments, &mut flaws);
    let gone = flaws.iter().any(|flaw| flaw.kind == FlawKind::Missing);
    if gone && changed(look, &bytes) {
        return Ok(Outcome::Changed);
    }
    let mut sized = |names: Vec<String>| -> Vec<(String, u64)> {
        let sizes = names.into_iter().map(|name| {
            let bytes = look.size(&name).unwrap_or(0);
            (name, bytes)
        });
        sizes.collect()
    };
    let spares = sized(names.spares);
    let unnamed = names.tables.iter().filter(|table| !catalogue.tables.contains(table));
    let unnamed = unnamed.map(|table| table.table_name());
    let leftovers = sized(names.unfinished.into_iter().chain(unnamed).collect());
    let reserve_bytes = if names.reserve { look.size(RESERVE).unwrap_or(0) } else { 0 };
    flaws.sort();
    flaws.dedup();
    Ok(Outcome::Done(Box::new(Snapshot {
        catalogue,
        bytes,
        tables,
        segments,
        spares,
        reserve_bytes,
        leftovers,
        flaws,
    })))
}

fn state_of(catalogue: &Catalogue, id: SegmentId, sealed: bool) -> SegmentState {
    if catalogue.absorbed.contains(&id) {
        SegmentState::Absorbed
    } else if catalogue.voided.contains(&id) {
        SegmentState::Voided
    } else if catalogue.cuts.contains_key(&id) {
        SegmentState::Cut
    } else if id.run() == catalogue.run {
        SegmentState::Written
    } else if sealed {
        // Version 1 did not name those.
        SegmentState::Cut
    } else {
        SegmentState::Unknown
    }
}

fn load_tables(
    look: &mut dyn Look,
    catalogue: &Catalogue,
    flaws: &mut Vec<Flaw>,
) -> Vec<TableSeen> {
    let mut tables = Vec::new();
    for &id in &catalogue.tables {
        let name = id.table_name();
        let file_bytes = look.size(&name).unwrap_or(0);
        let mut read = |offset, bytes| look.bytes(&name, offset, bytes);
        let root = match TableRoot::load(id, file_bytes, &mut read) {
            Ok(root) => Some(Arc::new(root)),
            Err(error) => {
                let footer = file_bytes.saturating_sub(u64::from(BLOCK_BYTES));
                let at_footer = matches!(error, DiskError::Corrupt { offset } if offset >= footer);
                let kind = if at_footer { FlawKind::Footer } else { FlawKind::Root };
                let missing = matches!(look.size(&name), Err(DiskError::Missing));
                let error = if missing { DiskError::Missing } else { error };
                flaws.push(Flaw::reading(&name, footer, error, kind));
                None
            }
        };
        tables.push(TableSeen { id, name, file_bytes, root });
    }
    tables.sort_by_key(|table| table.root.as_ref().map_or(u64::MAX, |root| root.high));
    tables
}

/// Reads and scans a segment. Answers whether the file is still the same.
fn read_segment(
    look: &mut dyn Look,
    id: SegmentId,
    sealed: bool,
    seen: &mut Seen,
    flaws: &mut Vec<Flaw>,
) -> Result<bool, InspectError> {
    let name = seen.name.clone();
    if sealed {
        match sealed_end(look, &name, seen.file_bytes) {
            Ok(end) => seen.sealed = Some(end),
            Err(DiskError::Newer { version }) => {
                return Err(InspectError::Newer { file: name, version });
            }
            Err(error) => {
                let footer = seen.file_bytes.saturating_sub(u64::from(BLOCK_BYTES));
                flaws.push(Flaw::reading(&name, footer, error, FlawKind::Footer));
                seen.damaged = Some(footer);
            }
        }
    }
    let most = u64::from(Settings::MAX_SEGMENT_BYTES);
    let length = seen.sealed.unwrap_or(seen.file_bytes).min(seen.file_bytes).min(most);
    let length = u32::try_from(length).unwrap_or(Settings::MAX_SEGMENT_BYTES);
    match look.bytes(&name, 0, length) {
        Ok(bytes) => seen.scan = Some(Scan::of(&bytes, id, &[])),
        Err(DiskError::Missing) => return Ok(false),
        Err(error) => flaws.push(Flaw::reading(&name, 0, error, FlawKind::Identity)),
    }
    if let Some(Scan { fault: Some(HeaderFault::Newer(version)), .. }) = seen.scan {
        return Err(InspectError::Newer { file: name, version });
    }
    // A segment loses its name before its file is used again.
    let names = look.names().map_err(|error| disk("the data folder", error))?;
    Ok(names.contains(&name))
}

/// Where the records end of a segment that version 1 gave an index.
fn sealed_end(look: &mut dyn Look, name: &str, file_bytes: u64) -> Result<u64, DiskError> {
    let at =
        file_bytes.checked_sub(u64::from(BLOCK_BYTES)).ok_or(DiskError::Corrupt { offset: 0 })?;
    let footer = look.bytes(name, at, BLOCK_BYTES)?;
    let version = u32_at(&footer, 16);
    if footer[8..16] != *b"RoostEnd" || !block_is_whole(&footer, 0) {
        return Err(DiskError::Corrupt { offset: at });
    }
    if version > VERSION {
        return Err(DiskError::Newer { version });
    }
    let end = u64_at(&footer, 40);
    if end > at { Err(DiskError::Corrupt { offset: at }) } else { Ok(end) }
}
