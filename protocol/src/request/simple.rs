//! The two frames that devices send most, read by hand when they have exactly the form that every
//! encoder gives them: a `Send` of a body to a conversation, and `Delivered` or `Read`. Anything
//! else, also anything that is wrong, is left to the ordinary way; a test holds both equal.
//!
//! The form: fields in the order of their numbers, none twice, none unknown, the last one ending
//! where the message ends. Numbers may be padded, a number that is there may be 0: that means the
//! same to protobuf.

use super::{ClientRequest, Content, Mark, Request, Send, Target};
use crate::ids::{ClientMessageId, ClientSequence, ConversationId, Sequence};
use crate::limits;
use crate::varint::take_number;
use bytes::Bytes;

/// What a simple frame means, or `None` when it is not one.
#[inline]
pub(super) fn read(content: &[u8]) -> Option<ClientRequest> {
    let (tag, rest) = content.split_first()?;
    let (request_id, request) = match tag {
        0x08 => write(rest)?,
        0x1a => (0, Request::Delivered(marks(rest)?)),
        0x22 => (0, Request::Read(marks(rest)?)),
        _ => return None,
    };
    Some(ClientRequest { request_id, is_hello: false, body: Ok(request) })
}

/// A `Send`, from the number of the request on.
fn write(rest: &[u8]) -> Option<(u32, Request)> {
    let mut rest = Cursor(rest);
    let request_id = u32::try_from(rest.number()?).ok()?;
    let mut rest = rest.last_message(0x12)?;
    let conversation = rest.conversation()?;
    let client_message_id = rest.fixed(0x19)?;
    let client_sequence = rest.number_of(0x20)?;
    let seen = rest.number_of(0x28)?;
    let seen_uncounted = rest.number_of(0x30)?;
    let reply_to = rest.number_of(0x40)?;
    let body = rest.last_message(0x4a)?.0;
    let right = request_id != 0
        && client_message_id != 0
        && client_sequence != 0
        && seen_uncounted <= seen
        && body.len() <= limits::BODY_MAX_BYTES;
    right.then(|| {
        let send = Send {
            target: Target::Conversation(conversation),
            client_message_id: ClientMessageId(client_message_id),
            client_sequence: ClientSequence(client_sequence),
            seen: Sequence(seen),
            seen_uncounted,
            first: false,
            reply_to: Sequence(reply_to),
            content: Content::Body(Bytes::copy_from_slice(body)),
        };
        (request_id, Request::Send(send))
    })
}

/// Fewest bytes of a mark, with its tag and length.
const MARK_LEAST: usize = 20;

/// The marks of a notice, from its length on.
fn marks(rest: &[u8]) -> Option<Vec<Mark>> {
    let mut rest = Cursor(rest).message_to_the_end()?;
    let mut marks = Vec::with_capacity((rest.0.len() / MARK_LEAST).min(limits::MARKS_MAX));
    while !rest.0.is_empty() {
        if marks.len() == limits::MARKS_MAX {
            return None;
        }
        let mut mark = rest.message(0x0a)?;
        let conversation = mark.conversation()?;
        let seq = mark.number_of(0x10)?;
        let uncounted = mark.number_of(0x18)?;
        if !mark.0.is_empty() || uncounted > seq {
            return None;
        }
        marks.push(Mark { conversation, seq: Sequence(seq), uncounted });
    }
    Some(marks)
}

