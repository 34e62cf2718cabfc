//! What each record does to a mailbox, and how a mailbox is brought back from its records.

use super::snapshot::{apply_snapshot, apply_soft};
use super::{
    BlockRecord, InChannel, KIND_ACCEPTED, KIND_BLOCK, KIND_CHANNEL, KIND_CLIENT, KIND_DEVICE,
    KIND_EARLY_READ, KIND_HEADS, KIND_HIDDEN, KIND_IN_CHANNEL, KIND_NAME, KIND_PRIVACY, KIND_READ,
    KIND_RESERVE, KIND_SETTINGS, KIND_SIGNED_OUT, KIND_SNAPSHOT, KIND_SOFT, KIND_VERSION_WANTED,
    decode_channel, flag, point, read_about, read_privacy, read_row, read_seqs, small, text,
};
use crate::shard::codec::{Malformed, Reader};
use crate::shard::mailbox::entries::Entries;
use crate::shard::mailbox::profile::{Block, Detail, Tombstone};
use crate::shard::mailbox::row::{Row, Standing};
use crate::shard::mailbox::slot::{Device, Slot, check_of};
use crate::shard::message::Card;
use roost_protocol::ids::{UserId, UserKey};
use roost_storage_engine::StoredRecord;
use std::sync::Arc;

/// What records are about.
#[derive(Debug)]
pub(crate) struct State<'a> {
    pub(crate) user: UserKey,
    pub(crate) slot: &'a mut Slot,
    pub(crate) entries: &'a mut Entries,
}

