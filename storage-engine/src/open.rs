//! Opening a data folder: blocking, before any shard serves. Everything is scanned and the new
//! catalogue durable before there is a store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalogue::{self, Catalogue, CatalogueFault};
use crate::error::{DiskError, OpenError};
use crate::index::SegmentIndex;
use crate::keeper::{Holdings, Keeper, RESERVE, sealing_bytes_max};
use crate::layout::{u64_of, usize_of};
use crate::position::{SegmentId, TableId};
use crate::reading::{Held, OldSegment};
use crate::recovery::{Fallout, RecoveryReport, Survivor, recover_old, recover_run};
use crate::settings::{Durability, Settings};
use crate::store::{Beginning, Store};
use crate::table::TableRoot;
use crate::view::View;

/// Spare files kept at a start.
const SPARES_KEPT: usize = 4;

/// What opening asks of a folder. Every change it makes is durable when it returns, but for
/// `remove`, which is after the next `sync`.
pub trait Folder {
    /// The names of all files.
    ///
    /// # Errors
    /// If the folder cannot be read.
    fn list(&mut self) -> Result<Vec<String>, DiskError>;

    /// A whole file as the disk has it: flushed, dropped from the page cache, read.
    ///
    /// # Errors
    /// `Missing` if there is none.
    fn read_flushed(&mut self, name: &str) -> Result<Vec<u8>, DiskError>;

    /// The bytes of a file.
    ///
    /// # Errors
    /// `Missing` if there is none.
    fn length(&mut self, name: &str) -> Result<u64, DiskError>;

    /// Some bytes of a file, all of them.
    ///
    /// # Errors
    /// `Short` if the file ends before.
    fn read_range(&mut self, name: &str, offset: u64, bytes: u32) -> Result<Vec<u8>, DiskError> {
        let mut buffer = vec![0; usize_of(bytes)];
        self.read_into(name, offset, &mut buffer)?;
        Ok(buffer)
    }

    /// Fills a buffer with some bytes of a file.
    ///
    /// # Errors
    /// `Short` if the file ends before.
    fn read_into(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Gives a file new content, all or nothing, through any crash.
    ///
    /// # Errors
    /// The old or the new content is there then.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Removes a file; there may be none.
    ///
    /// # Errors
    /// If it may still be there.
    fn remove(&mut self, name: &str) -> Result<(), DiskError>;

    /// Makes an empty file, or empties one. It will have about so many bytes: room for them may be
    /// taken ahead, so that they lie together.
    ///
    /// # Errors
    /// `Full` if there is no room.
    fn make(&mut self, name: &str, bytes: u64) -> Result<(), DiskError>;

    /// Ends a file that was made behind its last byte: what room was taken ahead is given back.
    ///
    /// # Errors
    /// `Missing` if there is none.
    fn end(&mut self, name: &str, bytes: u64) -> Result<(), DiskError>;

    /// Writes to a file, all of it; it grows as needed. Whole blocks at a whole block's place may
    /// go around the page cache.
    ///
    /// # Errors
    /// `Full` if there is no room; some of it may be written then.
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes a file's content durable.
    ///
    /// # Errors
    /// The content is not known then.
    fn flush(&mut self, name: &str) -> Result<(), DiskError>;

    /// Lets little of a file that is being written wait in the device: the next flush of any file
    /// waits for that. It need not be durable after it.
    ///
    /// # Errors
    /// As `flush`.
    fn relieve(&mut self, name: &str) -> Result<(), DiskError> {
        self.flush(name)
    }

    /// Gives a file another name, durable after the next `sync`.
    ///
    /// # Errors
    /// `Missing` if there is none.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Lets the reserve, a file that means nothing, take so much room; makes it if there is none.
    ///
    /// # Errors
    /// `Full` if there is no room; what was there before stays.
    fn reserve(&mut self, bytes: u64) -> Result<(), DiskError>;

    /// Bytes that files may still take.
    ///
    /// # Errors
    /// If the system does not say.
    fn free(&mut self) -> Result<u64, DiskError>;

    /// Makes what happened to names durable.
    ///
    /// # Errors
    /// If the folder cannot be flushed.
    fn sync(&mut self) -> Result<(), DiskError>;
}

/// How to open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenSettings {
    /// Stores to open: a stream's home is its partition modulo this.
    pub shards: u8,
    /// The settings of each.
    pub settings: Settings,
    /// A random number: the incarnation if a new one is due, and the salt of checksums.
    pub fresh_incarnation: u64,
}

