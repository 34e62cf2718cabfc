//! What a conversation stores, record by record.
//!
//! | kind | seq | body |
//! | --- | --- | --- |
//! | 16 direct | – | both users: key, id |
//! | 17 group | 1 | name, picture, keys of the members, the system message |
//! | 18 message | yes | head, body as it was sent |
//! | 19 edit, 20 delete, 21 reaction, 22 forward, 23 to devices | yes | head, the wire message |
//! | 24 change | yes | head, keys of the members concerned, the system message |
//! | 32 read | – | member, seq, ms, private |
//! | 33 block | – | member, number, blocked |
//! | 34 version | – | member, version |
//! | 40 snapshot | – | the whole state, see `snapshot.rs` |
//!
//! Kinds 1 to 9 were used before there were groups and are not used again. The wire message of a
//! record is stored as it travels, so history passes it on; a plain body is stored raw.

use super::authors::Class;
use super::members::MemberNumber;
use crate::shard::codec::{Malformed, Reader, Writer};
use crate::shard::message::{Card, Point};
use bytes::Bytes;
use prost::Message;
use roost_protocol::ids::{ClientMessageId, ClientSequence, DeviceId, Sequence, UserId, UserKey};
use roost_protocol::wire;
use roost_storage_engine::StoredRecord;

/// A direct conversation began.
pub(crate) const KIND_DIRECT: u8 = 16;
/// A group or channel began.
pub(crate) const KIND_GROUP: u8 = 17;
/// A message.
pub(crate) const KIND_MESSAGE: u8 = 18;
/// Another body for a message.
pub(crate) const KIND_EDIT: u8 = 19;
/// A message is taken back.
pub(crate) const KIND_DELETE: u8 = 20;
/// What somebody thinks of a message.
pub(crate) const KIND_REACTION: u8 = 21;
/// A message that names where it was said.
pub(crate) const KIND_FORWARD: u8 = 22;
/// A ciphertext for each device.
pub(crate) const KIND_TO_DEVICES: u8 = 23;
/// The group changed.
pub(crate) const KIND_CHANGE: u8 = 24;
/// A member's read mark.
pub(crate) const KIND_READ: u8 = 32;
/// One of the two blocked the other, or does not any more.
pub(crate) const KIND_BLOCK: u8 = 33;
/// The version of a user's list of devices.
pub(crate) const KIND_VERSION: u8 = 34;
/// The whole state.
pub(crate) const KIND_SNAPSHOT: u8 = 40;

/// The part of a written record before what it says. Its seq is the record's, its id the stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) member: MemberNumber,
    pub(crate) device: DeviceId,
    pub(crate) client_message_id: ClientMessageId,
    pub(crate) client_sequence: ClientSequence,
    pub(crate) uncounted: u64,
    /// Where the sender's own read mark went.
    pub(crate) own_mark: Point,
    pub(crate) reply_to: Sequence,
}

impl Head {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.number(u64::from(self.member.0))
            .raw(&self.device.0)
            .fixed(self.client_message_id.0)
            .number(self.client_sequence.0)
            .number(self.uncounted)
            .number(self.own_mark.seq.0)
            .number(self.own_mark.uncounted)
            .number(self.reply_to.0);
    }

    /// Reads the head; what remains is what it says.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            member: read_member(reader)?,
            device: reader.device()?,
            client_message_id: ClientMessageId(reader.fixed()?),
            client_sequence: ClientSequence(reader.number()?),
            uncounted: reader.number()?,
            own_mark: read_point(reader)?,
            reply_to: Sequence(reader.number()?),
        })
    }
}

pub(crate) fn read_point(reader: &mut Reader<'_>) -> Result<Point, Malformed> {
    Ok(Point { seq: Sequence(reader.number()?), uncounted: reader.number()? })
}

pub(crate) fn write_point(out: &mut Writer, point: Point) {
    out.number(point.seq.0).number(point.uncounted);
}

pub(crate) fn read_member(reader: &mut Reader<'_>) -> Result<MemberNumber, Malformed> {
    u16::try_from(reader.number()?).map(MemberNumber).map_err(|_| Malformed)
}

pub(crate) fn read_text(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let length = reader.count()?;
    String::from_utf8(reader.raw(length)?.to_vec()).map_err(|_| Malformed)
}

/// Whether a kind is of those that people see, which have a seq and a head.
pub(crate) const fn is_written(kind: u8) -> bool {
    matches!(kind, KIND_MESSAGE..=KIND_CHANGE)
}

/// What may be done to a record of this kind.
pub(crate) const fn class_of(kind: u8) -> Class {
    match kind {
        KIND_MESSAGE | KIND_FORWARD => Class::Open,
        KIND_TO_DEVICES => Class::Sealed,
        _ => Class::Fixed,
    }
}

