//! The frames of a device, written and read by hand: a generator must do both for hundreds of
//! thousands of messages a second on one core, so nothing here allocates for a message.

use bytes::Bytes;
use roost_protocol::varint::{number_length, take_number, write_number};
use roost_protocol::wire::{client_frame, send};
use roost_protocol::{encode, wire};

/// The id of a conversation on the wire.
pub type ConversationBytes = [u8; 16];

/// What a frame of the server says, as far as a generator cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// The answer to Hello; how often to say that one is there.
    Welcome {
        /// Milliseconds.
        heartbeat_ms: u32,
        /// Lets the device come back without a token.
        ticket: &'a [u8],
    },
    /// A message of ours is durable.
    SendReply {
        /// Its place.
        seq: u64,
        /// Only at the first contact.
        conversation: Option<ConversationBytes>,
    },
    /// Somebody wrote.
    Message(Pushed<'a>),
    /// Ticks; iterate with [`receipts`].
    Receipts(&'a [u8]),
    /// A page; iterate with [`page`].
    History(&'a [u8]),
    /// Entries that changed; iterate with [`entries`].
    Sync(&'a [u8]),
    /// A group is there.
    GroupCreated {
        /// Its id.
        conversation: ConversationBytes,
    },
    /// Pushes were dropped or merged: what was said must be pulled.
    Behind,
    /// The server refuses something.
    Error {
        /// An `ErrorCode`.
        code: u64,
        /// Milliseconds after which it may be asked again; 0: whoever asks knows best.
        after_ms: u32,
    },
    /// Anything else.
    Other,
}

/// A message, pushed or in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pushed<'a> {
    /// Where; in pushes only.
    pub conversation: Option<ConversationBytes>,
    /// Its place.
    pub seq: u64,
    /// Whether this user wrote it.
    pub own: bool,
    /// What it says.
    pub body: &'a [u8],
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Takes the next field of a protobuf message: its number and value.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = take_number(rest)?;
    let value = match key & 7 {
        0 => Value::Number(take_number(rest)?),
        1 => {
            let (bytes, after) = rest.split_first_chunk::<8>()?;
            *rest = after;
            Value::Number(u64::from_le_bytes(*bytes))
        }
        2 => {
            let length = usize::try_from(take_number(rest)?).ok()?;
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        5 => {
            let (bytes, after) = rest.split_first_chunk::<4>()?;
            *rest = after;
            Value::Number(u32::from_le_bytes(*bytes).into())
        }
        _ => return None,
    };
    Some((key >> 3, value))
}

/// Reads the content of a frame: the request it answers and what it says.
pub fn read(content: &[u8]) -> (u64, Incoming<'_>) {
    let (mut rest, mut request, mut incoming) = (content, 0, Incoming::Other);
    while let Some((tag, value)) = field(&mut rest) {
        match (tag, value) {
            (1, Value::Number(id)) => request = id,
            (2, Value::Bytes(body)) => incoming = send_reply(body),
            (3, Value::Bytes(body)) => incoming = Incoming::Message(message(body)),
            (4, Value::Bytes(body)) => incoming = Incoming::Receipts(body),
            (5, Value::Bytes(body)) => incoming = Incoming::Sync(body),
            (6, Value::Bytes(body)) => incoming = Incoming::History(body),
            (9, Value::Bytes(body)) => {
                let after_ms = u32::try_from(number_in(body, 4)).unwrap_or(u32::MAX);
                incoming = Incoming::Error { code: number_in(body, 1), after_ms };
            }
            (10 | 19, Value::Bytes(_)) => incoming = Incoming::Behind,
            (16, Value::Bytes(body)) => {
                let heartbeat_ms = u32::try_from(number_in(body, 2)).unwrap_or(u32::MAX);
                incoming = Incoming::Welcome { heartbeat_ms, ticket: bytes_in(body, 1) };
            }
            (34, Value::Bytes(body)) => {
                if let Some(conversation) = conversation_in(body) {
                    incoming = Incoming::GroupCreated { conversation };
                }
            }
            _ => {}
        }
    }
    (request, incoming)
}

/// The conversation in field 1.
fn conversation_in(mut body: &[u8]) -> Option<ConversationBytes> {
    while let Some((tag, value)) = field(&mut body) {
        if let (1, Value::Bytes(id)) = (tag, value) {
            return id.try_into().ok();
        }
    }
    None
}

/// One entry of a `SyncReply`, as far as a generator cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which conversation.
    pub conversation: ConversationBytes,
    /// Its newest record.
    pub head: u64,
}

/// The entries of a `SyncReply`, the cursor to give next time, and whether there are more.
pub fn entries(mut body: &[u8]) -> (Vec<Entry>, u64, bool) {
    let (mut entries, mut cursor, mut more) = (Vec::new(), 0, false);
    while let Some((tag, value)) = field(&mut body) {
        match (tag, value) {
            (1, Value::Bytes(entry)) => {
                if let Some(conversation) = conversation_in(entry) {
                    entries.push(Entry { conversation, head: number_in(entry, 4) });
                }
            }
            (2, Value::Number(number)) => cursor = number,
            (3, Value::Number(flag)) => more = flag != 0,
            _ => {}
        }
    }
    (entries, cursor, more)
}

/// A field that is a number, or 0.
fn number_in(mut body: &[u8], wanted: u64) -> u64 {
    while let Some((tag, value)) = field(&mut body) {
        if let (true, Value::Number(value)) = (tag == wanted, value) {
            return value;
        }
    }
    0
}

/// A field that is bytes, or none.
fn bytes_in(mut body: &[u8], wanted: u64) -> &[u8] {
    while let Some((tag, value)) = field(&mut body) {
        if let (true, Value::Bytes(value)) = (tag == wanted, value) {
            return value;
        }
    }
    &[]
}

fn send_reply(mut body: &[u8]) -> Incoming<'_> {
    let (mut place, mut conversation) = (0, None);
    while let Some((tag, value)) = field(&mut body) {
        match (tag, value) {
            (2, Value::Number(seq)) => place = seq,
            (4, Value::Bytes(id)) => conversation = id.try_into().ok(),
            _ => {}
        }
    }
    Incoming::SendReply { seq: place, conversation }
}

fn message(mut body: &[u8]) -> Pushed<'_> {
    let mut pushed = Pushed::default();
    while let Some((tag, value)) = field(&mut body) {
        match (tag, value) {
            (1, Value::Bytes(id)) => pushed.conversation = id.try_into().ok(),
            (2, Value::Number(seq)) => pushed.seq = seq,
            (5, Value::Number(client_message_id)) => pushed.own = client_message_id != 0,
            (9, Value::Bytes(body)) => pushed.body = body,
            _ => {}
        }
    }
    pushed
}

