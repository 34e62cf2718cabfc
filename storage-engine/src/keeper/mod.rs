//! The keeper of a folder's tables: turns segments into tables, merges tables, and alone writes the
//! catalogue while stores are open. There is one for all shards. It blocks, so it lives on a
//! helper thread; it does what it is asked a slice at a time, so that nobody waits long.

mod building;
mod choosing;
mod merge;
mod plan;
mod room;
mod sealing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use building::Building;
use choosing::{Quiet, share_below};
use merge::Merge;
pub(crate) use merge::piece_of;
use room::Room;
pub(crate) use room::{RESERVE, sealing_bytes_max};
use sealing::Sorted;

use crate::catalogue::{self, Catalogue};
use crate::error::{Damage, DiskError};
use crate::layout::{u64_of, usize_of};
use crate::open::Folder;
use crate::position::{FileId, SegmentId, TableId};
use crate::settings::Settings;
use crate::table::{Facts, TableRoot, TableWriter};
use crate::view::{View, bytes_of};

/// Bytes written at once; each slice is flushed by itself, so that a commit that comes meanwhile
/// waits for this much.
const SLICE_BYTES: usize = 512 << 10;
/// Spare files go when nothing was sealed for so long.
const SPARES_LEAVE_AFTER_MS: u64 = 300_000;
/// Segments whose files wait to be used again, for each shard.
const SPARES_EACH: usize = 2;

/// What a keeper did in one turn.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tended {
    /// Whether there is more to do now.
    pub more: bool,
    /// Bytes that it wrote.
    pub bytes: u64,
    /// Damage it met.
    pub damage: Vec<Damage>,
}

/// Called after each of so many slices, roughly, of a sealing: it may wait.
pub type Pause<'a> = &'a mut dyn FnMut(u64);

/// See the module's comment.
#[derive(Debug)]
pub struct Keeper {
    catalogue: Catalogue,
    settings: Settings,
    shards: u8,
    view: View,
    merge: Option<(Building, Merge)>,
    /// Where segments are read to, kept from one to the next: memory that was used is cheaper.
    scratch: Vec<u8>,
    /// How many shards may still read an absorbed segment.
    retiring: BTreeMap<SegmentId, u8>,
    /// Tables that could not be read when they were merged: they stay as they are until the next
    /// start, and the others are merged around them.
    aside: BTreeSet<TableId>,
    /// Replacing the catalogue failed: nothing is changed any more.
    doubtful: Option<DiskError>,
    /// The largest number given to a table, whether it came to anything or not.
    last_table: u64,
    /// When a table with marks was first seen.
    marks_since_ms: Option<u64>,
    /// When the last sealing was first seen, and its number.
    changed: (u64, u64),
    quiet: Quiet,
    /// Up to which stamp all was left out that can be.
    retained: u64,
    /// Bytes of tables that are looked at for retention next: where little could go, they grow
    /// before it is tried again.
    retain_above_bytes: u64,
    room: Room,
}

/// What a keeper begins with.
pub(crate) struct Holdings {
    pub(crate) catalogue: Catalogue,
    pub(crate) settings: Settings,
    pub(crate) shards: u8,
    pub(crate) tables: Vec<Arc<TableRoot>>,
    /// Bytes of the reserve that must be there.
    pub(crate) reserve_bytes: u64,
}

impl Keeper {
    pub(crate) fn new(holdings: Holdings) -> Self {
        let Holdings { catalogue, settings, shards, mut tables, reserve_bytes } = holdings;
        tables.sort_by_key(|table| table.high);
        let view = View { number: 1, tables: tables.into(), absorbed: Arc::default() };
        let retained = catalogue.retained_from;
        Self {
            catalogue,
            settings,
            shards,
            view,
            merge: None,
            scratch: Vec::new(),
            retiring: BTreeMap::new(),
            aside: BTreeSet::new(),
            doubtful: None,
            last_table: 0,
            marks_since_ms: None,
            changed: (0, 0),
            quiet: Quiet::default(),
            retained,
            retain_above_bytes: 0,
            room: Room::new(settings.reserve_bytes > 0, reserve_bytes),
        }
    }

