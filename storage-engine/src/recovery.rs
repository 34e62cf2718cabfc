//! What a crash left: scan each unsealed segment, cut a torn tail, void what lies behind a cut,
//! and tell a torn tail from damage.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalogue::Catalogue;
use crate::error::OpenError;
use crate::header::{HeaderFault, Opening, read_identity, read_opening};
use crate::index::{Entry, SegmentIndex};
use crate::layout::{HEADER_BYTES, OPENING_AT, index_of, u32_of, u64_of, usize_of};
use crate::open::{Folder, Listing, OpenSettings, segment_error};
use crate::position::SegmentId;
use crate::record::{Durable, Mask, claims_behind, parse};
use crate::sealed::SealedRoot;

/// What recovery did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Unsealed segments read.
    pub segments: u64,
    /// Sealed segments opened.
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

/// Reads the segments that an earlier recovery cut, up to the cut: all of it must be whole.
pub(crate) fn recover_old(
    folder: &mut dyn Folder,
    settings: &OpenSettings,
    before: &Catalogue,
    listing: &Listing,
    fallout: &mut Fallout,
) -> Result<(), OpenError> {
    for (&segment, &length) in &before.cuts {
        if listing.sealed.contains(&segment) {
            continue;
        }
        let scan = scan(folder, settings, segment, Some(length))?;
        fallout.report.segments += 1;
        if scan.valid != length {
            return Err(OpenError::Corrupt { segment, offset: scan.valid, sealed: false });
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
    sealed: &BTreeMap<SegmentId, SealedRoot>,
    fallout: &mut Fallout,
) -> Result<(), OpenError> {
    let of_run = |segment: &&SegmentId| segment.run() == before.run;
    let active = listing.active.difference(&listing.sealed);
    let known = |segment: &&SegmentId| !before.voided.contains(*segment);
    let mut logs: BTreeMap<u8, BTreeMap<SegmentId, Link>> = BTreeMap::new();
    for &segment in active.filter(of_run).filter(known) {
        let scan = scan(folder, settings, segment, None)?;
        fallout.report.segments += 1;
        logs.entry(segment.shard()).or_default().insert(segment, Link::Active(scan));
    }
    for &segment in listing.sealed.iter().filter(of_run) {
        let link = Link::Sealed(sealed[&segment].length);
        logs.entry(segment.shard()).or_default().insert(segment, link);
    }
    for log in logs.into_values() {
        recover_log(log, fallout)?;
    }
    Ok(())
}

/// A segment in the log of a shard.
enum Link {
    Active(Scan),
    Sealed(u64),
}

/// Follows a log from its first segment to where it ends or breaks.
fn recover_log(log: BTreeMap<SegmentId, Link>, fallout: &mut Fallout) -> Result<(), OpenError> {
    let mut lengths = BTreeMap::new();
    let mut claim = Durable::NOTHING;
    for (&segment, link) in &log {
        let (length, named) = match link {
            Link::Active(scan) => (scan.valid, scan.claim),
            Link::Sealed(length) => (*length, Durable { segment, offset: *length }),
        };
        lengths.insert(segment, length);
        claim = claim.max(named);
    }
    // Where the log ends, and whether what follows is void.
    let mut end = Durable::NOTHING;
    let mut broken = false;
    for (segment, link) in log {
        let scan = match link {
            Link::Sealed(length) => {
                end = if broken { end } else { Durable { segment, offset: length } };
                continue;
            }
            Link::Active(scan) => scan,
        };
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
) -> Result<Scan, OpenError> {
    let name = segment.active_name();
    let bytes = folder.read_flushed(&name).map_err(|error| segment_error(segment, error, false))?;
    let corrupt = |offset| OpenError::Corrupt { segment, offset, sealed: false };
    let identity = read_identity(&bytes).map_err(|fault| match fault {
        HeaderFault::Bad => corrupt(0),
        HeaderFault::Newer(version) => OpenError::Newer { segment: Some(segment), version },
    })?;
    if identity.segment != segment {
        return Err(corrupt(0));
    }
    let mask = Mask::new(segment, identity.salt);
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
        scan.torn = bytes[behind..].iter().any(|&byte| byte != 0);
        if scan.torn {
            scan.claim = scan.claim.max(claims_behind(&bytes, behind, mask));
        }
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
        let entry = Entry::alone(found.seq, offset, found.length);
        scan.indices[home].add(found.stream, entry, found.snapshot);
    }
    scan.valid = u64_of(at);
}
