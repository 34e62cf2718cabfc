//! A disk that keeps, loses, tears, flips and fills up as it is told. Deterministic: what is left
//! to chance is asked of the caller.
//!
//! A file has two contents: what a process sees (the page cache) and what was flushed. Written
//! sectors that are not flushed are remembered, and so are changes of names until the folder is
//! flushed. A power cut keeps or loses each by itself.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::error::DiskError;
use crate::header::mark_recycled;
use crate::keeper::{Keeper, RESERVE};
use crate::layout::{index_of, u64_of, usize_of};
use crate::op::{StoreDone, StoreOp};
use crate::open::Folder;
use crate::position::{FileId, SegmentId};
use crate::view::View;

const SECTOR: usize = 512;
/// Steps that an op under way may have got to when the process is killed.
const STEPS_MAX: u32 = 96;

/// Gives a number below the one given.
pub type Chance<'a> = &'a mut dyn FnMut(u32) -> u32;

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kill {
    /// The process dies: the page cache stays, writes under way happened in part.
    Process,
    /// The power goes: of what was not flushed, each sector and each name stays or not.
    PowerCut,
}

#[derive(Clone, Debug, Default)]
struct SimFile {
    cache: Vec<u8>,
    flushed: Vec<u8>,
    /// Sectors written since the last flush.
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link { name: String, file: usize },
    Unlink { name: String },
    Rename { from: String, to: String, file: usize },
}

/// The disk.
#[derive(Debug, Default)]
pub struct SimDisk {
    files: Vec<SimFile>,
    names: BTreeMap<String, usize>,
    flushed_names: BTreeMap<String, usize>,
    changes: Vec<NameChange>,
    pending: Vec<(u8, StoreOp)>,
    full: bool,
    flush_fails: bool,
    /// Steps that will still happen; none: no bound.
    steps_left: Option<u32>,
    /// Keeps the tables, and how many stores look at them.
    keeper: Option<(Keeper, u8)>,
    /// Files without a name that a process still reads.
    unnamed: BTreeMap<String, usize>,
}

impl SimDisk {
    /// An empty folder on a healthy disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it the keeper that opening made, for as many stores, until the next crash.
    pub fn attach(&mut self, keeper: Keeper, shards: u8) {
        self.keeper = Some((keeper, shards));
    }

    /// Takes the keeper back, for a clean stop.
    pub fn detach(&mut self) -> Option<Keeper> {
        self.keeper.take().map(|(keeper, _)| keeper)
    }

    /// Takes an op of a shard; it happens when it is completed.
    pub fn submit(&mut self, shard: u8, op: StoreOp) {
        self.pending.push((shard, op));
    }

    /// The ops that wait and whose they are, in the order they came.
    #[must_use]
    pub fn pending(&self) -> &[(u8, StoreOp)] {
        &self.pending
    }

    /// Performs the op at this place of `pending` and gives its answer and who asked. `chance`
    /// decides how much of a flush that fails happens.
    pub fn complete(&mut self, index: usize, chance: Chance<'_>) -> (u8, StoreDone) {
        let (shard, op) = self.pending.remove(index);
        let before = self.view_number();
        let done = self.perform(op, chance);
        if self.view_number() != before {
            // All others hear of it, each in its own time.
            let shards = self.keeper.as_ref().map_or(0, |(_, shards)| *shards);
            let others = (0..shards).filter(|&other| other != shard);
            self.pending.extend(others.map(|other| (other, StoreOp::Look)));
        }
        (shard, done)
    }

    fn view_number(&self) -> Option<u64> {
        self.keeper.as_ref().map(|(keeper, _)| keeper.view().number)
    }

    /// The process ends, with ops under way. Nothing is pending afterwards; faults are over.
    pub fn crash(&mut self, kill: Kill, chance: Chance<'_>) {
        for (_shard, op) in core::mem::take(&mut self.pending) {
            self.steps_left = Some(chance(STEPS_MAX));
            drop(self.perform(op, chance));
        }
        self.steps_left = None;
        self.full = false;
        self.flush_fails = false;
        self.keeper = None;
        self.unnamed.clear();
        if kill == Kill::PowerCut {
            self.cut_power(chance);
        }
    }

    /// Whether there is room for new files and longer ones.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Whether flushes fail.
    pub fn set_flush_fails(&mut self, fails: bool) {
        self.flush_fails = fails;
    }

