//! Which segments count, and up to where: what the next start would find, told without deciding
//! anything. Where opening would refuse, this goes on and says what is whole.

use std::collections::BTreeMap;

use super::flaw::{Flaw, FlawKind};
use super::segment::{Place, Scan};
use crate::catalogue::Catalogue;
use crate::header::HeaderFault;
use crate::layout::{HEADER_BYTES, OPENING_AT};
use crate::position::SegmentId;
use crate::record::Durable;

/// What a segment's file is for the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentState {
    /// Of an earlier run; recovery said where its records end.
    Cut,
    /// Of the last run, or the one under way.
    Written,
    /// Nothing was written to it.
    Empty,
    /// It follows a place where the log is torn: the next start leaves it out.
    Torn,
    /// All its records are in tables.
    Absorbed,
    /// It does not count.
    Voided,
    /// The catalogue does not know it.
    Unknown,
}

impl SegmentState {
    /// A word for people and machines.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Written => "written",
            Self::Empty => "empty",
            Self::Torn => "torn",
            Self::Absorbed => "absorbed",
            Self::Voided => "voided",
            Self::Unknown => "unknown",
        }
    }
}

/// A segment, and what is made of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) state: SegmentState,
    pub(crate) file_bytes: u64,
    /// Whether version 1 gave it an index; where the records end then.
    pub(crate) sealed: Option<u64>,
    pub(crate) scan: Option<Scan>,
    /// Where its records end.
    pub(crate) end: u64,
    /// Where damage begins, if there is some.
    pub(crate) damaged: Option<u64>,
}

impl Seen {
    /// Whether its records count.
    pub(crate) fn counts(&self) -> bool {
        matches!(self.state, SegmentState::Cut | SegmentState::Written)
    }

    /// Its records that count, those behind damage too.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Place> {
        let damaged = self.damaged.is_some();
        let scan = self.scan.as_ref().filter(|_| self.counts());
        scan.into_iter().flat_map(move |scan| {
            let islands = scan.islands.iter().filter(move |_| damaged);
            scan.places.iter().chain(islands)
        })
    }

    fn damage(&mut self, offset: u64, kind: FlawKind, flaws: &mut Vec<Flaw>) {
        flaws.push(Flaw::new(&self.name, offset, kind));
        let first = self.damaged.map_or(offset, |before| before.min(offset));
        self.damaged = Some(first);
    }
}

/// Looks at all segments together: sets their state and end, and names what is damaged.
pub(crate) fn judge(
    catalogue: &Catalogue,
    segments: &mut BTreeMap<SegmentId, Seen>,
    flaws: &mut Vec<Flaw>,
) {
    for &segment in catalogue.cuts.keys() {
        if !segments.contains_key(&segment) {
            flaws.push(Flaw::new(&segment.active_name(), 0, FlawKind::Missing));
        }
    }
    let mut logs: BTreeMap<u8, Vec<SegmentId>> = BTreeMap::new();
    for (&id, seen) in segments.iter_mut() {
        match seen.state {
            SegmentState::Cut => {
                let limit = catalogue.cuts.get(&id).copied().or(seen.sealed);
                judge_cut(seen, limit, flaws);
            }
            SegmentState::Written => logs.entry(id.shard()).or_default().push(id),
            SegmentState::Unknown => flaws.push(Flaw::new(&seen.name, 0, FlawKind::Unknown)),
            SegmentState::Empty
            | SegmentState::Torn
            | SegmentState::Absorbed
            | SegmentState::Voided => {}
        }
    }
    for (shard, log) in logs {
        let tail = catalogue.tails.iter().rfind(|(tail, _)| tail.shard() == shard);
        let tail = tail.map(|(&segment, &offset)| Durable { segment, offset });
        judge_log(catalogue.clean, tail, &log, segments, flaws);
    }
}

/// Before a cut everything must be whole.
fn judge_cut(seen: &mut Seen, limit: Option<u64>, flaws: &mut Vec<Flaw>) {
    // Without one its footer is damaged, and named as that: whole records are what there is.
    let limit = limit.unwrap_or_else(|| seen.scan.as_ref().map_or(0, |scan| scan.valid));
    seen.end = limit;
    let Some(scan) = &mut seen.scan else {
        return seen.damage(0, FlawKind::Identity, flaws);
    };
    // What lies behind the cut does not count.
    scan.places.retain(|place| place.end() <= limit);
    scan.islands.retain(|place| place.end() <= limit);
    scan.valid = scan.valid.min(limit);
    let (fault, opening, valid) = (scan.fault, scan.opening, scan.valid);
    let sealed_at = seen.sealed;
    match fault {
        Some(fault) => seen.damage(0, header_kind(fault), flaws),
        None if opening.is_none() => seen.damage(u64::from(OPENING_AT), FlawKind::Opening, flaws),
        None if valid < limit && sealed_at.is_none_or(|end| valid < end) => {
            seen.damage(valid, FlawKind::Record, flaws);
        }
        None => {}
    }
}

