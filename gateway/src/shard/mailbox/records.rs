//! What a mailbox stores, both ways.
//!
//! | kind | numbered | body |
//! | --- | --- | --- |
//! | 1 device | yes | the user's id, a device that registered |
//! | 2 reserve | yes | the end of a block of change numbers |
//! | 3 heads | no | rows: soft, merged, in any order |
//! | 4 read | yes | a read mark |
//! | 5 device gone | yes | a device that was signed out |
//! | 6 connections | yes | devices by last use, their newest connection numbers, the run of those |
//! | 7 early read | yes | a read mark of a conversation that has no entry yet |
//! | 9 snapshot | yes | the whole state |

use super::entries::{Entries, Row};
use super::{Device, Slot};
use crate::shard::codec::{Malformed, Reader, Writer};
use crate::shard::message::{Card, Point};
use roost_protocol::ids::{
    ConnectionNumber, ConversationId, DeviceId, MessageId, Sequence, UserId,
};
use roost_storage_engine::StoredRecord;
use std::sync::Arc;

pub(crate) const KIND_DEVICE: u8 = 1;
pub(crate) const KIND_RESERVE: u8 = 2;
pub(crate) const KIND_HEADS: u8 = 3;
pub(crate) const KIND_READ: u8 = 4;
pub(crate) const KIND_DEVICE_GONE: u8 = 5;
pub(crate) const KIND_CONNECTIONS: u8 = 6;
pub(crate) const KIND_EARLY_READ: u8 = 7;
pub(crate) const KIND_SNAPSHOT: u8 = 9;

/// Rows in one heads record: it stays far below the largest record.
pub(crate) const ROWS_PER_RECORD: usize = 256;

pub(crate) fn encode_device(user: &UserId, device: DeviceId, epoch: u32) -> Writer {
    let mut out = Writer::default();
    out.text(user.as_str()).raw(&device.0).number(u64::from(epoch));
    out
}

pub(crate) fn encode_number(number: u64) -> Writer {
    let mut out = Writer::default();
    out.number(number);
    out
}

/// The card goes with it: heads are soft, so the entry may not be stored yet.
pub(crate) fn encode_read(conversation: ConversationId, read: Point, card: &Card) -> Writer {
    let mut out = Writer::default();
    out.raw(&conversation.to_bytes()).number(read.seq.0).number(read.uncounted);
    write_card(&mut out, card);
    out
}

pub(crate) fn decode_read(body: &[u8]) -> Result<(ConversationId, Point, Card), Malformed> {
    let mut reader = Reader(body);
    Ok((reader.conversation()?, point(&mut reader)?, read_card(&mut reader)?))
}

pub(crate) fn encode_early_read(conversation: ConversationId, read: Point) -> Writer {
    let mut out = Writer::default();
    out.raw(&conversation.to_bytes()).number(read.seq.0).number(read.uncounted);
    out
}

pub(crate) fn decode_early_read(body: &[u8]) -> Result<(ConversationId, Point), Malformed> {
    let mut reader = Reader(body);
    Ok((reader.conversation()?, point(&mut reader)?))
}

fn write_card(out: &mut Writer, card: &Card) {
    for (key, id) in &card.users {
        out.raw(&key.to_bytes()).text(id.as_str());
    }
}

fn read_card(reader: &mut Reader<'_>) -> Result<Card, Malformed> {
    let low = (reader.user()?, reader.user_id()?);
    let high = (reader.user()?, reader.user_id()?);
    Ok(Card { users: [low, high] })
}

pub(crate) fn encode_connections(devices: &[Device], run: u32) -> Writer {
    let mut out = Writer::default();
    out.number(u64::from(run)).number(devices.len() as u64);
    for device in devices {
        out.raw(&device.id.0).number(device.connection.0);
    }
    out
}

fn point(reader: &mut Reader<'_>) -> Result<Point, Malformed> {
    Ok(Point { seq: Sequence(reader.number()?), uncounted: reader.number()? })
}

