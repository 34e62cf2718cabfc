//! The conversations a shard has in memory: cold, loading, active, evicted.

use super::{Conversation, records, unknown_conversation};
use crate::shard::context::{Context, Effect, Reading, conversation_stream};
use crate::shard::links::{Arrival, Cause, Taken};
use crate::shard::loading::{self, ToActor};
use crate::shard::message::{Card, HistoryAsk, Rank, Submit, ToConversation};
use crate::shard::report::Report;
use hashbrown::HashMap;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, UserId, UserKey};
use roost_protocol::wire::ErrorCode;
use roost_storage_engine::{Query, StoredRecord};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// About how long after an eviction that met a page of history it is asked for again.
const EVICTED_MS: u32 = 50;

#[derive(Debug)]
enum Cell {
    /// Its records are being read; what came meanwhile waits.
    Loading(Vec<Arrival<ToConversation>>),
    Active(Box<Conversation>),
    /// Its records cannot be read.
    Corrupt,
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Conversations {
    cells: HashMap<ConversationId, Cell, foldhash::fast::FixedState>,
    /// In the order they were loaded: the clock hand of eviction goes round.
    order: VecDeque<(ConversationId, u64)>,
    stamps: u64,
    /// To be told again after loading.
    replaying: BTreeSet<ConversationId>,
    bytes: u64,
}

impl Conversations {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            cells: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            order: VecDeque::new(),
            stamps: 0,
            replaying: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// How many are in memory.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Roughly what they take.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Handles a message of rank 2.
    pub(crate) fn handle(
        &mut self,
        ctx: &mut Context,
        arrival: Arrival<ToConversation>,
        tick: u64,
    ) {
        let id = arrival.message.conversation();
        match self.cells.get_mut(&id) {
            Some(Cell::Active(conversation)) => {
                conversation.touched_tick = tick;
                dispatch(conversation, ctx, arrival);
            }
            Some(Cell::Loading(waiting)) => loading::wait(ctx, waiting, arrival),
            Some(Cell::Corrupt) => loading::refuse_unreadable(ctx, arrival),
            None => {
                self.load(ctx, id);
                if let Some(Cell::Loading(waiting)) = self.cells.get_mut(&id) {
                    waiting.push(arrival);
                }
            }
        }
    }

    fn load(&mut self, ctx: &mut Context, id: ConversationId) {
        ctx.stats.loads_total += 1;
        self.cells.insert(id, Cell::Loading(Vec::new()));
        let stream = conversation_stream(id);
        ctx.read(Query::Load { stream }, Reading::Conversation(id));
    }

    /// Loads a conversation to tell again what it owes.
    pub(crate) fn replay(&mut self, ctx: &mut Context, id: ConversationId) -> Option<u64> {
        match self.cells.get_mut(&id) {
            Some(Cell::Active(conversation)) => return Some(conversation.tell_again(ctx)),
            Some(Cell::Loading(_)) => {}
            Some(Cell::Corrupt) => return Some(0),
            None => self.load(ctx, id),
        }
        self.replaying.insert(id);
        None
    }

    /// The records of a conversation were read. Returns how much was told again, if that was due.
    pub(crate) fn loaded(
        &mut self,
        ctx: &mut Context,
        id: ConversationId,
        records: Option<&[StoredRecord]>,
        tick: u64,
    ) -> Option<u64> {
        let Some(Cell::Loading(waiting)) = self.cells.remove(&id) else { return None };
        let replaying = self.replaying.remove(&id);
        let run = ctx.store.run();
        let found = records.ok_or(crate::shard::codec::Malformed);
        let Ok(state) = found.and_then(|records| records::replay(id, records, run)) else {
            ctx.reports.push(Report::Unreadable { stream: conversation_stream(id) });
            self.cells.insert(id, Cell::Corrupt);
            for arrival in waiting {
                loading::refuse_unreadable(ctx, arrival);
            }
            return replaying.then_some(0);
        };
        let mut state = state.map(Box::new);
        let mut told = None;
        if let Some(conversation) = state.as_mut().filter(|_| replaying) {
            told = Some(conversation.tell_again(ctx));
        }
        for arrival in waiting {
            if state.is_none() {
                state = match self.begin(ctx, id, &arrival.message) {
                    Ok(begun) => begun,
                    Err(refusal) => {
                        loading::refuse(ctx, arrival, &refusal);
                        continue;
                    }
                };
            }
            match state.as_mut() {
                Some(conversation) => dispatch(conversation, ctx, arrival),
                None => refuse_unknown(ctx, arrival),
            }
        }
        if let Some(mut conversation) = state {
            conversation.touched_tick = tick;
            conversation.accounted_bytes = conversation.bytes();
            self.bytes += conversation.accounted_bytes;
            self.stamps += 1;
            conversation.stamp = self.stamps;
            self.order.push_back((id, self.stamps));
            self.cells.insert(id, Cell::Active(conversation));
        }
        told.or_else(|| replaying.then_some(0))
    }

    /// Begins a direct conversation, if this write may; an error when just now it cannot.
    fn begin(
        &self,
        ctx: &mut Context,
        id: ConversationId,
        message: &ToConversation,
    ) -> Result<Option<Box<Conversation>>, Refusal> {
        let ToConversation::Submit(submit) = message else { return Ok(None) };
        let Some(card) = card_of(id, submit) else { return Ok(None) };
        if submit.client_sequence.0 != 1 {
            return Ok(None);
        }
        let mut conversation = Box::new(Conversation::new(id, Arc::new(card)));
        conversation.create(ctx)?;
        Ok(Some(conversation))
    }

