//! The whole state of a conversation as one record: loading begins there.
//!
//! Its size is bounded, so that it fits a segment and a batch of the store: see the assertion at
//! the end.

use super::members::{EVER_MAX, Member, PRESENT_MAX, Role, STRETCHES_MAX, Stretch};
use super::records::{
    decode_direct, encode_direct, read_member, read_point, read_text, write_point,
};
use super::senders::{
    Accepted, SENDERS_OF_LEFT_MAX, SENDERS_PER_MEMBER_MAX, Sender, UNHEARD_PER_MEMBER_MAX,
    WINDOWS_MAX,
};
use super::{Block, Conversation, Direct};
use crate::shard::codec::{Malformed, Reader, Writer};
use crate::shard::message::Card;
use roost_protocol::ids::{
    ClientMessageId, ClientSequence, ConnectionNumber, ConversationId, KeyKind, MessageId,
    Sequence, USER_ID_MAX_BYTES, UserKey,
};
use roost_protocol::limits::UNANSWERED_WRITES_MAX;
use roost_storage_engine::Position;
use std::sync::Arc;

/// The whole state as one body. `run` dates what only holds in one run of the server: connection
/// numbers, and what was told.
pub(crate) fn encode(conversation: &Conversation, run: u32) -> Writer {
    let mut out = Writer::default();
    out.number(u64::from(run));
    write_point(&mut out, conversation.head);
    out.fixed(conversation.head_message_id.0);
    match (&*conversation.card, &conversation.group) {
        (Card::Direct(users), _) => {
            out.raw(&encode_direct(users).bytes);
            for member in &conversation.members.list {
                write_marks(&mut out, member);
            }
            let direct = conversation.direct.as_deref();
            write_direct(&mut out, direct.filter(|direct| direct.is_written()));
        }
        (Card::Group | Card::Channel, group) => {
            if let Some(group) = group {
                out.text(&group.title.name).text(&group.title.picture).number(group.followers());
            }
            out.number(conversation.members.list.len() as u64);
            for member in &conversation.members.list {
                write_member(&mut out, member);
            }
        }
    }
    out.number(conversation.senders.list.len() as u64);
    for sender in &conversation.senders.list {
        write_sender(&mut out, sender);
    }
    out
}

/// Reads what `encode` wrote.
pub(crate) fn decode(
    id: ConversationId,
    reader: &mut Reader<'_>,
    run: u32,
) -> Result<Conversation, Malformed> {
    let same_run = reader.number()? == u64::from(run);
    let head = read_point(reader)?;
    let head_message_id = MessageId(reader.fixed()?);
    let mut conversation = if id.kind() == KeyKind::Direct {
        let mut conversation = Conversation::new(id, Arc::new(decode_direct(reader)?));
        for member in &mut conversation.members.list {
            read_marks(reader, member)?;
        }
        conversation.direct = read_direct(reader)?;
        conversation
    } else {
        let card = if id.kind() == KeyKind::Channel { Card::Channel } else { Card::Group };
        let mut conversation = Conversation::new(id, Arc::new(card));
        let (name, picture) = (read_text(reader)?, read_text(reader)?);
        let followers = reader.number()?;
        let group = conversation.group.as_mut().ok_or(Malformed)?;
        (group.title.name, group.title.picture) = (name, picture);
        group.restore_followers(followers);
        for _ in 0..reader.count()? {
            conversation.members.restore(read_group_member(reader)?)?;
        }
        conversation
    };
    conversation.head = head;
    conversation.head_message_id = head_message_id;
    for _ in 0..reader.count()? {
        let sender = read_sender(reader, same_run)?;
        if sender.member.index() >= conversation.members.list.len() {
            return Err(Malformed);
        }
        conversation.senders.restore(sender);
    }
    conversation.note_loaded(same_run);
    Ok(conversation)
}

// ---- members ----

fn write_marks(out: &mut Writer, member: &Member) {
    out.number(member.delivered.0)
        .number(member.delivered_ms)
        .number(member.read.0)
        .number(member.read_ms)
        .number(u64::from(member.private))
        .number(member.delivered_told.0)
        .number(member.read_told.0);
    write_point(out, member.own_mark);
}

fn read_marks(reader: &mut Reader<'_>, member: &mut Member) -> Result<(), Malformed> {
    member.delivered = Sequence(reader.number()?);
    member.delivered_ms = reader.number()?;
    member.read = Sequence(reader.number()?);
    member.read_ms = reader.number()?;
    member.private = reader.number()? != 0;
    member.delivered_told = Sequence(reader.number()?);
    member.read_told = Sequence(reader.number()?);
    member.own_mark = read_point(reader)?;
    Ok(())
}