/// The delivered watermarks of a `Receipts`.
pub fn receipts(mut body: &[u8]) -> impl Iterator<Item = u64> + '_ {
    std::iter::from_fn(move || {
        loop {
            if let (1, Value::Bytes(receipt)) = field(&mut body)? {
                return Some(number_in(receipt, 2));
            }
        }
    })
}

/// How far others have got in one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Where.
    pub conversation: Option<ConversationBytes>,
    /// Everything up to it was delivered.
    pub delivered: u64,
    /// In groups one member's number + 1; 0: the other side, or all members.
    pub member: u64,
}

/// Each receipt of a `Receipts`.
pub fn room_receipts(mut body: &[u8]) -> impl Iterator<Item = Receipt> + '_ {
    std::iter::from_fn(move || {
        loop {
            if let (1, Value::Bytes(receipt)) = field(&mut body)? {
                return Some(Receipt {
                    conversation: conversation_in(receipt),
                    delivered: number_in(receipt, 2),
                    member: number_in(receipt, 4),
                });
            }
        }
    })
}

/// The messages of a page, and then whether there are more.
pub fn page(mut body: &[u8]) -> (Vec<Pushed<'_>>, bool) {
    let (mut messages, mut more) = (Vec::new(), false);
    while let Some((tag, value)) = field(&mut body) {
        match (tag, value) {
            (1, Value::Bytes(body)) => messages.push(message(body)),
            (2, Value::Number(flag)) => more = flag != 0,
            _ => {}
        }
    }
    (messages, more)
}

/// A write to a conversation whose id is known. `number` is both its `client_sequence` and, cut to
/// 32 bits, its request id; `id` its `client_message_id`.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Where to.
    pub conversation: &'a ConversationBytes,
    /// Its number on this device in this conversation.
    pub number: u64,
    /// Names it for ever.
    pub id: u64,
    /// The newest record seen.
    pub seen: u64,
    /// What it says.
    pub body: &'a [u8],
}

/// The request id of a write.
fn request_of(number: u64) -> u64 {
    number & u64::from(u32::MAX)
}

/// Appends a `Send`.
pub fn send(write: &Write<'_>, out: &mut Vec<u8>) {
    send_with(request_of(write.number), write, out);
}

/// Appends a `Send` with a request id of its own.
pub fn send_as(request: u32, write: &Write<'_>, out: &mut Vec<u8>) {
    send_with(request.into(), write, out);
}

