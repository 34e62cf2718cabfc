//! Brings a conversation back from its records. What a record changes is done by the same
//! functions as when it was written.

use super::authors::Author;
use super::records::{self, Change, Head, ReadRecord};
use super::senders::Accepted;
use super::{Conversation, Noted, snapshot};
use crate::shard::codec::{Malformed, Reader};
use crate::shard::message::{Card, Point};
use roost_protocol::ids::{ConversationId, KeyKind, MessageId, Sequence};
use roost_storage_engine::{Position, StoredRecord};
use std::sync::Arc;

/// The conversation of these records; `None` when it never began.
pub(crate) fn replay(
    id: ConversationId,
    stored: &[StoredRecord],
    run: u32,
) -> Result<Option<Conversation>, Malformed> {
    let mut state: Option<Conversation> = None;
    for record in stored {
        let mut reader = Reader(&record.body);
        match (record.kind, state.as_mut()) {
            (records::KIND_SNAPSHOT, _) => state = Some(snapshot::decode(id, &mut reader, run)?),
            (records::KIND_DIRECT, None) if id.kind() == KeyKind::Direct => {
                state = Some(Conversation::new(id, Arc::new(records::decode_direct(&mut reader)?)));
            }
            (records::KIND_GROUP, None) => state = Some(begin_group(id, record, &mut reader)?),
            (records::KIND_READ, Some(state)) => {
                let read = ReadRecord::decode(&mut reader)?;
                if read.member.index() >= state.members.ever() {
                    return Err(Malformed);
                }
                state.note_read(read);
            }
            (records::KIND_BLOCK, Some(state)) => state.replay_block(&mut reader)?,
            (records::KIND_VERSION, Some(state)) => state.replay_version(&mut reader)?,
            (kind, Some(state)) if records::is_written(kind) => {
                take_written(state, record, &mut reader)?;
            }
            (_, _) => return Err(Malformed),
        }
        if let Some(state) = state.as_mut() {
            if record.number != state.number + 1 && record.kind != records::KIND_SNAPSHOT {
                return Err(Malformed);
            }
            state.number = record.number;
        }
    }
    if let Some(state) = state.as_mut() {
        state.snapshot_number = match stored.last() {
            Some(last) if last.kind == records::KIND_SNAPSHOT => state.number,
            Some(_) | None => 0,
        };
        state.durable = state.head;
    }
    Ok(state)
}

fn begin_group(
    id: ConversationId,
    record: &StoredRecord,
    reader: &mut Reader<'_>,
) -> Result<Conversation, Malformed> {
    let card = match id.kind() {
        KeyKind::Group => Card::Group,
        KeyKind::Channel => Card::Channel,
        KeyKind::User | KeyKind::Direct => return Err(Malformed),
    };
    let mut state = Conversation::new(id, Arc::new(card));
    let (title, change) = records::decode_group(reader)?;
    state.begin_with(title, &change)?;
    let point = Point { seq: Sequence(1), uncounted: 1 };
    if record.seq != 1 || state.members.ever() == 0 {
        return Err(Malformed);
    }
    let author = Author {
        member: super::members::MemberNumber(0),
        class: records::class_of(records::KIND_GROUP),
    };
    let message_id = MessageId(record.stamp);
    state.note(Noted { point, message_id, own_mark: point, author, counted: false });
    Ok(state)
}

fn take_written(
    state: &mut Conversation,
    record: &StoredRecord,
    reader: &mut Reader<'_>,
) -> Result<(), Malformed> {
    let head = Head::decode(reader)?;
    if record.seq != state.head.seq.0 + 1 || head.member.index() >= state.members.ever() {
        return Err(Malformed);
    }
    let point = Point { seq: Sequence(record.seq), uncounted: head.uncounted };
    let counted = head.uncounted == state.head.uncounted;
    let message_id = MessageId(record.stamp);
    let accepted = Accepted { message_id, point, position: Position(0) };
    let sender = (head.member, head.device);
    let number = head.client_sequence;
    if !state.senders.accept_again(sender, number, head.client_message_id, accepted) {
        return Err(Malformed);
    }
    let author = Author { member: head.member, class: records::class_of(record.kind) };
    state.note(Noted { point, message_id, own_mark: head.own_mark, author, counted });
    if record.kind == records::KIND_CHANGE {
        state.apply(&Change::decode(reader)?, point)?;
    }
    Ok(())
}
