//! News of mailboxes whose lists are not in memory, and the checkpoint that makes soft heads
//! durable.
//!
//! A checkpoint begins by noting how many owed messages were taken from each shard; it then writes
//! every row and every dirty entry, in steps; when the last of it is durable, those counts are
//! confirmed. Rows may be written earlier: the end of a later checkpoint covers them.

use super::cells::{Body, Mailbox};
use super::row::{Row, row_of};
use super::{Mailboxes, records};
use crate::shard::context::{Context, Effect, mailbox_stream};
use crate::shard::evicting::shrink;
use crate::shard::message::Card;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, UserKey};
use roost_storage_engine::NewRecord;
use std::sync::Arc;

/// Mailboxes written in one step, so that a checkpoint never holds the shard for long.
const STEP_MAILBOXES: usize = 64;

/// Rows of users who have no mailbox in memory, and the list of mailboxes with something to write.
#[derive(Debug)]
pub(crate) struct Rows {
    away: HashMap<UserKey, Vec<Row>, FixedState>,
    /// Rows there are, those in mailboxes included.
    pub(super) count: usize,
    /// Who has something to write, in the order in which they got it. The slot's `queued` says that
    /// a mailbox is among them; who is away is while there are rows.
    queued: Vec<UserKey>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    counts: Vec<u64>,
    users: Vec<UserKey>,
    parked: bool,
    /// The log took no more; the next tick tries again.
    stalled: bool,
}

impl Rows {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            away: HashMap::with_hasher(FixedState::with_seed(seed)),
            count: 0,
            queued: Vec::new(),
            running: None,
        }
    }

    /// The row of a user who has no mailbox in memory, and whether it is new.
    pub(super) fn of_away(
        &mut self,
        user: UserKey,
        conversation: ConversationId,
        card: &Arc<Card>,
    ) -> (&mut Row, bool) {
        let rows = self.away.entry(user).or_insert_with(|| {
            self.queued.push(user);
            Vec::new()
        });
        let (row, new) = row_of(rows, conversation, card);
        self.count += usize::from(new);
        (row, new)
    }

    /// How many rows there are of a user who has no mailbox in memory.
    pub(super) fn away_len(&self, user: UserKey) -> usize {
        self.away.get(&user).map_or(0, Vec::len)
    }

    /// The rows of a user who gets a mailbox in memory: it is queued as they were.
    pub(super) fn come_home(&mut self, user: UserKey) -> Vec<Row> {
        self.away.remove(&user).unwrap_or_default()
    }

    /// The rows of a user whose list cannot be read: they are written all the same.
    pub(super) fn put_away(&mut self, user: UserKey, rows: Vec<Row>) {
        if !rows.is_empty() {
            self.queued.push(user);
            self.away.insert(user, rows);
        }
    }

    /// A mailbox has something to write.
    pub(super) fn enqueue(&mut self, mailbox: &mut Mailbox) {
        if !std::mem::replace(&mut mailbox.slot.queued, true) {
            self.queued.push(mailbox.user);
        }
    }
}

impl Mailboxes {
    /// Whether a checkpoint is under way.
    pub(crate) const fn checkpoint_running(&self) -> bool {
        self.rows.running.is_some()
    }

    /// Whether something soft is in no checkpoint.
    pub(crate) fn has_unwritten(&self) -> bool {
        !self.rows.queued.is_empty() || self.rows.running.is_some() || !self.stalled.is_empty()
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
        let mut users = std::mem::take(&mut self.rows.queued);
        users.reverse();
        self.rows.running = Some(Running { counts, users, parked: false, stalled: false });
    }

    /// Writes a part of it. When all is written, the confirmation waits for the flush.
    pub(crate) fn step_checkpoint(&mut self, ctx: &mut Context) {
        for _ in 0..STEP_MAILBOXES {
            let Some(running) = self.rows.running.as_mut().filter(|r| !r.parked && !r.stalled)
            else {
                return;
            };
            let Some(user) = running.users.pop() else {
                running.parked = true;
                let counts = running.counts.clone();
                let end = ctx.log_end();
                ctx.park_eviction(end, Effect::Checkpoint(counts));
                return;
            };
            if self.write(ctx, user).is_err()
                && let Some(running) = self.rows.running.as_mut()
            {
                running.users.push(user);
                running.stalled = true;
                return;
            }
        }
    }

    /// The checkpoint is durable.
    pub(crate) fn end_checkpoint(&mut self, ctx: &mut Context, counts: &[u64]) {
        self.rows.running = None;
        shrink(&mut self.rows.away);
        ctx.links.confirm_three(counts);
    }

    /// Writes what is soft of a user's list.
    fn write(&mut self, ctx: &mut Context, user: UserKey) -> Result<(), Refusal> {
        let Some(mailbox) = self.cells.get_mut(user) else { return self.write_away(ctx, user) };
        match &mut mailbox.body {
            Body::Cold(rows) => {
                append_rows(ctx, user, rows)?;
                self.rows.count -= rows.len();
                *rows = Vec::new();
            }
            // A read that is under way may not see what is written now: the rows stay for it.
            Body::Loading(loading) => append_rows(ctx, user, &loading.rows)?,
            Body::Active(entries) => {
                for part in entries.dirty_rows().chunks(records::ROWS_PER_RECORD) {
                    let body = records::encode_rows(user, part.iter().copied());
                    append_heads(ctx, user, &body.bytes)?;
                }
                entries.clean();
            }
            Body::Corrupt => {
                mailbox.slot.queued = false;
                return self.write_away(ctx, user);
            }
        }
        mailbox.slot.queued = false;
        Ok(())
    }

    /// Writes the rows of a user who has no list in memory.
    pub(super) fn write_away(&mut self, ctx: &mut Context, user: UserKey) -> Result<(), Refusal> {
        let Some(rows) = self.rows.away.get(&user) else { return Ok(()) };
        append_rows(ctx, user, rows)?;
        self.rows.count -= rows.len();
        self.rows.away.remove(&user);
        Ok(())
    }

    /// Writes the rows of a cold mailbox ahead of the checkpoint.
    pub(super) fn write_cold(&mut self, ctx: &mut Context, user: UserKey) -> Result<(), Refusal> {
        let Some(Mailbox { body: Body::Cold(rows), .. }) = self.cells.get_mut(user) else {
            return Ok(());
        };
        append_rows(ctx, user, rows)?;
        self.rows.count -= rows.len();
        rows.clear();
        Ok(())
    }
}

fn append_rows(ctx: &mut Context, user: UserKey, rows: &[Row]) -> Result<(), Refusal> {
    for part in rows.chunks(records::ROWS_PER_RECORD) {
        ctx.stats.merged_rows_total += part.len() as u64;
        let body = records::encode_rows(user, part.iter());
        append_heads(ctx, user, &body.bytes)?;
    }
    Ok(())
}

fn append_heads(ctx: &mut Context, user: UserKey, body: &[u8]) -> Result<(), Refusal> {
    ctx.append(&NewRecord {
        stream: mailbox_stream(user),
        number: 0,
        seq: 0,
        stamp: 0,
        kind: records::KIND_HEADS,
        snapshot_start: false,
        body: &[body],
    })?;
    Ok(())
}
