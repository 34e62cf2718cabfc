//! From a segment to a table: every record is checked, sorted by stream, and written once more.

use crate::error::DiskError;
use crate::header::{HeaderFault, read_identity};
use crate::layout::{HEADER_BYTES, index_of, u32_of, usize_of};
use crate::position::{SegmentId, StreamId};
use crate::record::{Mask, RECORD_HEAD, Role, parse};
use crate::table::{Piece, TableWriter, Voids};

/// A record of the segment, by place.
#[derive(Clone, Copy, Debug)]
struct Place {
    stream: StreamId,
    offset: u32,
    length: u32,
    number: u64,
    seq: u64,
    stamp: u64,
    kind: u8,
    role: Role,
}

/// A segment's records in the order of a table.
#[derive(Debug)]
pub(crate) struct Sorted {
    places: Vec<Place>,
    /// The next to be written.
    next: usize,
    pub(crate) streams: u64,
}

impl Sorted {
    /// Checks and sorts all records up to the end of `bytes`, which is where they end.
    pub(crate) fn new(segment: SegmentId, bytes: &[u8]) -> Result<Self, DiskError> {
        let identity = read_identity(bytes).map_err(|fault| match fault {
            HeaderFault::Bad => DiskError::Corrupt { offset: 0 },
            HeaderFault::Newer(version) => DiskError::Newer { version },
        })?;
        if identity.segment != segment {
            return Err(DiskError::Corrupt { offset: 0 });
        }
        let mask = Mask::new(segment, identity.salt);
        let mut places = Vec::new();
        let mut at = usize_of(HEADER_BYTES);
        while at < bytes.len() {
            let offset = u32_of(at);
            let found = parse(&bytes[at..], mask.at(offset))
                .ok_or_else(|| DiskError::Corrupt { offset: u64::from(offset) })?;
            if found.durable.is_none() {
                places.push(Place {
                    stream: found.stream,
                    offset,
                    length: found.length,
                    number: found.number,
                    seq: found.seq,
                    stamp: found.stamp,
                    kind: found.kind,
                    role: found.role,
                });
            }
            at += usize_of(found.length);
        }
        // By stream, each one's records in their order.
        places.sort_unstable_by_key(|place| (place.stream, place.offset));
        let streams = places.chunk_by(|one, other| one.stream == other.stream).count();
        Ok(Self { places, next: 0, streams: crate::layout::u64_of(streams) })
    }

    /// Gives the writer streams until so many bytes wait to be written. Answers whether all were
    /// given. `bottom`: no table is older, so marks void nothing beyond this segment.
    pub(crate) fn step(
        &mut self,
        bytes: &[u8],
        writer: &mut TableWriter,
        slice: usize,
        bottom: bool,
    ) -> bool {
        let mut pieces = Vec::new();
        while self.next < self.places.len() && writer.waiting_bytes() < slice {
            let rest = &self.places[self.next..];
            let stream = rest[0].stream;
            let count = rest.iter().take_while(|place| place.stream == stream).count();
            let all = &rest[..count];
            self.next += count;
            let deleted = all.iter().rposition(|place| place.role == Role::Delete);
            let kept = &all[deleted.map_or(0, |place| place + 1)..];
            let snapshot = kept.iter().rposition(|place| place.role == Role::Snapshot);
            // Each trim voids what is before it.
            let mut floor = 0;
            pieces.clear();
            for (at, place) in kept.iter().enumerate().rev() {
                if place.role == Role::Trim {
                    floor = floor.max(place.seq);
                    continue;
                }
                let trimmed = place.seq > 0 && place.seq < floor;
                let superseded = place.seq == 0 && snapshot.is_some_and(|snapshot| at < snapshot);
                if !trimmed && !superseded {
                    pieces.push(piece_at(bytes, place));
                }
            }
            pieces.reverse();
            let marks = Voids { floor, deletes: deleted.is_some() };
            let voids = if bottom { Voids::default() } else { marks };
            if !pieces.is_empty() || voids != Voids::default() {
                writer.add(stream, voids, &pieces);
            }
        }
        self.next == self.places.len()
    }
}

fn piece_at<'a>(bytes: &'a [u8], place: &Place) -> Piece<'a> {
    let body = index_of(u64::from(place.offset)) + RECORD_HEAD;
    let end = usize_of(place.offset) + usize_of(place.length);
    Piece {
        number: place.number,
        seq: place.seq,
        stamp: place.stamp,
        kind: place.kind,
        snapshot: place.role == Role::Snapshot,
        body: &bytes[body..end],
    }
}