fn header_kind(fault: HeaderFault) -> FlawKind {
    match fault {
        HeaderFault::Bad => FlawKind::Identity,
        HeaderFault::Newer(version) => FlawKind::Newer(version),
    }
}

/// One shard's log of the last run: recovery's rules, but that it goes on behind damage.
fn judge_log(
    clean: bool,
    tail: Option<Durable>,
    log: &[SegmentId],
    segments: &mut BTreeMap<SegmentId, Seen>,
    flaws: &mut Vec<Flaw>,
) {
    let before = flaws.len();
    let mut claim = tail.unwrap_or(Durable::NOTHING);
    let mut ends: BTreeMap<SegmentId, u64> = BTreeMap::new();
    // Where the next segment says that this one ends.
    let mut said: BTreeMap<SegmentId, u64> = BTreeMap::new();
    ends.extend(tail.map(|tail| (tail.segment, tail.offset)));
    for &id in log {
        let Some(scan) = segments.get(&id).and_then(|seen| seen.scan.as_ref()) else { continue };
        ends.insert(id, scan.valid);
        claim = claim.max(scan.claim);
        if let Some(sealed) = segments.get(&id).and_then(|seen| seen.sealed) {
            claim = claim.max(Durable { segment: id, offset: sealed });
        }
        if let Some(opening) = scan.opening
            && let Some(previous) = opening.previous
        {
            said.insert(previous, opening.previous_length);
        }
    }
    for previous in said.keys() {
        if !ends.contains_key(previous) {
            flaws.push(Flaw::new(&previous.active_name(), 0, FlawKind::Missing));
        }
    }
    let known = |id: &SegmentId| log.contains(id) || tail.is_some_and(|t| t.segment == *id);
    let lost = claim > Durable::NOTHING && !known(&claim.segment);
    if lost && !said.contains_key(&claim.segment) {
        flaws.push(Flaw::new(&claim.segment.active_name(), 0, FlawKind::Missing));
    }
    let mut broken = false;
    for &id in log {
        let Some(seen) = segments.get_mut(&id) else { continue };
        let wanted = if id < claim.segment {
            said.get(&id).copied().unwrap_or(0).max(u64::from(HEADER_BYTES))
        } else if id == claim.segment {
            claim.offset
        } else {
            0
        };
        judge_written(seen, wanted, clean, flaws);
        if broken {
            seen.state = SegmentState::Torn;
        }
        broken |= said.get(&id).is_some_and(|&said| said > seen.end);
    }
    let beyond = |id: &SegmentId| said.get(id).is_some_and(|&said| ends.get(id) > Some(&said));
    for id in log {
        let Some(seen) = segments.get_mut(id) else { continue };
        let previous = seen.scan.as_ref().and_then(|scan| scan.opening?.previous);
        if previous.as_ref().is_some_and(beyond) {
            // It says that less was before it than there is.
            seen.damage(u64::from(OPENING_AT), FlawKind::Opening, flaws);
        }
    }
    if flaws.len() > before {
        // Nothing may be left out on the word of a log that is damaged.
        for id in log {
            let Some(seen) = segments.get_mut(id) else { continue };
            if seen.state == SegmentState::Torn {
                seen.state = SegmentState::Written;
            }
            let islands = seen.scan.as_ref().is_some_and(|scan| !scan.islands.is_empty());
            if islands && seen.damaged.is_none() {
                seen.damaged = Some(seen.end);
            }
            if seen.damaged.is_some() {
                seen.state = SegmentState::Written;
            }
        }
    }
}

/// Whether a segment is whole as far as `wanted`, and where its records end.
fn judge_written(seen: &mut Seen, wanted: u64, clean: bool, flaws: &mut Vec<Flaw>) {
    let Some(scan) = &seen.scan else { return seen.damage(0, FlawKind::Identity, flaws) };
    seen.end = scan.valid;
    let (fault, opening, valid) = (scan.fault, scan.opening, scan.valid);
    let behind = !scan.islands.is_empty() || (scan.rest && !scan.recycled);
    if let Some(fault) = fault {
        return seen.damage(0, header_kind(fault), flaws);
    }
    // After a clean stop nothing is torn: what is not whole was.
    if valid < wanted || (clean && behind) {
        match opening {
            None => seen.damage(u64::from(OPENING_AT), FlawKind::Opening, flaws),
            Some(_) => seen.damage(valid, FlawKind::Record, flaws),
        }
    } else if valid <= u64::from(HEADER_BYTES) {
        seen.state = SegmentState::Empty;
    }
}