    /// The tables as they are now.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Writes a segment's records into a table, and its end into the catalogue. Afterwards the view
    /// has the table and the segment is absorbed. If it fails nothing has changed.
    ///
    /// # Errors
    /// `Corrupt` if a record is damaged; `Full`: try again later; else what the folder answered.
    pub fn seal(
        &mut self,
        folder: &mut dyn Folder,
        segment: SegmentId,
        length: u64,
        pause: Pause<'_>,
    ) -> Result<(), DiskError> {
        if self.view.absorbed.contains(&segment) {
            return Ok(());
        }
        if !self.room.may_do(folder, segment, length) {
            return Err(DiskError::Full);
        }
        let mut outcome = self.try_seal(folder, segment, length, &mut *pause);
        if outcome == Err(DiskError::Full) && self.room.give_up(folder)? {
            outcome = self.try_seal(folder, segment, length, pause);
        }
        self.room.note(segment, outcome == Err(DiskError::Full));
        self.room.take(folder);
        outcome
    }

    fn try_seal(
        &mut self,
        folder: &mut dyn Folder,
        segment: SegmentId,
        length: u64,
        pause: Pause<'_>,
    ) -> Result<(), DiskError> {
        self.check_certain()?;
        let mut bytes = core::mem::take(&mut self.scratch);
        // It is read, checked and written, each in slices.
        let slices = 3 * length.div_ceil(u64_of(SLICE_BYTES));
        let pause = &mut || pause(slices);
        let read = read_segment(folder, segment, length, &mut bytes, pause);
        let outcome = read.and_then(|()| self.seal_bytes(folder, segment, &bytes, pause));
        self.scratch = bytes;
        outcome
    }

    fn seal_bytes(
        &mut self,
        folder: &mut dyn Folder,
        segment: SegmentId,
        bytes: &[u8],
        pause: &mut dyn FnMut(),
    ) -> Result<(), DiskError> {
        let length = u64_of(bytes.len());
        let mut sorted = Sorted::new(segment, bytes, pause)?;
        let id = self.next_table();
        let sealing = self.catalogue.last_sealing + 1;
        let mut writer = TableWriter::new(Facts {
            id,
            low: sealing,
            high: sealing,
            streams_max: sorted.streams,
            compress: self.settings.compress,
        });
        let bottom = self.view.tables.is_empty();
        let mut file = Building::begin(folder, id, length)?;
        let written = (|| {
            while !sorted.step(bytes, &mut writer, SLICE_BYTES, bottom) {
                file.write(folder, &mut writer)?;
                pause();
            }
            let root = writer.finish();
            file.write(folder, &mut writer)?;
            file.end(folder)?;
            Ok(root)
        })();
        let root = match written {
            Ok(root) => root,
            Err(error) => {
                let _unimportant = folder.remove(&id.building_name());
                return Err(error);
            }
        };
        let mut after = self.catalogue.clone();
        after.last_table = id.0;
        after.last_sealing = sealing;
        after.absorbed.insert(segment);
        after.cuts.remove(&segment);
        if segment.run() == after.run {
            after.tails.retain(|tail, _| tail.shard() != segment.shard());
            after.tails.insert(segment, length);
        }
        let mut tables = self.view.tables.to_vec();
        self.quiet.sealed_bytes += root.file_bytes();
        if root.streams > 0 {
            after.tables.insert(id);
            tables.push(Arc::new(root));
        } else {
            folder.remove(&id.table_name())?;
        }
        self.commit(folder, after)?;
        let readers = if segment.run() == self.catalogue.run { 1 } else { self.shards };
        self.retiring.insert(segment, readers);
        let mut absorbed = BTreeSet::clone(&self.view.absorbed);
        absorbed.insert(segment);
        self.view = View {
            number: self.view.number + 1,
            tables: tables.into(),
            absorbed: Arc::new(absorbed),
        };
        Ok(())
    }

    /// A number that no file has or had: even one whose catalogue may or may not count.
    fn next_table(&mut self) -> TableId {
        self.last_table = self.last_table.max(self.catalogue.last_table) + 1;
        TableId(self.last_table)
    }

    /// Whether it is known which catalogue counts.
    fn check_certain(&self) -> Result<(), DiskError> {
        self.doubtful.map_or(Ok(()), Err)
    }

