//! What is written by hand is what prost writes.

use bytes::Bytes;
use proptest::prelude::*;
use roost_protocol::encode::{self, PushedMessage, Sent, Tick};
use roost_protocol::ids::{ClientMessageId, ConversationId, MessageId, Sequence};
use roost_protocol::wire::{self, message::Content, server_frame::Body};

/// Small numbers, and large ones, and those between.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..=64).prop_map(|(value, shift)| value.checked_shr(shift).unwrap_or(0))
}

fn number32() -> impl Strategy<Value = u32> {
    (any::<u32>(), 0_u32..=32).prop_map(|(value, shift)| value.checked_shr(shift).unwrap_or(0))
}

fn conversation() -> impl Strategy<Value = ConversationId> {
    any::<[u8; 16]>().prop_map(ConversationId::from_bytes)
}

fn body() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (16_000_usize..66_000).prop_map(|length| vec![7; length]),
    ]
    .prop_map(Bytes::from)
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        body().prop_map(Content::Body),
        (number(), body()).prop_map(|(seq, body)| Content::Edit(wire::Edit { seq, body })),
        number().prop_map(|seq| Content::Delete(wire::Delete { seq })),
        (number(), ".{0,8}")
            .prop_map(|(seq, reaction)| Content::Reaction(wire::Reaction { seq, reaction })),
        any::<bool>().prop_map(|created| {
            Content::System(wire::SystemMessage { created, ..Default::default() })
        }),
        ("[a-z]{1,9}", body()).prop_map(|(user, body)| {
            let device = Bytes::from_static(&[3; 16]);
            Content::Ciphertext(wire::DeviceCiphertext { user, device, body })
        }),
    ]
}

/// What waits before the frame stays.
const BEFORE: &[u8] = b"what waits";

fn by_prost(request_id: u32, body: Body) -> Vec<u8> {
    let mut out = BEFORE.to_vec();
    encode::server(request_id, body, &mut out);
    out
}

fn id(conversation: ConversationId) -> Bytes {
    conversation.to_wire()
}

prop_compose! {
    fn pushed()(
        conversation in conversation(),
        numbers in [number(), number(), number(), number()],
        client_message_id in prop::option::of(number()),
        sender in number32(),
        content in content(),
    ) -> PushedMessage {
        let [seq, message_id, uncounted, reply_to] = numbers;
        PushedMessage {
            conversation,
            seq: Sequence(seq),
            message_id: MessageId(message_id),
            uncounted,
            client_message_id: client_message_id.map(ClientMessageId),
            sender,
            reply_to: Sequence(reply_to),
            content,
        }
    }
}

fn message(pushed: &PushedMessage) -> wire::Message {
    wire::Message {
        conversation: id(pushed.conversation),
        seq: pushed.seq.0,
        message_id: pushed.message_id.0,
        uncounted: pushed.uncounted,
        client_message_id: pushed.client_message_id.map_or(0, |id| id.0),
        sender: pushed.sender,
        reply_to: pushed.reply_to.0,
        content: Some(pushed.content.clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_pushed_message_is_written_as_prost_does(pushed in pushed(), own in number()) {
        let expected = by_prost(0, Body::Message(message(&pushed)));
        let mut out = BEFORE.to_vec();
        pushed.append_to(&mut out);
        prop_assert_eq!(&out, &expected);
        prop_assert_eq!(&pushed.to_frame(), &expected[BEFORE.len()..]);

        let own = ClientMessageId(own);
        let copy = wire::Message { client_message_id: own.0, ..message(&pushed) };
        out.truncate(BEFORE.len());
        pushed.append_own_to(own, &mut out);
        prop_assert_eq!(&out, &by_prost(0, Body::Message(copy)));

        let placeholder = wire::Message {
            client_message_id: 0,
            content: None,
            ..message(&pushed)
        };
        out.truncate(BEFORE.len());
        pushed.append_with(None, None, &mut out);
        prop_assert_eq!(&out, &by_prost(0, Body::Message(placeholder)));
    }

    #[test]
    fn the_answer_to_a_write_is_written_as_prost_does(
        request_id in number32(),
        (message_id, seq, uncounted) in (number(), number(), number()),
        conversation in prop::option::of(conversation()),
    ) {
        let expected = by_prost(request_id, Body::Send(wire::SendReply {
            message_id,
            seq,
            uncounted,
            conversation: conversation.map(id).unwrap_or_default(),
        }));
        let sent =
            Sent { message_id: MessageId(message_id), seq: Sequence(seq), uncounted, conversation };
        let mut out = BEFORE.to_vec();
        encode::sent(request_id, &sent, &mut out);
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn a_tick_is_written_as_prost_does(
        conversation in conversation(),
        (delivered, read, member) in (number(), number(), number32()),
    ) {
        let receipt =
            wire::Receipt { conversation: id(conversation), delivered, read, member };
        let expected = by_prost(0, Body::Receipts(wire::Receipts { receipts: vec![receipt] }));
        let tick = Tick {
            conversation,
            delivered: Sequence(delivered),
            read: Sequence(read),
            member,
        };
        let mut out = BEFORE.to_vec();
        encode::tick(&tick, &mut out);
        prop_assert_eq!(out, expected);
    }
}