fn send_with(request: u64, write: &Write<'_>, out: &mut Vec<u8>) {
    let seen = if write.seen == 0 { 0 } else { 1 + number_length(write.seen) };
    let body = 1 + number_length(bytes(write.body)) + write.body.len();
    let inner = 18 + 9 + 1 + number_length(write.number) + seen + body;
    let content = 1 + number_length(request) + 1 + number_length(inner as u64) + inner;
    write_number(content as u64, out);
    out.push(0x08);
    write_number(request, out);
    out.push(0x12);
    write_number(inner as u64, out);
    out.extend_from_slice(&[0x0a, 16]);
    out.extend_from_slice(write.conversation);
    out.push(0x19);
    out.extend_from_slice(&write.id.to_le_bytes());
    out.push(0x20);
    write_number(write.number, out);
    if write.seen != 0 {
        out.push(0x28);
        write_number(write.seen, out);
    }
    out.push(0x4a);
    write_number(bytes(write.body), out);
    out.extend_from_slice(write.body);
}

/// Appends a `Send` to a user whose conversation is not known yet, with a request id of its own.
pub fn send_first(request: u32, user: &str, write: &Write<'_>, out: &mut Vec<u8>) {
    let send = wire::Send {
        user: user.to_owned(),
        client_message_id: write.id,
        client_sequence: write.number,
        first: true,
        content: Some(send::Content::Body(Bytes::copy_from_slice(write.body))),
        ..wire::Send::default()
    };
    encode::client(request, client_frame::Body::Send(send), out);
}

/// Appends a `Delivered` for one conversation.
pub fn delivered(conversation: &ConversationBytes, seq: u64, out: &mut Vec<u8>) {
    let mark = 18 + 1 + number_length(seq);
    let inner = 1 + number_length(mark as u64) + mark;
    write_number((1 + number_length(inner as u64) + inner) as u64, out);
    out.push(0x1a);
    write_number(inner as u64, out);
    out.push(0x0a);
    write_number(mark as u64, out);
    out.extend_from_slice(&[0x0a, 16]);
    out.extend_from_slice(conversation);
    out.push(0x10);
    write_number(seq, out);
}

/// Appends a `History` for what comes after a place.
pub fn history(request: u32, conversation: &ConversationBytes, after: u64, out: &mut Vec<u8>) {
    let history = wire::History {
        conversation: Bytes::copy_from_slice(conversation),
        after: Some(after),
        limit: Some(100),
        ..wire::History::default()
    };
    encode::client(request, client_frame::Body::History(history), out);
}

/// Appends a `Sync`.
pub fn sync(request: u32, cursor: u64, out: &mut Vec<u8>) {
    let sync = wire::Sync { cursor, limit: 0 };
    encode::client(request, client_frame::Body::Sync(sync), out);
}

/// Appends a `CreateGroup`.
pub fn create_group(request: u32, nonce: u128, members: Vec<String>, out: &mut Vec<u8>) {
    let group = wire::CreateGroup {
        nonce: Bytes::copy_from_slice(&nonce.to_be_bytes()),
        name: "a measured group".to_owned(),
        members,
        ..wire::CreateGroup::default()
    };
    encode::client(request, client_frame::Body::CreateGroup(group), out);
}

/// Appends a `Typing`.
pub fn typing(conversation: &ConversationBytes, out: &mut Vec<u8>) {
    let typing =
        wire::Typing { conversation: Bytes::copy_from_slice(conversation), stopped: false };
    encode::client(0, client_frame::Body::Typing(typing), out);
}

/// Appends a `Read` for one conversation.
pub fn mark_read(conversation: &ConversationBytes, seq: u64, out: &mut Vec<u8>) {
    let conversation = Bytes::copy_from_slice(conversation);
    let marks = vec![wire::Mark { conversation, seq, ..wire::Mark::default() }];
    encode::client(0, client_frame::Body::Read(wire::Read { marks }), out);
}

/// Appends a `QueryPresence` for members of a group, or for users that this one has direct
/// conversations with.
pub fn query_presence(
    request: u32,
    group: Option<&ConversationBytes>,
    users: Vec<String>,
    out: &mut Vec<u8>,
) {
    let conversation = group.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id));
    let query = wire::QueryPresence { users, conversation };
    encode::client(request, client_frame::Body::QueryPresence(query), out);
}