impl OpenSettings {
    /// The shard that is home to a partition.
    #[must_use]
    pub fn home(&self, partition: u16) -> u8 {
        u8::try_from(partition % u16::from(self.shards.max(1))).expect("less than the shards")
    }
}

/// An open folder.
#[derive(Debug)]
pub struct Opened {
    /// One store for each shard.
    pub stores: Vec<Store>,
    /// Keeps the tables of all of them; whoever performs ops needs it.
    pub keeper: Keeper,
    /// The run that began.
    pub run: u32,
    /// Differs from the last one's if something that was shown may be lost.
    pub incarnation: u64,
    /// No stored record has a larger stamp.
    pub max_stamp: u64,
    /// What recovery did.
    pub report: RecoveryReport,
}

/// What a folder lists.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) active: BTreeSet<SegmentId>,
    /// Segments with the index of version 1.
    pub(crate) sealed: BTreeSet<SegmentId>,
    tables: BTreeSet<TableId>,
    spares: BTreeSet<SegmentId>,
    unfinished: Vec<String>,
}

impl Listing {
    fn is_empty(&self) -> bool {
        self.active.is_empty() && self.sealed.is_empty() && self.tables.is_empty()
    }

    /// Whether there is a segment under either name.
    pub(crate) fn has(&self, segment: SegmentId) -> bool {
        self.active.contains(&segment) || self.sealed.contains(&segment)
    }
}

/// Opens a folder: recovers, begins a new run, removes what does not count.
///
/// # Errors
/// Each names the file, what is wrong, and what helps. Nothing was changed then, but for a
/// failure of the folder itself; opening again is safe in any case.
pub fn open(folder: &mut dyn Folder, settings: &OpenSettings) -> Result<Opened, OpenError> {
    if settings.shards == 0 {
        return Err(OpenError::NoShards);
    }
    folder.sync().map_err(folder_error)?;
    let listing = list(folder)?;
    let before = read_catalogue(folder)?;
    let before = match before {
        Some(before) => before,
        None if listing.is_empty() => Catalogue {
            incarnation: settings.fresh_incarnation,
            clean: true,
            ..Catalogue::default()
        },
        None => return Err(OpenError::NoCatalogue),
    };
    check_known(&listing, &before)?;
    let tables = load_tables(folder, &before)?;
    let mut fallout = Fallout::new(before.max_stamp);
    recover_old(folder, settings, &before, &listing, &mut fallout)?;
    recover_run(folder, settings, &before, &listing, &mut fallout)?;
    let after = begin_run(settings, &before, &listing, &tables, &fallout)?;
    folder.replace(catalogue::NAME, &after.encode()).map_err(folder_error)?;
    clean_up(folder, &listing, &after)?;
    let reserve_bytes = keep_room(folder, &settings.settings, &fallout)?;
    fallout.report.sealed = u64_of(tables.len());
    fallout.report.voided = fallout.voided.iter().copied().collect();
    let keeper = Keeper::new(Holdings {
        catalogue: after.clone(),
        settings: settings.settings,
        shards: settings.shards,
        tables,
        reserve_bytes,
    });
    Ok(Opened {
        stores: stores(
            settings,
            (&after, before.clean && before.told),
            &keeper.view(),
            fallout.survivors,
        ),
        keeper,
        run: after.run,
        incarnation: after.incarnation,
        max_stamp: after.max_stamp,
        report: fallout.report,
    })
}

