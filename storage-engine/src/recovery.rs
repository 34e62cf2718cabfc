//! What a crash left: scan each unsealed segment, cut a torn tail, void what lies behind a cut,
//! and tell a torn tail from damage.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalogue::Catalogue;
use crate::error::DiskError;
use crate::error::OpenError;
use crate::header::{HeaderFault, Opening, read_identity, read_opening};
use crate::index::{Entry, SegmentIndex};
use crate::layout::{
    BLOCK_BYTES, HEADER_BYTES, OPENING_AT, VERSION, block_is_whole, index_of, u32_at, u32_of,
    u64_at, u64_of, usize_of,
};
use crate::open::{Folder, Listing, OpenSettings, segment_error};
use crate::position::SegmentId;
use crate::record::{Durable, Form, Mask, claims_behind, parse};

/// What recovery did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Unsealed segments read.
    pub segments: u64,
    /// Tables opened.
    pub sealed: u64,
    /// Where the log of a shard in the last run was cut, and what lay behind: torn bytes.
    pub cuts: Vec<(SegmentId, u64)>,
    /// Segments that do not count: never written to, or behind a cut.
    pub voided: Vec<SegmentId>,
    /// Records found in unsealed segments.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Fallout {
    pub(crate) survivors: BTreeMap<SegmentId, Survivor>,
    pub(crate) voided: BTreeSet<SegmentId>,
    pub(crate) max_stamp: u64,
    pub(crate) report: RecoveryReport,
}

impl Fallout {
    pub(crate) fn new(max_stamp: u64) -> Self {
        let report = RecoveryReport::default();
        Self { survivors: BTreeMap::new(), voided: BTreeSet::new(), max_stamp, report }
    }

    fn keep(&mut self, segment: SegmentId, scan: Scan) {
        self.max_stamp = self.max_stamp.max(scan.max_stamp);
        self.report.records += scan.records;
        self.report.bytes += scan.valid;
        let survivor = Survivor { length: scan.valid, mask: scan.mask, indices: scan.indices };
        self.survivors.insert(segment, survivor);
    }
}

/// An unsealed segment that counts up to its length.
#[derive(Debug)]
pub(crate) struct Survivor {
    pub(crate) length: u64,
    pub(crate) mask: Mask,
    /// One index for each shard.
    pub(crate) indices: Vec<SegmentIndex>,
}

/// What reading a segment found.
struct Scan {
    mask: Mask,
    opening: Option<Opening>,
    /// Where whole records end; 0 without an opening.
    valid: u64,
    /// The furthest place any of its commits, whole or not, names as flushed.
    claim: Durable,
    /// Whether something is behind the valid end.
    torn: bool,
    max_stamp: u64,
    records: u64,
    indices: Vec<SegmentIndex>,
}

/// Reads the segments that an earlier recovery cut, up to the cut, and those that version 1 sealed:
/// all of it must be whole.
pub(crate) fn recover_old(
    folder: &mut dyn Folder,
    settings: &OpenSettings,
    before: &Catalogue,
    listing: &Listing,
    fallout: &mut Fallout,
) -> Result<(), OpenError> {
    let mut lengths = before.cuts.clone();
    for &segment in &listing.sealed {
        let counts = segment.run() != before.run && !before.absorbed.contains(&segment);
        if counts && !lengths.contains_key(&segment) {
            lengths.insert(segment, sealed_length(folder, segment)?);
        }
    }
    for (segment, length) in lengths {
        let sealed = listing.sealed.contains(&segment);
        let scan = scan(folder, settings, segment, Some(length), sealed)?;
        fallout.report.segments += 1;
        if scan.valid != length {
            return Err(OpenError::Corrupt { segment, offset: scan.valid, sealed });
        }
        fallout.keep(segment, scan);
    }
    Ok(())
}

/// Reads the segments of the last run, each shard's log by itself.
pub(crate) fn recover_run(
    folder: &mut dyn Folder,
    settings: &OpenSettings,
    before: &Catalogue,
    listing: &Listing,
    fallout: &mut Fallout,
) -> Result<(), OpenError> {
    let counts = |segment: &&SegmentId| {
        segment.run() == before.run
            && !before.voided.contains(*segment)
            && !before.absorbed.contains(*segment)
    };
    let mut logs: BTreeMap<u8, Log> = BTreeMap::new();
    for (&segment, &length) in &before.tails {
        logs.entry(segment.shard()).or_default().tail = Some(Durable { segment, offset: length });
    }
    for &segment in listing.active.difference(&listing.sealed).filter(counts) {
        let scan = scan(folder, settings, segment, None, false)?;
        fallout.report.segments += 1;
        logs.entry(segment.shard()).or_default().scans.insert(segment, scan);
    }
    for &segment in listing.sealed.iter().filter(counts) {
        let length = sealed_length(folder, segment)?;
        let mut scan = scan(folder, settings, segment, Some(length), true)?;
        // It was flushed before it got its name.
        scan.claim = scan.claim.max(Durable { segment, offset: length });
        fallout.report.segments += 1;
        logs.entry(segment.shard()).or_default().scans.insert(segment, scan);
    }
    for log in logs.into_values() {
        recover_log(log, fallout)?;
    }
    Ok(())
}

