//! Frames on their way out: a length, then the message. Appended to a buffer that already holds
//! what waits to be sent, so that a hundred small frames are one write.

use crate::ids::{ClientMessageId, ConversationId, MessageId, Sequence};
use crate::varint;
use crate::wire::{self, client_frame, server_frame};
use bytes::Bytes;
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
    /// The record it replies to, or 0.
    pub reply_to: Sequence,
    /// The message, opaque.
    pub body: Bytes,
}

impl PushedMessage {
    /// The whole frame, length included; encoded once for all receivers of a shard.
    #[must_use]
    pub fn to_frame(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len().saturating_add(64));
        let message = wire::Message {
            conversation: Bytes::copy_from_slice(&self.conversation.to_bytes()),
            seq: self.seq.0,
            message_id: self.message_id.0,
            uncounted: self.uncounted,
            client_message_id: self.client_message_id.map_or(0, |id| id.0),
            reply_to: self.reply_to.0,
            content: Some(wire::message::Content::Body(self.body.clone())),
            ..wire::Message::default()
        };
        server(0, server_frame::Body::Message(message), &mut out);
        out
    }
}