    /// A page of history was read.
    pub(crate) fn history_read(
        &mut self,
        ctx: &mut Context,
        ask: &HistoryAsk,
        token: crate::shard::links::Token,
        records: Option<&[StoredRecord]>,
    ) {
        match self.cells.get_mut(&ask.conversation) {
            Some(Cell::Active(conversation)) => {
                conversation.history_read(ctx, ask, token, records);
            }
            Some(Cell::Loading(_) | Cell::Corrupt) | None => {
                // Evicted meanwhile: ask again.
                let refusal = loading::busy(ctx, EVICTED_MS);
                ctx.refuse(ask.edge, ask.request, &refusal);
                ctx.links.release(token);
            }
        }
    }

    // ---- eviction ----

    /// Looks at a few conversations and lets go of those that were not touched lately.
    pub(crate) fn evict_some(
        &mut self,
        ctx: &mut Context,
        tick: u64,
        idle_ticks: u64,
        most: usize,
    ) {
        for _ in 0..most.min(self.order.len()) {
            let Some((id, stamp)) = self.order.pop_front() else { return };
            let Some(Cell::Active(conversation)) = self.cells.get_mut(&id) else { continue };
            if conversation.stamp != stamp {
                continue;
            }
            self.order.push_back((id, stamp));
            let bytes = conversation.bytes();
            self.bytes = self.bytes + bytes - conversation.accounted_bytes;
            conversation.accounted_bytes = bytes;
            let durable = ctx.store.durable();
            if tick.saturating_sub(conversation.touched_tick) < idle_ticks
                || !conversation.is_settled(durable)
            {
                continue;
            }
            let fresh = conversation.snapshot_number == conversation.number;
            let position = if fresh { Ok(ctx.log_end()) } else { conversation.snapshot(ctx) };
            if let Ok(position) = position {
                let number = conversation.number;
                if fresh && position <= durable {
                    self.evict(ctx, id, number);
                } else {
                    let effect = Effect::EvictConversation { id, number };
                    ctx.park_eviction(position, effect);
                }
            }
        }
    }

    /// Lets go of a conversation if nothing happened to it since its snapshot.
    pub(crate) fn evict(&mut self, ctx: &mut Context, id: ConversationId, number: u64) {
        let durable = ctx.store.durable();
        if let Some(Cell::Active(conversation)) = self.cells.get_mut(&id)
            && conversation.number == number
            && conversation.snapshot_number == number
            && conversation.is_settled(durable)
        {
            self.bytes -= conversation.accounted_bytes;
            self.cells.remove(&id);
            ctx.stats.evictions_total += 1;
        }
    }
}

fn card_of(id: ConversationId, submit: &Submit) -> Option<Card> {
    let (own, peer) = submit.opening.as_deref()?;
    let peer_key = submit.peer_key?;
    let mut users: [(UserKey, UserId); 2] = [(submit.user, own.clone()), (peer_key, peer.clone())];
    users.sort();
    (ConversationId::direct(users[0].0, users[1].0) == id).then_some(Card { users })
}

fn dispatch(conversation: &mut Conversation, ctx: &mut Context, arrival: Arrival<ToConversation>) {
    let Arrival { message, token, taken } = arrival;
    let cause = Cause::message(token, Rank::Two);
    match message {
        ToConversation::Submit(submit) => conversation.submit(ctx, *submit, cause),
        ToConversation::Delivered(mark) => conversation.delivered(ctx, mark, cause),
        ToConversation::History(ask) => conversation.history(ctx, *ask, cause),
        ToConversation::ReadTold(told) => conversation.read(ctx, told, taken, cause),
    }
    ctx.links.release(token);
}

impl ToActor for ToConversation {
    const UNREADABLE: &'static str = "this conversation cannot be read; the operator has been told";

    fn must_wait(&self, taken: Option<Taken>) -> bool {
        taken.is_some() || matches!(self, Self::Delivered(_))
    }

    fn refuse(self, ctx: &mut Context, taken: Option<Taken>, refusal: &Refusal) {
        match self {
            Self::Submit(submit) => ctx.refuse(submit.edge, submit.request, refusal),
            Self::History(ask) => ctx.refuse(ask.edge, ask.request, refusal),
            Self::ReadTold(_) => {
                if let Some(taken) = taken {
                    ctx.links.confirm_two(taken);
                }
            }
            Self::Delivered(_) => {}
        }
    }
}

/// Nothing was ever said here. A write that could begin it, but not with this number, is told so.
fn refuse_unknown(ctx: &mut Context, arrival: Arrival<ToConversation>) {
    if let ToConversation::Submit(submit) = &arrival.message
        && submit.opening.is_some()
        && submit.client_sequence.0 > 1
    {
        let refusal = Refusal::new(ErrorCode::ErrorGap, "a write before this one is missing");
        let error = roost_protocol::wire::Error { expected_sequence: 1, ..refusal.to_wire() };
        let reply = crate::shard::message::Reply::Error(Box::new(error));
        ctx.stats.gaps_total += 1;
        ctx.reply(submit.edge, submit.request, reply);
        return ctx.links.release(arrival.token);
    }
    loading::refuse(ctx, arrival, &unknown_conversation());
}
