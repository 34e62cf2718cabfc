//! News of mailboxes that are not in memory, and the checkpoint that makes soft heads durable.
//!
//! A checkpoint begins by noting how many owed messages were taken from each shard; it then writes
//! every row and every dirty entry, in steps; when the last of it is durable, those counts are
//! confirmed.

use super::entries::Row;
use super::{Body, Mailboxes, records};
use crate::shard::context::{Context, Effect, mailbox_stream};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, UserKey};
use roost_storage_engine::NewRecord;
use std::collections::BTreeMap;

/// Mailboxes written in one step, so that a checkpoint never holds the shard for long.
const STEP_MAILBOXES: usize = 64;

/// Rows by user and conversation, and the list of dirty mailboxes.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    waiting: BTreeMap<(UserKey, ConversationId), Row>,
    /// Written, not yet durable.
    written: BTreeMap<(UserKey, ConversationId), Row>,
    pub(super) dirty: Vec<UserKey>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    counts: Vec<u64>,
    dirty: Vec<UserKey>,
    rows_from: Option<UserKey>,
    parked: bool,
    /// The log took no more; the next tick tries again.
    stalled: bool,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.written.len()
    }

    pub(super) fn merge(&mut self, user: UserKey, id: ConversationId, row: &Row) -> bool {
        let known = self
            .waiting
            .entry((user, id))
            .or_insert_with(|| Row::new(std::sync::Arc::clone(&row.card)));
        known.merge(row)
    }

    /// What is known of a user who is being loaded.
    pub(super) fn take(&mut self, user: UserKey) -> Vec<(ConversationId, Row)> {
        let first = (user, ConversationId::from_u128(0));
        let last = (user, ConversationId::from_u128(u128::MAX));
        let mut found: Vec<(ConversationId, Row)> = Vec::new();
        for ((_, id), row) in self.written.range(first..=last) {
            found.push((*id, row.clone()));
        }
        let waiting: Vec<_> = self.waiting.range(first..=last).map(|(key, _)| *key).collect();
        for key in waiting {
            if let Some(row) = self.waiting.remove(&key) {
                found.push((key.1, row));
            }
        }
        found
    }
}

impl Mailboxes {
    /// Whether a checkpoint is under way.
    pub(crate) const fn checkpoint_running(&self) -> bool {
        self.rows.running.is_some()
    }

    /// Whether the next step can be taken at once.
    pub(crate) fn checkpoint_has_more(&self) -> bool {
        self.rows.running.as_ref().is_some_and(|running| !running.parked && !running.stalled)
    }

    /// A tick passed: what stalled may try again.
    pub(crate) fn unstall_checkpoint(&mut self) {
        if let Some(running) = self.rows.running.as_mut() {
            running.stalled = false;
        }
    }

    /// Begins a checkpoint, unless one is under way.
    pub(crate) fn begin_checkpoint(&mut self, ctx: &mut Context) {
        if self.rows.running.is_some() {
            return;
        }
        ctx.stats.checkpoints_total += 1;
        let mut counts = ctx.links.taken_three();
        // What waits for room was taken, but this checkpoint does not hold it.
        for taken in self.stalled.iter().filter_map(|arrival| arrival.taken) {
            let count = &mut counts[taken.from.index()];
            *count = (*count).min(taken.index - 1);
        }
        self.rows.running = Some(Running {
            counts,
            dirty: std::mem::take(&mut self.rows.dirty),
            rows_from: self.rows.waiting.keys().next().map(|(user, _)| *user),
            parked: false,
            stalled: false,
        });
    }

    /// Writes a part of it. When all is written, the confirmation waits for the flush.
    pub(crate) fn step_checkpoint(&mut self, ctx: &mut Context) {
        for _ in 0..STEP_MAILBOXES {
            let Some(running) = self.rows.running.as_mut().filter(|r| !r.parked && !r.stalled)
            else {
                return;
            };
            let step = if let Some(user) = running.dirty.pop() {
                let step = self.write_dirty(ctx, user);
                if step.is_err()
                    && let Some(running) = self.rows.running.as_mut()
                {
                    running.dirty.push(user);
                }
                step
            } else if let Some(user) = running.rows_from {
                self.write_rows(ctx, user)
            } else {
                running.parked = true;
                let counts = running.counts.clone();
                let end = ctx.log_end();
                ctx.park_eviction(end, Effect::Checkpoint(counts));
                return;
            };
            if step.is_err() {
                if let Some(running) = self.rows.running.as_mut() {
                    running.stalled = true;
                }
                return;
            }
        }
    }

    /// The checkpoint is durable.
    pub(crate) fn end_checkpoint(&mut self, ctx: &mut Context, counts: &[u64]) {
        self.rows.running = None;
        self.rows.written.clear();
        ctx.links.confirm_three(counts);
    }

    fn write_dirty(&mut self, ctx: &mut Context, user: UserKey) -> Result<(), Refusal> {
        let Some(mailbox) = self.cells.get_mut(&user) else { return Ok(()) };
        let Body::Active(entries) = &mut mailbox.body else { return Ok(()) };
        // A snapshot written since holds everything.
        if entries.snapshot_number != mailbox.slot.number || entries.snapshot_number == 0 {
            let dirty: Vec<_> = entries.list.iter().filter(|entry| entry.dirty).collect();
            for part in dirty.chunks(records::ROWS_PER_RECORD) {
                let rows: Vec<_> = part.iter().map(|e| (e.conversation, &e.row)).collect();
                append_rows(ctx, user, &rows)?;
            }
        }
        for entry in &mut entries.list {
            entry.dirty = false;
        }
        entries.dirty = false;
        Ok(())
    }

    fn write_rows(&mut self, ctx: &mut Context, user: UserKey) -> Result<(), Refusal> {
        let first = (user, ConversationId::from_u128(0));
        let last = (user, ConversationId::from_u128(u128::MAX));
        let rows: Vec<_> = self.rows.waiting.range(first..=last).map(|(k, r)| (k.1, r)).collect();
        for part in rows.chunks(records::ROWS_PER_RECORD) {
            append_rows(ctx, user, part)?;
        }
        let keys: Vec<_> = rows.iter().map(|(id, _)| (user, *id)).collect();
        // A load that is under way may not see what was just written: it merges the rows.
        let loading = self
            .cells
            .get(&user)
            .is_some_and(|mailbox| matches!(mailbox.body, Body::Loading { .. }));
        for key in keys.into_iter().filter(|_| !loading) {
            if let Some(row) = self.rows.waiting.remove(&key) {
                self.rows.written.insert(key, row);
            }
        }
        let next =
            self.rows.waiting.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded));
        let next = next.map(|((user, _), _)| *user).next();
        if let Some(running) = self.rows.running.as_mut() {
            running.rows_from = next;
        }
        Ok(())
    }
}

fn append_rows(
    ctx: &mut Context,
    user: UserKey,
    rows: &[(ConversationId, &Row)],
) -> Result<(), Refusal> {
    if rows.is_empty() {
        return Ok(());
    }
    let body = records::encode_rows(rows);
    ctx.append(&NewRecord {
        stream: mailbox_stream(user),
        number: 0,
        seq: 0,
        stamp: 0,
        kind: records::KIND_HEADS,
        snapshot_start: false,
        body: &[&body.bytes],
    })?;
    Ok(())
}
