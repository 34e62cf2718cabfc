//! Frames on their way out: a length, then the message. Appended to a buffer that already holds
//! what waits to be sent, so that a hundred small frames are one write.
//!
//! What travels most, pushed messages, their ticks and the answers to sends, is written by hand: no
//! value in between, nothing allocated. Tests hold these bytes equal to prost's.

use crate::ids::{ClientMessageId, ConversationId, MessageId, Sequence};
use crate::varint::{self, number_length, write_number};
use crate::wire::{self, client_frame, message::Content, server_frame};
use prost::Message;

/// Appends a frame of the server.
pub fn server(request_id: u32, body: server_frame::Body, out: &mut Vec<u8>) {
    append(&wire::ServerFrame { request_id, body: Some(body) }, out);
}

/// Appends a frame of a device.
pub fn client(request_id: u32, body: client_frame::Body, out: &mut Vec<u8>) {
    append(&wire::ClientFrame { request_id, body: Some(body) }, out);
}

fn append(frame: &impl Message, out: &mut Vec<u8>) {
    let length = frame.encoded_len();
    varint::write(u32::try_from(length).expect("frames are far below 4 GiB"), out);
    frame.encode(out).expect("a vector grows as needed");
}

/// What a pushed message says.
#[derive(Debug, Clone)]
pub struct PushedMessage {
    /// Where it was said.
    pub conversation: ConversationId,
    /// Its place there.
    pub seq: Sequence,
    /// Its id, which holds its time.
    pub message_id: MessageId,
    /// How many records up to it do not count.
    pub uncounted: u64,
    /// Only for the sender's own devices.
    pub client_message_id: Option<ClientMessageId>,
    /// In groups: the sender's member number + 1; 0: by the server.
    pub sender: u32,
    /// The record it replies to, or 0.
    pub reply_to: Sequence,
    /// What it says.
    pub content: Content,
}

impl PushedMessage {
    /// The whole frame, length included; encoded once for all its receivers.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.content.encoded_len().saturating_add(HEAD_MOST));
        self.append_to(&mut out);
        out
    }

    /// Appends the whole frame.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        self.append_with(self.client_message_id, Some(&self.content), out);
    }

    /// Appends the frame as the sender's own devices get it.
    pub fn append_own_to(&self, client_message_id: ClientMessageId, out: &mut Vec<u8>) {
        self.append_with(Some(client_message_id), Some(&self.content), out);
    }

    /// Appends the frame as a device gets it for which there is another content, or none: the
    /// device then keeps the place and shows that something was there.
    pub fn append_with(
        &self,
        client_message_id: Option<ClientMessageId>,
        content: Option<&Content>,
        out: &mut Vec<u8>,
    ) {
        let client_message_id = client_message_id.map_or(0, |id| id.0);
        let inner = total(&[
            ID_LENGTH,
            number(self.seq.0),
            fixed(self.message_id.0),
            number(self.uncounted),
            fixed(client_message_id),
            number(self.sender.into()),
            number(self.reply_to.0),
            content.map_or(0, Content::encoded_len),
        ]);
        open(0, 0x1a, inner, out);
        put_id(0x0a, self.conversation, out);
        put_number(0x10, self.seq.0, out);
        put_fixed(0x19, self.message_id.0, out);
        put_number(0x20, self.uncounted, out);
        put_fixed(0x29, client_message_id, out);
        put_number(0x30, self.sender.into(), out);
        put_number(0x38, self.reply_to.0, out);
        match content {
            Some(Content::Body(body)) => {
                out.push(0x4a);
                write_number(bytes(body.len()), out);
                out.extend_from_slice(body);
            }
            Some(content) => content.encode(out),
            None => {}
        }
    }
}

/// The answer to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub message_id: MessageId,
    /// Its place.
    pub seq: Sequence,
    /// How many records up to it do not count.
    pub uncounted: u64,
    /// The conversation, when the write named a user.
    pub conversation: Option<ConversationId>,
}

/// Appends a `SendReply`.
pub fn sent(request_id: u32, sent: &Sent, out: &mut Vec<u8>) {
    let inner = total(&[
        fixed(sent.message_id.0),
        number(sent.seq.0),
        number(sent.uncounted),
        sent.conversation.map_or(0, |_| ID_LENGTH),
    ]);
    open(request_id, 0x12, inner, out);
    put_fixed(0x09, sent.message_id.0, out);
    put_number(0x10, sent.seq.0, out);
    put_number(0x18, sent.uncounted, out);
    if let Some(conversation) = sent.conversation {
        put_id(0x22, conversation, out);
    }
}

/// How far others have got with what a user sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Where.
    pub conversation: ConversationId,
    /// Everything up to it was received; 0: unchanged.
    pub delivered: Sequence,
    /// Everything up to it was read; 0: unchanged.
    pub read: Sequence,
    /// In groups: by the member of this number + 1; 0: by all.
    pub member: u32,
}

/// Appends a push of `Receipts` with one receipt.
pub fn tick(tick: &Tick, out: &mut Vec<u8>) {
    let receipt = total(&[
        ID_LENGTH,
        number(tick.delivered.0),
        number(tick.read.0),
        number(tick.member.into()),
    ]);
    let inner = total(&[1, number_length(bytes(receipt)), receipt]);
    open(0, 0x22, inner, out);
    out.push(0x0a);
    write_number(bytes(receipt), out);
    put_id(0x0a, tick.conversation, out);
    put_number(0x10, tick.delivered.0, out);
    put_number(0x18, tick.read.0, out);
    put_number(0x20, tick.member.into(), out);
}

// ---- the parts of a message ----

/// Most bytes of a pushed message that are not its content.
const HEAD_MOST: usize = 96;
/// A conversation's id with its tag and length.
const ID_LENGTH: usize = 18;

/// Begins a frame: its length, its request, and the tag and length of its body.
fn open(request_id: u32, tag: u8, inner: usize, out: &mut Vec<u8>) {
    let content = total(&[number(request_id.into()), 1, number_length(bytes(inner)), inner]);
    out.reserve(content.saturating_add(varint::VARINT_MAX_BYTES));
    varint::write(u32::try_from(content).expect("frames are far below 4 GiB"), out);
    put_number(0x08, request_id.into(), out);
    out.push(tag);
    write_number(bytes(inner), out);
}

/// Bytes of a number with its tag; 0 is left out.
const fn number(value: u64) -> usize {
    if value == 0 { 0 } else { number_length(value).wrapping_add(1) }
}

/// Bytes of a number of fixed length with its tag; 0 is left out.
const fn fixed(value: u64) -> usize {
    if value == 0 { 0 } else { 9 }
}

fn put_number(tag: u8, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        out.push(tag);
        write_number(value, out);
    }
}

fn put_fixed(tag: u8, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        out.push(tag);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn put_id(tag: u8, id: ConversationId, out: &mut Vec<u8>) {
    out.extend_from_slice(&[tag, 16]);
    out.extend_from_slice(&id.to_bytes());
}

/// The sum of lengths, each of something that is in memory.
fn total(lengths: &[usize]) -> usize {
    lengths.iter().fold(0, |sum, length| sum.saturating_add(*length))
}

const fn bytes(length: usize) -> u64 {
    length as u64
}
