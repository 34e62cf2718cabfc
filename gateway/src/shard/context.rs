//! What every actor of a shard works with: the time, the store, the links, and effects that wait
//! for a flush.

use crate::ids::{EdgeAddress, ShardId};
use crate::limits::Limits;
use crate::shard::codec::Writer;
use crate::shard::conversation::history::Search;
use crate::shard::evicting::shrink;
use crate::shard::links::{Arrival, Cause, Links, Owed, Taken, Token};
use crate::shard::message::{Hint, HistoryAsk, Message, Reply, RequestTag, ToEdge};
use crate::shard::report::Report;
use crate::shard::stats::Stats;
use crate::shard::timers::Timers;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, MessageId, UserKey};
use roost_protocol::time::Now;
use roost_storage_engine::{
    Appended, NewRecord, Position, Query, ReadId, Store, StoreError, StoreOp, StreamId,
};
use std::collections::{BTreeMap, VecDeque};

/// Something to be done when the log is durable up to a position.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Tell an actor.
    Tell { to: ShardId, message: Message, owed: Owed },
    /// Tell a connection.
    ToEdge { edge: EdgeAddress, what: ToEdge },
    /// Pass something on that may be lost.
    Hint { to: ShardId, hint: Hint },
    /// An owed message of rank 2 has its effect.
    Confirm(Taken),
    /// The checkpoint that began with these counts is complete.
    Checkpoint(Vec<u64>),
    /// A conversation may leave memory, if nothing happened to it since its snapshot.
    EvictConversation { id: ConversationId, number: u64 },
    /// The same for a mailbox.
    EvictMailbox { user: UserKey, number: u64 },
}

#[derive(Debug)]
struct Parked {
    position: Position,
    effect: Effect,
    token: Token,
}

/// What a read of the store was for.
#[derive(Debug)]
pub(crate) enum Reading {
    /// Bringing a conversation into memory.
    Conversation(ConversationId),
    /// Bringing a mailbox into memory.
    Mailbox(UserKey),
    /// Telling again what a mailbox's records owe.
    ReplayMailbox(UserKey),
    /// A page of history.
    History { ask: Box<HistoryAsk>, token: Token },
    /// Where a page of history begins that is asked for by time.
    Time { ask: Box<HistoryAsk>, search: Search, token: Token },
    /// The record that a write is about.
    Target(ConversationId),
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) now: Now,
    pub(crate) limits: Limits,
    pub(crate) links: Links,
    pub(crate) store: Store,
    pub(crate) stats: Stats,
    /// Actors that began to be brought into memory since eviction last made room for them.
    pub(crate) loads_begun: u64,
    pub(crate) prng: Prng,
    pub(crate) message_ids: MessageIds,
    pub(crate) ops: Vec<StoreOp>,
    pub(crate) reports: Vec<Report>,
    pub(crate) reading: BTreeMap<ReadId, Reading>,
    /// What the log could not take and nobody would say again: handled anew at the next tick.
    pub(crate) retry: VecDeque<Arrival>,
    /// Conversations of which something is due later.
    pub(crate) timers: Timers,
    /// For bodies of records that are put together and appended at once.
    scratch: Writer,
    parked: VecDeque<Parked>,
}

impl Context {
    /// Lets go of room that only the busiest moment needed.
    pub(crate) fn give_back(&mut self) {
        shrink(&mut self.parked);
        shrink(&mut self.ops);
        self.links.give_back();
    }

    pub(crate) fn new(
        limits: Limits,
        links: Links,
        store: Store,
        seed: u64,
        generator: u16,
    ) -> Self {
        let message_ids = MessageIds::starting_above(MessageId(store.max_stamp()), generator);
        Self {
            now: Now::default(),
            limits,
            links,
            store,
            stats: Stats::default(),
            loads_begun: 0,
            prng: Prng::seeded(seed),
            message_ids,
            ops: Vec::new(),
            reports: Vec::new(),
            reading: BTreeMap::new(),
            retry: VecDeque::new(),
            timers: Timers::default(),
            scratch: Writer::default(),
            parked: VecDeque::new(),
        }
    }

    /// The monotonic time, for what is due later.
    pub(crate) const fn now_ms(&self) -> u64 {
        self.now.monotonic.ns / 1_000_000
    }

    /// An empty body to put a record together in; give it back.
    pub(crate) fn take_scratch(&mut self) -> Writer {
        std::mem::take(&mut self.scratch)
    }

    /// Gives a body back whose record was appended.
    pub(crate) fn give_scratch(&mut self, mut scratch: Writer) {
        scratch.bytes.clear();
        self.scratch = scratch;
    }

    /// The shard that is home to a mailbox.
    pub(crate) fn home_of_user(&self, user: UserKey) -> ShardId {
        self.home(user.partition())
    }

    /// The shard that is home to a conversation.
    pub(crate) fn home_of_conversation(&self, id: ConversationId) -> ShardId {
        self.home(id.partition())
    }

    fn home(&self, partition: u16) -> ShardId {
        let shards = u16::from(self.links.shards());
        ShardId(u8::try_from(partition % shards).expect("less than the number of shards"))
    }

    /// Appends a record; an error becomes the refusal to answer with.
    pub(crate) fn append(&mut self, record: &NewRecord<'_>) -> Result<Appended, Refusal> {
        use roost_protocol::wire::ErrorCode;
        self.store.append(record).map_err(|error| match error {
            StoreError::Full => {
                self.stats.storage_full_total += 1;
                Refusal {
                    retry_after_ms: 1000,
                    ..Refusal::new(ErrorCode::ErrorStorageFull, "the server's disk is full")
                }
            }
            StoreError::TooLarge => {
                Refusal::new(ErrorCode::ErrorTooLarge, "the record is too large")
            }
            StoreError::Busy | StoreError::Failed(_) => Refusal {
                retry_after_ms: 50,
                ..Refusal::new(ErrorCode::ErrorBusy, "the log cannot take more just now")
            },
        })
    }

