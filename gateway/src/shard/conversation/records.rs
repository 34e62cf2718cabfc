//! What a conversation stores: its records and its snapshot, both ways.
//!
//! | kind | seq | body |
//! | --- | --- | --- |
//! | 1 created | – | the two user ids |
//! | 2 message | yes | member, device, ids and numbers, marks, body |
//! | 3 receipt | – | member, read mark |
//! | 9 snapshot | – | one chunk of the whole state |

use super::senders::{Accepted, Sender};
use super::{Conversation, Member};
use crate::shard::codec::{Malformed, Reader, Writer};
use crate::shard::message::{Card, Point};
use roost_protocol::ids::{
    ClientMessageId, ClientSequence, ConnectionNumber, ConversationId, DeviceId, MessageId,
    Sequence,
};
use roost_storage_engine::{Position, StoredRecord};
use std::sync::Arc;

/// A direct conversation began.
pub(crate) const KIND_CREATED: u8 = 1;
/// A message.
pub(crate) const KIND_MESSAGE: u8 = 2;
/// A member's read mark.
pub(crate) const KIND_RECEIPT: u8 = 3;
/// A chunk of a snapshot.
pub(crate) const KIND_SNAPSHOT: u8 = 9;

/// The part of a message record before its body. Its seq is the record's, its id the stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageHead {
    pub(crate) member: u8,
    pub(crate) device: DeviceId,
    pub(crate) client_message_id: ClientMessageId,
    pub(crate) client_sequence: ClientSequence,
    pub(crate) uncounted: u64,
    /// Where the sender's own read mark went.
    pub(crate) own_mark: Point,
    pub(crate) reply_to: Sequence,
}

impl MessageHead {
    pub(crate) fn encode(&self) -> Writer {
        let mut out = Writer::default();
        out.number(u64::from(self.member))
            .raw(&self.device.0)
            .fixed(self.client_message_id.0)
            .number(self.client_sequence.0)
            .number(self.uncounted)
            .number(self.own_mark.seq.0)
            .number(self.own_mark.uncounted)
            .number(self.reply_to.0);
        out
    }

    /// Reads the head; what remains is the body.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            member: reader.byte()?,
            device: reader.device()?,
            client_message_id: ClientMessageId(reader.fixed()?),
            client_sequence: ClientSequence(reader.number()?),
            uncounted: reader.number()?,
            own_mark: point(reader)?,
            reply_to: Sequence(reader.number()?),
        })
    }
}

fn point(reader: &mut Reader<'_>) -> Result<Point, Malformed> {
    Ok(Point { seq: Sequence(reader.number()?), uncounted: reader.number()? })
}

fn write_point(out: &mut Writer, point: Point) {
    out.number(point.seq.0).number(point.uncounted);
}

pub(crate) fn encode_created(card: &Card) -> Writer {
    let mut out = Writer::default();
    for (key, id) in &card.users {
        out.raw(&key.to_bytes()).text(id.as_str());
    }
    out
}

fn decode_card(reader: &mut Reader<'_>) -> Result<Card, Malformed> {
    let low = (reader.user()?, reader.user_id()?);
    let high = (reader.user()?, reader.user_id()?);
    Ok(Card { users: [low, high] })
}

pub(crate) fn encode_receipt(member: u8, read: Point) -> Writer {
    let mut out = Writer::default();
    out.number(u64::from(member));
    write_point(&mut out, read);
    out
}

/// The whole state as one body. `run` dates the connection numbers, which only hold in one run of
/// the server.
pub(crate) fn encode_snapshot(conversation: &Conversation, run: u32) -> Writer {
    let mut out = encode_created(&conversation.card);
    write_point(&mut out, conversation.head);
    out.fixed(conversation.head_message_id.0).number(u64::from(run));
    for member in &conversation.members {
        out.number(member.delivered.0);
        write_point(&mut out, member.read);
        write_point(&mut out, member.own_mark);
    }
    out.number(conversation.senders.len() as u64);
    for sender in &conversation.senders {
        out.number(u64::from(sender.member))
            .raw(&sender.device.0)
            .number(sender.last.0)
            .number(sender.connection.0)
            .number(sender.window.len() as u64);
        for accepted in &sender.window {
            out.fixed(accepted.client_message_id.0).fixed(accepted.message_id.0);
            write_point(&mut out, accepted.point);
        }
    }
    out
}

