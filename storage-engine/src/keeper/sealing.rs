//! From a segment to a table: every record is checked, sorted by stream, and written once more.

use std::collections::VecDeque;

use super::SLICE_BYTES;
use crate::error::DiskError;
use crate::header::{HeaderFault, read_identity};
use crate::layout::{HEADER_BYTES, u32_of, u64_of, usize_of};
use crate::position::{SegmentId, StreamId};
use crate::record::{self, Fields, Form, Found, Mask, Role, parse};
use crate::table::{Piece, TableWriter, Voids};

/// Records that are touched before they are copied.
const TOUCHED_AHEAD: usize = 32;
/// Bytes that a processor fetches at once.
const LINE_BYTES: usize = 64;
/// Of larger records the processor fetches the rest by itself.
const LINES_TOUCHED: usize = 8;

/// A record of the segment, by place.
#[derive(Clone, Copy, Debug)]
struct Place {
    stream: StreamId,
    fields: Fields,
    offset: u32,
    length: u32,
    /// Where its body begins.
    body: u32,
}

/// A segment's records in the order of a table.
#[derive(Debug)]
pub(crate) struct Sorted {
    mask: Mask,
    places: Vec<Place>,
    /// Places by stream, each one's records in their order.
    order: Vec<u32>,
    /// The next in this order whose stream is to be begun.
    next: usize,
    /// What is left to write of the stream that was begun, and how it ends.
    left: VecDeque<u32>,
    ending: Option<Voids>,
    /// Up to here the records were touched.
    touched: usize,
    /// What touching saw, so that it happens.
    seen: u8,
    pub(crate) streams: u64,
}

impl Sorted {
    /// Checks and sorts all records up to the end of `bytes`, which is where they end. Calls
    /// `pause` between slices.
    pub(crate) fn new(
        segment: SegmentId,
        bytes: &[u8],
        pause: &mut dyn FnMut(),
    ) -> Result<Self, DiskError> {
        let identity = read_identity(bytes).map_err(|fault| match fault {
            HeaderFault::Bad => DiskError::Corrupt { offset: 0 },
            HeaderFault::Newer(version) => DiskError::Newer { version },
        })?;
        if identity.segment != segment {
            return Err(DiskError::Corrupt { offset: 0 });
        }
        let mask = Mask::new(segment, identity.salt, Form::of(identity.version));
        let mut places = Vec::new();
        let mut at = usize_of(HEADER_BYTES);
        let mut paused = 0;
        while at < bytes.len() {
            if at - paused >= SLICE_BYTES {
                paused = at;
                pause();
            }
            let offset = u32_of(at);
            let found = parse(&bytes[at..], mask.at(offset))
                .ok_or_else(|| DiskError::Corrupt { offset: u64::from(offset) })?;
            if found.durable.is_none() {
                places.push(place_of(&found, offset));
            }
            at += usize_of(found.length);
        }
        let order = order_of(&places);
        let stream = |place: &u32| places[usize_of(*place)].stream;
        let streams = u64_of(order.chunk_by(|one, other| stream(one) == stream(other)).count());
        Ok(Self {
            mask,
            places,
            order,
            next: 0,
            left: VecDeque::new(),
            ending: None,
            touched: 0,
            seen: 0,
            streams,
        })
    }

    /// Looks at the records that come next, which lie anywhere: the processor fetches many at the
    /// same time, where copying one after the other would wait for each.
    fn touch(&mut self, bytes: &[u8], up_to: usize) {
        let up_to = up_to.min(self.order.len());
        for &place in &self.order[self.touched.min(up_to)..up_to] {
            let place = &self.places[usize_of(place)];
            let record = &bytes[usize_of(place.offset)..][..usize_of(place.length)];
            for line in record.chunks(LINE_BYTES).take(LINES_TOUCHED) {
                self.seen ^= line[0];
            }
        }
        self.touched = self.touched.max(up_to);
        core::hint::black_box(self.seen);
    }

