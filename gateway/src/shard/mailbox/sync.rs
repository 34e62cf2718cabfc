//! What a device asks its own mailbox: what changed, and to remember what was read.

use super::{Body, Mailbox, Mailboxes, append, records};
use crate::shard::context::{Context, Effect};
use crate::shard::links::{Cause, Owed};
use crate::shard::message::{Point, ReadMark, ReadTold, Reply, SyncAsk, ToConversation, ToEdge};
use bytes::Bytes;
use roost_protocol::encode;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, UserKey};
use roost_protocol::wire::{self, server_frame};

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
        let Some(Mailbox { body: Body::Active(entries), .. }) = self.cells.get(&ask.user) else {
            return;
        };
        // A cursor from the future is of another store: everything is news.
        let cursor = if ask.cursor > entries.change { 0 } else { ask.cursor };
        let limit = usize::try_from(ask.limit).unwrap_or(usize::MAX);
        let (changed, more) = entries.changed_since(cursor, limit);
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

    fn number_the_unnumbered(&mut self, ctx: &mut Context, user: UserKey) {
        let Some(Mailbox { body: Body::Active(entries), .. }) = self.cells.get(&user) else {
            return;
        };
        let unnumbered: Vec<ConversationId> =
            entries.list.iter().filter(|e| e.unnumbered).map(|e| e.conversation).collect();
        for conversation in unnumbered {
            self.bump(ctx, user, conversation);
        }
    }

    /// The person saw everything up to here. Written, then told to the conversation and to the
    /// user's other devices.
    pub(super) fn read_mark(&mut self, ctx: &mut Context, mark: &ReadMark, cause: Cause) {
        let said = Point { seq: mark.seq, uncounted: mark.uncounted };
        match self.write_read(ctx, mark.user, mark.conversation, said, cause) {
            Ok(true) => return self.push_entry(ctx, mark, cause),
            Ok(false) => return,
            Err(_) => {}
        }
        // It cannot be refused, so it is kept; until it is written no Sync is answered, which
        // would tell the device that its mark has arrived.
        if let Some(Mailbox { body: Body::Active(entries), .. }) = self.cells.get_mut(&mark.user)
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
            let Some(Mailbox { body: Body::Active(entries), .. }) = self.cells.get_mut(&user)
            else {
                return Ok(());
            };
            let Some((conversation, said)) = entries.unwritten.pop_first() else { return Ok(()) };
            if let Err(refusal) = self.write_read(ctx, user, conversation, said, cause) {
                if let Some(Mailbox { body: Body::Active(entries), .. }) = self.cells.get_mut(&user)
                {
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
        let Some(Mailbox { slot, body: Body::Active(entries), .. }) = self.cells.get_mut(&user)
        else {
            return Ok(false);
        };
        if said.seq <= entries.said(conversation).seq {
            return Ok(false);
        }
        let early = &entries.early;
        let room = early.len() < EARLY_MAX || early.contains_key(&conversation);
        let (kind, body) = match entries.get_mut(conversation) {
            Some(entry) => {
                (records::KIND_READ, records::encode_read(conversation, said, &entry.row.card))
            }
            // The device may know a conversation before the mailbox was told of it.
            None if room => {
                (records::KIND_EARLY_READ, records::encode_early_read(conversation, said))
            }
            None => return Ok(false),
        };
        let appended = append(ctx, slot, user, kind, &body.bytes)?;
        entries.say(conversation, said);
        self.bump(ctx, user, conversation);
        ctx.store.owe(appended.segment, 1);
        let (seq, uncounted) = (said.seq, said.uncounted);
        let message = ToConversation::ReadTold(ReadTold { conversation, user, seq, uncounted });
        let to = ctx.home_of_conversation(conversation);
        let owed = Owed::Segment(appended.segment);
        ctx.park(appended.position, Effect::Tell { to, message: message.into(), owed }, cause);
        Ok(true)
    }

    fn push_entry(&self, ctx: &mut Context, mark: &ReadMark, cause: Cause) {
        let Some(mailbox) = self.cells.get(&mark.user) else { return };
        let Body::Active(entries) = &mailbox.body else { return };
        let others = mailbox.slot.devices.iter().filter_map(|device| device.main);
        let mut frame: Option<Bytes> = None;
        for edge in others.filter(|edge| *edge != mark.edge) {
            let entry = entries.list.iter().find(|e| e.conversation == mark.conversation);
            let Some(entry) = entry else { return };
            let frame = frame.get_or_insert_with(|| {
                let changed = wire::EntryChanged { entries: vec![entry.to_wire(mark.user)] };
                let mut out = Vec::new();
                encode::server(0, server_frame::Body::EntryChanged(changed), &mut out);
                out.into()
            });
            let what = ToEdge::Push(frame.clone());
            let end = ctx.log_end();
            ctx.park(end, Effect::ToEdge { edge, what }, cause);
        }
    }
}