impl State<'_> {
    /// Does what a numbered record says. Gives the entry that changed by it.
    pub(crate) fn apply(
        &mut self,
        number: u64,
        kind: u8,
        body: &[u8],
    ) -> Result<Option<u32>, Malformed> {
        let mut reader = Reader(body);
        let reader = &mut reader;
        match kind {
            KIND_RESERVE => self.entries.change = self.entries.change.max(reader.number()?),
            KIND_DEVICE => self.device(reader)?,
            KIND_SIGNED_OUT => self.signed_out(reader)?,
            KIND_CLIENT | KIND_NAME => self.called(kind, reader)?,
            KIND_PRIVACY => self.slot.privacy = read_privacy(reader)?,
            KIND_BLOCK => self.block(number, body)?,
            KIND_EARLY_READ => {
                let conversation = reader.conversation()?;
                return Ok(self.entries.say(conversation, point(reader)?));
            }
            KIND_READ => {
                let place = self.entry(reader)?;
                let said = point(reader)?;
                let entry = self.entries.at_mut(place);
                entry.said = entry.said.max(said);
                return Ok(Some(place));
            }
            KIND_SETTINGS => {
                let place = self.entry(reader)?;
                let entry = self.entries.at_mut(place);
                entry.muted_until_ms = reader.number()?;
                entry.archived = flag(reader)?;
                entry.pinned = small(reader)?;
                return Ok(Some(place));
            }
            KIND_HIDDEN => return self.hidden(reader).map(Some),
            KIND_ACCEPTED => {
                let place = self.entry(reader)?;
                self.entries.at_mut(place).row.standing = Standing::Accepted;
                return Ok(Some(place));
            }
            KIND_CHANNEL => return self.channel(number, body),
            KIND_IN_CHANNEL => return self.in_channel(reader),
            KIND_VERSION_WANTED => {
                let conversation = reader.conversation()?;
                match self.entries.find(conversation) {
                    Some(place) => self.entries.at_mut(place).wants_version = true,
                    None => {
                        self.entries.profile.versions_wanted.insert(conversation);
                    }
                }
            }
            _ => return Err(Malformed),
        }
        Ok(None)
    }

    /// The entry that a record is about, made when it is not there: its row is soft.
    fn entry(&mut self, reader: &mut Reader<'_>) -> Result<u32, Malformed> {
        let (who, standing) = read_about(reader)?;
        let conversation = who.conversation;
        if let Some(place) = self.entries.find(conversation) {
            return Ok(place);
        }
        let card = who.card(self.user, self.entries.profile.user_id.as_ref())?;
        let place = self.entries.entry(conversation, &card);
        self.entries.at_mut(place).row.standing = standing;
        Ok(place)
    }

    fn device(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let user_id = reader.user_id()?;
        let mut device = Device::new(reader.device()?);
        device.epoch = small(reader)?;
        let registered_ms = reader.number()?;
        let client = text(reader)?;
        self.slot.is_other(&user_id);
        device.client_check = check_of(&client);
        let profile = &mut self.entries.profile;
        profile.user_id = Some(user_id);
        profile.tombstones.retain(|known| known.device != device.id);
        profile.details.retain(|known| known.device != device.id);
        let (device_id, name) = (device.id, String::new());
        profile.details.push(Detail { device: device_id, name, client, registered_ms, cursor: 0 });
        self.slot.devices.remove(device_id);
        self.slot.devices.push(device);
        self.slot.version = self.slot.version.saturating_add(1);
        Ok(())
    }

    fn signed_out(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let (device, epoch, at_ms) = (reader.device()?, small(reader)?, reader.number()?);
        let profile = &mut self.entries.profile;
        profile.bury(Tombstone { device, epoch, at_ms });
        profile.details.retain(|known| known.device != device);
        if self.slot.devices.remove(device).is_some() {
            self.slot.version = self.slot.version.saturating_add(1);
        }
        Ok(())
    }

    fn called(&mut self, kind: u8, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let (device, called) = (reader.device()?, text(reader)?);
        if kind == KIND_CLIENT
            && let Some(known) = self.slot.devices.get_mut(device)
        {
            known.client_check = check_of(&called);
        }
        let Some(detail) = self.entries.profile.detail_mut(device) else { return Ok(()) };
        if kind == KIND_CLIENT {
            detail.client = called;
        } else {
            detail.name = called;
        }
        Ok(())
    }

    fn block(&mut self, number: u64, body: &[u8]) -> Result<(), Malformed> {
        let BlockRecord { own: _, peer: (key, id), blocked } = BlockRecord::decode(body)?;
        let block = Block { id, number, blocked, confirmed: false };
        self.entries.profile.blocks.insert(key, block);
        Ok(())
    }

    fn hidden(&mut self, reader: &mut Reader<'_>) -> Result<u32, Malformed> {
        let place = self.entry(reader)?;
        let seqs = read_seqs(reader)?;
        let hidden = &mut self.entries.at_mut(place).hidden;
        let before = hidden.len();
        for seq in seqs {
            if let Err(at) = hidden.binary_search(&seq) {
                hidden.insert(at, seq);
            }
        }
        let more = hidden.len() - before;
        self.entries.hidden += more;
        Ok(place)
    }

    fn channel(&mut self, number: u64, body: &[u8]) -> Result<Option<u32>, Malformed> {
        let (channel, joined) = decode_channel(body)?;
        if joined {
            self.entries.profile.joining.insert(channel, number);
            return Ok(None);
        }
        self.entries.profile.joining.remove(&channel);
        let Some(place) = self.entries.find(channel) else { return Ok(None) };
        let row = &mut self.entries.at_mut(place).row;
        let head = row.head;
        let membership = row.membership.get_or_insert_default();
        membership.left = true;
        membership.since = membership.since.max(head);
        Ok(Some(place))
    }

    fn in_channel(&mut self, reader: &mut Reader<'_>) -> Result<Option<u32>, Malformed> {
        let InChannel { channel, exists, head, message_id } = InChannel::decode(reader)?;
        self.entries.profile.joining.remove(&channel);
        if !exists {
            return Ok(None);
        }
        let place = self.entries.entry(channel, &Arc::new(Card::Channel));
        let row = &mut self.entries.at_mut(place).row;
        row.standing = Standing::Accepted;
        row.head = row.head.max(head);
        row.message_id = row.message_id.max(message_id);
        let membership = row.membership.get_or_insert_default();
        membership.since = membership.since.max(head);
        membership.joined = membership.joined.max(head);
        membership.left = false;
        Ok(Some(place))
    }

    /// Takes a row into the list. Gives its place and whether it was news; nothing when the list is
    /// full.
    pub(crate) fn take_row(&mut self, row: &Row, conversations_max: usize) -> Option<(u32, bool)> {
        if let Some(place) = self.entries.find(row.conversation) {
            return Some((place, self.entries.at_mut(place).row.merge(row)));
        }
        if self.entries.list.len() >= conversations_max {
            return None;
        }
        let unused = Arc::new(Card::Group);
        let card = row.card.as_ref().unwrap_or(&unused);
        let place = self.entries.entry(row.conversation, card);
        self.entries.at_mut(place).row = row.clone();
        self.entries.decide(place, self.user, self.slot.privacy.contacts_only);
        Some((place, true))
    }
}