    /// Gives the writer records until so many bytes wait to be written. Answers whether all were
    /// given. `bottom`: no table is older, so marks void nothing beyond this segment.
    pub(crate) fn step(
        &mut self,
        bytes: &[u8],
        writer: &mut TableWriter,
        slice: usize,
        bottom: bool,
    ) -> bool {
        while writer.waiting_bytes() < slice {
            if let Some(place) = self.left.pop_front() {
                writer.add(&self.piece(bytes, place));
                continue;
            }
            if let Some(voids) = self.ending.take() {
                writer.end_stream(voids);
            }
            if self.next == self.order.len() {
                return true;
            }
            self.begin(bytes, writer, bottom);
        }
        false
    }

    /// Begins the next stream: chooses what of it is kept.
    fn begin(&mut self, bytes: &[u8], writer: &mut TableWriter, bottom: bool) {
        let rest = &self.order[self.next..];
        let place = |place: &u32| &self.places[usize_of(*place)];
        let stream = place(&rest[0]).stream;
        let count = rest.iter().take_while(|one| place(one).stream == stream).count();
        let all = &rest[..count];
        let role = |one: &u32| place(one).fields.role;
        let deleted = all.iter().rposition(|one| role(one) == Role::Delete);
        let kept = &all[deleted.map_or(0, |place| place + 1)..];
        let snapshot = kept.iter().rposition(|one| role(one) == Role::Snapshot);
        // Each trim voids what is before it.
        let mut floor = 0;
        for (at, one) in kept.iter().enumerate().rev() {
            let seq = place(one).fields.seq;
            if role(one) == Role::Trim {
                floor = floor.max(seq);
                continue;
            }
            let trimmed = seq > 0 && seq < floor;
            let superseded = seq == 0 && snapshot.is_some_and(|snapshot| at < snapshot);
            if !trimmed && !superseded {
                self.left.push_front(*one);
            }
        }
        let marks = Voids { floor, deletes: deleted.is_some() };
        self.ending = Some(if bottom { Voids::default() } else { marks });
        self.touch(bytes, self.next + count + TOUCHED_AHEAD);
        self.next += count;
        writer.begin_stream(stream);
    }

    fn piece<'a>(&self, bytes: &'a [u8], place: u32) -> Piece<'a> {
        let place = &self.places[usize_of(place)];
        let record = &bytes[usize_of(place.offset)..][..usize_of(place.length)];
        let fields = place.fields;
        match self.mask.form {
            Form::Narrow => {
                let mask = self.mask.at(place.offset).value;
                Piece::Whole { bytes: record::piece_of(record), mask, fields }
            }
            Form::Wide => Piece::Parts { fields, body: &record[usize_of(place.body)..] },
        }
    }
}

fn place_of(found: &Found, offset: u32) -> Place {
    let Found { stream, number, seq, stamp, kind, role, length, body, .. } = *found;
    let fields = Fields { number, seq, stamp, kind, role, control: false };
    Place { stream, fields, offset, length, body }
}

/// The places by stream, each one's in their order. The high half of a stream is compared first:
/// what is sorted is small then.
fn order_of(places: &[Place]) -> Vec<u32> {
    let high = |place: &Place| u64::try_from(place.stream.0 >> 64).expect("64 bits are left");
    let mut keys: Vec<(u64, u32)> = (0..).zip(places).map(|(at, one)| (high(one), at)).collect();
    keys.sort_unstable();
    let mut order: Vec<u32> = keys.iter().map(|&(_, place)| place).collect();
    for same in order
        .chunk_by_mut(|&one, &other| high(&places[usize_of(one)]) == high(&places[usize_of(other)]))
    {
        let stream = |place: &u32| places[usize_of(*place)].stream;
        if same.iter().any(|place| stream(place) != stream(&same[0])) {
            same.sort_unstable_by_key(|place| (stream(place), *place));
        }
    }
    order
}
