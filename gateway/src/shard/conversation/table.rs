//! The conversations a shard has in memory: cold, loading, active, evicted.

use super::asks::{hide, pass_look_on, refuse_ask};
use super::authors::Author;
use super::channel::confirm_channel;
use super::contents::author_in;
use super::direct::confirm_block;
use super::history::Search;
use super::{Conversation, Paused, confirm, replay, unknown_conversation};
use crate::shard::context::{Context, Effect, Reading, conversation_stream};
use crate::shard::evicting::shrink;
use crate::shard::links::{Arrival, Cause, Taken, Token};
use crate::shard::loading::{self, ToActor};
use crate::shard::message::{HistoryAsk, Point, Rank, Reply, ToConversation};
use crate::shard::report::Report;
use crate::shard::tables::Tables;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, UserKey};
use roost_protocol::wire::ErrorCode;
use roost_storage_engine::{Query, StoredRecord};
use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;

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

/// Every conversation in memory by its id.
#[derive(Debug)]
struct Cells {
    tables: Tables<(ConversationId, Cell)>,
    hasher: foldhash::fast::FixedState,
}

impl Cells {
    fn get_mut(&mut self, id: ConversationId) -> Option<&mut Cell> {
        let found = self.tables.find_mut(self.hasher.hash_one(id), |(other, _)| *other == id);
        found.map(|(_, cell)| cell)
    }

    /// Takes in one that is not there.
    fn insert(&mut self, id: ConversationId, cell: Cell) {
        let hasher = &self.hasher;
        self.tables.insert(hasher.hash_one(id), (id, cell), |(other, _)| hasher.hash_one(other));
    }