    /// Does something once the log is durable up to here; holds the cause's credit meanwhile.
    pub(crate) fn park(&mut self, position: Position, effect: Effect, cause: Cause) {
        if position <= self.store.durable() && self.parked.is_empty() {
            self.perform_simple(effect, cause);
            return;
        }
        let position = self.parked.back().map_or(position, |last| last.position.max(position));
        self.links.hold(cause.token);
        self.parked.push_back(Parked { position, effect, token: cause.token });
    }

    /// The end of the log: what is parked here sees everything that was appended so far.
    pub(crate) fn log_end(&self) -> Position {
        self.store.appended()
    }

    fn perform_simple(&mut self, effect: Effect, cause: Cause) {
        match effect {
            Effect::Tell { to, message, owed } => self.links.tell(to, message, owed, cause),
            Effect::ToEdge { edge, what } => self.links.tell_edge(edge, what),
            Effect::Hint { to, hint } => self.links.hint(to, hint),
            Effect::Confirm(taken) => self.links.confirm_two(taken),
            Effect::Checkpoint(_)
            | Effect::EvictConversation { .. }
            | Effect::EvictMailbox { .. } => unreachable!("performed by the shard"),
        }
    }

    /// Parks what the shard itself decides when it is due: evictions and checkpoints.
    pub(crate) fn park_eviction(&mut self, position: Position, effect: Effect) {
        let position = self.parked.back().map_or(position, |last| last.position.max(position));
        self.parked.push_back(Parked { position, effect, token: Token::NONE });
    }

    /// Performs what became durable; returns what the shard decides.
    pub(crate) fn release(&mut self, evictions: &mut Vec<Effect>) {
        let durable = self.store.durable();
        while self.parked.front().is_some_and(|parked| parked.position <= durable) {
            let Some(Parked { effect, token, .. }) = self.parked.pop_front() else { break };
            let by_shard = matches!(
                effect,
                Effect::EvictConversation { .. }
                    | Effect::EvictMailbox { .. }
                    | Effect::Checkpoint(_)
            );
            if by_shard {
                evictions.push(effect);
            } else {
                self.perform_simple(effect, Cause { token, feeder: None, rank: None });
            }
            self.links.release(token);
        }
    }

    /// Whether anything waits for a flush.
    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Answers a request at once.
    pub(crate) fn reply(&mut self, edge: EdgeAddress, request: RequestTag, reply: Reply) {
        self.links.tell_edge(edge, ToEdge::Reply { request, reply });
    }

    /// Refuses a request at once.
    pub(crate) fn refuse(&mut self, edge: EdgeAddress, request: RequestTag, refusal: &Refusal) {
        self.stats.refusals_total += 1;
        self.reply(edge, request, Reply::Error(Box::new(refusal.to_wire())));
    }

    /// An actor begins to be brought into memory.
    pub(crate) const fn note_load(&mut self) {
        self.stats.loads_total += 1;
        self.loads_begun += 1;
    }

    /// Starts a read of the store.
    pub(crate) fn read(&mut self, query: Query, purpose: Reading) {
        let id = self.store.read(query, &mut self.ops);
        self.reading.insert(id, purpose);
    }
}

/// The stream of a conversation.
pub(crate) const fn conversation_stream(id: ConversationId) -> StreamId {
    StreamId(id.as_u128())
}

/// The stream of a mailbox.
pub(crate) const fn mailbox_stream(user: UserKey) -> StreamId {
    StreamId(user.as_u128())
}

/// Numbers for jitter: the same seed, the same numbers (`SplitMix64`).
#[derive(Debug)]
pub(crate) struct Prng(u64);

impl Prng {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Somewhere from half of `ms` to one and a half.
    pub(crate) fn jitter_ms(&mut self, ms: u32) -> u32 {
        let span = u64::from(ms.max(1));
        let jittered = span / 2 + self.next() % (span + 1);
        u32::try_from(jittered).unwrap_or(ms)
    }
}

/// Makes message ids: unique, and rising even when the clock does not.
#[derive(Debug)]
pub(crate) struct MessageIds {
    ms: u64,
    sequence: u16,
    generator: u16,
}

impl MessageIds {
    fn starting_above(largest: MessageId, generator: u16) -> Self {
        Self { ms: largest.wall_ms(), sequence: 4095, generator }
    }

    /// The next id, and by how many milliseconds it runs ahead of the clock.
    pub(crate) fn next(&mut self, now: Now) -> (MessageId, u64) {
        if now.wall.ms > self.ms {
            self.ms = now.wall.ms;
            self.sequence = 0;
        } else if self.sequence == 4095 {
            self.ms += 1;
            self.sequence = 0;
        } else {
            self.sequence += 1;
        }
        let ahead_ms = self.ms.saturating_sub(now.wall.ms);
        (MessageId::from_parts(self.ms, self.generator, self.sequence), ahead_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_protocol::ids::MESSAGE_ID_EPOCH_MS;
    use roost_protocol::time::Timestamp;

    #[test]
    fn message_ids_rise_when_the_clock_falls_back() {
        let largest = MessageId::from_parts(MESSAGE_ID_EPOCH_MS + 1000, 5, 17);
        let mut ids = MessageIds::starting_above(largest, 3);
        let mut last = largest;
        for wall in [900, 2000, 1500, 1500, 3000] {
            let wall = Timestamp { ms: MESSAGE_ID_EPOCH_MS + wall };
            for _ in 0..5000 {
                let (id, _) = ids.next(Now { wall, ..Now::default() });
                assert!(id > last);
                last = id;
            }
        }
    }
}
