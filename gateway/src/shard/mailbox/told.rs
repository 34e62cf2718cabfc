//! What conversations tell: there is something new, somebody received or read.

use super::entries::Row;
use super::{Body, Mailbox, Mailboxes, records};
use crate::ids::EdgeAddress;
use crate::shard::context::Context;
use crate::shard::links::{Arrival, Cause, Owed};
use crate::shard::message::{
    Deliver, Fresh, ReadTold, ReceiptTold, ToConversation, ToEdge, ToMailbox,
};
use bytes::Bytes;
use roost_protocol::encode::{self, PushedMessage};
use roost_protocol::ids::{ConversationId, UserKey};
use roost_protocol::wire::{self, server_frame};
use roost_storage_engine::StoredRecord;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Mailboxes {
    /// Handles a message of rank 3. It never waits for a load: news of a mailbox that is not in
    /// memory go to the rows.
    pub(crate) fn handle_told(&mut self, ctx: &mut Context, arrival: Arrival<ToMailbox>) {
        let room = ctx.limits.head_table_rows_max as usize;
        if !self.stalled.is_empty() || self.rows.len() + 2 > room {
            // The checkpoint that makes room was asked for; until then the credit is held.
            self.stalled.push_back(arrival);
            return;
        }
        self.take_told(ctx, arrival);
    }

    /// Whether a checkpoint must make room.
    pub(crate) fn rows_full(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// Goes on with what waited for room.
    pub(crate) fn take_stalled(&mut self, ctx: &mut Context) {
        let room = ctx.limits.head_table_rows_max as usize;
        while self.rows.len() + 2 <= room {
            let Some(arrival) = self.stalled.pop_front() else { return };
            self.take_told(ctx, arrival);
        }
    }

    fn take_told(&mut self, ctx: &mut Context, arrival: Arrival<ToMailbox>) {
        let Arrival { message, token, .. } = arrival;
        match message {
            ToMailbox::Deliver(deliver) => self.deliver(ctx, &deliver),
            ToMailbox::ReceiptTold(told) => self.receipt(ctx, &told),
        }
        ctx.links.release(token);
    }

    fn deliver(&mut self, ctx: &mut Context, deliver: &Deliver) {
        let mut pushes = Pushes { deliver, others: None, own: None };
        for user in deliver.recipients.as_slice() {
            let mut row = Row::new(Arc::clone(&deliver.card));
            row.head = deliver.head;
            row.message_id = deliver.message_id;
            if let Some((_, mark)) = deliver.own_marks.iter().find(|(of, _)| of == user) {
                row.own_mark = *mark;
            }
            let changed = self.merge(ctx, *user, deliver.conversation, &row);
            // What is told again is pushed only if it is news here.
            if !changed && deliver.fresh.is_none() {
                continue;
            }
            let Some(mailbox) = self.cells.get(user) else { continue };
            for device in &mailbox.slot.devices {
                let Some(edge) = device.main else { continue };
                if let Some(frame) = pushes.frame(*user, edge) {
                    ctx.stats.deliveries_total += 1;
                    ctx.links.tell_edge(edge, ToEdge::Push(frame));
                }
            }
        }
    }

    fn receipt(&mut self, ctx: &mut Context, told: &ReceiptTold) {
        let mut row = Row::new(Arc::clone(&told.card));
        row.peer_delivered = told.delivered;
        row.peer_read = told.read;
        if !self.merge(ctx, told.to, told.conversation, &row) {
            return;
        }
        let Some(mailbox) = self.cells.get(&told.to) else { return };
        for edge in mailbox.slot.devices.iter().filter_map(|device| device.main) {
            let what = ToEdge::Receipt {
                conversation: told.conversation,
                delivered: told.delivered,
                read: told.read,
            };
            ctx.links.tell_edge(edge, what);
        }
    }

    /// Takes a row into the list, or among the rows. Says whether it was news.
    pub(super) fn merge(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        conversation: ConversationId,
        row: &Row,
    ) -> bool {
        let Some(Mailbox { body: Body::Active(entries), .. }) = self.cells.get_mut(&user) else {
            return self.rows.merge(user, conversation, row);
        };
        let place = entries.entry(conversation, &row.card);
        let entry = &mut entries.list[place];
        if !entry.row.merge(row) {
            return false;
        }
        entry.dirty = true;
        if !entries.dirty {
            entries.dirty = true;
            self.rows.dirty.push(user);
        }
        self.bump(ctx, user, conversation);
        true
    }

    // ---- recovery ----

    /// The records of a mailbox in unsealed segments of earlier runs: its read marks are told
    /// again. Returns how many messages.
    pub(crate) fn tell_again(
        &self,
        ctx: &mut Context,
        user: UserKey,
        stored: Option<&[StoredRecord]>,
    ) -> u64 {
        let mut marks = BTreeMap::new();
        for record in stored.unwrap_or_default() {
            let said = match record.kind {
                records::KIND_READ => {
                    records::decode_read(&record.body).map(|(id, said, _)| (id, said))
                }
                records::KIND_EARLY_READ => records::decode_early_read(&record.body),
                _ => continue,
            };
            if let Ok((conversation, said)) = said {
                marks.insert(conversation, said);
            }
        }
        let told = marks.len() as u64;
        for (conversation, said) in marks {
            let message = ToConversation::ReadTold(ReadTold {
                conversation,
                user,
                seq: said.seq,
                uncounted: said.uncounted,
            });
            let to = ctx.home_of_conversation(conversation);
            ctx.links.tell(to, message, Owed::Replay, Cause::NONE);
        }
        told
    }
}

/// The frames of one delivery: encoded once for everybody who gets the same.
struct Pushes<'a> {
    deliver: &'a Deliver,
    others: Option<Bytes>,
    own: Option<Bytes>,
}

impl Pushes<'_> {
    /// The frame for a connection; none for the one that sent it.
    fn frame(&mut self, user: UserKey, edge: EdgeAddress) -> Option<Bytes> {
        let Some(fresh) = &self.deliver.fresh else {
            return Some(self.others.get_or_insert_with(|| news(self.deliver)).clone());
        };
        if user != fresh.sender {
            return Some(
                self.others.get_or_insert_with(|| fresh.message.to_frame().into()).clone(),
            );
        }
        if edge == fresh.sender_edge {
            return None;
        }
        Some(self.own.get_or_insert_with(|| own_frame(fresh)).clone())
    }
}

fn own_frame(fresh: &Fresh) -> Bytes {
    let client_message_id = Some(fresh.client_message_id);
    PushedMessage { client_message_id, ..fresh.message.clone() }.to_frame().into()
}

fn news(deliver: &Deliver) -> Bytes {
    let news = wire::News {
        conversation: deliver.conversation.to_bytes().to_vec().into(),
        head: deliver.head.seq.0,
        uncounted: deliver.head.uncounted,
    };
    let mut out = Vec::new();
    encode::server(0, server_frame::Body::News(news), &mut out);
    out.into()
}