fn write_row(out: &mut Writer, conversation: ConversationId, row: &Row) {
    out.raw(&conversation.to_bytes());
    write_card(out, &row.card);
    out.number(row.head.seq.0)
        .number(row.head.uncounted)
        .fixed(row.message_id.0)
        .number(row.own_mark.seq.0)
        .number(row.own_mark.uncounted)
        .number(row.peer_delivered.0)
        .number(row.peer_read.0);
}

fn read_row(reader: &mut Reader<'_>) -> Result<(ConversationId, Row), Malformed> {
    let conversation = reader.conversation()?;
    let mut row = Row::new(Arc::new(read_card(reader)?));
    row.head = point(reader)?;
    row.message_id = MessageId(reader.fixed()?);
    row.own_mark = point(reader)?;
    row.peer_delivered = Sequence(reader.number()?);
    row.peer_read = Sequence(reader.number()?);
    Ok((conversation, row))
}

/// One heads record of some rows.
pub(crate) fn encode_rows(rows: &[(ConversationId, &Row)]) -> Writer {
    let mut out = Writer::default();
    out.number(rows.len() as u64);
    for (conversation, row) in rows {
        write_row(&mut out, *conversation, row);
    }
    out
}

/// The whole state as one body.
pub(crate) fn encode_snapshot(slot: &Slot, entries: &Entries, run: u32) -> Writer {
    let mut out = Writer::default();
    out.text(slot.user_id.as_ref().map_or("", UserId::as_str));
    out.number(u64::from(run)).number(slot.devices.len() as u64);
    for device in &slot.devices {
        out.raw(&device.id.0).number(u64::from(device.epoch)).number(device.connection.0);
    }
    out.number(entries.change).number(entries.list.len() as u64);
    for entry in &entries.list {
        write_row(&mut out, entry.conversation, &entry.row);
        out.number(entry.said.seq.0).number(entry.said.uncounted).number(entry.change);
    }
    out.number(entries.early.len() as u64);
    for (conversation, said) in &entries.early {
        out.raw(&conversation.to_bytes()).number(said.seq.0).number(said.uncounted);
    }
    out
}

/// What the records of a mailbox say.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) user_id: Option<UserId>,
    pub(crate) devices: Vec<Device>,
    pub(crate) entries: Entries,
    /// The number of the last numbered record.
    pub(crate) number: u64,
    /// Entries that records after the snapshot touched: their change numbers are not known.
    pub(crate) touched: Vec<ConversationId>,
}

/// Brings a mailbox back from its records.
pub(crate) fn replay(records: &[StoredRecord], run: u32, seed: u64) -> Result<Replayed, Malformed> {
    let mut state = Replayed {
        user_id: None,
        devices: Vec::new(),
        entries: Entries::new(seed),
        number: 0,
        touched: Vec::new(),
    };
    for record in records {
        let mut reader = Reader(&record.body);
        match record.kind {
            KIND_SNAPSHOT => {
                state = decode_snapshot(&mut reader, run, seed)?;
                state.number = record.number - 1;
            }
            KIND_DEVICE => decode_device(&mut state, &mut reader)?,
            KIND_RESERVE => state.entries.change = state.entries.change.max(reader.number()?),
            KIND_HEADS => decode_heads(&mut state, &mut reader)?,
            KIND_READ => {
                let (conversation, said, card) = decode_read(&record.body)?;
                let place = state.entries.entry(conversation, &Arc::new(card));
                let entry = &mut state.entries.list[place];
                entry.said = entry.said.max(said);
                state.touched.push(conversation);
            }
            KIND_EARLY_READ => {
                let (conversation, said) = decode_early_read(&record.body)?;
                state.entries.say(conversation, said);
                state.touched.push(conversation);
            }
            KIND_DEVICE_GONE => {
                let gone = reader.device()?;
                state.devices.retain(|device| device.id != gone);
            }
            KIND_CONNECTIONS => decode_connections(&mut state, &mut reader, run)?,
            _ => return Err(Malformed),
        }
        if record.number != 0 {
            if record.number != state.number + 1 {
                return Err(Malformed);
            }
            state.number = record.number;
        }
    }
    let clean = records.last().is_some_and(|last| last.kind == KIND_SNAPSHOT);
    state.entries.snapshot_number = if clean { state.number } else { 0 };
    state.touched.sort_unstable();
    state.touched.dedup();
    Ok(state)
}

