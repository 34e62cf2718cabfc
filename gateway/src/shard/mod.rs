//! The shard: everything one core owns, as a value. It routes; the actors decide.
//!
//! **The batch rule.** Feed any number of inputs to `handle`; call `end_batch` once; perform the
//! outbox completely and in order; only then start the next batch. `end_batch` is the only place
//! where a commit or a send begins (but for the last words to a connection that is being ended).
//!
//! **The one-answer rule.** Every output that asks for something carries an id and is answered by
//! exactly one input with that id. At most one send is outstanding per connection, at most one
//! commit per shard. After `Closed` no input names that connection again.
//!
//! It must never know: sockets, files, clocks, threads, random sources.

pub mod auth;
mod codec;
mod context;
mod conversation;
mod edge;
mod evicting;
pub mod input;
mod links;
mod loading;
mod mailbox;
pub mod message;
pub mod output;
mod replay;
pub mod report;
pub mod stats;
mod tables;
mod timers;

pub use edge::EdgeConfig;
pub use edge::entrance::{ListenerRules, Trust};
pub use edge::transport::PROTOCOL;
pub use input::{Input, Secrets};
pub use message::{Parcel, Settle};
pub use output::{Outbox, Output};
pub use report::{Refused, Report};
pub use stats::Stats;

use crate::ids::ShardId;
use crate::limits::Limits;
use crate::shard::links::Arrival;
use context::{Context, Effect, Reading};
use conversation::table::Conversations;
use edge::Edges;
use edge::sweep::TICK_MS;
use evicting::Evicting;
use links::{Links, Owed};
use mailbox::Mailboxes;
use message::{Hint, Message};
use replay::Replay;
use roost_protocol::ids::MessageId;
use roost_protocol::time::{Instant, Now};
use roost_storage_engine::{ReadId, Store, StoreEvent, StoredRecord};

/// What a shard keeps for an idle session, by structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionBytes {
    /// The connection.
    pub edge: usize,
    /// The mailbox of its user, at rest.
    pub mailbox: usize,
    /// Where that is found, at most: a table of five bytes a place that is half empty.
    pub place: usize,
    /// With TLS: a box, as the allocator hands it out.
    pub tls: usize,
}

/// What idle sessions are made of.
#[must_use]
pub const fn idle_session_bytes() -> SessionBytes {
    SessionBytes {
        edge: edge::EDGE_BYTES,
        mailbox: mailbox::RESTING_BYTES,
        place: tables::PLACE_BYTES,
        tls: edge::TLS_BYTES,
    }
}

/// Ticks between two looks at which messages are too old.
const RETENTION_TICKS: u64 = 600;

/// What a shard is made of.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which shard it is.
    pub id: ShardId,
    /// How many there are.
    pub shards: u8,
    /// Which node this server is, for message ids: node x 16 + shard is the generator.
    pub node: u16,
    /// Bounds.
    pub limits: Limits,
    /// What its connections share.
    pub edges: EdgeConfig,
    /// For jitter and for the order of hash maps. Random in the real world.
    pub seed: u64,
}

/// See the module's comment.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Shard {
    ctx: Context,
    edges: Edges,
    conversations: Conversations,
    mailboxes: Mailboxes,
    replay: Replay,
    sent_notes: Vec<Settle>,
    tick: u64,
    last_tick: Option<Instant>,
    last_checkpoint: Instant,
    checkpoint_wanted: bool,
    evicting: Evicting,
    draining: bool,
    drained: bool,
    /// The last connection went: what is owed is being settled.
    settling: bool,
    failed: bool,
    events: Vec<StoreEvent>,
}

impl Shard {
    /// A shard over an opened store. It tells again what its store's earlier runs owe.
    #[must_use]
    pub fn open(config: ShardConfig, store: Store) -> Self {
        let limits = config.limits;
        let links =
            Links::new(config.id, config.shards, limits.credit_per_rank, limits.queue_slots);
        let generator = config.node * 16 + u16::from(config.id.0);
        let replay = Replay::new(store.replay_streams());
        let token_life_ms = config.edges.token_rules.life_max_s.saturating_mul(1000);
        Self {
            ctx: Context::new(limits, links, store, config.seed, generator),
            edges: Edges::new(config.edges),
            conversations: Conversations::new(config.seed),
            mailboxes: Mailboxes::new(config.seed.rotate_left(17), token_life_ms),
            replay,
            sent_notes: vec![Settle::default(); usize::from(config.shards)],
            tick: 0,
            last_tick: None,
            last_checkpoint: Instant::default(),
            checkpoint_wanted: false,
            evicting: Evicting::default(),
            draining: false,
            drained: false,
            settling: false,
            failed: false,
            events: Vec::new(),
        }
    }