/// Keeps room for sealing what is not sealed and the first segments of the run, if there is any;
/// gives back what is more. Answers how much is wanted.
fn keep_room(
    folder: &mut dyn Folder,
    settings: &Settings,
    fallout: &Fallout,
) -> Result<u64, OpenError> {
    if settings.reserve_bytes == 0 {
        return Ok(0);
    }
    let streams = |survivor: &Survivor| survivor.indices.iter().map(SegmentIndex::len).sum();
    let of = |survivor: &Survivor| sealing_bytes_max(survivor.length, u64_of(streams(survivor)));
    let first = settings.reserve_for(u64::from(settings.bytes_of(1)));
    let wanted = fallout.survivors.values().map(of).fold(first, u64::max);
    if folder.length(RESERVE).is_ok_and(|bytes| bytes > wanted) {
        folder.end(RESERVE, wanted).map_err(folder_error)?;
    }
    // Without it sealing on a full disk waits until there is room.
    let _full = folder.reserve(wanted);
    Ok(wanted)
}

fn folder_error(error: DiskError) -> OpenError {
    OpenError::Folder { segment: None, error }
}

/// An error of a segment's file.
pub(crate) fn segment_error(segment: SegmentId, error: DiskError, sealed: bool) -> OpenError {
    match error {
        DiskError::Corrupt { offset } => OpenError::Corrupt { segment, offset, sealed },
        DiskError::Newer { version } => OpenError::Newer { segment: Some(segment), version },
        DiskError::Missing => OpenError::Missing { segment },
        DiskError::Full
        | DiskError::Io { .. }
        | DiskError::Short
        | DiskError::Busy
        | DiskError::Stopped => OpenError::Folder { segment: Some(segment), error },
    }
}

fn list(folder: &mut dyn Folder) -> Result<Listing, OpenError> {
    let mut listing = Listing::default();
    for name in folder.list().map_err(folder_error)? {
        let Some((id, ending)) = name.split_once('.') else { continue };
        let id = u64::from_str_radix(id, 16).ok().filter(|_| id.len() == 16).map(SegmentId);
        match (id, ending) {
            (Some(id), "active") => drop(listing.active.insert(id)),
            (Some(id), "sealed") => drop(listing.sealed.insert(id)),
            (Some(id), "spare") => drop(listing.spares.insert(id)),
            (Some(id), "table") => drop(listing.tables.insert(TableId(id.0))),
            (Some(_), "new" | "building") => listing.unfinished.push(name.clone()),
            _ => {}
        }
    }
    Ok(listing)
}

fn read_catalogue(folder: &mut dyn Folder) -> Result<Option<Catalogue>, OpenError> {
    let bytes = match folder.read_flushed(catalogue::NAME) {
        Ok(bytes) => bytes,
        Err(DiskError::Missing) => return Ok(None),
        Err(error) => return Err(folder_error(error)),
    };
    match Catalogue::decode(&bytes) {
        Ok(catalogue) => Ok(Some(catalogue)),
        Err(CatalogueFault::Bad) => Err(OpenError::BadCatalogue),
        Err(CatalogueFault::Newer(version)) => Err(OpenError::Newer { segment: None, version }),
    }
}

fn load_tables(
    folder: &mut dyn Folder,
    before: &Catalogue,
) -> Result<Vec<Arc<TableRoot>>, OpenError> {
    let mut roots = Vec::new();
    for &table in &before.tables {
        let name = table.table_name();
        let fault = |error| match error {
            DiskError::Corrupt { .. }
            | DiskError::Newer { .. }
            | DiskError::Missing
            | DiskError::Short => OpenError::Table { table, error },
            DiskError::Full | DiskError::Io { .. } | DiskError::Busy | DiskError::Stopped => {
                folder_error(error)
            }
        };
        let bytes = folder.length(&name).map_err(fault)?;
        let mut read = |offset, bytes| folder.read_range(&name, offset, bytes);
        roots.push(Arc::new(TableRoot::load(table, bytes, &mut read).map_err(fault)?));
    }
    Ok(roots)
}

