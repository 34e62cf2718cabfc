//! What a mailbox stores: kinds of records, and what each does to the state. What is done while
//! serving goes through the same functions as what is read after a restart.
//!
//! | kind | numbered | body |
//! | --- | --- | --- |
//! | 2 reserve | yes | the end of a block of change numbers |
//! | 16 device | yes | the user's id, a device that registered |
//! | 17 heads | no | the user's id, rows: soft, merged, in any order |
//! | 18 read | yes | a read mark, whether others are told |
//! | 19 early read | yes | the same, of a conversation that has no entry yet |
//! | 20 signed out | yes | a device, its epoch, when |
//! | 21 soft | yes | what is soft of the slot: devices by last use, their connection numbers |
//! | 22 client | yes | what a device calls itself |
//! | 23 name | yes | what the user calls a device |
//! | 24 privacy | yes | all settings |
//! | 25 block | yes | both users' ids, blocked or not |
//! | 26 settings | yes | mute, archive, pin of an entry |
//! | 27 hidden | yes | seqs that the user does not want to see |
//! | 28 accepted | yes | a request became an entry |
//! | 29 channel | yes | the user wants in, or out |
//! | 30 in channel | yes | the channel let the user in, or there is none |
//! | 31 version wanted | yes | a conversation wants to know the version of the devices |
//! | 32 snapshot | yes | the whole state |

mod apply;
mod snapshot;

pub(crate) use apply::{State, replay};
pub(crate) use snapshot::{encode_snapshot, encode_soft};

use super::row::{Belonging, Row, Standing};
use super::slot::{Privacy, SeenBy};
use crate::shard::codec::{Malformed, Reader, Writer};
use crate::shard::message::{Card, Point};
use roost_protocol::ids::{
    ConversationId, DeviceId, KeyKind, MessageId, Sequence, UserId, UserKey,
};
use std::sync::Arc;

pub(crate) const KIND_RESERVE: u8 = 2;
pub(crate) const KIND_DEVICE: u8 = 16;
pub(crate) const KIND_HEADS: u8 = 17;
pub(crate) const KIND_READ: u8 = 18;
pub(crate) const KIND_EARLY_READ: u8 = 19;
pub(crate) const KIND_SIGNED_OUT: u8 = 20;
pub(crate) const KIND_SOFT: u8 = 21;
pub(crate) const KIND_CLIENT: u8 = 22;
pub(crate) const KIND_NAME: u8 = 23;
pub(crate) const KIND_PRIVACY: u8 = 24;
pub(crate) const KIND_BLOCK: u8 = 25;
pub(crate) const KIND_SETTINGS: u8 = 26;
pub(crate) const KIND_HIDDEN: u8 = 27;
pub(crate) const KIND_ACCEPTED: u8 = 28;
pub(crate) const KIND_CHANNEL: u8 = 29;
pub(crate) const KIND_IN_CHANNEL: u8 = 30;
pub(crate) const KIND_VERSION_WANTED: u8 = 31;
pub(crate) const KIND_SNAPSHOT: u8 = 32;

/// Rows in one heads record: it stays far below the largest record.
pub(crate) const ROWS_PER_RECORD: usize = 256;

// ---- parts ----

fn text(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let length = reader.count()?;
    let text = std::str::from_utf8(reader.raw(length)?).map_err(|_| Malformed)?;
    Ok(text.to_owned())
}

fn small(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    u32::try_from(reader.number()?).map_err(|_| Malformed)
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match reader.number()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn point(reader: &mut Reader<'_>) -> Result<Point, Malformed> {
    Ok(Point { seq: Sequence(reader.number()?), uncounted: reader.number()? })
}

fn write_point(out: &mut Writer, point: Point) {
    out.number(point.seq.0).number(point.uncounted);
}

fn write_seqs(out: &mut Writer, seqs: &[Sequence]) {
    out.number(seqs.len() as u64);
    let mut last = 0;
    for seq in seqs {
        out.number(seq.0.wrapping_sub(last));
        last = seq.0;
    }
}

/// Seqs, rising.
fn read_seqs(reader: &mut Reader<'_>) -> Result<Vec<Sequence>, Malformed> {
    let (mut seqs, mut last) = (Vec::new(), 0_u64);
    for _ in 0..reader.count()? {
        last = last.checked_add(reader.number()?).ok_or(Malformed)?;
        seqs.push(Sequence(last));
    }
    Ok(seqs)
}

/// A conversation, and with whom if it is a direct one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) conversation: ConversationId,
    peer: Option<(UserKey, UserId)>,
}