    /// Takes one input. What it causes among this shard's own actors happens before it returns;
    /// nothing is sent or committed before `end_batch`.
    pub fn handle(&mut self, now: Now, input: Input<'_>, outbox: &mut Outbox) {
        self.ctx.now = now;
        match input {
            Input::Tick => self.tick(outbox),
            Input::Opened { edge, listener, peer } => {
                self.edges.opened(&mut self.ctx, outbox, edge, listener, peer);
            }
            Input::Received { edge, bytes } => {
                self.edges.received(&mut self.ctx, outbox, edge, bytes);
                if self.edges.partials_over(&self.ctx) {
                    self.edges.sweep_partials(&mut self.ctx, outbox);
                }
            }
            Input::Sent { edge, buffer } => self.edges.sent(&mut self.ctx, outbox, edge, buffer),
            Input::Closed { edge, unacknowledged } => {
                self.ctx.stats.unacknowledged_total += u64::from(unacknowledged);
                self.edges.closed(&mut self.ctx, edge);
            }
            Input::Arrived { from, parcel } => self.arrived(from, parcel),
            Input::Slots { by, slots } => self.ctx.links.slots_freed(by, slots),
            Input::Stored(done) => {
                let (store, ops) = (&mut self.ctx.store, &mut self.ctx.ops);
                store.handle(done, &mut self.events, ops);
            }
            Input::Drain => {
                self.draining = true;
                self.edges.drain(&mut self.ctx, outbox);
            }
            Input::Certificates(settings) => {
                self.ctx.stats.tls_certificates_replaced_total += 1;
                self.edges.config.tls = Some(settings);
            }
            Input::Secrets(secrets) => self.edges.secrets(&secrets),
        }
        self.settle(outbox);
    }

    /// Ends the batch: commits what was appended, sends what was queued.
    pub fn end_batch(&mut self, now: Now, outbox: &mut Outbox) {
        self.ctx.now = now;
        self.edges.begin_batch(&self.ctx);
        self.edges.take_deferred(&mut self.ctx, outbox);
        self.edges.take_handshakes(&mut self.ctx, outbox);
        if self.draining && !self.settling && self.edges.table.open() == 0 {
            self.settling = true;
            self.settle_debts();
        }
        self.step_background();
        self.settle(outbox);
        self.edges.take_newcomers(&self.ctx, outbox);
        self.edges.flush(&mut self.ctx, outbox);
        if !self.failed {
            let now_us = now.monotonic.ns / 1000;
            self.ctx.store.end_batch(now_us, &mut self.ctx.ops);
        }
        self.ctx.links.send_notes(&mut self.sent_notes);
        for (to, parcel) in self.ctx.links.take_outgoing() {
            outbox.push(Output::Forward { to, parcel });
        }
        for op in self.ctx.ops.drain(..) {
            outbox.push(Output::Store(op));
        }
        for report in self.ctx.reports.drain(..) {
            outbox.push(Output::Report(report));
        }
        self.count_dropped();
        self.edges.begin_batch(&self.ctx);
        let idle = self.edges.table.open() == 0 && !self.ctx.has_parked();
        if self.draining && idle && !self.drained {
            self.drained = true;
            outbox.push(Output::Drained);
        }
    }

    /// What the links dropped, for the counters.
    fn count_dropped(&mut self) {
        let Context { stats, links, .. } = &mut self.ctx;
        stats.pushes_dropped_total += std::mem::take(&mut links.pushes_dropped);
        stats.hints_dropped_total += std::mem::take(&mut links.hints_dropped);
    }

    /// When `end_batch` is to be called at the latest, though nothing happens.
    #[must_use]
    pub fn wakes_by(&self) -> Option<Instant> {
        let due_us = self.ctx.store.commit_due_us()?;
        Some(Instant { ns: due_us.saturating_mul(1000) })
    }

