//! Bytes of somebody who means harm: a value or an error, never a panic, never growth. The bodies
//! are those of `protocol/fuzz`, run here over seeded garbage and over broken vectors.

use crate::schema::{Schema, varint};
use crate::vectors;
use roost_protocol::error::Refusal;
use roost_protocol::limits::{ELEMENTS_MAX, FRAME_MAX_BYTES};
use roost_protocol::request::{self, Content, Request, Send};
use roost_protocol::wire::ErrorCode;
use std::collections::BTreeSet;

#[path = "../../fuzz/bodies.rs"]
mod bodies;

/// SplitMix64: the same seed, the same bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("64 bits");
        usize::try_from(self.next() % bound).expect("below a usize")
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A vector with something wrong: flipped, cut, doubled, or with foreign bytes inside.
fn mutated(random: &mut Random, vectors: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vectors[random.below(vectors.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => {
                let other = &vectors[random.below(vectors.len())];
                bytes.extend_from_slice(&other[random.below(other.len())..]);
            }
            3 => drop(bytes.splice(at..at, vec![0xff; random.below(12)])),
            4 => {
                let count = random.below(9);
                let foreign = random.bytes(count);
                drop(bytes.splice(at..at, foreign));
            }
            _ if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

#[test]
fn garbage_is_refused_or_read_and_nothing_else() {
    for seed in 0..4_000 {
        let random = &mut Random(seed);
        let count = random.below(600);
        let mut bytes = random.bytes(count);
        bodies::frame(&bytes);
        bodies::request(&bytes);
        // Small numbers make plausible tags and lengths.
        for byte in &mut bytes {
            *byte &= 0x1f;
        }
        bodies::frame(&bytes);
        bodies::request(&bytes);
    }
}

#[test]
fn broken_vectors_are_refused_or_read_and_nothing_else() {
    let frames = vectors::frames().into_iter().map(|vector| vector.frame);
    let whole: Vec<Vec<u8>> = frames.chain(vectors::refused()).collect();
    for seed in 0..20_000 {
        let random = &mut Random(seed);
        let bytes = mutated(random, &whole);
        bodies::frame(&bytes);
        // Without its length: the mistake is inside.
        bodies::request(bytes.get(1..).unwrap_or_default());
        bodies::request(bytes.get(2..).unwrap_or_default());
    }
}

/// What of each kind of request was taken at least once below.
const TAKEN: &str = "AcceptRequest Activity Add Block Body CreateGroup Delete DeleteForMe \
    Delivered \
    Demote Describe Dissolve Edit Forward Hello History JoinChannel Leave ListBlocks \
    ListConversations ListDevices ListMembers ListUserDevices Picture Promote QueryPresence \
    Reaction Read ReceiptDetails Refresh Remove Rename RenameDevice SetConversation SetPrivacy \
    SignOut Sync ToDevices Transfer Typing WatchChannel WatchPresence";

#[test]
fn random_requests_are_refused_or_within_their_bounds() {
    let schema = Schema::read();
    let mut taken = BTreeSet::new();
    for seed in 0..60_000 {
        let random = &mut Random(seed);
        // Half of them are writes, which have the most forms.
        let bytes = if seed % 2 == 0 {
            schema.random("ClientFrame", &mut |bound| random.below(bound))
        } else {
            let send = schema.random("Send", &mut |bound| random.below(bound));
            [&[0x08, 0x07], field(2, &send).as_slice()].concat()
        };
        bodies::request(&bytes);
        if let Ok(request) = request::decode(&bytes).expect("it is a frame").body {
            taken.insert(kind(&request));
        }
    }
    taken.remove("IgnoredNotice");
    // None is refused for ever: then this would show nothing.
    assert_eq!(taken.into_iter().collect::<Vec<_>>().join(" "), TAKEN);
}

/// The name of what is asked, of a content, of a change.
fn kind(request: &Request) -> String {
    let text = match request {
        Request::Send(Send { content: Content::Group(change), .. }) => format!("{change:?}"),
        Request::Send(send) => format!("{:?}", send.content),
        Request::Hello(_)
        | Request::Refresh { .. }
        | Request::Sync { .. }
        | Request::History(_)
        | Request::Delivered(_)
        | Request::Read(_)
        | Request::Activity(_)
        | Request::Ask(_)
        | Request::Hint(_)
        | Request::IgnoredNotice => format!("{request:?}").replace("Ask(", "").replace("Hint(", ""),
    };
    text.split(|c: char| !c.is_alphanumeric()).next().expect("a name").to_owned()
}

#[test]
fn a_reader_keeps_at_most_a_frame_and_what_just_came() {
    // A frame that never ends, in small pieces: the reader waits, and holds only those.
    let mut reader = roost_protocol::frame::FrameReader::new();
    reader.push(&[0x80, 0x80, 0x10]);
    for pushed in 1..FRAME_MAX_BYTES {
        reader.push(&[7]);
        assert_eq!(reader.next_frame(FRAME_MAX_BYTES), Ok(None));
        assert_eq!(reader.pending_bytes(), pushed + 3);
    }
    reader.push(&[7]);
    assert!(reader.next_frame(FRAME_MAX_BYTES).is_ok_and(|frame| frame.is_some()));
    assert_eq!(reader.pending_bytes(), 0);
}

/// A field that holds bytes, with its tag and length.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(u64::from(number << 3 | 2), &mut out);
    varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

/// What a frame is refused with that has so many empty elements in a repeated field, and behind
/// them, in the same message, what does not decode.
fn refused(path: &[u32], packed: bool, count: usize) -> Refusal {
    let (last, way) = path.split_last().expect("a field");
    let mut bytes =
        if packed { field(*last, &vec![0; count]) } else { field(*last, b"").repeat(count) };
    bytes.push(0xff);
    for number in way.iter().rev() {
        bytes = field(*number, &bytes);
    }
    // The id may come last.
    bytes.extend([0x08, 0x07]);
    match request::decode(&bytes) {
        Err(refusal) => refusal,
        Ok(decoded) => {
            assert_eq!((decoded.request_id, decoded.is_hello), (7, false));
            decoded.body.expect_err("too many")
        }
    }
}

#[test]
fn elements_of_repeated_fields_are_counted_before_they_take_memory() {
    let repeated = Schema::read().repeated("ClientFrame");
    assert!(repeated.iter().any(|(path, _)| path.len() == 4), "members of a change of a group");
    for (path, packed) in repeated {
        let fits = refused(&path, packed, ELEMENTS_MAX);
        assert_eq!(fits.code, ErrorCode::ErrorMalformedFrame, "{path:?}");
        let one_more = refused(&path, packed, ELEMENTS_MAX + 1);
        assert_eq!(one_more.code, ErrorCode::ErrorInvalidRequest, "{path:?}");
    }
    // All fields together, and a packed field that is not packed.
    let half = field(1, b"").repeat(ELEMENTS_MAX / 2 + 1);
    let two = [field(3, &half), field(4, &half)].concat();
    let loose = field(38, &[0x10, 0x00].repeat(ELEMENTS_MAX + 1));
    for bytes in [two, loose] {
        let decoded = request::decode(&bytes).unwrap();
        assert_eq!(decoded.body.unwrap_err().code, ErrorCode::ErrorInvalidRequest);
    }
}

#[test]
fn a_deep_nest_of_messages_is_only_a_deep_nest_of_bytes() {
    // The schema has no message inside itself, so depth is bounded by the schema.
    let mut nest = Vec::new();
    for _ in 0..10_000 {
        let length = u32::try_from(nest.len()).unwrap();
        let mut outer = vec![0x12];
        roost_protocol::varint::write(length, &mut outer);
        outer.extend_from_slice(&nest);
        nest = outer;
        if nest.len() > 60_000 {
            break;
        }
    }
    bodies::request(&nest);
}
