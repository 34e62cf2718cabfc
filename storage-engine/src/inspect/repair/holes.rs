//! Streams of which numbered records are missing. Numbers are dense, so what follows a hole does
//! not fit what is before it. (A writer that trims numbered records without a snapshot behind them
//! makes holes of its own; ours does not.)

use std::collections::{BTreeMap, BTreeSet};

use crate::inspect::look::Look;
use crate::inspect::snapshot::Snapshot;
use crate::inspect::streams::{Parts, Streams};
use crate::position::StreamId;

/// A stream with a hole in what loading it reads: from its last snapshot on, or all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hole {
    /// The stream.
    pub stream: StreamId,
    /// The last number before the hole, 0 if its beginning is missing.
    pub before: u64,
    /// The first one behind it.
    pub next: u64,
    /// Records from there on.
    pub behind: u64,
}

/// Follows the numbers of a stream.
#[derive(Default)]
struct Follow {
    last: u64,
    hole: Option<(u64, u64)>,
    behind: u64,
}

impl Follow {
    fn record(&mut self, number: u64, snapshot: bool) {
        if snapshot {
            // Whatever was before, loading begins here.
            *self = Self { last: number, ..Self::default() };
        } else if self.hole.is_some() {
            self.behind += u64::from(number > 0);
        } else if number > 0 && number != self.last.saturating_add(1) {
            self.hole = Some((self.last, number));
            self.behind = 1;
        } else if number > 0 {
            self.last = number;
        }
    }
}

/// All of them.
pub(super) fn holes(look: &mut dyn Look, snapshot: &Snapshot) -> Vec<Hole> {
    let mut found = Vec::new();
    let mut streams = Streams::from(snapshot, StreamId(0));
    let mut from = StreamId(0);
    while let Some(parts) = streams.next(look, from) {
        from = parts.stream;
        let follow = follow(look, &mut streams, &parts);
        if let Some((before, next)) = follow.hole {
            let (stream, behind) = (parts.stream, follow.behind);
            found.push(Hole { stream, before, next, behind });
        }
    }
    found
}

fn follow(look: &mut dyn Look, streams: &mut Streams<'_>, parts: &Parts) -> Follow {
    let mut follow = Follow::default();
    for part in &parts.lines {
        streams.read_line(look, part, &mut |record| {
            follow.record(record.number, record.snapshot_start);
            true
        });
    }
    for (_segment, place) in &parts.places {
        let snapshot = place.role == crate::record::Role::Snapshot;
        follow.record(place.number, snapshot);
    }
    follow
}

/// The files that hold records which would be left out.
pub(super) fn files_with(
    look: &mut dyn Look,
    snapshot: &Snapshot,
    cut: &BTreeMap<StreamId, u64>,
) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for (&stream, &from) in cut {
        let mut streams = Streams::from(snapshot, stream);
        let Some(parts) = streams.next(look, stream).filter(|one| one.stream == stream) else {
            continue;
        };
        for part in &parts.lines {
            let whole = streams.read_line(look, part, &mut |record| record.number < from);
            if !whole {
                files.insert(streams.file(part.0).to_string());
            }
        }
        for seen in snapshot.segments.values() {
            let gone =
                |one: &&crate::inspect::segment::Place| one.stream == stream && one.number >= from;
            if seen.records().any(|place| gone(&place)) {
                files.insert(seen.name.clone());
            }
        }
    }
    files
}