/// Appends a `Hello`.
pub fn hello(token: String, device: [u8; 16], connection_number: u64, out: &mut Vec<u8>) {
    let hello = wire::Hello {
        token,
        device: Bytes::copy_from_slice(&device),
        connection_number,
        client: concat!("roost-bench/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..wire::Hello::default()
    };
    encode::client(1, client_frame::Body::Hello(hello), out);
}

/// Appends a `Hello` of a device that was here before.
pub fn hello_again(ticket: &[u8], device: [u8; 16], connection_number: u64, out: &mut Vec<u8>) {
    let hello = wire::Hello {
        ticket: Bytes::copy_from_slice(ticket),
        device: Bytes::copy_from_slice(&device),
        connection_number,
        client: concat!("roost-bench/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..wire::Hello::default()
    };
    encode::client(1, client_frame::Body::Hello(hello), out);
}

const fn bytes(slice: &[u8]) -> u64 {
    slice.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_protocol::frame::{Cut, cut};
    use roost_protocol::ids::{ClientMessageId, ClientSequence, ConversationId, Sequence};
    use roost_protocol::request::{self, Request, Target};
    use roost_protocol::wire::server_frame;

    fn content(frame: &[u8]) -> &[u8] {
        let Ok(Cut::Frame { content, consumed }) = cut(frame, 1 << 20) else { panic!("a frame") };
        assert_eq!(consumed, frame.len());
        content
    }

    #[test]
    fn numbers_take_as_many_bytes_as_said() {
        for value in (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
            let mut out = Vec::new();
            write_number(value, &mut out);
            assert_eq!(out.len(), number_length(value), "{value}");
        }
    }

    #[test]
    fn the_server_understands_what_is_written_by_hand() {
        for (number, seen, size) in [(1, 0, 16), (200, 300, 100), (1 << 40, 1 << 33, 65_536)] {
            let body = vec![7; size];
            let (mut out, conversation) = (Vec::new(), [9; 16]);
            let write = Write { conversation: &conversation, number, id: 5, seen, body: &body };
            send(&write, &mut out);
            let decoded = request::decode(content(&out)).unwrap();
            assert_eq!(u64::from(decoded.request_id), number & 0xffff_ffff);
            // A request id of 0 is refused; no device of a run writes four billion messages.
            if number == 1 << 40 {
                assert!(decoded.body.is_err());
                continue;
            }
            let Ok(Request::Send(send)) = decoded.body else { panic!("a send") };
            let id = ConversationId::from_bytes(conversation);
            assert_eq!(send.target, Target::Conversation(id));
            assert_eq!(send.client_sequence, ClientSequence(number));
            assert_eq!((send.client_message_id, send.seen), (ClientMessageId(5), Sequence(seen)));
            assert_eq!(send.content, request::Content::Body(body.to_vec().into()));
        }
    }

    #[test]
    fn a_delivered_notice_has_one_mark() {
        let mut out = Vec::new();
        delivered(&[3; 16], 300, &mut out);
        let decoded = request::decode(content(&out)).unwrap();
        let Ok(Request::Delivered(marks)) = decoded.body else { panic!("delivered") };
        assert_eq!((marks.len(), marks[0].seq), (1, Sequence(300)));
        assert_eq!(marks[0].conversation.to_bytes(), [3; 16]);
    }

    #[test]
    fn what_the_server_says_is_read() {
        let mut out = Vec::new();
        let id = Bytes::copy_from_slice(&[4; 16]);
        let reply =
            wire::SendReply { message_id: 9, seq: 300, uncounted: 0, conversation: id.clone() };
        encode::server(7, server_frame::Body::Send(reply), &mut out);
        let read_reply = Incoming::SendReply { seq: 300, conversation: Some([4; 16]) };
        assert_eq!(read(content(&out)), (7, read_reply));

        let message = wire::Message {
            conversation: id.clone(),
            seq: 301,
            content: Some(wire::message::Content::Body(Bytes::from_static(b"hello"))),
            ..wire::Message::default()
        };
        out.clear();
        encode::server(0, server_frame::Body::Message(message.clone()), &mut out);
        let conversation = Some([4; 16]);
        let pushed = Pushed { conversation, seq: 301, own: false, body: b"hello" };
        assert_eq!(read(content(&out)), (0, Incoming::Message(pushed)));

        let reply = wire::HistoryReply {
            messages: vec![message],
            more: true,
            ..wire::HistoryReply::default()
        };
        out.clear();
        encode::server(8, server_frame::Body::History(reply), &mut out);
        let (8, Incoming::History(body)) = read(content(&out)) else { panic!("history") };
        assert_eq!(page(body), (vec![pushed], true));

        let receipt = wire::Receipt { conversation: id, delivered: 12, ..Default::default() };
        let pushed = wire::Receipts { receipts: vec![receipt.clone(), receipt] };
        out.clear();
        encode::server(0, server_frame::Body::Receipts(pushed), &mut out);
        let (0, Incoming::Receipts(body)) = read(content(&out)) else { panic!("receipts") };
        assert_eq!(receipts(body).collect::<Vec<_>>(), [12, 12]);
    }
}
