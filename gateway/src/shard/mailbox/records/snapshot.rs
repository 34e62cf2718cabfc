//! The whole state of a mailbox as one record, and the part of the slot that is soft as a small
//! one.

use super::{
    flag, point, read_privacy, read_row, read_seqs, small, text, write_point, write_privacy,
    write_row, write_seqs,
};
use crate::limits::CONVERSATIONS_PER_USER_MOST;
use crate::shard::codec::{Malformed, Reader, Writer};
use crate::shard::mailbox::entries::{Entries, Entry};
use crate::shard::mailbox::profile::{Block, Detail, Tombstone};
use crate::shard::mailbox::records::State;
use crate::shard::mailbox::slot::{Device, Slot, check_of, id_check};
use roost_protocol::ids::{ConnectionNumber, UserId, UserKey};
use roost_storage_engine::Settings;

/// Most bytes of an entry: its id, two flags, a peer with a long id, marks with 6 bytes a number
/// but the two that a device made up, the message id, a change number, settings.
const ENTRY_BYTES: usize = 16 + 2 + (16 + 65) + 36 + 20 + 8 + 8 + 17;
/// Most bytes of everything that is not an entry: 1,000 blocks, 32,768 hidden seqs, devices and
/// the rest.
const BESIDES_BYTES: usize = 1000 * 100 + 32_768 * 5 + 32 * 1024;
/// What the smallest first segment of a server leaves for a record.
const RECORD_BYTES: usize = Settings::DEFAULT.first_segment_bytes as usize - 8 * 1024;

const _: () = assert!(
    CONVERSATIONS_PER_USER_MOST as usize * ENTRY_BYTES + BESIDES_BYTES <= RECORD_BYTES,
    "a snapshot is one record",
);

const ENTRY_MUTED: u64 = 1;
const ENTRY_ARCHIVED: u64 = 2;
const ENTRY_PINNED: u64 = 4;
const ENTRY_HIDDEN: u64 = 8;
const ENTRY_WANTS_VERSION: u64 = 16;

/// The whole state as one body. `run` dates the connection numbers, which only hold in one run of
/// the server.
pub(crate) fn encode_snapshot(user: UserKey, slot: &Slot, entries: &Entries, run: u32) -> Writer {
    let mut out = Writer::default();
    let profile = &entries.profile;
    // The list of somebody who never signed in may be in memory because others asked for it: its
    // direct conversations say whose it is, and cannot be read again without.
    let in_cards = || entries.list.iter().find_map(|entry| entry.row.card.as_ref()?.user_id(user));
    let own = profile.user_id.as_ref().or_else(in_cards);
    out.text(own.map_or("", UserId::as_str));
    write_privacy(&mut out, slot.privacy);
    out.number(slot.version.into());
    let devices = slot.devices.as_slice();
    out.number(devices.len() as u64);
    for device in devices {
        out.raw(&device.id.0).number(device.epoch.into());
        let detail = profile.detail(device.id);
        out.text(detail.map_or("", |detail| &detail.name));
        out.text(detail.map_or("", |detail| &detail.client));
        out.number(detail.map_or(0, |detail| detail.registered_ms));
    }
    write_soft(&mut out, slot, Some(entries), run);
    out.number(profile.tombstones.len() as u64);
    for tombstone in &profile.tombstones {
        out.raw(&tombstone.device.0).number(tombstone.epoch.into()).number(tombstone.at_ms);
    }
    out.number(profile.blocks.len() as u64);
    for (key, block) in &profile.blocks {
        out.raw(&key.to_bytes()).text(block.id.as_str());
        out.number(block.number).number(block.blocked.into());
    }
    out.number(profile.joining.len() as u64);
    for (channel, number) in &profile.joining {
        out.raw(&channel.to_bytes()).number(*number);
    }
    out.number(profile.versions_wanted.len() as u64);
    for conversation in &profile.versions_wanted {
        out.raw(&conversation.to_bytes());
    }
    out.number(entries.early.len() as u64);
    for (conversation, said) in &entries.early {
        out.raw(&conversation.to_bytes());
        write_point(&mut out, *said);
    }
    out.number(entries.change).number(entries.list.len() as u64);
    for entry in &entries.list {
        write_entry(&mut out, entry, user);
    }
    out
}