impl Who {
    fn write(out: &mut Writer, row: &Row, user: UserKey) {
        out.raw(&row.conversation.to_bytes());
        if let Some((key, id)) = row.card.as_ref().and_then(|card| card.peer_of(user)) {
            out.raw(&key.to_bytes()).text(id.as_str());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let conversation = reader.conversation()?;
        let direct = conversation.kind() == KeyKind::Direct;
        let peer = if direct { Some((reader.user()?, reader.user_id()?)) } else { None };
        Ok(Self { conversation, peer })
    }

    fn card(self, user: UserKey, own: Option<&UserId>) -> Result<Arc<Card>, Malformed> {
        let Some(peer) = self.peer else { return Ok(Arc::new(Card::Group)) };
        let own = (user, own.ok_or(Malformed)?.clone());
        Ok(Arc::new(Card::Direct(if own.0 < peer.0 { [own, peer] } else { [peer, own] })))
    }
}

/// The body of a record about an entry: which one and how it stands, then what `more` says. The
/// entry itself may not be stored yet: it is soft.
pub(crate) fn about(row: &Row, user: UserKey, more: impl FnOnce(&mut Writer)) -> Writer {
    let mut out = Writer::default();
    Who::write(&mut out, row, user);
    out.number((row.standing == Standing::Request).into());
    more(&mut out);
    out
}

fn read_about(reader: &mut Reader<'_>) -> Result<(Who, Standing), Malformed> {
    let who = Who::read(reader)?;
    let standing = if flag(reader)? { Standing::Request } else { Standing::Accepted };
    Ok((who, standing))
}

// ---- rows ----

const ROW_OWN_MARK: u64 = 1;
const ROW_PEER_MARKS: u64 = 2;
const ROW_MEMBERSHIP: u64 = 4;
const ROW_LEFT: u64 = 8;
const ROW_BY: u64 = 16;
const ROW_ACCEPTED: u64 = 32;
const ROW_REQUEST: u64 = 64;

fn write_row(out: &mut Writer, row: &Row, user: UserKey) {
    Who::write(out, row, user);
    let membership = row.membership.as_deref();
    let by = membership.and_then(|membership| membership.by);
    let facts = [
        (row.own_mark != Point::default(), ROW_OWN_MARK),
        (row.peer_delivered.0 > 0 || row.peer_read.0 > 0, ROW_PEER_MARKS),
        (membership.is_some(), ROW_MEMBERSHIP),
        (row.has_left(), ROW_LEFT),
        (by.is_some(), ROW_BY),
        (row.standing == Standing::Accepted, ROW_ACCEPTED),
        (row.standing == Standing::Request, ROW_REQUEST),
    ];
    let flags: u64 = facts.iter().filter(|(holds, _)| *holds).map(|(_, flag)| flag).sum();
    out.number(flags);
    write_point(out, row.head);
    out.fixed(row.message_id.0);
    if flags & ROW_OWN_MARK != 0 {
        write_point(out, row.own_mark);
    }
    if flags & ROW_PEER_MARKS != 0 {
        out.number(row.peer_delivered.0).number(row.peer_read.0);
    }
    if let Some(membership) = membership {
        out.number(membership.member.into());
        write_point(out, membership.since);
        write_point(out, membership.joined);
        if let Some(by) = by {
            out.raw(&by.to_bytes());
        }
    }
}

fn read_row(
    reader: &mut Reader<'_>,
    user: UserKey,
    own: Option<&UserId>,
) -> Result<Row, Malformed> {
    let who = Who::read(reader)?;
    let conversation = who.conversation;
    let mut row = Row::new(conversation, &who.card(user, own)?);
    let flags = reader.number()?;
    row.head = point(reader)?;
    row.message_id = MessageId(reader.fixed()?);
    if flags & ROW_OWN_MARK != 0 {
        row.own_mark = point(reader)?;
    }
    if flags & ROW_PEER_MARKS != 0 {
        row.peer_delivered = Sequence(reader.number()?);
        row.peer_read = Sequence(reader.number()?);
    }
    if flags & ROW_MEMBERSHIP != 0 {
        row.membership = Some(Box::new(Belonging {
            member: small(reader)?,
            since: point(reader)?,
            joined: point(reader)?,
            left: flags & ROW_LEFT != 0,
            by: if flags & ROW_BY != 0 { Some(reader.user()?) } else { None },
        }));
    }
    row.standing = match flags & (ROW_ACCEPTED | ROW_REQUEST) {
        0 => Standing::Open,
        ROW_ACCEPTED => Standing::Accepted,
        ROW_REQUEST => Standing::Request,
        _ => return Err(Malformed),
    };
    Ok(row)
}

/// One heads record of some rows. It carries the user's own id if a direct conversation among them
/// says it: the mailbox may be new.
pub(crate) fn encode_rows<'a>(
    user: UserKey,
    rows: impl ExactSizeIterator<Item = &'a Row> + Clone,
) -> Writer {
    let mut out = Writer::default();
    let own = rows.clone().find_map(|row| row.card.as_ref().and_then(|card| card.user_id(user)));
    out.text(own.map_or("", UserId::as_str)).number(rows.len() as u64);
    for row in rows {
        write_row(&mut out, row, user);
    }
    out
}

// ---- single facts ----

pub(crate) fn encode_number(number: u64) -> Writer {
    let mut out = Writer::default();
    out.number(number);
    out
}

/// A device registers.
pub(crate) fn encode_device(
    user: &UserId,
    device: DeviceId,
    epoch: u32,
    registered_ms: u64,
    client: &str,
) -> Writer {
    let mut out = Writer::default();
    out.text(user.as_str()).raw(&device.0).number(epoch.into()).number(registered_ms).text(client);
    out
}