    /// Makes a catalogue the one that counts. If it fails, which one does is not known: nothing
    /// more is done on the word of either until the next start. (Without room it was not even
    /// written under its name.)
    fn commit(&mut self, folder: &mut dyn Folder, after: Catalogue) -> Result<(), DiskError> {
        self.check_certain()?;
        let outcome = folder.replace(catalogue::NAME, &after.encode());
        match outcome {
            Ok(()) => self.catalogue = after,
            Err(DiskError::Full) => {}
            Err(error) => self.doubtful = Some(error),
        }
        outcome
    }

    /// A shard does not read a segment any more that is absorbed. When none does, its file becomes
    /// a spare or goes, and the answer is true.
    ///
    /// # Errors
    /// What the folder answered; the file goes at the next start then.
    pub fn retire(
        &mut self,
        folder: &mut dyn Folder,
        segment: SegmentId,
    ) -> Result<bool, DiskError> {
        let Some(readers) = self.retiring.get_mut(&segment) else { return Ok(false) };
        *readers = readers.saturating_sub(1);
        if *readers > 0 {
            return Ok(false);
        }
        self.check_certain()?;
        self.retiring.remove(&segment);
        let active = segment.active_name();
        let bytes = folder.length(&active).unwrap_or(0);
        let fits = bytes == u64::from(self.settings.bytes_of(2));
        let roomy = self.room.lacking_bytes(folder) == 0;
        if fits && roomy && spares(folder)? < SPARES_EACH * usize::from(self.shards) {
            folder.rename(&active, &segment.spare_name())?;
        } else {
            folder.remove(&active)?;
            folder.remove(&segment.sealed_name())?;
        }
        folder.sync()?;
        // The next catalogue need not name it; that this one still does is harmless.
        self.catalogue.absorbed.remove(&segment);
        let mut absorbed = BTreeSet::clone(&self.view.absorbed);
        absorbed.remove(&segment);
        self.view.absorbed = Arc::new(absorbed);
        Ok(true)
    }

    /// Takes the reserve again if a sealing used it up: to be called when the file of a retired
    /// segment was closed, before anything else takes its room.
    pub fn keep_room(&mut self, folder: &mut dyn Folder) {
        self.room.take(folder);
    }

    /// Lets records with a seq go whose stamp is smaller, once a later snapshot of their stream
    /// stands for them. Space comes back as tables are merged.
    ///
    /// # Errors
    /// If the catalogue cannot be replaced.
    pub fn retain_from(&mut self, folder: &mut dyn Folder, stamp: u64) -> Result<(), DiskError> {
        if stamp <= self.catalogue.retained_from {
            return Ok(());
        }
        let after = Catalogue { retained_from: stamp, ..self.catalogue.clone() };
        self.commit(folder, after)
    }

    /// Chooses a stamp below which records may go when tables take more than they may.
    fn bound_bytes(&mut self, folder: &mut dyn Folder) -> Result<(), DiskError> {
        let most = self.settings.retain_bytes;
        let bytes = self.view.table_bytes();
        if most == 0 || bytes <= most.max(self.retain_above_bytes) {
            return Ok(());
        }
        self.retain_above_bytes = bytes + bytes / 8;
        // A little more than needed, so that it is not due again at once.
        self.retain_from(folder, self.stamp_for_bytes(most - most / 8))
    }