    /// Lets so many more steps happen, then everything answers `Stopped` until the next crash: a
    /// crash in the middle of opening.
    pub fn stop_after(&mut self, steps: Option<u32>) {
        self.steps_left = steps;
    }

    /// Flips a bit of a file, on the disk and in the cache.
    pub fn flip_bit(&mut self, name: &str, offset: u64, bit: u8) {
        let file = self.file_mut(name).expect("the file to damage is there");
        let at = index_of(offset);
        file.cache[at] ^= 1 << (bit % 8);
        if at < file.flushed.len() {
            file.flushed[at] ^= 1 << (bit % 8);
        }
    }

    /// The names of all files.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    /// What a process sees in a file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<&[u8]> {
        self.names.get(name).map(|&file| &*self.files[file].cache)
    }

    /// Puts a file there, flushed: a fixture.
    pub fn put_file(&mut self, name: &str, bytes: &[u8]) {
        let file = self.files.len();
        let (cache, flushed) = (bytes.to_vec(), bytes.to_vec());
        self.files.push(SimFile { cache, flushed, dirty: BTreeSet::new() });
        self.names.insert(name.to_owned(), file);
        self.flushed_names.insert(name.to_owned(), file);
    }

    fn cut_power(&mut self, chance: Chance<'_>) {
        for file in &mut self.files {
            let mut kept = file.flushed.clone();
            if chance(2) == 0 {
                kept.resize(file.cache.len(), 0);
            }
            for &sector in &file.dirty {
                let from = sector * SECTOR;
                let to = (from + SECTOR).min(file.cache.len()).min(kept.len());
                if from < to && chance(2) == 0 {
                    kept[from..to].copy_from_slice(&file.cache[from..to]);
                }
            }
            *file = SimFile { cache: kept.clone(), flushed: kept, dirty: BTreeSet::new() };
        }
        for change in core::mem::take(&mut self.changes) {
            if chance(2) == 0 {
                change.apply(&mut self.flushed_names);
            }
        }
        self.names = self.flushed_names.clone();
    }

    fn perform(&mut self, op: StoreOp, chance: Chance<'_>) -> StoreDone {
        match op {
            StoreOp::Commit { id, parts, sync } => {
                let mut outcome = Ok(());
                for part in &parts {
                    let write = |disk: &mut Self| {
                        let file = disk.segment(part.segment)?;
                        disk.write_at(file, part.offset, &part.bytes)
                    };
                    outcome = outcome.and_then(|()| write(self));
                }
                for part in parts.iter().filter(|_| sync) {
                    let flush = |disk: &mut Self, chance: Chance<'_>| {
                        let file = disk.segment(part.segment)?;
                        disk.flush_file(file, chance)
                    };
                    outcome = outcome.and_then(|()| flush(self, &mut *chance));
                }
                let buffers = parts.into_iter().map(|part| part.bytes).collect();
                StoreDone::Committed { id, outcome, buffers }
            }
            StoreOp::Fetch { id, parts } => {
                let each = parts.iter().map(|part| self.fetch(part.file, &part.ranges));
                let outcome: Result<Vec<Vec<Bytes>>, DiskError> = each.collect();
                StoreDone::Fetched { id, outcome: outcome.map(|each| each.concat()) }
            }
            StoreOp::Create { segment, header, bytes, reserve_bytes } => {
                let reserved = match reserve_bytes {
                    0 => Ok(()),
                    _ => self.reserve(reserve_bytes),
                };
                let outcome = reserved.and_then(|()| self.create(segment, &header, bytes, chance));
                StoreDone::Created { segment, outcome }
            }
            StoreOp::Seal { segment, length, within_ms: _ } => {
                let outcome = self.keep(|keeper, disk| {
                    keeper.seal(disk, segment, length, &mut |_slices| ())?;
                    Ok(keeper.view())
                });
                StoreDone::Sealed { segment, outcome }
            }
            StoreOp::Retire { segment } => {
                // What fails here is done again at the next start.
                let _unimportant = self.keep(|keeper, disk| {
                    keeper.retire(disk, segment)?;
                    keeper.keep_room(disk);
                    Ok(())
                });
                StoreDone::Retired { segment }
            }
            StoreOp::Tend { now_ms, sealing_bytes } => {
                let outcome = self.keep(|keeper, disk| {
                    let tended = keeper.tend(disk, now_ms, sealing_bytes)?;
                    Ok((tended, keeper.view()))
                });
                StoreDone::Tended { outcome }
            }
            StoreOp::Retain { stamp } => {
                let _unimportant = self.keep(|keeper, disk| keeper.retain_from(disk, stamp));
                StoreDone::Viewed { view: self.view() }
            }
            StoreOp::Look | StoreOp::Forget { .. } => StoreDone::Viewed { view: self.view() },
        }
    }

    fn view(&self) -> View {
        self.keeper.as_ref().map_or_else(View::default, |(keeper, _)| keeper.view())
    }

    fn keep<T>(
        &mut self,
        act: impl FnOnce(&mut Keeper, &mut Self) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let (mut keeper, shards) = self.keeper.take().ok_or(DiskError::Stopped)?;
        let outcome = act(&mut keeper, self);
        self.keeper = Some((keeper, shards));
        outcome
    }

    fn fetch(&self, file: FileId, ranges: &[(u64, u32)]) -> Result<Vec<Bytes>, DiskError> {
        let file = match file {
            FileId::Segment(segment) => self.segment(segment)?,
            FileId::Table(table) => {
                let name = table.table_name();
                let named = self.names.get(&name).or_else(|| self.unnamed.get(&name));
                *named.ok_or(DiskError::Missing)?
            }
        };
        let one = |&(offset, bytes): &(u64, u32)| {
            read(&self.files[file].cache, offset, bytes).map(Bytes::from)
        };
        ranges.iter().map(one).collect()
    }

    fn create(
        &mut self,
        segment: SegmentId,
        header: &[u8],
        bytes: u64,
        chance: Chance<'_>,
    ) -> Result<(), DiskError> {
        let name = segment.new_name();
        let length = index_of(bytes);
        let fits = |file: usize| self.files[file].cache.len() == length;
        let spare = self.names.iter().find(|(name, file)| name.ends_with(".spare") && fits(**file));
        let spare = spare.map(|(name, &file)| (name.clone(), file));
        let mut header = header.to_vec();
        let file = match spare {
            Some((spare, file)) => {
                mark_recycled(&mut header);
                self.rename_file(&spare, &name)?;
                self.flush_names()?;
                file
            }
            None => {
                let file = self.make_file(&name)?;
                self.set_length(file, bytes)?;
                file
            }
        };
        self.write_at(file, 0, &header)?;
        self.flush_file(file, chance)?;
        self.rename_file(&name, &segment.active_name())?;
        self.flush_names()
    }

    /// One step: everything that may be the last thing to happen begins with it.
    fn step(&mut self) -> Result<(), DiskError> {
        if let Some(left) = &mut self.steps_left {
            *left = left.checked_sub(1).ok_or(DiskError::Stopped)?;
        }
        Ok(())
    }

    fn make_file(&mut self, name: &str) -> Result<usize, DiskError> {
        self.step()?;
        if self.full {
            return Err(DiskError::Full);
        }
        let file = self.files.len();
        self.files.push(SimFile::default());
        self.change(NameChange::Link { name: name.to_owned(), file });
        Ok(file)
    }

    fn set_length(&mut self, file: usize, bytes: u64) -> Result<(), DiskError> {
        self.step()?;
        let file = &mut self.files[file];
        if self.full && index_of(bytes) > file.cache.len() {
            return Err(DiskError::Full);
        }
        file.cache.resize(index_of(bytes), 0);
        Ok(())
    }

    fn write_at(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut at = index_of(offset);
        let mut rest = bytes;
        while !rest.is_empty() {
            self.step()?;
            let (some, behind) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
            let file = &mut self.files[file];
            if at + some.len() > file.cache.len() {
                return Err(DiskError::Short);
            }
            file.cache[at..at + some.len()].copy_from_slice(some);
            file.dirty.insert(at / SECTOR);
            at += some.len();
            rest = behind;
        }
        Ok(())
    }

    /// A flush that fails writes some, and forgets that the rest is not written, as systems do.
    fn flush_file(&mut self, file: usize, chance: Chance<'_>) -> Result<(), DiskError> {
        self.step()?;
        let fails = self.flush_fails;
        let file = &mut self.files[file];
        file.flushed.resize(file.cache.len(), 0);
        for sector in core::mem::take(&mut file.dirty) {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(file.cache.len());
            if from < to && !(fails && chance(2) == 0) {
                file.flushed[from..to].copy_from_slice(&file.cache[from..to]);
            }
        }
        if fails { Err(DiskError::Io { code: 5 }) } else { Ok(()) }
    }

    fn rename_file(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.step()?;
        let file = *self.names.get(from).ok_or(DiskError::Missing)?;
        self.change(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn flush_names(&mut self) -> Result<(), DiskError> {
        self.step()?;
        if self.flush_fails {
            return Err(DiskError::Io { code: 5 });
        }
        self.changes.clear();
        self.flushed_names = self.names.clone();
        Ok(())
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn file_mut(&mut self, name: &str) -> Result<&mut SimFile, DiskError> {
        let file = *self.names.get(name).ok_or(DiskError::Missing)?;
        Ok(&mut self.files[file])
    }

    fn segment(&self, segment: SegmentId) -> Result<usize, DiskError> {
        let sealed = || self.names.get(&segment.sealed_name());
        let file = self.names.get(&segment.active_name()).or_else(sealed);
        file.copied().ok_or(DiskError::Missing)
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link { name, file } => drop(names.insert(name.clone(), *file)),
            Self::Unlink { name } => drop(names.remove(name)),
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

fn read(content: &[u8], offset: u64, bytes: u32) -> Result<Vec<u8>, DiskError> {
    let from = index_of(offset);
    let range = from..from.saturating_add(usize_of(bytes));
    content.get(range).map(<[u8]>::to_vec).ok_or(DiskError::Short)
}

impl Folder for SimDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.step()?;
        Ok(self.names())
    }

    fn read_flushed(&mut self, name: &str) -> Result<Vec<u8>, DiskError> {
        let file = *self.names.get(name).ok_or(DiskError::Missing)?;
        self.flush_file(file, &mut |_below| 0)?;
        let file = &mut self.files[file];
        file.cache.clone_from(&file.flushed);
        Ok(file.cache.clone())
    }

    fn length(&mut self, name: &str) -> Result<u64, DiskError> {
        self.step()?;
        Ok(u64_of(self.file_mut(name)?.cache.len()))
    }

    fn read_into(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.step()?;
        let bytes = u32::try_from(buffer.len()).map_err(|_too_many| DiskError::Short)?;
        buffer.copy_from_slice(&read(&self.file_mut(name)?.cache, offset, bytes)?);
        Ok(())
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let new = format!("{name}.tmp");
        let file = self.make_file(&new)?;
        self.set_length(file, u64_of(bytes.len()))?;
        self.write_at(file, 0, bytes)?;
        self.flush_file(file, &mut |_below| 0)?;
        self.rename_file(&new, name)?;
        self.flush_names()
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.step()?;
        if let Some(&file) = self.names.get(name) {
            self.unnamed.insert(name.to_owned(), file);
            self.change(NameChange::Unlink { name: name.to_owned() });
        }
        Ok(())
    }

    fn make(&mut self, name: &str, _bytes: u64) -> Result<(), DiskError> {
        self.make_file(name).map(drop)
    }

    fn end(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.step()?;
        self.file_mut(name)?.cache.truncate(index_of(bytes));
        Ok(())
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let file = *self.names.get(name).ok_or(DiskError::Missing)?;
        let end = offset + u64_of(bytes.len());
        if index_of(end) > self.files[file].cache.len() {
            self.set_length(file, end)?;
        }
        self.write_at(file, offset, bytes)
    }

    fn flush(&mut self, name: &str) -> Result<(), DiskError> {
        let file = *self.names.get(name).ok_or(DiskError::Missing)?;
        self.flush_file(file, &mut |_below| 0)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.rename_file(from, to)
    }

    fn free(&mut self) -> Result<u64, DiskError> {
        Ok(if self.full { 0 } else { u64::MAX })
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), DiskError> {
        // The room itself is not simulated: a full disk stays full when the reserve goes.
        let file = match self.names.get(RESERVE) {
            Some(&file) if u64_of(self.files[file].cache.len()) >= bytes => return Ok(()),
            Some(&file) => file,
            None => self.make_file(RESERVE)?,
        };
        self.set_length(file, bytes)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.flush_names()
    }
}