pub(crate) fn encode_direct(users: &[(UserKey, UserId); 2]) -> Writer {
    let mut out = Writer::default();
    for (key, id) in users {
        out.raw(&key.to_bytes()).text(id.as_str());
    }
    out
}

pub(crate) fn decode_direct(reader: &mut Reader<'_>) -> Result<Card, Malformed> {
    let low = (reader.user()?, reader.user_id()?);
    let high = (reader.user()?, reader.user_id()?);
    Ok(Card::Direct([low, high]))
}

/// A change of a group with the keys of the members it concerns, in the order of the message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) message: wire::SystemMessage,
    pub(crate) keys: Vec<UserKey>,
}

impl Change {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.number(self.keys.len() as u64);
        for key in &self.keys {
            out.raw(&key.to_bytes());
        }
        self.message.encode(&mut out.bytes).expect("a vector grows as needed");
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.count()?;
        let keys = (0..count).map(|_| reader.user()).collect::<Result<Vec<_>, _>>()?;
        let message = wire::SystemMessage::decode(reader.0).map_err(|_| Malformed)?;
        if message.members.len() == keys.len() {
            Ok(Self { message, keys })
        } else {
            Err(Malformed)
        }
    }
}

/// What a new group or channel is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Title {
    pub(crate) name: String,
    pub(crate) picture: String,
}

pub(crate) fn encode_group(title: &Title, created: &Change) -> Writer {
    let mut out = Writer::default();
    out.text(&title.name).text(&title.picture);
    created.encode(&mut out);
    out
}

pub(crate) fn decode_group(reader: &mut Reader<'_>) -> Result<(Title, Change), Malformed> {
    let title = Title { name: read_text(reader)?, picture: read_text(reader)? };
    Ok((title, Change::decode(reader)?))
}

/// A read mark as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadRecord {
    pub(crate) member: MemberNumber,
    pub(crate) seq: Sequence,
    pub(crate) ms: u64,
    pub(crate) private: bool,
}

impl ReadRecord {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.number(u64::from(self.member.0))
            .number(self.seq.0)
            .number(self.ms)
            .number(u64::from(self.private));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            member: read_member(reader)?,
            seq: Sequence(reader.number()?),
            ms: reader.number()?,
            private: reader.number()? != 0,
        })
    }
}

/// What a record says, as its readers get it; the outer `None` when it is not one of those.
pub(crate) struct Said {
    pub(crate) author: MemberNumber,
    pub(crate) uncounted: u64,
    pub(crate) reply_to: Sequence,
    pub(crate) client_message_id: ClientMessageId,
    pub(crate) what: SaidWhat,
}

/// The content of a record.
pub(crate) enum SaidWhat {
    /// The same for everybody.
    Content(wire::message::Content),
    /// A ciphertext for each device.
    ToDevices(wire::ToDevices),
}

/// Reads a record that people see.
pub(crate) fn said(record: &StoredRecord) -> Result<Said, Malformed> {
    use wire::message::Content;
    let mut reader = Reader(&record.body);
    let head = if record.kind == KIND_GROUP {
        let (_, change) = decode_group(&mut reader)?;
        let author = change.message.members.first().map_or(0, |member| member.member);
        let author = u16::try_from(author.saturating_sub(1)).map_err(|_| Malformed)?;
        return Ok(Said {
            author: MemberNumber(author),
            uncounted: 1,
            reply_to: Sequence(0),
            client_message_id: ClientMessageId(0),
            what: SaidWhat::Content(Content::System(change.message)),
        });
    } else {
        Head::decode(&mut reader)?
    };
    let body = || record.body.slice(record.body.len() - reader.0.len()..);
    let what = match record.kind {
        KIND_MESSAGE => SaidWhat::Content(Content::Body(body())),
        KIND_EDIT => SaidWhat::Content(Content::Edit(decode(body())?)),
        KIND_DELETE => SaidWhat::Content(Content::Delete(decode(body())?)),
        KIND_REACTION => SaidWhat::Content(Content::Reaction(decode(body())?)),
        KIND_FORWARD => SaidWhat::Content(Content::Forward(decode(body())?)),
        KIND_TO_DEVICES => SaidWhat::ToDevices(decode(body())?),
        KIND_CHANGE => SaidWhat::Content(Content::System(Change::decode(&mut reader)?.message)),
        _ => return Err(Malformed),
    };
    Ok(Said {
        author: head.member,
        uncounted: head.uncounted,
        reply_to: head.reply_to,
        client_message_id: head.client_message_id,
        what,
    })
}

fn decode<M: Message + Default>(body: Bytes) -> Result<M, Malformed> {
    M::decode(body).map_err(|_| Malformed)
}
