//! What a device asks its own mailbox: what changed, and to remember what was read.

use super::{Body, Mailbox, Mailboxes, append, records};
use crate::shard::context::{Context, Effect};
use crate::shard::links::{Cause, Owed};
use crate::shard::message::{Message, Point, ReadMark, ReadTold, Reply, SyncAsk, ToEdge};
use bytes::Bytes;
use roost_protocol::encode;
use roost_protocol::ids::{ConversationId, UserKey};
use roost_protocol::wire::{self, server_frame};

impl Mailboxes {
    /// Entries changed since a cursor. The answer waits for the log's end: it covers the marks it
    /// shows, and the block its numbers come from.
    pub(super) fn sync(&mut self, ctx: &mut Context, ask: &SyncAsk, cause: Cause) {
        ctx.stats.syncs_total += 1;
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
        let what =
            ToEdge::Reply { request_id: ask.request_id, reply: Reply::Sync(Box::new(reply)) };
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
        let Some(Mailbox { slot, body: Body::Active(entries), .. }) =
            self.cells.get_mut(&mark.user)
        else {
            return;
        };
        let Some(entry) = entries.get_mut(mark.conversation) else { return };
        let said = Point { seq: mark.seq, uncounted: mark.uncounted };
        if said.seq <= entry.said.seq {
            return;
        }
        let body = records::encode_read(mark.conversation, said, &entry.row.card);
        let appended = append(ctx, slot, mark.user, records::KIND_READ, &body.bytes);
        // A full disk loses a notice; the device says it again at its next connection.
        let Ok(appended) = appended else { return };
        entry.said = said;
        self.bump(ctx, mark.user, mark.conversation);
        ctx.store.owe(appended.segment, 1);
        let told = ReadTold {
            conversation: mark.conversation,
            user: mark.user,
            seq: mark.seq,
            uncounted: mark.uncounted,
        };
        let to = ctx.home_of_conversation(mark.conversation);
        let owed = Owed::Segment(appended.segment);
        let effect = Effect::Tell { to, message: Message::ReadTold(told), owed };
        ctx.park(appended.position, effect, cause);
        self.push_entry(ctx, mark, cause);
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