/// What the records of a mailbox say.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) slot: Slot,
    pub(crate) entries: Entries,
    /// Entries that records after the snapshot touched: their change numbers are not known.
    pub(crate) touched: Vec<u32>,
    /// Entries that found no room in the list.
    pub(crate) dropped: u64,
}

/// Brings a mailbox back from its records.
pub(crate) fn replay(
    user: UserKey,
    records: &[StoredRecord],
    run: u32,
    seed: u64,
    conversations_max: usize,
) -> Result<Replayed, Malformed> {
    let slot = Slot { known: true, ..Slot::default() };
    let entries = Entries::new(seed);
    let mut replayed = Replayed { slot, entries, touched: Vec::new(), dropped: 0 };
    let (mut stored_number, mut since_snapshot) = (0, 0);
    for record in records {
        let Replayed { slot, entries, .. } = &mut replayed;
        let mut state = State { user, slot, entries };
        match record.kind {
            KIND_SNAPSHOT => {
                *state.slot = Slot { known: true, ..Slot::default() };
                *state.entries = Entries::new(seed);
                apply_snapshot(&mut state, &record.body, run)?;
                state.slot.number = record.number.checked_sub(1).ok_or(Malformed)?;
                replayed.touched.clear();
                (stored_number, since_snapshot) = (record.number, 0);
            }
            KIND_SOFT => {
                apply_soft(state.slot, state.entries, &record.body, run)?;
                // It says nothing that a snapshot before it does not leave as it was.
                if stored_number > 0 {
                    (stored_number, since_snapshot) = (record.number, since_snapshot + 1);
                }
            }
            KIND_HEADS => {
                stored_number = 0;
                heads(&mut replayed, user, &record.body, conversations_max)?;
            }
            kind => {
                stored_number = 0;
                let touched = state.apply(record.number, kind, &record.body)?;
                replayed.touched.extend(touched);
            }
        }
        if record.number != 0 {
            if record.number != replayed.slot.number + 1 {
                return Err(Malformed);
            }
            replayed.slot.number = record.number;
        }
    }
    replayed.touched.sort_unstable();
    replayed.touched.dedup();
    replayed.entries.stored_number = stored_number;
    replayed.entries.since_snapshot = since_snapshot;
    replayed.entries.index_changes();
    Ok(replayed)
}

fn heads(
    replayed: &mut Replayed,
    user: UserKey,
    body: &[u8],
    conversations_max: usize,
) -> Result<(), Malformed> {
    let mut reader = Reader(body);
    let own = text(&mut reader)?;
    if !own.is_empty() && replayed.entries.profile.user_id.is_none() {
        let own = UserId::new(&own).map_err(|_| Malformed)?;
        replayed.slot.is_other(&own);
        replayed.entries.profile.user_id = Some(own);
    }
    for _ in 0..reader.count()? {
        let row = read_row(&mut reader, user, replayed.entries.profile.user_id.as_ref())?;
        let Replayed { slot, entries, .. } = replayed;
        let mut state = State { user, slot, entries };
        match state.take_row(&row, conversations_max) {
            Some((place, true)) => replayed.touched.push(place),
            Some((_, false)) => {}
            None => replayed.dropped += 1,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_is_malformed() {
        let (mut slot, mut entries) = (Slot::default(), Entries::new(1));
        let user = UserKey::from_u128(4);
        let mut state = State { user, slot: &mut slot, entries: &mut entries };
        for kind in [0, 1, 3, 4, 5, 6, 7, 9, 33, 255] {
            assert!(state.apply(1, kind, &[0; 64]).is_err(), "{kind}");
        }
    }
}
