//! The writing part of a repair: new files first, then the catalogue that counts them, then the
//! damaged ones out of the way.

use std::collections::{BTreeMap, BTreeSet};

use super::place::place_of;
use super::salvage::Salvage;
use super::segment;
use super::{DAMAGED, Fate, Mended};
use crate::catalogue::{self, Catalogue};
use crate::error::DiskError;
use crate::inspect::flaw::InspectError;
use crate::inspect::logs::{Seen, SegmentState};
use crate::inspect::look::Watched;
use crate::inspect::segment::{Place, Scan};
use crate::inspect::snapshot::{Snapshot, TableSeen, disk};
use crate::keeper::piece_of;
use crate::layout::{VERSION, u64_of};
use crate::open::Folder;
use crate::position::{SegmentId, StreamId, TableId};
use crate::settings::Settings;
use crate::table::{Facts, TableRoot, TableWriter};

/// Bytes written at once.
const SLICE_BYTES: usize = 1 << 20;

/// A repair under way.
pub(super) struct Work<'a> {
    pub(super) folder: &'a mut dyn Folder,
    pub(super) dry: bool,
    /// Files that are written anew.
    pub(super) damaged: BTreeSet<String>,
    /// From which number on records of a stream are left out.
    pub(super) cut: BTreeMap<StreamId, u64>,
    pub(super) after: Catalogue,
    /// Files that are moved away when the new catalogue counts.
    pub(super) aside: Vec<String>,
    /// Files that are not there, but for tables.
    pub(super) missing: Vec<String>,
    pub(super) files: Vec<Mended>,
}