fn write_entry(out: &mut Writer, entry: &Entry, user: UserKey) {
    write_row(out, &entry.row, user);
    write_point(out, entry.said);
    out.number(entry.change);
    let facts = [
        (entry.muted_until_ms > 0, ENTRY_MUTED),
        (entry.archived, ENTRY_ARCHIVED),
        (entry.pinned > 0, ENTRY_PINNED),
        (!entry.hidden.is_empty(), ENTRY_HIDDEN),
        (entry.wants_version, ENTRY_WANTS_VERSION),
    ];
    let flags: u64 = facts.iter().filter(|(holds, _)| *holds).map(|(_, flag)| flag).sum();
    out.number(flags);
    if entry.muted_until_ms > 0 {
        out.number(entry.muted_until_ms);
    }
    if entry.pinned > 0 {
        out.number(entry.pinned.into());
    }
    if !entry.hidden.is_empty() {
        write_seqs(out, &entry.hidden);
    }
}

pub(super) fn apply_snapshot(
    state: &mut State<'_>,
    body: &[u8],
    run: u32,
) -> Result<(), Malformed> {
    let mut reader = Reader(body);
    let reader = &mut reader;
    let own = text(reader)?;
    if !own.is_empty() {
        let own = UserId::new(&own).map_err(|_| Malformed)?;
        state.slot.id_check = id_check(&own);
        state.entries.profile.user_id = Some(own);
    }
    state.slot.privacy = read_privacy(reader)?;
    state.slot.version = small(reader)?;
    for _ in 0..reader.count()? {
        read_device(state, reader)?;
    }
    read_soft(state.slot, state.entries, reader, run)?;
    read_profile(state, reader)?;
    for _ in 0..reader.count()? {
        let conversation = reader.conversation()?;
        state.entries.early.insert(conversation, point(reader)?);
    }
    state.entries.change = reader.number()?;
    for _ in 0..reader.count()? {
        read_entry(state, reader)?;
    }
    Ok(())
}

fn read_device(state: &mut State<'_>, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let mut device = Device::new(reader.device()?);
    device.epoch = small(reader)?;
    let (name, client, registered_ms) = (text(reader)?, text(reader)?, reader.number()?);
    device.client_check = check_of(&client);
    let detail = Detail { device: device.id, name, client, registered_ms, cursor: 0 };
    state.entries.profile.details.push(detail);
    state.slot.devices.push(device);
    Ok(())
}

fn read_profile(state: &mut State<'_>, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let profile = &mut state.entries.profile;
    for _ in 0..reader.count()? {
        let (device, epoch) = (reader.device()?, small(reader)?);
        profile.tombstones.push(Tombstone { device, epoch, at_ms: reader.number()? });
    }
    for _ in 0..reader.count()? {
        let (key, id) = (reader.user()?, reader.user_id()?);
        let (number, blocked) = (reader.number()?, flag(reader)?);
        profile.blocks.insert(key, Block { id, number, blocked, confirmed: false });
    }
    for _ in 0..reader.count()? {
        let channel = reader.conversation()?;
        profile.joining.insert(channel, reader.number()?);
    }
    for _ in 0..reader.count()? {
        profile.versions_wanted.insert(reader.conversation()?);
    }
    Ok(())
}

fn read_entry(state: &mut State<'_>, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let row = read_row(reader, state.user, state.entries.profile.user_id.as_ref())?;
    let (place, _) = state.take_row(&row, usize::MAX).ok_or(Malformed)?;
    let entry = state.entries.at_mut(place);
    entry.row.standing = row.standing;
    entry.said = point(reader)?;
    entry.change = reader.number()?;
    let flags = reader.number()?;
    if flags & ENTRY_MUTED != 0 {
        entry.muted_until_ms = reader.number()?;
    }
    entry.archived = flags & ENTRY_ARCHIVED != 0;
    if flags & ENTRY_PINNED != 0 {
        entry.pinned = small(reader)?;
    }
    if flags & ENTRY_HIDDEN != 0 {
        entry.hidden = read_seqs(reader)?;
    }
    entry.wants_version = flags & ENTRY_WANTS_VERSION != 0;
    let hidden = entry.hidden.len();
    state.entries.hidden += hidden;
    Ok(())
}