/// Where the records of a segment end that version 1 sealed.
fn sealed_length(folder: &mut dyn Folder, segment: SegmentId) -> Result<u64, OpenError> {
    let name = segment.sealed_name();
    let fault = |error| segment_error(segment, error, true);
    let bytes = folder.length(&name).map_err(fault)?;
    let footer_at = bytes.saturating_sub(u64::from(BLOCK_BYTES));
    let footer = folder.read_range(&name, footer_at, BLOCK_BYTES).map_err(fault)?;
    if footer[8..16] != *b"RoostEnd" || !block_is_whole(&footer, 0) {
        return Err(fault(DiskError::Corrupt { offset: footer_at }));
    }
    let version = u32_at(&footer, 16);
    if version > VERSION {
        return Err(fault(DiskError::Newer { version }));
    }
    Ok(u64_at(&footer, 40))
}

/// The segments of a shard's log in the last run that are in no table.
#[derive(Default)]
struct Log {
    /// The last one that is in a table, and where it ends.
    tail: Option<Durable>,
    scans: BTreeMap<SegmentId, Scan>,
}

/// Follows a log from its first segment to where it ends or breaks.
fn recover_log(log: Log, fallout: &mut Fallout) -> Result<(), OpenError> {
    let mut lengths = BTreeMap::new();
    // Where the log ends, and whether what follows is void.
    let mut end = log.tail.unwrap_or(Durable::NOTHING);
    let mut broken = false;
    let mut claim = end;
    lengths.extend(log.tail.map(|tail| (tail.segment, tail.offset)));
    for (&segment, scan) in &log.scans {
        lengths.insert(segment, scan.valid);
        claim = claim.max(scan.claim);
    }
    for (segment, scan) in log.scans {
        let Some(opening) = scan.opening else {
            fallout.voided.insert(segment);
            continue;
        };
        if let Some(previous) = opening.previous {
            let length = *lengths.get(&previous).ok_or(OpenError::Missing { segment: previous })?;
            if length > opening.previous_length {
                let offset = u64::from(OPENING_AT);
                return Err(OpenError::Corrupt { segment, offset, sealed: false });
            }
            if length < opening.previous_length && !broken {
                broken = true;
                end = Durable { segment: previous, offset: length };
            }
        }
        if broken {
            fallout.voided.insert(segment);
            continue;
        }
        end = Durable { segment, offset: scan.valid };
        if scan.torn {
            fallout.report.cuts.push((segment, scan.valid));
        }
        if scan.valid > u64::from(HEADER_BYTES) {
            fallout.keep(segment, scan);
        } else {
            fallout.voided.insert(segment);
        }
    }
    if claim > end {
        // Something was flushed behind the place where whole records end: not a torn tail.
        let segment = if end == Durable::NOTHING { claim.segment } else { end.segment };
        return Err(OpenError::Corrupt { segment, offset: end.offset, sealed: false });
    }
    Ok(())
}

/// Reads a segment as the disk has it and takes its whole records, up to `limit` if there is one.
fn scan(
    folder: &mut dyn Folder,
    settings: &OpenSettings,
    segment: SegmentId,
    limit: Option<u64>,
    sealed: bool,
) -> Result<Scan, OpenError> {
    let name = if sealed { segment.sealed_name() } else { segment.active_name() };
    let bytes =
        folder.read_flushed(&name).map_err(|error| segment_error(segment, error, sealed))?;
    let corrupt = |offset| OpenError::Corrupt { segment, offset, sealed };
    let identity = read_identity(&bytes).map_err(|fault| match fault {
        HeaderFault::Bad => corrupt(0),
        HeaderFault::Newer(version) => OpenError::Newer { segment: Some(segment), version },
    })?;
    if identity.segment != segment {
        return Err(corrupt(0));
    }
    let mask = Mask::new(segment, identity.salt, Form::of(identity.version));
    let mut scan = Scan {
        mask,
        opening: read_opening(&bytes, mask),
        valid: 0,
        claim: Durable::NOTHING,
        torn: false,
        max_stamp: 0,
        records: 0,
        indices: (0..settings.shards).map(|_| SegmentIndex::new()).collect(),
    };
    let end = limit.map_or(bytes.len(), |limit| index_of(limit).min(bytes.len()));
    if scan.opening.is_some() {
        take_records(&mut scan, &bytes[..end], settings);
    }
    if limit.is_none() {
        let behind = index_of(scan.valid).max(usize_of(HEADER_BYTES));
        let anything = bytes[behind..].iter().any(|&byte| byte != 0);
        let claim = if anything { claims_behind(&bytes, behind, mask) } else { Durable::NOTHING };
        // Behind the records of a recycled file lies what it was before.
        scan.torn = if identity.recycled { claim > Durable::NOTHING } else { anything };
        scan.claim = scan.claim.max(claim);
    }
    Ok(scan)
}

fn take_records(scan: &mut Scan, bytes: &[u8], settings: &OpenSettings) {
    let mut at = usize_of(HEADER_BYTES);
    while at < bytes.len() {
        let offset = u32_of(at);
        let Some(found) = parse(&bytes[at..], scan.mask.at(offset)) else { break };
        at += usize_of(found.length);
        if let Some(durable) = found.durable {
            scan.claim = scan.claim.max(durable);
            continue;
        }
        scan.records += 1;
        scan.max_stamp = scan.max_stamp.max(found.stamp);
        let home = usize::from(settings.home(found.stream.partition()));
        let entry = Entry::alone(found.seq, offset, found.length, found.role);
        scan.indices[home].add(found.stream, entry);
    }
    scan.valid = u64_of(at);
}
