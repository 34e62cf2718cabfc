//! The conversations a shard has in memory: cold, loading, active, evicted.

use super::{Conversation, records, unknown_conversation};
use crate::shard::context::{Context, Effect, Reading, conversation_stream};
use crate::shard::links::{Arrival, Cause};
use crate::shard::message::{Card, HistoryAsk, Message, Submit};
use crate::shard::report::Report;
use hashbrown::HashMap;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, UserId, UserKey};
use roost_protocol::wire::ErrorCode;
use roost_storage_engine::{Query, StoredRecord};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

#[derive(Debug)]
enum Cell {
    /// Its records are being read; what came meanwhile waits.
    Loading(Vec<Arrival>),
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
        id: ConversationId,
        arrival: Arrival,
        tick: u64,
    ) {
        match self.cells.get_mut(&id) {
            Some(Cell::Active(conversation)) => {
                conversation.touched_tick = tick;
                dispatch(conversation, ctx, arrival);
            }
            Some(Cell::Loading(waiting)) => wait(ctx, waiting, arrival),
            Some(Cell::Corrupt) => refuse_corrupt(ctx, arrival),
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
                refuse_corrupt(ctx, arrival);
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
                state = match self.begin(ctx, id, &arrival) {
                    Ok(begun) => begun,
                    Err(refusal) => {
                        refuse(ctx, arrival, &refusal);
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
        arrival: &Arrival,
    ) -> Result<Option<Box<Conversation>>, Refusal> {
        let Message::Submit(submit) = &arrival.message else { return Ok(None) };
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
                let refusal = busy(ctx.prng.jitter_ms(50));
                ctx.refuse(ask.edge, ask.request_id, &refusal);
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

fn dispatch(conversation: &mut Conversation, ctx: &mut Context, arrival: Arrival) {
    let Arrival { message, token, taken } = arrival;
    let cause = Cause { token, feeder: None, rank: Some(message.rank()) };
    match message {
        Message::Submit(submit) => conversation.submit(ctx, *submit, cause),
        Message::Delivered(mark) => conversation.delivered(ctx, mark, cause),
        Message::History(ask) => conversation.history(ctx, *ask, cause),
        Message::ReadTold(told) => conversation.read(ctx, told, taken, cause),
        Message::Register(_)
        | Message::Gone(_)
        | Message::Sync(_)
        | Message::ReadMark(_)
        | Message::Deliver(_)
        | Message::ReceiptTold(_)
        | Message::ToEdge { .. } => unreachable!("conversations take messages of rank 2"),
    }
    ctx.links.release(token);
}

fn wait(ctx: &mut Context, waiting: &mut Vec<Arrival>, arrival: Arrival) {
    // What cannot be answered cannot be refused: credit bounds it.
    let keep = arrival.taken.is_some() || matches!(arrival.message, Message::Delivered(_));
    if keep || waiting.len() < ctx.limits.loading_inputs_max as usize {
        waiting.push(arrival);
        return;
    }
    ctx.stats.busy_total += 1;
    let refusal = busy(ctx.prng.jitter_ms(100));
    refuse(ctx, arrival, &refusal);
}

fn busy(retry_after_ms: u32) -> Refusal {
    Refusal { retry_after_ms, ..Refusal::new(ErrorCode::ErrorBusy, "try again shortly") }
}

/// Nothing was ever said here. A write that could begin it, but not with this number, is told so.
fn refuse_unknown(ctx: &mut Context, arrival: Arrival) {
    if let Message::Submit(submit) = &arrival.message
        && submit.opening.is_some()
        && submit.client_sequence.0 > 1
    {
        let refusal = Refusal::new(ErrorCode::ErrorGap, "a write before this one is missing");
        let error = roost_protocol::wire::Error { expected_sequence: 1, ..refusal.to_wire() };
        let reply = crate::shard::message::Reply::Error(Box::new(error));
        ctx.stats.gaps_total += 1;
        ctx.reply(submit.edge, submit.request_id, reply);
        return ctx.links.release(arrival.token);
    }
    refuse(ctx, arrival, &unknown_conversation());
}

fn refuse_corrupt(ctx: &mut Context, arrival: Arrival) {
    let refusal = Refusal::new(
        ErrorCode::ErrorStorageCorrupt,
        "this conversation cannot be read; the operator has been told",
    );
    refuse(ctx, arrival, &refusal);
}

fn refuse(ctx: &mut Context, arrival: Arrival, refusal: &Refusal) {
    match &arrival.message {
        Message::Submit(submit) => ctx.refuse(submit.edge, submit.request_id, refusal),
        Message::History(ask) => ctx.refuse(ask.edge, ask.request_id, refusal),
        Message::ReadTold(_) => {
            if let Some(taken) = arrival.taken {
                ctx.links.confirm_two(taken);
            }
        }
        Message::Delivered(_)
        | Message::Register(_)
        | Message::Gone(_)
        | Message::Sync(_)
        | Message::ReadMark(_)
        | Message::Deliver(_)
        | Message::ReceiptTold(_)
        | Message::ToEdge { .. } => {}
    }
    ctx.links.release(arrival.token);
}
