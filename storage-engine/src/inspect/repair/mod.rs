//! Writes what is whole into new files, so that a damaged store opens again. Needs the folder for
//! itself. Each step leaves a folder that can be repaired again; damaged files are kept aside.

mod holes;
mod place;
mod salvage;
mod segment;
mod work;

use std::collections::{BTreeMap, BTreeSet};

pub use holes::Hole;
use holes::{files_with, holes};
use work::Work;

use super::flaw::{Flaw, FlawKind, InspectError};
use super::look::Watched;
use super::snapshot::{Progress, Snapshot};
use super::verify::verify;
use crate::catalogue::Catalogue;
use crate::error::DiskError;
use crate::open::Folder;
use crate::position::{SegmentId, StreamId};

/// The folder inside a store's that damaged files are moved to.
pub const DAMAGED: &str = "damaged";

/// What happened to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Its whole records were written to a new file.
    Rewritten,
    /// Nothing in it was whole, or it does not belong here.
    SetAside,
    /// It was not there; what it held is lost.
    Lost,
}

/// A file that was damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mended {
    /// The file.
    pub file: String,
    /// What happened to it.
    pub fate: Fate,
    /// Records that are whole and kept.
    pub kept: u64,
    /// Records that are lost, if that can be told.
    pub lost: Option<u64>,
    /// Streams that lost some, and how many, as far as it is known.
    pub streams: Vec<(StreamId, u64)>,
    /// Streams whose marks are lost, if that can be told: what they voided may be seen again.
    pub marks_lost: Option<u64>,
}

/// What a repair did, or would do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Repaired {
    /// What was damaged.
    pub flaws: Vec<Flaw>,
    /// The files, and what became of them.
    pub files: Vec<Mended>,
    /// Streams of which numbered records are missing, as far as it can be told.
    pub holes: Vec<Hole>,
    /// The incarnation devices see from now on; none if nothing was changed.
    pub incarnation: Option<u64>,
}

/// How to repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RepairSettings {
    /// A random number: the incarnation from now on.
    pub fresh_incarnation: u64,
    /// Change nothing.
    pub dry: bool,
    /// Leave out what follows a hole in a stream: what is left is as it once was.
    pub cut_at_holes: bool,
}

/// Repairs a store.
///
/// # Errors
/// What cannot be repaired is named, and nothing that counts was changed then.
pub fn repair(
    folder: &mut dyn Folder,
    settings: RepairSettings,
    progress: Progress<'_>,
) -> Result<Repaired, InspectError> {
    let flaws = verify(&mut Watched(folder), progress)?.flaws;
    refuse_unreadable(&flaws)?;
    let mut repaired = Repaired { flaws, ..Repaired::default() };
    let mut snapshot = Snapshot::take(&mut Watched(folder), &mut |_bytes| ())?;
    if !repaired.flaws.is_empty() {
        let damaged = repaired.flaws.iter().map(|flaw| flaw.file.clone()).collect();
        let mut work = begin(folder, &snapshot, settings, damaged, BTreeMap::new())?;
        let segments =
            |flaw: &&Flaw| flaw.kind == FlawKind::Missing && !flaw.file.ends_with(".table");
        work.missing = repaired.flaws.iter().filter(segments).map(|one| one.file.clone()).collect();
        work.run(&snapshot)?;
        repaired.files = work.files;
        if settings.dry {
            return Ok(repaired);
        }
        repaired.incarnation = Some(settings.fresh_incarnation);
        snapshot = Snapshot::take(&mut Watched(folder), &mut |_bytes| ())?;
    }
    repaired.holes = holes(&mut Watched(folder), &snapshot);
    if settings.cut_at_holes && !repaired.holes.is_empty() {
        let cut: BTreeMap<StreamId, u64> =
            repaired.holes.iter().map(|hole| (hole.stream, hole.next)).collect();
        let files = files_with(&mut Watched(folder), &snapshot, &cut);
        let mut work = begin(folder, &snapshot, settings, files, cut)?;
        work.run(&snapshot)?;
        repaired.files.append(&mut work.files);
        if !settings.dry {
            repaired.incarnation = Some(settings.fresh_incarnation);
        }
    }
    Ok(repaired)
}

fn begin<'a>(
    folder: &'a mut dyn Folder,
    snapshot: &Snapshot,
    settings: RepairSettings,
    damaged: BTreeSet<String>,
    cut: BTreeMap<StreamId, u64>,
) -> Result<Work<'a>, InspectError> {
    let after = next_run(snapshot, settings.fresh_incarnation)?;
    let (aside, missing, files) = (Vec::new(), Vec::new(), Vec::new());
    Ok(Work { folder, dry: settings.dry, damaged, cut, after, aside, missing, files })
}

/// The bytes may be whole: nothing is given up because a disk does not answer, or because they are
/// of a newer version.
fn refuse_unreadable(flaws: &[Flaw]) -> Result<(), InspectError> {
    for flaw in flaws {
        let file = flaw.file.clone();
        if let FlawKind::Disk(code) = flaw.kind {
            return Err(InspectError::Disk { file, error: DiskError::Io { code } });
        }
        if let FlawKind::Newer(version) = flaw.kind {
            return Err(InspectError::Newer { file, version });
        }
    }
    Ok(())
}

/// The catalogue of a run that wrote nothing: all segments that count are cut where they end.
fn next_run(snapshot: &Snapshot, incarnation: u64) -> Result<Catalogue, InspectError> {
    let before = &snapshot.catalogue;
    let there = |segment: &&SegmentId| snapshot.segments.contains_key(segment);
    Ok(Catalogue {
        run: before.run.checked_add(1).ok_or(InspectError::RunsExhausted)?,
        incarnation,
        clean: true,
        told: false,
        interval: false,
        cuts: BTreeMap::new(),
        tails: BTreeMap::new(),
        voided: before.voided.iter().filter(there).copied().collect(),
        absorbed: before.absorbed.iter().filter(there).copied().collect(),
        ..before.clone()
    })
}