pub(crate) fn encode_signed_out(device: DeviceId, epoch: u32, at_ms: u64) -> Writer {
    let mut out = Writer::default();
    out.raw(&device.0).number(epoch.into()).number(at_ms);
    out
}

/// What a device is called, by itself or by the user.
pub(crate) fn encode_called(device: DeviceId, called: &str) -> Writer {
    let mut out = Writer::default();
    out.raw(&device.0).text(called);
    out
}

pub(crate) fn encode_privacy(privacy: Privacy) -> Writer {
    let mut out = Writer::default();
    write_privacy(&mut out, privacy);
    out
}

fn write_privacy(out: &mut Writer, privacy: Privacy) {
    let presence = match privacy.presence {
        SeenBy::Everyone => 0,
        SeenBy::Contacts => 1,
        SeenBy::Nobody => 2,
    };
    out.number(presence).number(privacy.contacts_only.into()).number(privacy.read_receipts.into());
}

fn read_privacy(reader: &mut Reader<'_>) -> Result<Privacy, Malformed> {
    let presence = match reader.number()? {
        0 => SeenBy::Everyone,
        1 => SeenBy::Contacts,
        2 => SeenBy::Nobody,
        _ => return Err(Malformed),
    };
    Ok(Privacy { presence, contacts_only: flag(reader)?, read_receipts: flag(reader)? })
}

/// A block, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockRecord {
    /// The user's own id: telling the conversation again needs nothing else.
    pub(crate) own: UserId,
    pub(crate) peer: (UserKey, UserId),
    pub(crate) blocked: bool,
}

impl BlockRecord {
    pub(crate) fn encode(&self) -> Writer {
        let mut out = Writer::default();
        out.text(self.own.as_str()).raw(&self.peer.0.to_bytes()).text(self.peer.1.as_str());
        out.number(self.blocked.into());
        out
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        Ok(Self {
            own: reader.user_id()?,
            peer: (reader.user()?, reader.user_id()?),
            blocked: flag(&mut reader)?,
        })
    }
}

/// A read mark.
pub(crate) fn encode_read(row: &Row, user: UserKey, said: Point, private: bool) -> Writer {
    about(row, user, |out| write_said(out, said, private))
}

pub(crate) fn encode_early_read(
    conversation: ConversationId,
    said: Point,
    private: bool,
) -> Writer {
    let mut out = Writer::default();
    out.raw(&conversation.to_bytes());
    write_said(&mut out, said, private);
    out
}

fn write_said(out: &mut Writer, said: Point, private: bool) {
    write_point(out, said);
    out.number(private.into());
}

/// A read mark as its record says it: where, up to what, and whether others are not told.
pub(crate) fn decode_read(
    kind: u8,
    body: &[u8],
) -> Result<(ConversationId, Point, bool), Malformed> {
    let mut reader = Reader(body);
    let conversation = match kind {
        KIND_READ => read_about(&mut reader)?.0.conversation,
        KIND_EARLY_READ => reader.conversation()?,
        _ => return Err(Malformed),
    };
    Ok((conversation, point(&mut reader)?, flag(&mut reader)?))
}

pub(crate) fn encode_settings(
    row: &Row,
    user: UserKey,
    muted_until_ms: u64,
    archived: bool,
    pinned: u32,
) -> Writer {
    about(row, user, |out| {
        out.number(muted_until_ms).number(archived.into()).number(pinned.into());
    })
}

pub(crate) fn encode_hidden(row: &Row, user: UserKey, seqs: &[Sequence]) -> Writer {
    about(row, user, |out| write_seqs(out, seqs))
}

/// The user wants into a channel, or out of it.
pub(crate) fn encode_channel(channel: ConversationId, joined: bool) -> Writer {
    let mut out = Writer::default();
    out.raw(&channel.to_bytes()).number(joined.into());
    out
}

pub(crate) fn decode_channel(body: &[u8]) -> Result<(ConversationId, bool), Malformed> {
    let mut reader = Reader(body);
    Ok((reader.conversation()?, flag(&mut reader)?))
}

/// What a channel answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InChannel {
    pub(crate) channel: ConversationId,
    /// The user is in; else there is no such channel.
    pub(crate) exists: bool,
    pub(crate) head: Point,
    /// Stands for the time in the list.
    pub(crate) message_id: MessageId,
}

impl InChannel {
    pub(crate) fn encode(&self) -> Writer {
        let mut out = Writer::default();
        out.raw(&self.channel.to_bytes()).number(self.exists.into());
        write_point(&mut out, self.head);
        out.fixed(self.message_id.0);
        out
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            channel: reader.conversation()?,
            exists: flag(reader)?,
            head: point(reader)?,
            message_id: MessageId(reader.fixed()?),
        })
    }
}

pub(crate) fn encode_conversation(conversation: ConversationId) -> Writer {
    let mut out = Writer::default();
    out.raw(&conversation.to_bytes());
    out
}
