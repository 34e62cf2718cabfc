//! The bytes of a message's whole life (PROTOCOL.md, "What a message costs").

use bytes::Bytes;
use roost_protocol::encode::{self, PushedMessage};
use roost_protocol::ids::{ConversationId, MessageId, Sequence, UserId};
use roost_protocol::wire::{self, client_frame, send, server_frame};

fn client(body: client_frame::Body, request_id: u32) -> usize {
    let mut out = Vec::new();
    encode::client(request_id, body, &mut out);
    out.len()
}

fn server(body: server_frame::Body, request_id: u32) -> usize {
    let mut out = Vec::new();
    encode::server(request_id, body, &mut out);
    out.len()
}

#[test]
fn a_hundred_byte_message_costs_at_most_392_bytes_in_its_whole_life() {
    let ann = UserId::new("ann").unwrap().key("");
    let bob = UserId::new("bob").unwrap().key("");
    let id = ConversationId::direct(ann, bob);
    let conversation = id.to_wire();
    let body = Bytes::from(vec![b'x'; 100]);
    let (seq, message_id) = (42, u64::MAX / 3);
    let mark = wire::Mark { conversation: conversation.clone(), seq, uncounted: 0 };
    let receipt = wire::Receipt { conversation: conversation.clone(), ..Default::default() };

    let sent = client(
        client_frame::Body::Send(wire::Send {
            conversation,
            client_message_id: u64::MAX / 7,
            client_sequence: 21,
            seen: 41,
            content: Some(send::Content::Body(body.clone())),
            ..Default::default()
        }),
        17,
    );
    let reply = wire::SendReply { message_id, seq, ..Default::default() };
    let replied = server(server_frame::Body::Send(reply), 17);
    let pushed = PushedMessage {
        conversation: id,
        seq: Sequence(seq),
        message_id: MessageId(message_id),
        uncounted: 0,
        client_message_id: None,
        reply_to: Sequence(0),
        sender: 0,
        content: wire::message::Content::Body(body),
    }
    .to_frame()
    .len();
    let delivered =
        client(client_frame::Body::Delivered(wire::Delivered { marks: vec![mark.clone()] }), 0);
    let read = client(client_frame::Body::Read(wire::Read { marks: vec![mark] }), 0);
    let tick = |receipt| {
        server(server_frame::Body::Receipts(wire::Receipts { receipts: vec![receipt] }), 0)
    };
    let delivered_tick = tick(wire::Receipt { delivered: seq, ..receipt.clone() });
    let read_tick = tick(wire::Receipt { read: seq, ..receipt });

    let parts = [sent, replied, pushed, delivered, delivered_tick, read, read_tick];
    assert_eq!(parts, [140, 16, 136, 25, 25, 25, 25]);
    assert!(parts.iter().sum::<usize>() <= 392);
}