fn decode_snapshot(reader: &mut Reader<'_>, run: u32, seed: u64) -> Result<Replayed, Malformed> {
    let length = reader.count()?;
    let text = std::str::from_utf8(reader.raw(length)?).map_err(|_| Malformed)?;
    let user_id = if text.is_empty() { None } else { UserId::new(text).ok() };
    let same_run = reader.number()? == u64::from(run);
    let mut devices = Vec::new();
    for _ in 0..reader.count()? {
        let mut device = Device::new(reader.device()?);
        device.epoch = u32::try_from(reader.number()?).map_err(|_| Malformed)?;
        let connection = ConnectionNumber(reader.number()?);
        if same_run {
            device.connection = connection;
        }
        devices.push(device);
    }
    let mut entries = Entries::new(seed);
    entries.change = reader.number()?;
    for _ in 0..reader.count()? {
        let (conversation, row) = read_row(reader)?;
        let place = entries.entry(conversation, &row.card);
        let entry = &mut entries.list[place];
        entry.row = row;
        entry.said = point(reader)?;
        entry.change = reader.number()?;
    }
    for _ in 0..reader.count()? {
        let conversation = reader.conversation()?;
        entries.say(conversation, point(reader)?);
    }
    Ok(Replayed { user_id, devices, entries, number: 0, touched: Vec::new() })
}

fn decode_device(state: &mut Replayed, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    state.user_id = Some(reader.user_id()?);
    let mut device = Device::new(reader.device()?);
    device.epoch = u32::try_from(reader.number()?).map_err(|_| Malformed)?;
    state.devices.retain(|known| known.id != device.id);
    state.devices.push(device);
    Ok(())
}

fn decode_heads(state: &mut Replayed, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    for _ in 0..reader.count()? {
        let (conversation, row) = read_row(reader)?;
        let place = state.entries.entry(conversation, &row.card);
        let entry = &mut state.entries.list[place];
        if entry.row.merge(&row) {
            state.touched.push(conversation);
        }
    }
    Ok(())
}

fn decode_connections(
    state: &mut Replayed,
    reader: &mut Reader<'_>,
    run: u32,
) -> Result<(), Malformed> {
    let same_run = reader.number()? == u64::from(run);
    for _ in 0..reader.count()? {
        let (id, connection) = (reader.device()?, ConnectionNumber(reader.number()?));
        let Some(place) = state.devices.iter().position(|device| device.id == id) else { continue };
        let mut device = state.devices.remove(place);
        if same_run {
            device.connection = connection;
        }
        state.devices.push(device);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_bring_back_the_order_of_use() {
        let device = |id: u8| {
            let mut device = Device::new(DeviceId([id; 16]));
            device.connection = ConnectionNumber(u64::from(id) * 10);
            device
        };
        let written = encode_connections(&[3, 1, 9, 2].map(device), 7);
        for (run, connections) in [(7, [0, 30, 10, 20]), (8, [0; 4])] {
            let mut state = Replayed {
                user_id: None,
                devices: [1, 2, 3, 4].map(|id| Device::new(DeviceId([id; 16]))).to_vec(),
                entries: Entries::new(1),
                number: 0,
                touched: Vec::new(),
            };
            decode_connections(&mut state, &mut Reader(&written.bytes), run).unwrap();
            let ids: Vec<u8> = state.devices.iter().map(|device| device.id.0[0]).collect();
            assert_eq!(ids, [4, 3, 1, 2], "who is not named was used before them");
            let numbers: Vec<u64> = state.devices.iter().map(|d| d.connection.0).collect();
            assert_eq!(numbers, connections);
        }
    }
}