    fn remove(&mut self, id: ConversationId) -> Option<Cell> {
        let hasher = &self.hasher;
        let is_it = |(other, _): &(ConversationId, Cell)| *other == id;
        let removed =
            self.tables.remove(hasher.hash_one(id), is_it, |(other, _)| hasher.hash_one(other));
        removed.map(|(_, cell)| cell)
    }
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Conversations {
    cells: Cells,
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
            cells: Cells {
                tables: Tables::new(),
                hasher: foldhash::fast::FixedState::with_seed(seed),
            },
            order: VecDeque::new(),
            stamps: 0,
            replaying: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// How many are in memory.
    pub(crate) fn len(&self) -> usize {
        self.cells.tables.len()
    }

    /// How many eviction looks at in a rotation.
    pub(crate) fn order_len(&self) -> usize {
        self.order.len()
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
        match self.cells.get_mut(id) {
            Some(Cell::Active(conversation)) => {
                conversation.touched_tick = tick;
                take(conversation, ctx, arrival, &[]);
            }
            Some(Cell::Loading(waiting)) => loading::wait(ctx, waiting, arrival),
            Some(Cell::Corrupt) => loading::refuse_unreadable(ctx, arrival),
            None => {
                self.load(ctx, id);
                if let Some(Cell::Loading(waiting)) = self.cells.get_mut(id) {
                    waiting.push(arrival);
                }
            }
        }
    }

    fn load(&mut self, ctx: &mut Context, id: ConversationId) {
        ctx.note_load();
        self.cells.insert(id, Cell::Loading(Vec::new()));
        let stream = conversation_stream(id);
        ctx.read(Query::LoadWithRecent { stream }, Reading::Conversation(id));
    }

    /// Loads a conversation to tell again what it owes.
    pub(crate) fn replay(&mut self, ctx: &mut Context, id: ConversationId) -> Option<u64> {
        match self.cells.get_mut(id) {
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
        let Some(Cell::Loading(waiting)) = self.cells.remove(id) else { return None };
        let replaying = self.replaying.remove(&id);
        let run = ctx.store.run();
        let found = records.ok_or(crate::shard::codec::Malformed);
        let Ok(state) = found.and_then(|records| replay::replay(id, from_snapshot(records), run))
        else {
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
            match state.as_mut() {
                Some(conversation) => {
                    take(conversation, ctx, arrival, records.unwrap_or_default());
                }
                None => state = begin(ctx, arrival),
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

    pub(super) fn active(&mut self, id: ConversationId) -> Option<&mut Conversation> {
        match self.cells.get_mut(id) {
            Some(Cell::Active(conversation)) => Some(conversation),
            Some(Cell::Loading(_) | Cell::Corrupt) | None => None,
        }
    }

    // ---- what was read for one in memory ----

    /// A page of history was read.
    pub(crate) fn history_read(
        &mut self,
        ctx: &mut Context,
        ask: &HistoryAsk,
        token: Token,
        records: Option<&[StoredRecord]>,
    ) {
        match self.active(ask.conversation) {
            Some(conversation) => conversation.history_read(ctx, ask, token, records),
            None => evicted_meanwhile(ctx, ask, token),
        }
    }

    /// A record was read to find where a page begins.
    pub(crate) fn searched(
        &mut self,
        ctx: &mut Context,
        ask: Box<HistoryAsk>,
        search: Search,
        token: Token,
        records: Option<&[StoredRecord]>,
    ) {
        match self.active(ask.conversation) {
            Some(conversation) => conversation.searched(ctx, ask, search, token, records),
            None => evicted_meanwhile(ctx, &ask, token),
        }
    }

    /// The record that a write is about was read: it goes on, and then what waited behind it.
    pub(crate) fn target_read(
        &mut self,
        ctx: &mut Context,
        id: ConversationId,
        records: Option<&[StoredRecord]>,
    ) {
        let Some(conversation) = self.active(id) else { return };
        let Some(paused) = conversation.paused.take() else { return };
        let Paused { submit, target, token, waiting } = *paused;
        let cause = Cause::message(token, Rank::Two);
        let found: Option<Option<Author>> = records.map(|records| author_in(records, target));
        match found {
            Some(author) => conversation.submit(ctx, submit, Some(author), cause),
            None => {
                let code = ErrorCode::ErrorStorageCorrupt;
                let refusal = Refusal::new(code, ToConversation::UNREADABLE);
                ctx.refuse(submit.edge, submit.request, &refusal);
            }
        }
        ctx.links.release(token);
        for arrival in waiting {
            take(conversation, ctx, arrival, &[]);
        }
    }

    // ---- time, and what may be lost ----

    /// Something of a conversation may be due.
    pub(crate) fn due(&mut self, ctx: &mut Context, id: ConversationId) {
        if let Some(conversation) = self.active(id) {
            conversation.receipts_due(ctx);
            conversation.news_due(ctx);
        }
    }

    /// Somebody writes. A conversation that is not in memory is not read for that.
    pub(crate) fn typing(
        &mut self,
        ctx: &mut Context,
        id: ConversationId,
        user: UserKey,
        stopped: bool,
    ) {
        if let Some(conversation) = self.active(id) {
            conversation.typing(ctx, user, stopped);
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
            let Some(Cell::Active(conversation)) = self.cells.get_mut(id) else { continue };
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
        self.give_back();
    }

    /// The order does not stay as large as it once was. Shrinking costs as much as what is left,
    /// which is then little beside what went.
    fn give_back(&mut self) {
        shrink(&mut self.order);
    }

    /// Lets go of a conversation if nothing happened to it since its snapshot.
    pub(crate) fn evict(&mut self, ctx: &mut Context, id: ConversationId, number: u64) {
        let durable = ctx.store.durable();
        if let Some(Cell::Active(conversation)) = self.cells.get_mut(id)
            && conversation.number == number
            && conversation.snapshot_number == number
            && conversation.is_settled(durable)
        {
            self.bytes -= conversation.accounted_bytes;
            self.cells.remove(id);
            ctx.stats.evictions_total += 1;
            self.give_back();
        }
    }
}

/// The records that a conversation is made of, without those before them that came along.
fn from_snapshot(records: &[StoredRecord]) -> &[StoredRecord] {
    let begin = records.iter().rposition(|record| record.snapshot_start);
    &records[begin.unwrap_or(0)..]
}

/// Hands a message to a conversation, or lets it wait behind a write that waits itself. `loaded`
/// is what the conversation was just made of, if it was.
fn take(
    conversation: &mut Conversation,
    ctx: &mut Context,
    arrival: Arrival<ToConversation>,
    loaded: &[StoredRecord],
) {
    match &mut conversation.paused {
        Some(paused) => loading::wait(ctx, &mut paused.waiting, arrival),
        None => dispatch(conversation, ctx, arrival, loaded),
    }
}

fn dispatch(
    conversation: &mut Conversation,
    ctx: &mut Context,
    arrival: Arrival<ToConversation>,
    loaded: &[StoredRecord],
) {
    let Arrival { message, token, taken } = arrival;
    let cause = Cause::message(token, Rank::Two);
    match message {
        ToConversation::Submit(submit) => conversation.submit(ctx, submit, None, cause),
        ToConversation::Delivered(mark) => conversation.delivered(ctx, mark, cause),
        ToConversation::History(ask) => conversation.history(ctx, ask, loaded, cause),
        ToConversation::ReadTold(told) => conversation.read(ctx, told, taken, cause),
        ToConversation::Create(create) => conversation.answer_created(ctx, &create, cause),
        ToConversation::Ask(ask) => conversation.ask(ctx, &ask, cause),
        ToConversation::Look(look) => conversation.look(ctx, *look, cause),
        ToConversation::BlockTold(told) => conversation.block_told(ctx, told, taken, cause),
        ToConversation::VersionTold(told) => conversation.version_told(ctx, told, taken, cause),
        ToConversation::ChannelTold(told) => conversation.channel_told(ctx, told, taken, cause),
    }
    ctx.links.release(token);
}

/// A message to a conversation that never began: it begins by it, or there is none.
fn begin(ctx: &mut Context, arrival: Arrival<ToConversation>) -> Option<Box<Conversation>> {
    let cause = Cause::message(arrival.token, Rank::Two);
    let begun = match &arrival.message {
        ToConversation::Submit(submit) => Conversation::begin_by_write(ctx, submit),
        ToConversation::BlockTold(told) => Conversation::begin_by_block(ctx, told),
        ToConversation::Create(create) => {
            let begun = Conversation::begin_group(ctx, create, cause);
            if let Ok(Some(conversation)) = begun {
                ctx.links.release(arrival.token);
                return Some(conversation);
            }
            begun
        }
        ToConversation::Delivered(_)
        | ToConversation::History(_)
        | ToConversation::ReadTold(_)
        | ToConversation::Ask(_)
        | ToConversation::Look(_)
        | ToConversation::VersionTold(_)
        | ToConversation::ChannelTold(_) => Ok(None),
    };
    match begun {
        Ok(Some(mut conversation)) => {
            take(&mut conversation, ctx, arrival, &[]);
            return Some(conversation);
        }
        Ok(None) => refuse_unknown(ctx, arrival, cause),
        // It is owed, and somebody waits for it: it is tried again.
        Err(_) if arrival.taken.is_some() => {
            let Arrival { message, token, taken } = arrival;
            ctx.links.release(token);
            ctx.retry.push_back(Arrival { message: message.into(), token: Token::NONE, taken });
        }
        Err(refusal) => loading::refuse(ctx, arrival, &refusal),
    }
    None
}

/// There is no such conversation. Who cannot tell that from one they are not in is told so.
fn refuse_unknown(ctx: &mut Context, arrival: Arrival<ToConversation>, cause: Cause) {
    let Arrival { message, token, taken } = arrival;
    match message {
        // A write that could begin it, but not with this number.
        ToConversation::Submit(submit)
            if submit.opening.is_some() && submit.client_sequence.0 > 1 =>
        {
            let refusal = Refusal::new(ErrorCode::ErrorGap, "a write before this one is missing");
            let error = roost_protocol::wire::Error { expected_sequence: 1, ..refusal.to_wire() };
            ctx.stats.gaps_total += 1;
            ctx.reply(submit.edge, submit.request, Reply::Error(Box::new(error)));
        }
        // Who is not a contact may be seen, too.
        ToConversation::Look(look) => pass_look_on(ctx, *look, false, cause),
        other @ (ToConversation::Submit(_)
        | ToConversation::Delivered(_)
        | ToConversation::History(_)
        | ToConversation::ReadTold(_)
        | ToConversation::Create(_)
        | ToConversation::Ask(_)
        | ToConversation::BlockTold(_)
        | ToConversation::VersionTold(_)
        | ToConversation::ChannelTold(_)) => other.refuse(ctx, taken, &unknown_conversation()),
    }
    ctx.links.release(token);
}

fn evicted_meanwhile(ctx: &mut Context, ask: &HistoryAsk, token: Token) {
    let refusal = loading::busy(ctx, EVICTED_MS);
    ctx.refuse(ask.edge, ask.request, &refusal);
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
            Self::Create(create) => ctx.refuse(create.edge, create.request, refusal),
            Self::Ask(ask) => refuse_ask(ctx, &ask, refusal),
            Self::Look(look) => hide(ctx, *look),
            Self::ReadTold(_) | Self::VersionTold(_) => confirm(ctx, taken, Cause::NONE),
            // Where nothing can be written, every block holds, and nobody can come in.
            Self::BlockTold(told) => {
                confirm_block(ctx, &told, Cause::NONE);
                confirm(ctx, taken, Cause::NONE);
            }
            Self::ChannelTold(told) => {
                confirm_channel(ctx, told, false, Point::default(), Cause::NONE);
                confirm(ctx, taken, Cause::NONE);
            }
            Self::Delivered(_) => {}
        }
    }
}
