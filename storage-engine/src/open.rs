//! Opening a data folder: blocking, before any shard serves. Everything is scanned and the new
//! catalogue durable before there is a store.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalogue::{self, Catalogue, CatalogueFault};
use crate::error::{DiskError, OpenError};
use crate::index::SegmentIndex;
use crate::layout::u64_of;
use crate::position::SegmentId;
use crate::reading::{Held, OldSegment};
use crate::recovery::{Fallout, RecoveryReport, Survivor, recover_old, recover_run};
use crate::sealed::SealedRoot;
use crate::settings::{Durability, Settings};
use crate::store::{Beginning, Store};

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
    fn read_range(&mut self, name: &str, offset: u64, bytes: u32) -> Result<Vec<u8>, DiskError>;

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
    pub(crate) sealed: BTreeSet<SegmentId>,
    unfinished: Vec<SegmentId>,
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
        None if listing.active.is_empty() && listing.sealed.is_empty() => Catalogue {
            incarnation: settings.fresh_incarnation,
            clean: true,
            ..Catalogue::default()
        },
        None => return Err(OpenError::NoCatalogue),
    };
    let sealed = load_sealed(folder, &listing)?;
    check_known(&listing, &before)?;
    let mut fallout = Fallout::new(before.max_stamp);
    recover_old(folder, settings, &before, &listing, &mut fallout)?;
    recover_run(folder, settings, &before, &listing, &sealed, &mut fallout)?;
    let after = begin_run(settings, &before, &listing, &sealed, &fallout)?;
    folder.replace(catalogue::NAME, &after.encode()).map_err(folder_error)?;
    clean_up(folder, &listing, &after)?;
    fallout.report.sealed = u64_of(sealed.len());
    fallout.report.voided = fallout.voided.iter().copied().collect();
    Ok(Opened {
        stores: stores(settings, &after, sealed, fallout.survivors),
        run: after.run,
        incarnation: after.incarnation,
        max_stamp: after.max_stamp,
        report: fallout.report,
    })
}

/// Notes that everything is flushed and no store will write again. `max_stamp` is the largest of
/// all stores.
///
/// # Errors
/// If the catalogue cannot be read or replaced; the next start takes it for a crash then.
pub fn close_cleanly(folder: &mut dyn Folder, max_stamp: u64) -> Result<(), OpenError> {
    let mut catalogue = read_catalogue(folder)?.ok_or(OpenError::NoCatalogue)?;
    catalogue.clean = true;
    catalogue.max_stamp = catalogue.max_stamp.max(max_stamp);
    folder.replace(catalogue::NAME, &catalogue.encode()).map_err(folder_error)
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
            (Some(id), "new") => listing.unfinished.push(id),
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

fn load_sealed(
    folder: &mut dyn Folder,
    listing: &Listing,
) -> Result<BTreeMap<SegmentId, SealedRoot>, OpenError> {
    let mut roots = BTreeMap::new();
    for &segment in &listing.sealed {
        let name = segment.sealed_name();
        let fault = |error| segment_error(segment, error, true);
        let bytes = folder.length(&name).map_err(fault)?;
        let mut read = |offset, bytes| folder.read_range(&name, offset, bytes);
        roots.insert(segment, SealedRoot::load(segment, bytes, &mut read).map_err(fault)?);
    }
    Ok(roots)
}

/// Every segment the catalogue names is there, and every one there is named or of its run.
fn check_known(listing: &Listing, catalogue: &Catalogue) -> Result<(), OpenError> {
    for &segment in catalogue.cuts.keys() {
        if !listing.active.contains(&segment) && !listing.sealed.contains(&segment) {
            return Err(OpenError::Missing { segment });
        }
    }
    for &segment in listing.active.difference(&listing.sealed) {
        let named = catalogue.cuts.contains_key(&segment)
            || catalogue.voided.contains(&segment)
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
    sealed: &BTreeMap<SegmentId, SealedRoot>,
    fallout: &Fallout,
) -> Result<Catalogue, OpenError> {
    let lost = before.interval && !before.clean;
    let still_there = before.voided.intersection(&listing.active).copied();
    let stamps = sealed.values().map(SealedRoot::max_stamp);
    Ok(Catalogue {
        run: before.run.checked_add(1).ok_or(OpenError::RunsExhausted)?,
        incarnation: if lost { settings.fresh_incarnation } else { before.incarnation },
        max_stamp: stamps.fold(fallout.max_stamp, u64::max),
        clean: false,
        interval: settings.settings.durability != Durability::Fsync,
        cuts: fallout.survivors.iter().map(|(&id, survivor)| (id, survivor.length)).collect(),
        voided: still_there.chain(fallout.voided.iter().copied()).collect(),
    })
}

/// Removes what the new catalogue does not count. A crash in between only leaves it for the next
/// start.
fn clean_up(
    folder: &mut dyn Folder,
    listing: &Listing,
    after: &Catalogue,
) -> Result<(), OpenError> {
    for &segment in &listing.unfinished {
        folder.remove(&segment.new_name()).map_err(folder_error)?;
    }
    let doubled = listing.active.intersection(&listing.sealed);
    for segment in after.voided.iter().chain(doubled) {
        folder.remove(&segment.active_name()).map_err(folder_error)?;
    }
    folder.sync().map_err(folder_error)
}

fn stores(
    settings: &OpenSettings,
    after: &Catalogue,
    sealed: BTreeMap<SegmentId, SealedRoot>,
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
            held: Held { old: old.collect(), sealed: sealed.clone() },
        })
    };
    (0..settings.shards).map(one).collect()
}