impl Work<'_> {
    pub(super) fn run(&mut self, snapshot: &Snapshot) -> Result<(), InspectError> {
        self.tables(snapshot)?;
        self.segments(snapshot)?;
        self.finish()
    }

    fn tables(&mut self, snapshot: &Snapshot) -> Result<(), InspectError> {
        let roots: Vec<&TableRoot> = snapshot.roots().map(|root| &**root).collect();
        for table in &snapshot.tables {
            if let Some(root) = &table.root {
                self.after.max_stamp = self.after.max_stamp.max(root.max_stamp);
            }
            if !self.damaged.contains(&table.name) {
                continue;
            }
            self.after.tables.remove(&table.id);
            let missing = matches!(self.folder.length(&table.name), Err(DiskError::Missing));
            if missing {
                self.note(&table.name, Fate::Lost, 0, None);
                continue;
            }
            self.table(table, &roots)?;
            self.aside.push(table.name.clone());
        }
        Ok(())
    }

    fn note(&mut self, file: &str, fate: Fate, kept: u64, lost: Option<u64>) {
        let file = file.to_owned();
        let (streams, marks_lost) = (Vec::new(), Some(0));
        self.files.push(Mended { file, fate, kept, lost, streams, marks_lost });
    }

    fn table(&mut self, table: &TableSeen, roots: &[&TableRoot]) -> Result<(), InspectError> {
        let root = table.root.as_deref();
        let failed = |error| disk(&table.name, error);
        let mut look = Watched(&mut *self.folder);
        let salvaged = Salvage::of(&mut look, &table.name, table.file_bytes, root);
        let mut salvage = salvaged.map_err(failed)?;
        let streams: Vec<StreamId> = salvage.streams.keys().copied().collect();
        let (low, high) = match root {
            Some(root) => (root.low, root.high),
            None => place_of(&mut look, table, &streams, roots, self.after.last_sealing)?,
        };
        let id = TableId(self.after.last_table + 1);
        self.after.last_table = id.0;
        let mut writer = TableWriter::new(Facts {
            id,
            low,
            high,
            streams_max: u64_of(streams.len()),
            compress: true,
        });
        let building = id.building_name();
        if !self.dry {
            self.folder.make(&building, 0).map_err(|error| disk(&building, error))?;
        }
        let (mut kept, mut losers) = (0, Vec::new());
        for stream in streams {
            let mut look = Watched(&mut *self.folder);
            let (mut records, said) = salvage.records(&mut look, stream).map_err(failed)?;
            if let Some(&cut) = self.cut.get(&stream) {
                records.retain(|record| record.number < cut);
            }
            let voids = salvage.streams.get(&stream).map(|one| one.voids).unwrap_or_default();
            let count = u64_of(records.len());
            kept += count;
            let gone = said.unwrap_or(count).saturating_sub(count);
            if gone > 0 {
                losers.push((stream, gone));
            }
            writer.begin_stream(stream);
            for record in &records {
                writer.add(&piece_of(record));
            }
            writer.end_stream(voids);
            if writer.waiting_bytes() >= SLICE_BYTES {
                self.write_ready(&building, &mut writer)?;
            }
        }
        let made = writer.finish();
        self.write_ready(&building, &mut writer)?;
        self.after.max_stamp = self.after.max_stamp.max(made.max_stamp);
        self.end_table(id, &made)?;
        let said = root.map(|root| root.records);
        self.files.push(Mended {
            file: table.name.clone(),
            fate: if made.streams > 0 { Fate::Rewritten } else { Fate::SetAside },
            kept,
            lost: said.map(|said| said.saturating_sub(kept)),
            streams: losers,
            marks_lost: root.map(|root| root.marks.saturating_sub(salvage.marks)),
        });
        Ok(())
    }

    fn write_ready(&mut self, name: &str, writer: &mut TableWriter) -> Result<(), InspectError> {
        let (at, bytes) = writer.ready();
        self.write(name, at, bytes)?;
        writer.written();
        Ok(())
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), InspectError> {
        if self.dry {
            return Ok(());
        }
        for (turn, slice) in (0_u64..).zip(bytes.chunks(SLICE_BYTES)) {
            let at = at + turn * u64_of(SLICE_BYTES);
            self.folder.write(name, at, slice).map_err(|error| disk(name, error))?;
        }
        Ok(())
    }

    fn end_table(&mut self, id: TableId, root: &TableRoot) -> Result<(), InspectError> {
        let (building, name) = (id.building_name(), id.table_name());
        if root.streams == 0 {
            if !self.dry {
                self.folder.remove(&building).map_err(|error| disk(&building, error))?;
            }
            return Ok(());
        }
        self.after.tables.insert(id);
        self.end_file(&building, &name)
    }

    /// Gives a file that is written its name.
    fn end_file(&mut self, from: &str, to: &str) -> Result<(), InspectError> {
        if self.dry {
            return Ok(());
        }
        let flushed = self.folder.flush(from);
        let named = flushed.and_then(|()| self.folder.rename(from, to));
        named.and_then(|()| self.folder.sync()).map_err(|error| disk(to, error))
    }

    fn segments(&mut self, snapshot: &Snapshot) -> Result<(), InspectError> {
        let salts: BTreeMap<u32, u64> = snapshot
            .segments
            .iter()
            .filter_map(|(id, seen)| {
                let scan = seen.scan.as_ref().filter(|scan| scan.fault.is_none())?;
                Some((id.run(), scan.salt))
            })
            .collect();
        for (&id, seen) in &snapshot.segments {
            let damaged = seen.damaged.is_some() || self.damaged.contains(&seen.name);
            match seen.state {
                SegmentState::Unknown => {
                    self.note(&seen.name, Fate::SetAside, 0, None);
                    self.aside.push(seen.name.clone());
                }
                SegmentState::Empty | SegmentState::Torn => {
                    self.after.voided.insert(id);
                }
                SegmentState::Cut | SegmentState::Written if damaged => {
                    let salt = salts.get(&id.run()).copied();
                    self.segment(id, seen, salt)?;
                }
                SegmentState::Cut | SegmentState::Written => {
                    let stamps = seen.records().map(|place| place.stamp);
                    self.after.max_stamp = stamps.fold(self.after.max_stamp, u64::max);
                    self.after.cuts.insert(id, seen.end);
                    if !self.dry {
                        let flushed = self.folder.flush(&seen.name);
                        flushed.map_err(|error| disk(&seen.name, error))?;
                    }
                }
                SegmentState::Absorbed | SegmentState::Voided => {}
            }
        }
        for file in core::mem::take(&mut self.missing) {
            self.note(&file, Fate::Lost, 0, None);
        }
        Ok(())
    }

    fn segment(
        &mut self,
        id: SegmentId,
        seen: &Seen,
        salt: Option<u64>,
    ) -> Result<(), InspectError> {
        let failed = |error| disk(&seen.name, error);
        let length = seen.file_bytes.min(u64::from(Settings::MAX_SEGMENT_BYTES));
        let length = u32::try_from(length).unwrap_or(Settings::MAX_SEGMENT_BYTES);
        let bytes = self.folder.read_range(&seen.name, 0, length).map_err(failed)?;
        let mut places: Vec<Place> = seen.records().copied().collect();
        let mut now = seen.scan.as_ref().map_or((0, VERSION), |scan| (scan.salt, scan.version));
        if places.is_empty()
            && let Some(salt) = salt
        {
            let scan = Scan::of(&bytes, id, &[salt]);
            let cut = if seen.state == SegmentState::Cut { seen.end } else { u64::MAX };
            places = scan.places.iter().chain(&scan.islands).copied().collect();
            places.retain(|place| place.end() <= cut);
            now = (scan.salt, scan.version);
        }
        places.retain(|one| self.cut.get(&one.stream).is_none_or(|&cut| one.number < cut));
        let kept = u64_of(places.len());
        if places.is_empty() {
            self.note(&seen.name, Fate::SetAside, 0, None);
            self.aside.push(seen.name.clone());
            return Ok(());
        }
        let stamps = places.iter().map(|place| place.stamp);
        self.after.max_stamp = stamps.fold(self.after.max_stamp, u64::max);
        let content = segment::rewrite(id, now, &bytes, &places);
        self.after.cuts.insert(id, u64_of(content.len()));
        self.note(&seen.name, Fate::Rewritten, kept, None);
        if self.dry {
            return Ok(());
        }
        let (new, active) = (id.new_name(), id.active_name());
        if seen.name == active {
            // The new file takes its name: what is damaged is copied first.
            let copy = self.free_name(&seen.name)?;
            self.folder.make(&copy, 0).map_err(|error| disk(&copy, error))?;
            self.write(&copy, 0, &bytes)?;
            self.folder.flush(&copy).map_err(|error| disk(&copy, error))?;
        }
        self.folder.make(&new, 0).map_err(|error| disk(&new, error))?;
        self.write(&new, 0, &content)?;
        self.end_file(&new, &active)?;
        if seen.name != active {
            self.set_aside(&seen.name)?;
        }
        Ok(())
    }

    /// A name among the damaged files that is free.
    fn free_name(&mut self, name: &str) -> Result<String, InspectError> {
        let mut free = format!("{DAMAGED}/{name}");
        for turn in 2_u32.. {
            match self.folder.length(&free) {
                Err(DiskError::Missing) => break,
                Ok(_there) => free = format!("{DAMAGED}/{name}.{turn}"),
                Err(error) => return Err(disk(&free, error)),
            }
        }
        Ok(free)
    }

    fn set_aside(&mut self, name: &str) -> Result<(), InspectError> {
        let free = self.free_name(name)?;
        self.folder.rename(name, &free).map_err(|error| disk(name, error))
    }

    /// Makes it count: the catalogue first, then nothing needs the damaged files.
    fn finish(&mut self) -> Result<(), InspectError> {
        if self.dry {
            return Ok(());
        }
        let replaced = self.folder.replace(catalogue::NAME, &self.after.encode());
        replaced.map_err(|error| disk(catalogue::NAME, error))?;
        for name in core::mem::take(&mut self.aside) {
            self.set_aside(&name)?;
        }
        self.folder.sync().map_err(|error| disk("the data folder", error))?;
        Ok(())
    }
}
