//! How many elements the repeated fields of a frame have, before anything is decoded: an empty
//! element takes two bytes on the wire and many times that in memory.

use prost::DecodeError;
use prost::bytes::Buf;
use prost::encoding::{self, DecodeContext, WireType};

/// Which fields of a message are to be looked at.
type Shape = &'static [(u32, Holds)];

/// What a field holds.
#[derive(Clone, Copy)]
enum Holds {
    /// An element of a repeated field: text, bytes or a message.
    Element,
    /// Numbers of a repeated field, many in one.
    Numbers,
    /// A message in which fields are repeated.
    Message(Shape),
}

const FIRST: Shape = &[(1, Holds::Element)];
const SECOND: Shape = &[(2, Holds::Element)];
const MEMBERS: Holds = Holds::Message(FIRST);
const GROUP_CHANGE: Shape = &[(3, MEMBERS), (4, MEMBERS), (6, MEMBERS), (7, MEMBERS), (8, MEMBERS)];
const SEND: Shape =
    &[(14, Holds::Message(GROUP_CHANGE)), (15, Holds::Message(FIRST)), (16, Holds::Element)];
/// Bodies of a `ClientFrame`. A test compares this with the schema.
const BODIES: Shape = &[
    (2, Holds::Message(SEND)),
    (3, Holds::Message(FIRST)),
    (4, Holds::Message(FIRST)),
    (34, Holds::Message(&[(3, Holds::Element)])),
    (38, Holds::Message(&[(2, Holds::Numbers)])),
    (48, Holds::Message(FIRST)),
    (49, Holds::Message(FIRST)),
    (56, Holds::Message(SECOND)),
    (57, Holds::Message(SECOND)),
    (58, Holds::Message(FIRST)),
];

/// What a look at the content of a frame shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Elements {
    /// The last one said.
    pub(crate) request_id: u32,
    /// More elements than this may be.
    pub(crate) too_many: bool,
}

/// Counts the elements of a `ClientFrame`; stops in each body at the first that is too many.
pub(crate) fn count(mut content: &[u8], most: usize) -> Result<Elements, DecodeError> {
    let mut elements = Elements::default();
    let mut left = most;
    while content.has_remaining() {
        let (number, wire_type) = encoding::decode_key(&mut content)?;
        match (number, wire_type) {
            (1, WireType::Varint) => {
                encoding::uint32::merge(
                    wire_type,
                    &mut elements.request_id,
                    &mut content,
                    DecodeContext::default(),
                )?;
            }
            (_, _) => {
                elements.too_many |=
                    !count_field(BODIES, number, wire_type, &mut content, &mut left)?;
            }
        }
    }
    Ok(elements)
}

/// Counts what one field holds and goes on behind it. False: too many.
fn count_field(
    shape: Shape,
    number: u32,
    wire_type: WireType,
    content: &mut &[u8],
    left: &mut usize,
) -> Result<bool, DecodeError> {
    let holds = shape.iter().find(|(known, _)| *known == number).map(|(_, holds)| *holds);
    let Some(holds) = holds else {
        encoding::skip_field(wire_type, number, content, DecodeContext::default())?;
        return Ok(true);
    };
    let before = *content;
    encoding::skip_field(wire_type, number, content, DecodeContext::default())?;
    let mut field = before.get(..before.len().saturating_sub(content.len())).unwrap_or_default();
    let found = match (holds, wire_type) {
        (Holds::Message(shape), WireType::LengthDelimited) => {
            prost::decode_length_delimiter(&mut field)?;
            return count_message(shape, field, left);
        }
        // Each packed number ends with a byte below 0x80.
        (Holds::Numbers, WireType::LengthDelimited) => {
            prost::decode_length_delimiter(&mut field)?;
            field.iter().filter(|byte| **byte < 0x80).count()
        }
        (_, _) => 1,
    };
    let enough = *left >= found;
    *left = left.saturating_sub(found);
    Ok(enough)
}

fn count_message(shape: Shape, mut content: &[u8], left: &mut usize) -> Result<bool, DecodeError> {
    while content.has_remaining() {
        let (number, wire_type) = encoding::decode_key(&mut content)?;
        if !count_field(shape, number, wire_type, &mut content, left)? {
            return Ok(false);
        }
    }
    Ok(true)
}