// ---- what is soft of the slot ----

/// What is soft of the slot: the devices by last use, their connections. Cursors are known only
/// with the list.
pub(crate) fn encode_soft(slot: &Slot, entries: Option<&Entries>, run: u32) -> Writer {
    let mut out = Writer::default();
    write_soft(&mut out, slot, entries, run);
    out
}

fn write_soft(out: &mut Writer, slot: &Slot, entries: Option<&Entries>, run: u32) {
    out.number(run.into()).number(slot.present_until_s.into());
    out.number(slot.contacts.left.into()).number(slot.contacts.at_s.into());
    let devices = slot.devices.as_slice();
    out.number(devices.len() as u64);
    for device in devices {
        let detail = entries.and_then(|entries| entries.profile.detail(device.id));
        // 0: not known here.
        let cursor = detail.map_or(0, |detail| detail.cursor.saturating_add(1));
        out.raw(&device.id.0).number(device.connection.0);
        out.number(device.last_seen_s.into()).number(cursor);
    }
}

pub(super) fn apply_soft(
    slot: &mut Slot,
    entries: &mut Entries,
    body: &[u8],
    run: u32,
) -> Result<(), Malformed> {
    read_soft(slot, entries, &mut Reader(body), run)
}

fn read_soft(
    slot: &mut Slot,
    entries: &mut Entries,
    reader: &mut Reader<'_>,
    run: u32,
) -> Result<(), Malformed> {
    let same_run = reader.number()? == u64::from(run);
    slot.present_until_s = small(reader)?;
    slot.contacts.left = small(reader)?;
    slot.contacts.at_s = small(reader)?;
    for _ in 0..reader.count()? {
        let (id, connection) = (reader.device()?, ConnectionNumber(reader.number()?));
        let (last_seen_s, cursor) = (small(reader)?, reader.number()?);
        // Who is not named was used before those that are.
        let Some(mut device) = slot.devices.remove(id) else { continue };
        if same_run {
            device.connection = connection;
        }
        device.last_seen_s = last_seen_s;
        slot.devices.push(device);
        if let Some(cursor) = cursor.checked_sub(1)
            && let Some(detail) = entries.profile.detail_mut(id)
        {
            detail.cursor = cursor;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::mailbox::slot::Devices;
    use roost_protocol::ids::DeviceId;

    fn devices(ids: &[u8]) -> Devices {
        let mut devices = Devices::None;
        for id in ids {
            let mut device = Device::new(DeviceId([*id; 16]));
            device.connection = ConnectionNumber(u64::from(*id) * 10);
            devices.push(device);
        }
        devices
    }

    #[test]
    fn what_is_soft_brings_back_the_order_of_use() {
        let written = Slot { devices: devices(&[3, 1, 9, 2]), ..Slot::default() };
        let written = encode_soft(&written, None, 7);
        for (run, connections) in [(7, [40, 30, 10, 20]), (8, [40, 30, 10, 20])] {
            let mut slot = Slot { devices: devices(&[1, 2, 3, 4]), ..Slot::default() };
            apply_soft(&mut slot, &mut Entries::new(1), &written.bytes, run).unwrap();
            let all = slot.devices.as_slice().iter();
            let ids: Vec<u8> = all.clone().map(|device| device.id.0[0]).collect();
            assert_eq!(ids, [4, 3, 1, 2], "who is not named was used before them");
            let numbers: Vec<u64> = all.map(|device| device.connection.0).collect();
            assert_eq!(numbers, connections);
        }
    }

    #[test]
    fn connection_numbers_hold_in_their_run_only() {
        let written = encode_soft(&Slot { devices: devices(&[3]), ..Slot::default() }, None, 7);
        for (run, expected) in [(7, 30), (8, 0)] {
            let mut slot = Slot::default();
            slot.devices.push(Device::new(DeviceId([3; 16])));
            apply_soft(&mut slot, &mut Entries::new(1), &written.bytes, run).unwrap();
            assert_eq!(slot.devices.as_slice()[0].connection.0, expected);
        }
    }
}