fn write_member(out: &mut Writer, member: &Member) {
    out.raw(&member.user.to_bytes());
    out.text(member.user_id.as_ref().map_or("", |id| id.as_str()));
    out.number(u64::from(member.role.to_wire().unsigned_abs()));
    write_marks(out, member);
    out.number(member.own_last.0).number(member.since_uncounted);
    out.number(member.undelivered.0).number(member.unread.0);
    out.number(member.stretches.len() as u64);
    for stretch in &member.stretches {
        out.number(stretch.joined.0).number(stretch.left.0);
    }
}

fn read_group_member(reader: &mut Reader<'_>) -> Result<Member, Malformed> {
    let user: UserKey = reader.user()?;
    let mut member = Member::new(user, Some(reader.user_id()?));
    member.role = Role::from_wire(i32::from(reader.byte()?))?;
    read_marks(reader, &mut member)?;
    member.own_last = Sequence(reader.number()?);
    member.since_uncounted = reader.number()?;
    member.undelivered = Sequence(reader.number()?);
    member.unread = Sequence(reader.number()?);
    for _ in 0..reader.count()? {
        let (joined, left) = (Sequence(reader.number()?), Sequence(reader.number()?));
        member.stretches.push(Stretch { joined, left });
    }
    if member.stretches.is_empty() || member.stretches.len() > STRETCHES_MAX {
        return Err(Malformed);
    }
    Ok(member)
}

fn write_direct(out: &mut Writer, direct: Option<&Direct>) {
    let Some(direct) = direct else {
        out.number(0);
        return;
    };
    out.number(1);
    for block in direct.blocks {
        out.number(block.number).number(u64::from(block.blocked));
    }
    for version in direct.versions {
        out.number(version);
    }
}

fn read_direct(reader: &mut Reader<'_>) -> Result<Option<Box<Direct>>, Malformed> {
    if reader.number()? == 0 {
        return Ok(None);
    }
    let mut direct = Box::new(Direct::default());
    for block in &mut direct.blocks {
        *block = Block { number: reader.number()?, blocked: reader.number()? != 0 };
    }
    for version in &mut direct.versions {
        *version = reader.number()?;
    }
    Ok(Some(direct))
}

// ---- senders ----

fn write_sender(out: &mut Writer, sender: &Sender) {
    out.number(u64::from(sender.member.0))
        .raw(&sender.device.0)
        .number(sender.last.0)
        .number(sender.connection.0)
        .number(sender.used)
        .number(sender.window.len() as u64);
    // Ids of messages rise with their seqs: the differences are small.
    let (mut seq, mut message_id) = (0, 0);
    for (id, accepted) in sender.window.iter() {
        out.fixed(id.0)
            .number(accepted.message_id.0.wrapping_sub(message_id))
            .number(accepted.point.seq.0.wrapping_sub(seq))
            .number(accepted.point.uncounted);
        (seq, message_id) = (accepted.point.seq.0, accepted.message_id.0);
    }
}

fn read_sender(reader: &mut Reader<'_>, same_run: bool) -> Result<Sender, Malformed> {
    let mut sender = Sender::new(read_member(reader)?, reader.device()?);
    sender.last = ClientSequence(reader.number()?);
    let connection = ConnectionNumber(reader.number()?);
    if same_run {
        sender.connection = connection;
    }
    sender.used = reader.number()?;
    let (mut seq, mut message_id) = (0_u64, 0_u64);
    for _ in 0..reader.count()? {
        let id = ClientMessageId(reader.fixed()?);
        message_id = message_id.wrapping_add(reader.number()?);
        seq = seq.wrapping_add(reader.number()?);
        let uncounted = reader.number()?;
        let point = crate::shard::message::Point { seq: Sequence(seq), uncounted };
        let message_id = MessageId(message_id);
        sender.window.push(id, Accepted { message_id, point, position: Position(0) });
    }
    Ok(sender)
}

// ---- its size ----

/// The most bytes of a number whose value is bounded by how much was ever said or by the clock: 56
/// bits.
const NUMBER_BYTES: usize = 8;
const MEMBER_BYTES: usize =
    16 + 1 + USER_ID_MAX_BYTES + 1 + 10 * NUMBER_BYTES + STRETCHES_MAX * 2 * NUMBER_BYTES;
const SENDER_BYTES: usize = 3 + 16 + 3 * NUMBER_BYTES + 1;
const WINDOW_BYTES: usize = UNANSWERED_WRITES_MAX * (8 + 10 + 2 * NUMBER_BYTES);
/// The most that a snapshot can take.
pub(crate) const SNAPSHOT_MAX_BYTES: usize = 1024
    + EVER_MAX * (MEMBER_BYTES + (SENDERS_OF_LEFT_MAX + UNHEARD_PER_MEMBER_MAX) * SENDER_BYTES)
    + PRESENT_MAX * SENDERS_PER_MEMBER_MAX * SENDER_BYTES
    + WINDOWS_MAX * WINDOW_BYTES;

// A batch of the store takes 8 MiB, a segment as configured 64.
const _: () = assert!(SNAPSHOT_MAX_BYTES < 7 << 20);
