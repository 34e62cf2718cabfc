//! What a device asks its own mailbox: what changed, and to remember what was read.

use super::list::PAGE_BYTES;
use super::{Mailboxes, records};
use crate::shard::context::{Context, Effect};
use crate::shard::links::{Cause, Owed};
use crate::shard::message::{Point, ReadMark, ReadTold, Reply, SyncAsk, ToConversation, ToEdge};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, UserKey};
use roost_protocol::wire;

/// Read marks kept while the disk is full.
const UNWRITTEN_MAX: usize = 256;
/// Read marks kept of conversations that the mailbox was not told of yet.
const EARLY_MAX: usize = 64;

impl Mailboxes {
    /// Entries changed since a cursor. The answer waits for the log's end: it covers the marks it
    /// shows, and the block its numbers come from.
    pub(super) fn sync(&mut self, ctx: &mut Context, ask: &SyncAsk, cause: Cause) {
        ctx.stats.syncs_total += 1;
        if let Err(refusal) = self.write_unwritten(ctx, ask.user, cause) {
            return ctx.refuse(ask.edge, ask.request, &refusal);
        }
        self.number_the_unnumbered(ctx, ask.user);
        self.note_cursor(ask);
        let Some(entries) = self.cells.entries(ask.user) else { return };
        // A cursor from the future is of another store: everything is news.
        let cursor = if ask.cursor > entries.change { 0 } else { ask.cursor };
        let limit = usize::try_from(ask.limit).unwrap_or(usize::MAX).max(1);
        let (changed, more) = entries.changed_since(ask.user, cursor, limit, PAGE_BYTES);
        let reached = if more {
            changed.last().map_or(entries.change, |entry| entry.change)
        } else {
            entries.change
        };
        let entries = changed.iter().map(|entry| entry.to_wire(ask.user)).collect();
        let reply = wire::SyncReply { entries, cursor: reached, more };
        let what = ToEdge::Reply { request: ask.request, reply: Reply::Sync(Box::new(reply)) };
        let end = ctx.log_end();
        ctx.park(end, Effect::ToEdge { edge: ask.edge, what }, cause);
    }

    /// Keeps a copy of the device's cursor, for the list of devices. An extension has none.
    fn note_cursor(&mut self, ask: &SyncAsk) {
        let Some((slot, entries)) = self.cells.active(ask.user) else { return };
        let devices = slot.devices.as_slice();
        let device = devices.iter().find(|device| device.main() == Some(ask.edge));
        let detail = device.and_then(|device| entries.profile.detail_mut(device.id));
        if let Some(detail) = detail
            && detail.cursor != ask.cursor
        {
            detail.cursor = ask.cursor;
            slot.soft_changed = true;
        }
    }

    fn number_the_unnumbered(&mut self, ctx: &mut Context, user: UserKey) {
        let Some(entries) = self.cells.entries(user) else { return };
        for place in entries.unnumbered().to_vec() {
            self.bump(ctx, user, place);
        }
    }

    /// The person saw everything up to here. Written, then told to the conversation and to the
    /// user's other devices.
    pub(super) fn read_mark(&mut self, ctx: &mut Context, mark: &ReadMark, cause: Cause) {
        let said = Point { seq: mark.seq, uncounted: mark.uncounted };
        match self.write_read(ctx, mark.user, mark.conversation, said, cause) {
            Ok(true) => {
                let edge = Some(mark.edge);
                return self.push_entry(ctx, mark.user, mark.conversation, edge, cause);
            }
            Ok(false) => return,
            Err(_) => {}
        }
        // It cannot be refused, so it is kept; until it is written no Sync is answered, which
        // would tell the device that its mark has arrived.
        if let Some((_, entries)) = self.cells.active(mark.user)
            && entries.unwritten.len() < UNWRITTEN_MAX
        {
            let known = entries.unwritten.entry(mark.conversation).or_default();
            *known = known.max(said);
        }
    }

    /// Writes the read marks that found no room.
    pub(super) fn write_unwritten(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        cause: Cause,
    ) -> Result<(), Refusal> {
        loop {
            let Some((_, entries)) = self.cells.active(user) else { return Ok(()) };
            let Some((conversation, said)) = entries.unwritten.pop_first() else { return Ok(()) };
            if let Err(refusal) = self.write_read(ctx, user, conversation, said, cause) {
                if let Some((_, entries)) = self.cells.active(user) {
                    entries.unwritten.insert(conversation, said);
                }
                return Err(refusal);
            }
        }
    }

    /// Writes a read mark and tells the conversation. Says whether it was news.
    fn write_read(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        conversation: ConversationId,
        said: Point,
        cause: Cause,
    ) -> Result<bool, Refusal> {
        let Some((slot, entries)) = self.cells.active(user) else { return Ok(false) };
        if said.seq <= entries.said(conversation).seq {
            return Ok(false);
        }
        let private = !slot.privacy.read_receipts;
        let early = &entries.early;
        let room = early.len() < EARLY_MAX || early.contains_key(&conversation);
        let (kind, body) = match entries.get(conversation) {
            Some(entry) => {
                (records::KIND_READ, records::encode_read(&entry.row, user, said, private))
            }
            // The device may know a conversation before the mailbox was told of it.
            None if room => {
                let body = records::encode_early_read(conversation, said, private);
                (records::KIND_EARLY_READ, body)
            }
            None => return Ok(false),
        };
        let appended = self.commit(ctx, user, kind, &body.bytes)?;
        ctx.store.owe(appended.segment, 1);
        let (seq, uncounted) = (said.seq, said.uncounted);
        let told = ReadTold { conversation, user, seq, uncounted, private };
        let message = ToConversation::ReadTold(told);
        let to = ctx.home_of_conversation(conversation);
        let owed = Owed::Segment(appended.segment);
        ctx.park(appended.position, Effect::Tell { to, message: message.into(), owed }, cause);
        Ok(true)
    }
}