/// Every segment the catalogue names is there, and every one there is named or of its run.
fn check_known(listing: &Listing, catalogue: &Catalogue) -> Result<(), OpenError> {
    for &segment in catalogue.cuts.keys() {
        if !listing.has(segment) {
            return Err(OpenError::Missing { segment });
        }
    }
    for &segment in listing.active.difference(&listing.sealed) {
        let named = catalogue.cuts.contains_key(&segment)
            || catalogue.voided.contains(&segment)
            || catalogue.absorbed.contains(&segment)
            || segment.run() == catalogue.run;
        if !named {
            return Err(OpenError::Unknown { segment });
        }
    }
    Ok(())
}

fn begin_run(
    settings: &OpenSettings,
    before: &Catalogue,
    listing: &Listing,
    tables: &[Arc<TableRoot>],
    fallout: &Fallout,
) -> Result<Catalogue, OpenError> {
    let lost = before.interval && !before.clean;
    let still_there = |segment: &&SegmentId| listing.has(**segment);
    let voided = before.voided.iter().filter(still_there).copied();
    let stamps = tables.iter().map(|table| table.max_stamp);
    Ok(Catalogue {
        run: before.run.checked_add(1).ok_or(OpenError::RunsExhausted)?,
        incarnation: if lost { settings.fresh_incarnation } else { before.incarnation },
        max_stamp: stamps.fold(fallout.max_stamp, u64::max),
        clean: false,
        told: false,
        interval: settings.settings.durability != Durability::Fsync,
        cuts: fallout.survivors.iter().map(|(&id, survivor)| (id, survivor.length)).collect(),
        voided: voided.chain(fallout.voided.iter().copied()).collect(),
        absorbed: before.absorbed.iter().filter(still_there).copied().collect(),
        tails: BTreeMap::new(),
        tables: before.tables.clone(),
        last_table: before.last_table,
        last_sealing: before.last_sealing,
        retained_from: before.retained_from,
    })
}

/// Removes what the new catalogue does not count. A crash in between only leaves it for the next
/// start.
fn clean_up(
    folder: &mut dyn Folder,
    listing: &Listing,
    after: &Catalogue,
) -> Result<(), OpenError> {
    for name in &listing.unfinished {
        folder.remove(name).map_err(folder_error)?;
    }
    for segment in after.voided.iter().chain(&after.absorbed) {
        for name in [segment.active_name(), segment.sealed_name()] {
            folder.remove(&name).map_err(folder_error)?;
        }
    }
    let doubled = listing.active.intersection(&listing.sealed);
    for segment in doubled {
        folder.remove(&segment.active_name()).map_err(folder_error)?;
    }
    for table in listing.tables.difference(&after.tables) {
        folder.remove(&table.table_name()).map_err(folder_error)?;
    }
    // More spares than one start uses would only take room.
    for spare in listing.spares.iter().skip(SPARES_KEPT) {
        folder.remove(&spare.spare_name()).map_err(folder_error)?;
    }
    folder.sync().map_err(folder_error)
}

fn stores(
    settings: &OpenSettings,
    (after, told): (&Catalogue, bool),
    view: &View,
    mut survivors: BTreeMap<SegmentId, Survivor>,
) -> Vec<Store> {
    let one = |shard: u8| {
        let old = survivors.iter_mut().map(|(&segment, survivor)| {
            let place = usize::from(shard);
            let index = core::mem::replace(&mut survivor.indices[place], SegmentIndex::new());
            let (length, mask) = (survivor.length, survivor.mask);
            (segment, OldSegment { length, mask, index })
        });
        Store::new(Beginning {
            settings: settings.settings,
            run: after.run,
            shard,
            salt: settings.fresh_incarnation,
            max_stamp: after.max_stamp,
            told,
            held: Held { old: old.collect(), view: view.clone() },
        })
    };
    (0..settings.shards).map(one).collect()
}
