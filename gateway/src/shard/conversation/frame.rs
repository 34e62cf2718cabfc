//! The frame of a plain message, by hand: it is by far the most frequent one, and its length is
//! known before, so it is one allocation and one pass. Byte for byte what
//! [`PushedMessage::to_frame`] makes.

use bytes::Bytes;
use roost_protocol::encode::PushedMessage;
use roost_protocol::varint::{number_length, write_number};

/// Most bytes of everything but the body: the frame's length and tag, and nine fields.
const AROUND_MAX: usize = 96;
/// `ServerFrame.message`, with a length.
const TAG_MESSAGE: u8 = (3 << 3) | 2;

/// The whole frame of a message with this body.
pub(crate) fn of_body(message: &PushedMessage, body: &[u8]) -> Bytes {
    let mut fields = Fields { bytes: [0; AROUND_MAX], length: 0 };
    fields.raw(&[(1 << 3) | 2, 16]);
    fields.raw(&message.conversation.to_bytes());
    fields.number(2, message.seq.0);
    fields.fixed(3, message.message_id.0);
    fields.number(4, message.uncounted);
    fields.fixed(5, message.client_message_id.map_or(0, |id| id.0));
    fields.number(6, u64::from(message.sender));
    fields.number(7, message.reply_to.0);
    fields.raw(&[(9 << 3) | 2]);
    fields.varint(body.len() as u64);

    let inner = fields.length + body.len();
    let content = 1 + number_length(inner as u64) + inner;
    let mut out = Vec::with_capacity(number_length(content as u64) + content);
    write_number(content as u64, &mut out);
    out.push(TAG_MESSAGE);
    write_number(inner as u64, &mut out);
    out.extend_from_slice(&fields.bytes[..fields.length]);
    out.extend_from_slice(body);
    out.into()
}

/// What stands before the body.
struct Fields {
    bytes: [u8; AROUND_MAX],
    length: usize,
}

impl Fields {
    fn raw(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.raw(&[value.to_le_bytes()[0] | 0x80]);
            value >>= 7;
        }
        self.raw(&[value.to_le_bytes()[0]]);
    }

    /// A field that is left out when it is 0.
    fn number(&mut self, field: u8, value: u64) {
        if value > 0 {
            self.raw(&[field << 3]);
            self.varint(value);
        }
    }

    /// The same with all eight bytes.
    fn fixed(&mut self, field: u8, value: u64) {
        if value > 0 {
            self.raw(&[(field << 3) | 1]);
            self.raw(&value.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_protocol::ids::{ClientMessageId, ConversationId, MessageId, Sequence};
    use roost_protocol::wire::message::Content;

    #[test]
    fn it_is_what_the_protocol_makes() {
        let numbers = [0, 1, 127, 128, 300, 16_383, 16_384, u64::MAX >> 1, u64::MAX];
        let lengths = [0, 1, 60, 80, 90, 127, 128, 16_300, 16_384, 65_536];
        for (place, number) in numbers.into_iter().enumerate() {
            for length in lengths {
                let body = Bytes::from(vec![7; length]);
                let message = PushedMessage {
                    conversation: ConversationId::from_u128(u128::MAX / 3),
                    seq: Sequence(number),
                    message_id: MessageId(number),
                    uncounted: numbers[(place + 3) % numbers.len()],
                    client_message_id: (place % 2 == 0).then_some(ClientMessageId(number)),
                    sender: u32::try_from(number).unwrap_or(u32::MAX),
                    reply_to: Sequence(numbers[(place + 5) % numbers.len()]),
                    content: Content::Body(body.clone()),
                };
                assert_eq!(of_body(&message, &body), message.to_frame(), "{number}, {length}");
            }
        }
    }
}
