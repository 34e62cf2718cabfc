//! What a frame costs that travels often, by hand and by prost. `cargo bench -p roost-protocol`.

#![expect(missing_docs, reason = "a measurement, not a library")]

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message;
use roost_protocol::encode::{self, PushedMessage, Sent, Tick};
use roost_protocol::ids::{ConversationId, MessageId, Sequence};
use roost_protocol::request;
use roost_protocol::wire::{self, client_frame, message, send, server_frame};
use std::hint::black_box;

const CONVERSATION: [u8; 16] = [0xd5; 16];
/// An unknown field of two bytes: the frame means the same, and is not read by hand.
const UNKNOWN: [u8; 3] = [0xf8, 0x3e, 0x01];

fn id() -> Bytes {
    Bytes::copy_from_slice(&CONVERSATION)
}

fn body() -> Bytes {
    Bytes::from(vec![b'x'; 100])
}

/// A frame that is read by hand, and one that prost reads.
fn both_ways(c: &mut Criterion, name: &str, request_id: u32, body: client_frame::Body) {
    let hand = wire::ClientFrame { request_id, body: Some(body) }.encode_to_vec();
    let prost = [hand.as_slice(), &UNKNOWN].concat();
    assert_eq!(request::decode(&hand), request::decode(&prost));
    c.bench_function(&format!("decode/{name}/hand"), |b| {
        b.iter(|| request::decode(black_box(&hand)));
    });
    c.bench_function(&format!("decode/{name}/prost"), |b| {
        b.iter(|| request::decode(black_box(&prost)));
    });
}

fn decode(c: &mut Criterion) {
    let send = wire::Send {
        conversation: id(),
        client_message_id: u64::MAX / 7,
        client_sequence: 21,
        seen: 41,
        content: Some(send::Content::Body(body())),
        ..Default::default()
    };
    both_ways(c, "send", 17, client_frame::Body::Send(send));
    let mark = wire::Mark { conversation: id(), seq: 300, uncounted: 0 };
    for count in [1, 10] {
        let marks = vec![mark.clone(); count];
        let body = client_frame::Body::Delivered(wire::Delivered { marks });
        both_ways(c, &format!("delivered_{count}"), 0, body);
    }
}

fn encode(c: &mut Criterion) {
    let conversation = ConversationId::from_bytes(CONVERSATION);
    let (seq, message_id) = (Sequence(300), MessageId(u64::MAX / 3));
    let mut out = Vec::with_capacity(64 * 1024);
    let pushed = PushedMessage {
        conversation,
        seq,
        message_id,
        uncounted: 0,
        client_message_id: None,
        sender: 0,
        reply_to: Sequence(0),
        content: message::Content::Body(body()),
    };
    c.bench_function("encode/message/hand", |b| {
        b.iter(|| {
            out.clear();
            black_box(&pushed).append_to(&mut out);
        });
    });
    c.bench_function("encode/message/prost", |b| {
        b.iter(|| {
            out.clear();
            let message = wire::Message {
                conversation: pushed.conversation.to_wire(),
                seq: seq.0,
                message_id: message_id.0,
                content: Some(black_box(&pushed).content.clone()),
                ..Default::default()
            };
            encode::server(0, server_frame::Body::Message(message), &mut out);
        });
    });
    let sent = Sent { message_id, seq, uncounted: 0, conversation: None };
    c.bench_function("encode/sent/hand", |b| {
        b.iter(|| {
            out.clear();
            encode::sent(17, black_box(&sent), &mut out);
        });
    });
    c.bench_function("encode/sent/prost", |b| {
        b.iter(|| {
            out.clear();
            let reply = wire::SendReply {
                message_id: black_box(message_id.0),
                seq: seq.0,
                ..Default::default()
            };
            encode::server(17, server_frame::Body::Send(reply), &mut out);
        });
    });
    let tick = Tick { conversation, delivered: seq, read: Sequence(0), member: 0 };
    c.bench_function("encode/tick/hand", |b| {
        b.iter(|| {
            out.clear();
            encode::tick(black_box(&tick), &mut out);
        });
    });
    c.bench_function("encode/tick/prost", |b| {
        b.iter(|| {
            out.clear();
            let receipt = wire::Receipt {
                conversation: id(),
                delivered: black_box(seq.0),
                ..Default::default()
            };
            let receipts = wire::Receipts { receipts: vec![receipt] };
            encode::server(0, server_frame::Body::Receipts(receipts), &mut out);
        });
    });
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