fn decode_snapshot(
    id: ConversationId,
    reader: &mut Reader<'_>,
    run: u32,
) -> Result<Conversation, Malformed> {
    let mut conversation = Conversation::new(id, Arc::new(decode_card(reader)?));
    conversation.head = point(reader)?;
    conversation.head_message_id = MessageId(reader.fixed()?);
    let same_run = reader.number()? == u64::from(run);
    for member in &mut conversation.members {
        member.delivered = Sequence(reader.number()?);
        member.read = point(reader)?;
        member.own_mark = point(reader)?;
    }
    for _ in 0..reader.count()? {
        let mut sender = Sender::new(reader.byte()?, reader.device()?);
        sender.last = ClientSequence(reader.number()?);
        let connection = ConnectionNumber(reader.number()?);
        if same_run {
            sender.connection = connection;
        }
        for _ in 0..reader.count()? {
            sender.window.push_back(Accepted {
                client_message_id: ClientMessageId(reader.fixed()?),
                message_id: MessageId(reader.fixed()?),
                point: point(reader)?,
                position: Position(0),
            });
        }
        conversation.senders.push(sender);
    }
    Ok(conversation)
}

/// Brings a conversation back from its records; `None` when it never began.
pub(crate) fn replay(
    id: ConversationId,
    records: &[StoredRecord],
    run: u32,
) -> Result<Option<Conversation>, Malformed> {
    let mut conversation: Option<Conversation> = None;
    for record in records {
        let mut reader = Reader(&record.body);
        match (record.kind, conversation.as_mut()) {
            (KIND_SNAPSHOT, _) => conversation = Some(decode_snapshot(id, &mut reader, run)?),
            (KIND_CREATED, None) => {
                conversation = Some(Conversation::new(id, Arc::new(decode_card(&mut reader)?)));
            }
            (KIND_MESSAGE, Some(state)) => apply_message(state, record, &mut reader)?,
            (KIND_RECEIPT, Some(state)) => {
                let index = usize::from(reader.byte()?);
                let member = state.members.get_mut(index).ok_or(Malformed)?;
                member.read = member.read.max(point(&mut reader)?);
            }
            (_, _) => return Err(Malformed),
        }
        if let Some(state) = conversation.as_mut() {
            if record.number != state.number + 1 && record.kind != KIND_SNAPSHOT {
                return Err(Malformed);
            }
            state.number = record.number;
        }
    }
    if let Some(state) = conversation.as_mut() {
        state.snapshot_number = match records.last() {
            Some(last) if last.kind == KIND_SNAPSHOT => state.number,
            Some(_) | None => 0,
        };
        state.durable = state.head;
    }
    Ok(conversation)
}

fn apply_message(
    state: &mut Conversation,
    record: &StoredRecord,
    reader: &mut Reader<'_>,
) -> Result<(), Malformed> {
    let head = MessageHead::decode(reader)?;
    let message_id = MessageId(record.stamp);
    if record.seq != state.head.seq.0 + 1 {
        return Err(Malformed);
    }
    state.head = Point { seq: Sequence(record.seq), uncounted: head.uncounted };
    state.head_message_id = message_id;
    let member = state.members.get_mut(usize::from(head.member)).ok_or(Malformed)?;
    member.own_mark = member.own_mark.max(head.own_mark);
    let sender = state.sender(head.member, head.device);
    if head.client_sequence.0 != sender.last.0 + 1 {
        return Err(Malformed);
    }
    sender.accept(
        head.client_sequence,
        Accepted {
            client_message_id: head.client_message_id,
            message_id,
            point: Point { seq: Sequence(record.seq), uncounted: head.uncounted },
            position: Position(0),
        },
    );
    Ok(())
}

impl Member {
    pub(crate) fn new(user: roost_protocol::ids::UserKey) -> Self {
        Self {
            user,
            delivered: Sequence(0),
            delivered_told: Sequence(0),
            read: Point::default(),
            own_mark: Point::default(),
        }
    }
}
