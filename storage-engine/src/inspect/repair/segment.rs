//! A segment written anew from the records that are whole: the same name and salt, no gaps, and
//! one commit that claims nothing.

use crate::header::{Identity, Opening, write_identity, write_opening};
use crate::inspect::segment::Place;
use crate::layout::{HEADER_BYTES, u32_of, usize_of};
use crate::position::SegmentId;
use crate::record::{Durable, Form, Mask, moved, reserve_control, write_control};

/// The bytes of such a segment.
pub(super) fn rewrite(
    id: SegmentId,
    (salt, version): (u64, u32),
    bytes: &[u8],
    places: &[Place],
) -> Vec<u8> {
    let form = Form::of(version);
    let mask = Mask::new(id, salt, form);
    let mut out = write_identity(&Identity { segment: id, salt, version, recycled: false });
    write_opening(&mut out, &Opening { previous: None, previous_length: 0 }, mask);
    reserve_control(&mut out, form);
    let control = usize_of(HEADER_BYTES);
    write_control(
        &mut out[control..control + form.control_bytes()],
        Durable::NOTHING,
        mask.at(HEADER_BYTES),
    );
    for place in places {
        let from = usize_of(place.offset);
        let Some(record) = bytes.get(from..from + usize_of(place.length)) else { continue };
        let at = out.len();
        out.extend_from_slice(record);
        moved(&mut out[at..], mask.at(place.offset), mask.at(u32_of(at)));
    }
    out
}