/// What is left of a message.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Goes behind a tag of one byte, if that is next.
    fn eat(&mut self, tag: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == tag => {
                self.0 = rest;
                true
            }
            Some(_) | None => false,
        }
    }

    fn number(&mut self) -> Option<u64> {
        take_number(&mut self.0)
    }

    /// A number with its tag; 0 when it is left out.
    fn number_of(&mut self, tag: u8) -> Option<u64> {
        if self.eat(tag) { self.number() } else { Some(0) }
    }

    fn fixed(&mut self, tag: u8) -> Option<u64> {
        let (bytes, rest) = self.eat(tag).then_some(self.0)?.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    /// A conversation's id, the first field of all that name one.
    fn conversation(&mut self) -> Option<ConversationId> {
        let ([0x0a, 16], rest) = self.0.split_first_chunk::<2>()? else { return None };
        let (id, rest) = rest.split_first_chunk()?;
        self.0 = rest;
        Some(ConversationId::from_bytes(*id))
    }

    /// A message or bytes with their tag.
    fn message(&mut self, tag: u8) -> Option<Self> {
        if !self.eat(tag) {
            return None;
        }
        let length = usize::try_from(self.number()?).ok()?;
        let (message, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Self(message))
    }

    /// The same, with nothing behind it.
    fn last_message(&mut self, tag: u8) -> Option<Self> {
        if self.eat(tag) { self.message_to_the_end() } else { None }
    }

    fn message_to_the_end(&mut self) -> Option<Self> {
        let length = usize::try_from(self.number()?).ok()?;
        (length == self.0.len()).then_some(Self(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode_any;
    use super::*;
    use crate::wire::{self, client_frame::Body, send::Content as WireContent};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    /// Small numbers, and large ones, and those between.
    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift)
    }

    prop_compose! {
        fn mark()(id: [u8; 16], seq in number(), uncounted in 0_u64..300) -> wire::Mark {
            wire::Mark { conversation: Bytes::copy_from_slice(&id), seq, uncounted }
        }
    }

    prop_compose! {
        fn write()(
            id: [u8; 16],
            numbers in [number(), number(), number(), number(), number()],
            body in vec(any::<u8>(), 0..200),
            first in prop::bool::weighted(0.1),
            user in prop::option::weighted(0.1, "[a-z]{1,3}"),
        ) -> wire::Send {
            let [client_message_id, client_sequence, seen, uncounted, reply_to] = numbers;
            wire::Send {
                conversation: Bytes::copy_from_slice(&id),
                user: user.unwrap_or_default(),
                client_message_id,
                client_sequence,
                seen,
                seen_uncounted: uncounted.min(seen),
                first,
                reply_to,
                content: Some(WireContent::Body(body.into())),
                ..wire::Send::default()
            }
        }
    }

    /// A frame, and whether it is simple.
    fn frame() -> impl Strategy<Value = (bool, wire::ClientFrame)> {
        let marks = || vec(mark(), 0..6);
        let right = |marks: &[wire::Mark]| marks.iter().all(|mark| mark.uncounted <= mark.seq);
        let frame = |request_id, body| wire::ClientFrame { request_id, body: Some(body) };
        prop_oneof![
            (any::<u32>(), write()).prop_map(move |(id, send)| {
                let plain = send.user.is_empty() && !send.first;
                let numbered = id != 0 && send.client_message_id != 0 && send.client_sequence != 0;
                (plain && numbered, frame(id, Body::Send(send)))
            }),
            marks().prop_map(move |marks| {
                (right(&marks), frame(0, Body::Delivered(wire::Delivered { marks })))
            }),
            marks()
                .prop_map(move |marks| (right(&marks), frame(0, Body::Read(wire::Read { marks })))),
        ]
    }

    /// Both ways give the same, or the simple one declines.
    fn same(content: &[u8]) -> bool {
        let simple = read(content);
        if let Some(simple) = &simple {
            assert_eq!(Ok(simple), decode_any(content).as_ref(), "{content:02x?}");
        }
        simple.is_some()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn the_simple_way_and_the_ordinary_one_agree(
            (_, frame) in frame(),
            changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 0..3),
        ) {
            let mut content = frame.encode_to_vec();
            same(&content);
            for (at, byte, how) in changes {
                let at = at.index(content.len().max(1)).min(content.len());
                match how {
                    0 => content.insert(at, byte),
                    1 => content.truncate(at),
                    2 if at < content.len() => drop(content.remove(at)),
                    _ => content.iter_mut().skip(at).take(1).for_each(|old| *old ^= byte),
                }
                same(&content);
            }
        }

        #[test]
        fn garbage_with_the_right_tags_is_read_alike(
            parts in vec(
                prop_oneof![
                    prop::sample::select(vec![
                        0x08, 0x0a, 0x10, 0x12, 0x18, 0x19, 0x1a, 0x20, 0x22, 0x28, 0x30, 0x38,
                        0x40, 0x4a, 0x80, 0xff, 0, 1, 2, 18,
                    ]),
                    any::<u8>(),
                ],
                0..60,
            ),
        ) {
            same(&parts);
        }

        #[test]
        fn what_is_sent_most_is_simple((simple, frame) in frame()) {
            prop_assert_eq!(same(&frame.encode_to_vec()), simple);
        }
    }

    #[test]
    fn bounds_hold_on_the_simple_way_too() {
        let send = |change: fn(&mut wire::Send)| {
            let mut send = wire::Send {
                conversation: Bytes::from_static(&[1; 16]),
                client_message_id: 1,
                client_sequence: 1,
                seen: 4,
                seen_uncounted: 4,
                content: Some(WireContent::Body(vec![0; limits::BODY_MAX_BYTES].into())),
                ..wire::Send::default()
            };
            change(&mut send);
            wire::ClientFrame { request_id: 1, body: Some(Body::Send(send)) }.encode_to_vec()
        };
        assert!(same(&send(|_| ())));
        assert!(!same(&send(|s| s.client_message_id = 0)));
        assert!(!same(&send(|s| s.client_sequence = 0)));
        assert!(!same(&send(|s| s.seen_uncounted = 5)));
        // A request id of 0 that is written out.
        let mut without_id = send(|_| ());
        without_id.splice(0..2, [0x08, 0x00]);
        assert!(!same(&without_id));
        let long = |s: &mut wire::Send| {
            let body = vec![0; limits::BODY_MAX_BYTES.saturating_add(1)];
            s.content = Some(WireContent::Body(body.into()));
        };
        assert!(!same(&send(long)));
        let mark = wire::Mark { conversation: Bytes::from_static(&[1; 16]), ..Default::default() };
        let notice = |count| {
            let marks = vec![mark.clone(); count];
            let body = Some(Body::Read(wire::Read { marks }));
            wire::ClientFrame { request_id: 0, body }.encode_to_vec()
        };
        assert!(same(&notice(limits::MARKS_MAX)));
        assert!(!same(&notice(limits::MARKS_MAX.saturating_add(1))));
    }
}