    /// The stamp below which records must go so that tables take at most so many bytes; 0 if they
    /// do not take more. Stamps are taken as spread evenly within a table.
    #[must_use]
    pub fn stamp_for_bytes(&self, bytes: u64) -> u64 {
        let tables = &self.view.tables;
        let Some(over) = self.view.table_bytes().checked_sub(bytes).filter(|&over| over > 0) else {
            return 0;
        };
        let stamped = || tables.iter().filter(|table| table.max_stamp > 0);
        let mut low = stamped().map(|table| table.min_stamp).min().unwrap_or(0);
        let mut high = stamped().map(|table| table.max_stamp).max().unwrap_or(0);
        while high - low > 1 {
            let middle = low.midpoint(high);
            let gone: u64 = stamped().map(|table| share_below(table, middle)).sum();
            if gone < over {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// Gives back memory that is kept from one sealing to the next.
    pub(crate) fn rest(&mut self) {
        self.scratch = Vec::new();
    }

    /// Does one slice of what is to do: merging, above all. `now_ms` is monotonic. `sealing_bytes`
    /// is what a table of a segment that is not sealed may take at most: so much is kept free.
    ///
    /// # Errors
    /// `Full`: there is no room to merge; else what the folder answered. What was begun is given
    /// up then.
    pub fn tend(
        &mut self,
        folder: &mut dyn Folder,
        now_ms: u64,
        sealing_bytes: u64,
    ) -> Result<Tended, DiskError> {
        self.check_certain()?;
        self.room.want(folder, sealing_bytes);
        if self.merge.is_none() {
            self.bound_bytes(folder)?;
            let Some(inputs) = self.next_merge(now_ms) else {
                if now_ms.saturating_sub(self.changed.0) >= SPARES_LEAVE_AFTER_MS {
                    remove_spares(folder)?;
                }
                return Ok(Tended::default());
            };
            // What it needs beside what must be left for the log.
            let lacking = self.room.lacking_bytes(folder);
            let left = u64::from(self.settings.bytes_of(2)) + lacking;
            if folder.free()? < bytes_of(&inputs).saturating_add(left) {
                remove_spares(folder)?;
                return Err(DiskError::Full);
            }
            self.begin_merge(folder, inputs)?;
        }
        let outcome = self.merge_slice(folder);
        let Err(error) = outcome else { return outcome };
        let unread = self.merge.as_ref().and_then(|(_, merge)| merge.unread());
        self.give_up(folder);
        let Some(table) = unread else { return Err(error) };
        self.aside.insert(table);
        if let DiskError::Corrupt { offset } = error {
            let damage = vec![Damage { file: FileId::Table(table), offset, stream: None }];
            return Ok(Tended { more: true, bytes: 0, damage });
        }
        Err(error)
    }

    /// Merges everything into one table, until nothing is left to do: for tools.
    ///
    /// # Errors
    /// As `tend`.
    pub fn compact(
        &mut self,
        folder: &mut dyn Folder,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Damage>, DiskError> {
        let mut damage = Vec::new();
        self.give_up(folder);
        let inputs = self.view.tables.to_vec();
        if inputs.len() > 1 || inputs.iter().any(|table| table.marks > 0) {
            self.begin_merge(folder, inputs)?;
            while self.merge.is_some() {
                let tended = self.merge_slice(folder)?;
                progress(tended.bytes);
                damage.extend(tended.damage);
            }
        }
        Ok(damage)
    }

    fn give_up(&mut self, folder: &mut dyn Folder) {
        if let Some((file, _)) = self.merge.take() {
            // What is left of it only takes room; the next start removes it anyway.
            let _unimportant = folder.remove(&file.id().building_name());
        }
    }

    fn begin_merge(
        &mut self,
        folder: &mut dyn Folder,
        inputs: Vec<Arc<TableRoot>>,
    ) -> Result<(), DiskError> {
        let id = self.next_table();
        let writer = TableWriter::new(Facts {
            id,
            low: inputs.iter().map(|table| table.low).min().unwrap_or(0),
            high: inputs.iter().map(|table| table.high).max().unwrap_or(0),
            streams_max: inputs.iter().map(|table| table.streams).sum(),
            compress: self.settings.compress,
        });
        let bottom = plan::is_bottom(&self.view.tables, &inputs);
        let file = Building::begin(folder, id, bytes_of(&inputs))?;
        let merge = Merge::new(inputs, writer, bottom, self.catalogue.retained_from);
        self.merge = Some((file, merge));
        Ok(())
    }

    fn merge_slice(&mut self, folder: &mut dyn Folder) -> Result<Tended, DiskError> {
        let Some((file, merge)) = &mut self.merge else { return Ok(Tended::default()) };
        let mut read =
            |table: TableId, at: u64, bytes: u32| folder.read_range(&table.table_name(), at, bytes);
        let done = merge.step(SLICE_BYTES, &mut read)?;
        let mut tended =
            Tended { more: true, bytes: 0, damage: core::mem::take(&mut merge.damage) };
        if !done {
            tended.bytes = file.write(folder, &mut merge.writer)?;
            return Ok(tended);
        }
        let root = merge.writer.finish();
        tended.bytes = file.write(folder, &mut merge.writer)?;
        file.end(folder)?;
        let Some((file, merge)) = self.merge.take() else { return Ok(tended) };
        self.end_merge(folder, file.id(), (&merge.inputs, merge.retained_from), root)?;
        Ok(tended)
    }

    fn end_merge(
        &mut self,
        folder: &mut dyn Folder,
        id: TableId,
        (inputs, retained): (&[Arc<TableRoot>], u64),
        root: TableRoot,
    ) -> Result<(), DiskError> {
        let mut after = self.catalogue.clone();
        after.last_table = after.last_table.max(id.0);
        let is_input = |table: &Arc<TableRoot>| inputs.iter().any(|one| one.id == table.id);
        let mut tables: Vec<_> =
            self.view.tables.iter().filter(|table| !is_input(table)).cloned().collect();
        for input in inputs {
            after.tables.remove(&input.id);
        }
        let empty = root.streams == 0;
        if !empty {
            after.tables.insert(id);
            tables.push(Arc::new(root));
        }
        tables.sort_by_key(|table| table.high);
        let of_all = inputs.len() == self.view.tables.len();
        self.commit(folder, after)?;
        if of_all {
            self.retained = self.retained.max(retained);
        }
        self.view = View {
            number: self.view.number + 1,
            tables: tables.into(),
            absorbed: Arc::clone(&self.view.absorbed),
        };
        if empty {
            folder.remove(&id.table_name())?;
        }
        for input in inputs {
            folder.remove(&input.id.table_name())?;
        }
        Ok(())
    }

    /// Bytes of the largest segment that is left to be sealed.
    fn largest_segment(&self, folder: &mut dyn Folder) -> Result<u64, DiskError> {
        let mut largest = 0;
        for name in folder.list()?.iter().filter(|name| name.ends_with(".active")) {
            largest = folder.length(name)?.max(largest);
        }
        Ok(largest)
    }

    /// Notes that everything is flushed and no store will write again. `max_stamp` is the largest
    /// of all stores. `told`: no record of any store that is not in a table owes anything, those
    /// of earlier runs included; then the next start has nothing to tell again.
    ///
    /// # Errors
    /// If the catalogue cannot be replaced; the next start takes it for a crash then.
    pub fn close_cleanly(
        &mut self,
        folder: &mut dyn Folder,
        max_stamp: u64,
        told: bool,
    ) -> Result<(), DiskError> {
        self.give_up(folder);
        remove_spares(folder)?;
        let largest = self.largest_segment(folder)?;
        self.room.shrink(folder, self.settings.reserve_for(largest))?;
        let after = Catalogue {
            clean: true,
            told,
            max_stamp: self.catalogue.max_stamp.max(max_stamp),
            ..self.catalogue.clone()
        };
        self.commit(folder, after)
    }
}

fn read_segment(
    folder: &mut dyn Folder,
    segment: SegmentId,
    length: u64,
    bytes: &mut Vec<u8>,
    pause: &mut dyn FnMut(),
) -> Result<(), DiskError> {
    let length = u32::try_from(length).map_err(|_too_long| DiskError::Short)?;
    bytes.resize(usize_of(length), 0);
    let mut name = segment.active_name();
    for (turn, slice) in (0..).zip(bytes.chunks_mut(SLICE_BYTES)) {
        let offset = turn * u64_of(SLICE_BYTES);
        match folder.read_into(&name, offset, slice) {
            Err(DiskError::Missing) if turn == 0 => {
                name = segment.sealed_name();
                folder.read_into(&name, offset, slice)?;
            }
            other => other?,
        }
        pause();
    }
    Ok(())
}

/// A log that grows no more needs no spare files.
fn remove_spares(folder: &mut dyn Folder) -> Result<(), DiskError> {
    for name in folder.list()?.iter().filter(|name| name.ends_with(".spare")) {
        folder.remove(name)?;
    }
    Ok(())
}

fn spares(folder: &mut dyn Folder) -> Result<usize, DiskError> {
    Ok(folder.list()?.iter().filter(|name| name.ends_with(".spare")).count())
}