    /// Whether there is work left that no input will announce: call `handle(Tick)` and `end_batch`
    /// again soon.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.edges.has_deferred(&self.ctx)
            || self.replay.has_more(self.ctx.links.backlog_len())
            || self.mailboxes.checkpoint_has_more()
            || self.mailboxes.has_tellings(&self.ctx)
            || self.has_evictions()
    }

    /// Counters.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.ctx.stats
    }

    /// The store, for its counters.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.ctx.store
    }

    /// Actors in memory.
    #[must_use]
    pub fn actors(&self) -> usize {
        self.conversations.len() + self.mailboxes.len()
    }

    /// Of [`Self::actors`], mailboxes of users who are connected and of whom nothing happens.
    #[must_use]
    pub fn mailboxes_resting(&self) -> usize {
        self.mailboxes.resting()
    }

    /// Sessions of users who are at home here, by whatever shard they are connected.
    #[must_use]
    pub const fn sessions(&self) -> u32 {
        self.mailboxes.sessions()
    }

    /// Networks that have connections, if they are counted.
    #[must_use]
    pub fn address_prefixes(&self) -> usize {
        self.edges.address_prefixes()
    }

    /// Messages to other actors that wait for credit or room.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.ctx.links.backlog_len()
    }

    /// Whether all that this shard's records owe is durable where it is owed, those of earlier runs
    /// included, and nothing soft waits for a checkpoint. When a drained server stops while every
    /// shard says so, the next start has nothing to tell again.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        self.replay.is_told() && self.ctx.store.owes_nothing() && !self.mailboxes.has_unwritten()
    }

    /// Whether everything owed by earlier runs is known to everybody.
    #[must_use]
    pub const fn is_retold(&self) -> bool {
        self.replay.is_told()
    }

    // ---- between inputs ----

    /// Works through everything that became possible, until nothing is.
    fn settle(&mut self, outbox: &mut Outbox) {
        loop {
            self.take_store_events();
            self.release();
            while let Some(arrival) = self.ctx.links.next_arrival() {
                self.route(arrival);
            }
            while let Some((edge, what)) = self.ctx.links.next_for_edge() {
                self.edges.take(&mut self.ctx, outbox, edge, what);
            }
            while let Some(hint) = self.ctx.links.next_hint() {
                self.take_hint(hint);
            }
            for (owed, number) in self.ctx.links.take_settled() {
                match owed {
                    Owed::Nothing => {}
                    Owed::Segment(segment) => self.ctx.store.settle(segment, number),
                    Owed::Replay => self.replay.settled(number),
                }
            }
            self.ctx.links.pump();
            for edge in self.ctx.links.take_resumed() {
                self.edges.go_on(&mut self.ctx, outbox, edge);
            }
            self.ctx.store.take_ready(&mut self.events);
            if self.events.is_empty() && self.ctx.links.is_settled() {
                return;
            }
        }
    }

    fn route(&mut self, arrival: Arrival) {
        let (ctx, tick) = (&mut self.ctx, self.tick);
        let Arrival { message, token, taken } = arrival;
        match message {
            Message::ToOwnMailbox(message) => {
                self.mailboxes.handle(ctx, Arrival { message, token, taken }, tick);
            }
            Message::ToConversation(message) => {
                self.conversations.handle(ctx, Arrival { message, token, taken }, tick);
            }
            Message::ToMailbox(message) => {
                self.mailboxes.handle_told(ctx, Arrival { message, token, taken });
            }
            Message::ToEdge { .. } | Message::ToEdges { .. } => {
                unreachable!("what is for connections does not queue here")
            }
        }
    }

    fn take_hint(&mut self, hint: Hint) {
        match hint {
            Hint::Typing { conversation, user, stopped } => {
                self.conversations.typing(&mut self.ctx, conversation, user, stopped);
            }
            Hint::TypingTold { recipients, conversation, frame } => {
                self.mailboxes.typing_told(&mut self.ctx, conversation, &recipients, &frame);
            }
            Hint::News { channel, frame } => self.edges.news(&mut self.ctx, channel, &frame),
        }
    }

    fn arrived(&mut self, from: ShardId, parcel: Parcel) {
        match parcel {
            Parcel::Message { message, owed } => self.ctx.links.arrive(from, message, owed),
            Parcel::Hint(hint) => self.ctx.links.hint_arrived(hint),
            Parcel::Settle(note) => {
                self.ctx.links.settle(from, &note);
                self.checkpoint_wanted |= note.checkpoint_wanted;
                self.replay.heard(from, &note);
            }
        }
    }

    fn take_store_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.take_store_event(event);
        }
        self.events = events;
    }

    fn take_store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Durable(_) | StoreEvent::Sealed(_) => {}
            StoreEvent::NotSealed { segment, error } => {
                let what = format!("segment {segment}: {error}");
                self.ctx.reports.push(Report::NotTidied { what });
            }
            StoreEvent::NotMerged(error) => {
                self.ctx.reports.push(Report::NotTidied { what: format!("tables: {error}") });
            }
            StoreEvent::Read { id, result } => {
                let records = result.as_deref().ok();
                self.take_read(id, records);
            }
            StoreEvent::Full => {
                self.ctx.reports.push(Report::StorageFull);
            }
            StoreEvent::Room => {
                self.ctx.reports.push(Report::StorageRoom);
            }
            StoreEvent::Corrupt(damage) => self.ctx.reports.push(Report::Corrupt(damage)),
            StoreEvent::Fatal(error) => {
                self.failed = true;
                self.ctx.reports.push(Report::StoreFailed { what: error.to_string() });
            }
            StoreEvent::OldSealed => self.replay.sealed(&mut self.ctx.links),
        }
    }

    fn take_read(&mut self, id: ReadId, records: Option<&[StoredRecord]>) {
        let Some(purpose) = self.ctx.reading.remove(&id) else { return };
        let tick = self.tick;
        match purpose {
            Reading::Conversation(conversation) => {
                let told = self.conversations.loaded(&mut self.ctx, conversation, records, tick);
                if let Some(told) = told {
                    self.replay.told(told);
                }
            }
            Reading::Mailbox(user) => {
                let told = self.mailboxes.loaded(&mut self.ctx, user, records, tick);
                if let Some(told) = told {
                    self.replay.told(told);
                }
            }
            Reading::ReplayMailbox(user) => {
                let told = self.mailboxes.tell_again(&mut self.ctx, user, records);
                if let Some(told) = told {
                    self.replay.told(told);
                }
            }
            Reading::History { ask, token } => {
                self.conversations.history_read(&mut self.ctx, &ask, token, records);
            }
            Reading::Time { ask, search, token } => {
                self.conversations.searched(&mut self.ctx, ask, search, token, records);
            }
            Reading::Target(conversation) => {
                self.conversations.target_read(&mut self.ctx, conversation, records);
            }
        }
    }

    fn release(&mut self) {
        let mut due = Vec::new();
        self.ctx.release(&mut due);
        for effect in due {
            match effect {
                Effect::EvictConversation { id, number } => {
                    self.conversations.evict(&mut self.ctx, id, number);
                }
                Effect::EvictMailbox { user, number } => {
                    self.mailboxes.evict(&mut self.ctx, user, number);
                }
                Effect::Checkpoint(counts) => {
                    self.mailboxes.end_checkpoint(&mut self.ctx, &counts);
                    self.mailboxes.take_stalled(&mut self.ctx);
                }
                Effect::Tell { .. }
                | Effect::ToEdge { .. }
                | Effect::Hint { .. }
                | Effect::Confirm(_) => {
                    unreachable!("performed by the context");
                }
            }
        }
    }

    // ---- time ----

    fn tick(&mut self, outbox: &mut Outbox) {
        let now = self.ctx.now.monotonic;
        let tick_ms = u64::from(TICK_MS);
        let passed_ms = self.last_tick.map_or(tick_ms, |last| now.since(last).as_ms());
        if passed_ms < u64::from(TICK_MS) {
            return;
        }
        self.last_tick = Some(now);
        self.tick += passed_ms / u64::from(TICK_MS);
        let tick = u32::try_from(self.tick).unwrap_or(u32::MAX);
        self.edges.sweep(&mut self.ctx, outbox, tick);
        let untold = self.ctx.store.untold_bytes();
        if untold > self.ctx.limits.untold_bytes_max / 2 {
            self.checkpoint_wanted |= self.ctx.links.want_checkpoints();
        }
        let since_ms = now.since(self.last_checkpoint).as_ms();
        if since_ms >= u64::from(self.ctx.limits.checkpoint_interval_ms)
            && self.ctx.links.checkpoint_due()
        {
            self.checkpoint_wanted = true;
        }
        if self.settling && !self.owes_nothing() {
            self.settle_debts();
        }
        if self.tick.is_multiple_of(RETENTION_TICKS) {
            self.retain();
        }
        self.mailboxes.unstall_checkpoint();
        let now_ms = self.ctx.now_ms();
        while let Some(due) = self.ctx.timers.next_due(now_ms) {
            for conversation in due {
                self.conversations.due(&mut self.ctx, conversation);
            }
        }
        self.mailboxes.tick(&mut self.ctx);
        for arrival in std::mem::take(&mut self.ctx.retry) {
            self.route(arrival);
        }
        self.plan_evictions();
        self.give_back();
    }

    /// The server is about to stop: asks for the checkpoints that settle what is owed, so that the
    /// next start need not tell it again.
    fn settle_debts(&mut self) {
        let own = self.ctx.links.want_checkpoints();
        self.checkpoint_wanted |= own || self.mailboxes.has_unwritten();
    }

    /// Lets messages go that are older than they may become.
    fn retain(&mut self) {
        let days = u64::from(self.ctx.limits.retention_days);
        if days > 0 {
            let oldest_ms = self.ctx.now.wall.ms.saturating_sub(days * 24 * 3_600_000);
            self.ctx.store.retain_from(MessageId::from_parts(oldest_ms, 0, 0).0);
        }
    }

    fn step_background(&mut self) {
        if self.failed {
            return;
        }
        if (self.checkpoint_wanted || self.mailboxes.rows_full())
            && !self.mailboxes.checkpoint_running()
        {
            self.checkpoint_wanted = false;
            self.last_checkpoint = self.ctx.now.monotonic;
            self.mailboxes.begin_checkpoint(&mut self.ctx);
        }
        self.step_evictions();
        self.mailboxes.step_checkpoint(&mut self.ctx);
        self.mailboxes.step_tellings(&mut self.ctx);
        self.replay.step(&mut self.ctx, &mut self.conversations);
    }
}

#[cfg(test)]
mod tests;
