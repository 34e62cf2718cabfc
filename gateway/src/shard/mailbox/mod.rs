//! Mailboxes: one per user. Which devices there are and where they are connected; the list of
//! conversations with what is new; sync; whom the user blocked, and who may see that the user is
//! there.
//!
//! A mailbox learns by being told and may forget what is soft: it is told again until a checkpoint
//! holds it. It never asks a conversation for messages.

mod blocks;
mod cells;
mod channels;
pub(crate) mod checkpoint;
mod devices;
mod entries;
mod eviction;
mod held;
mod list;
mod order;
mod presence;
mod profile;
mod pushes;
mod records;
mod registration;
mod resting;
mod retelling;
mod row;
mod slot;
mod sync;
mod told;
mod versions;

use crate::ids::EdgeAddress;
use crate::shard::context::{Context, Effect, Reading, mailbox_stream};
use crate::shard::links::{Arrival, Cause, Taken};
use crate::shard::loading::{self, ToActor};
use crate::shard::message::{
    MailboxAsk, MailboxRequest, Rank, Register, Reply, RequestTag, ToEdge, ToMailbox, ToOwnMailbox,
};
use crate::shard::report::Report;
use blocks::Unconfirmed;
use cells::{Body, Cells, Mailbox};
use checkpoint::Rows;
use entries::{CHANGE_BLOCK, Entries};
use held::Loading;
use presence::Watches;
use records::State;
pub(crate) use resting::RESTING_BYTES;
use retelling::Debts;
use roost_protocol::error::Refusal;
use roost_protocol::ids::UserKey;
use roost_protocol::wire::{self, ErrorCode, server_frame};
use roost_storage_engine::{Appended, NewRecord, Position, Query, SegmentId, StoredRecord};
use slot::Slot;
use std::collections::{BTreeMap, VecDeque};
use versions::Versions;

/// The mailboxes of a shard.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    cells: Cells,
    rows: Rows,
    /// Messages of rank 3 that found no room among the rows.
    stalled: VecDeque<Arrival<ToMailbox>>,
    /// Lists being loaded because others asked.
    loads_for_others: usize,
    /// What is told again as soon as a list is there.
    retelling: BTreeMap<UserKey, Debts>,
    unconfirmed: Unconfirmed,
    versions: Versions,
    watches: Watches,
    seed: u64,
    /// The longest life of a token: for so long a signed-out device is remembered.
    token_life_ms: u64,
    bytes: u64,
    crowd_left: bool,
    /// Connections of users whose mailbox is here, wherever they are. This is what is counted
    /// against `limits.connections_max`: a device that comes back is still one, by whatever shard.
    sessions: u32,
}

impl Mailboxes {
    pub(crate) fn new(seed: u64, token_life_ms: u64) -> Self {
        Self {
            cells: Cells::new(seed),
            rows: Rows::new(seed),
            stalled: VecDeque::new(),
            loads_for_others: 0,
            retelling: BTreeMap::new(),
            unconfirmed: Unconfirmed::default(),
            versions: Versions::default(),
            watches: Watches::new(seed),
            seed,
            token_life_ms,
            bytes: 0,
            crowd_left: false,
            sessions: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Mailboxes of users who only are connected.
    pub(crate) fn resting(&self) -> usize {
        self.cells.resting()
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Connections of users who are at home here.
    pub(crate) const fn sessions(&self) -> u32 {
        self.sessions
    }

    /// How many eviction looks at in a rotation.
    pub(crate) fn order_len(&self) -> usize {
        self.cells.order_len()
    }

    /// Handles a message of rank 1.
    pub(crate) fn handle(&mut self, ctx: &mut Context, arrival: Arrival<ToOwnMailbox>, tick: u64) {
        let user = arrival.message.user();
        let Some(mailbox) = self.cells.get_mut(user) else {
            if let ToOwnMailbox::Gone(_) | ToOwnMailbox::Activity(_) = arrival.message {
                return ctx.links.release(arrival.token);
            }
            return self.load_for(ctx, user, arrival);
        };
        match &mut mailbox.body {
            Body::Loading(held) => loading::wait(ctx, &mut held.waiting, arrival),
            // Who left has left, readable or not.
            Body::Corrupt if matches!(arrival.message, ToOwnMailbox::Gone(_)) => {
                self.dispatch(ctx, user, arrival);
            }
            Body::Corrupt => loading::refuse_unreadable(ctx, arrival),
            Body::Cold(_) if needs_list(&mailbox.slot, &arrival.message) => {
                self.load_for(ctx, user, arrival);
            }
            Body::Cold(_) | Body::Active(_) => {
                mailbox.touched_tick = u32::try_from(tick).unwrap_or(u32::MAX);
                self.dispatch(ctx, user, arrival);
            }
        }
    }

    fn dispatch(&mut self, ctx: &mut Context, user: UserKey, arrival: Arrival<ToOwnMailbox>) {
        let Arrival { message, token, .. } = arrival;
        let cause = Cause::message(token, Rank::One);
        match message {
            ToOwnMailbox::Register(register) => self.register(ctx, &register, cause),
            ToOwnMailbox::Gone(gone) => self.gone(ctx, &gone),
            ToOwnMailbox::Sync(ask) => self.sync(ctx, &ask, cause),
            ToOwnMailbox::ReadMark(mark) => self.read_mark(ctx, &mark, cause),
            ToOwnMailbox::Activity(told) => self.activity(ctx, told),
            ToOwnMailbox::Ask(ask) => self.ask(ctx, *ask, cause),
        }
        ctx.links.release(token);
        self.let_go_of_empty(user);
    }

    fn ask(&mut self, ctx: &mut Context, ask: MailboxAsk, cause: Cause) {
        let asker = Asker { edge: ask.edge, request: ask.request, user: ask.user, cause };
        if ask.what.changes() && !self.is_here(ask.user, ask.device, ask.edge) {
            // It waited on its way while the device came by another connection, asked for it again
            // there, and perhaps for the opposite since.
            ctx.stats.stale_connections_total += 1;
            let text = "a newer connection of this device was here";
            let refusal = Refusal::new(ErrorCode::ErrorStaleConnection, text);
            return ctx.refuse(asker.edge, asker.request, &refusal);
        }
        let answer = match ask.what {
            MailboxRequest::ListDevices => Ok(self.list_devices(ctx, asker)),
            MailboxRequest::RenameDevice { device, name } => {
                self.rename_device(ctx, asker, device, &name)
            }
            MailboxRequest::SignOut(which) => self.sign_out(ctx, asker, ask.device, which),
            MailboxRequest::SetPrivacy(settings) => self.set_privacy(ctx, asker, settings),
            MailboxRequest::Block { peer, unblock } => self.block(ctx, asker, peer, unblock),
            MailboxRequest::ListBlocks { after, limit } => {
                Ok(self.list_blocks(asker, after.as_ref(), limit))
            }
            MailboxRequest::ListConversations { before, limit } => {
                Ok(self.list_conversations(asker, before, limit))
            }
            MailboxRequest::SetConversation { conversation, settings } => {
                self.set_conversation(ctx, asker, conversation, settings)
            }
            MailboxRequest::DeleteForMe { conversation, seqs } => {
                self.delete_for_me(ctx, asker, conversation, &seqs)
            }
            MailboxRequest::AcceptRequest(conversation) => {
                self.accept_request(ctx, asker, conversation)
            }
            MailboxRequest::JoinChannel { conversation, leave } => {
                self.join_channel(ctx, asker, conversation, leave)
            }
            MailboxRequest::ForChannel(message) => {
                return self.for_channel(ctx, asker, *message);
            }
        };
        match answer {
            Ok(Answer::Later) => {}
            Ok(Answer::Now(body)) => asker.answer(ctx, body),
            Err(refusal) => ctx.refuse(asker.edge, asker.request, &refusal),
        }
    }

    // ---- coming and going ----

    fn load_for(&mut self, ctx: &mut Context, user: UserKey, arrival: Arrival<ToOwnMailbox>) {
        if let Some(loading) = self.load(ctx, user) {
            loading.waiting.push(arrival);
        }
    }

    /// Brings a list into memory that is not. Gives where what comes meanwhile waits.
    fn load(&mut self, ctx: &mut Context, user: UserKey) -> Option<&mut Loading> {
        ctx.note_load();
        ctx.read(Query::Load { stream: mailbox_stream(user) }, Reading::Mailbox(user));
        if self.cells.get(user).is_none() {
            let rows = self.rows.come_home(user);
            let mut mailbox = Mailbox::new(user, Body::Cold(rows));
            mailbox.slot.watched = self.watches.has(user);
            mailbox.slot.queued = matches!(&mailbox.body, Body::Cold(rows) if !rows.is_empty());
            self.cells.insert(mailbox);
        }
        let mailbox = self.cells.get_mut(user)?;
        if let Body::Cold(rows) = &mut mailbox.body {
            let rows = std::mem::take(rows);
            mailbox.body = Body::Loading(Box::new(Loading::new(rows)));
        }
        match &mut mailbox.body {
            Body::Loading(loading) => Some(loading),
            Body::Cold(_) | Body::Active(_) | Body::Corrupt => None,
        }
    }

    /// The records of a mailbox were read. Returns how much was told again, if that was due.
    pub(crate) fn loaded(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        records: Option<&[StoredRecord]>,
        tick: u64,
    ) -> Option<u64> {
        let mailbox = self.cells.get_mut(user)?;
        let Body::Loading(mut held) = std::mem::replace(&mut mailbox.body, Body::Corrupt) else {
            return None;
        };
        self.loads_for_others -= usize::from(held.for_others);
        let run = ctx.store.run();
        let most = ctx.limits.conversations_per_user_max as usize;
        let found = records.ok_or(crate::shard::codec::Malformed);
        let replayed =
            found.and_then(|records| records::replay(user, records, run, self.seed, most));
        let Ok(mut replayed) = replayed else {
            ctx.reports.push(Report::Unreadable { stream: mailbox_stream(user) });
            for arrival in std::mem::take(&mut held.waiting) {
                self.handle(ctx, arrival, tick);
            }
            self.rows.put_away(user, std::mem::take(&mut held.rows));
            for question in held.take_questions() {
                self.cannot_answer(ctx, &question);
            }
            let debts = self.retelling.remove(&user)?;
            return Some(self.tell_debts(ctx, user, debts));
        };
        self.rows.count -= held.rows.len();
        ctx.stats.entries_dropped_total += replayed.dropped;
        let slot = &mut mailbox.slot;
        if slot.known {
            // A slot that stayed knows better.
            slot.number = slot.number.max(replayed.slot.number);
        } else {
            let Slot { watched, queued, .. } = *slot;
            *slot = Slot { watched, queued, ..replayed.slot };
        }
        slot.blocks_some = replayed.entries.profile.blocks_some();
        mailbox.touched_tick = u32::try_from(tick).unwrap_or(u32::MAX);
        replayed.entries.accounted_bytes = replayed.entries.bytes();
        self.bytes += replayed.entries.accounted_bytes;
        mailbox.body = Body::Active(Box::new(replayed.entries));
        for place in replayed.touched {
            self.bump(ctx, user, place);
        }
        for row in std::mem::take(&mut held.rows) {
            self.merge_row(ctx, user, &row);
        }
        let debts = self.retelling.remove(&user);
        let told = debts.map(|debts| self.tell_debts(ctx, user, debts));
        self.go_on(ctx, user, *held, tick);
        told
    }

    /// Goes on with what waited for a list.
    fn go_on(&mut self, ctx: &mut Context, user: UserKey, mut held: Loading, tick: u64) {
        self.release_pushes(ctx, user, &mut held);
        for question in held.take_questions() {
            self.question(ctx, question, Cause::NONE);
        }
        for arrival in held.waiting {
            self.handle(ctx, arrival, tick);
        }
        self.let_go_of_empty(user);
        self.take_stalled(ctx);
    }

    /// Raises the change number of an entry, reserving a block first when it must.
    fn bump(&mut self, ctx: &mut Context, user: UserKey, place: u32) {
        if let Some((slot, entries)) = self.cells.active(user) {
            bump(ctx, user, slot, entries, place);
        }
    }

    /// Writes down what a user asked for and does it; raises the change number of the entry that
    /// changed by it.
    fn commit(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        kind: u8,
        body: &[u8],
    ) -> Result<Committed, Refusal> {
        let Some((slot, entries)) = self.cells.active(user) else { return Err(gone_meanwhile()) };
        let Appended { position, segment } = append(ctx, slot, user, kind, body)?;
        entries.stored_number = 0;
        let number = slot.number;
        let touched = State { user, slot, entries }.apply(number, kind, body);
        let touched = touched.expect("what was just encoded can be decoded");
        if let Some(place) = touched {
            bump(ctx, user, slot, entries, place);
        }
        Ok(Committed { position, segment, number })
    }
}

/// A numbered record of a mailbox, written and done.
#[derive(Debug, Clone, Copy)]
struct Committed {
    position: Position,
    /// What owes for it.
    segment: SegmentId,
    number: u64,
}

/// Who asks, and why it is done.
#[derive(Debug, Clone, Copy)]
struct Asker {
    edge: EdgeAddress,
    request: RequestTag,
    user: UserKey,
    cause: Cause,
}

/// How a request is answered.
#[derive(Debug)]
enum Answer {
    /// When everything that was written so far is durable.
    Now(server_frame::Body),
    /// When somebody else said something.
    Later,
}

impl Answer {
    const DONE: Self = Self::Now(server_frame::Body::Done(wire::Done {}));
}

impl Asker {
    /// Answers when everything that was written so far is durable.
    fn answer(&self, ctx: &mut Context, body: server_frame::Body) {
        let reply = Reply::Frame(Box::new(body));
        let what = ToEdge::Reply { request: self.request, reply };
        let end = ctx.log_end();
        ctx.park(end, Effect::ToEdge { edge: self.edge, what }, self.cause);
    }
}

/// Whether a message can only be handled with the list in memory.
fn needs_list(slot: &Slot, message: &ToOwnMailbox) -> bool {
    match message {
        ToOwnMailbox::Sync(_) | ToOwnMailbox::ReadMark(_) | ToOwnMailbox::Ask(_) => true,
        ToOwnMailbox::Gone(_) | ToOwnMailbox::Activity(_) => false,
        ToOwnMailbox::Register(register) => !is_known(slot, register),
    }
}

/// Whether a device comes back as it went: then nothing is to be written.
fn is_known(slot: &Slot, register: &Register) -> bool {
    let mut devices = slot.devices.as_slice().iter();
    let check = slot::check_of(&register.client);
    devices.any(|device| device.id == register.device && device.client_check == check)
}

fn bump(ctx: &mut Context, user: UserKey, slot: &mut Slot, entries: &mut Entries, place: u32) {
    if entries.change >= entries.block_end {
        let block_end = entries.change + CHANGE_BLOCK;
        let body = records::encode_number(block_end);
        if append(ctx, slot, user, records::KIND_RESERVE, &body.bytes).is_err() {
            entries.stored_number = 0;
            return entries.unnumber(place);
        }
        entries.block_end = block_end;
    }
    entries.stored_number = 0;
    entries.number(place);
}

/// Appends a numbered record to a mailbox's stream.
fn append(
    ctx: &mut Context,
    slot: &mut Slot,
    user: UserKey,
    kind: u8,
    body: &[u8],
) -> Result<Appended, Refusal> {
    let appended = ctx.append(&NewRecord {
        stream: mailbox_stream(user),
        number: slot.number + 1,
        seq: 0,
        stamp: 0,
        kind,
        snapshot_start: kind == records::KIND_SNAPSHOT,
        body: &[body],
    })?;
    slot.number += 1;
    Ok(appended)
}

/// A list left memory while it was asked for: it is asked for again.
const fn gone_meanwhile() -> Refusal {
    Refusal { retry_after_ms: 50, ..Refusal::new(ErrorCode::ErrorBusy, "try again shortly") }
}

impl ToActor for ToOwnMailbox {
    const UNREADABLE: &'static str = "this mailbox cannot be read; the operator has been told";

    fn must_wait(&self, _taken: Option<Taken>) -> bool {
        matches!(self, Self::Gone(_) | Self::ReadMark(_) | Self::Activity(_))
    }

    fn refuse(self, ctx: &mut Context, _taken: Option<Taken>, refusal: &Refusal) {
        match self {
            Self::Register(register) => {
                let error = Box::new(refusal.to_wire());
                ctx.links.tell_edge(register.edge, ToEdge::Refused(error));
            }
            Self::Sync(ask) => ctx.refuse(ask.edge, ask.request, refusal),
            Self::Ask(ask) => {
                if ask.request.id != 0 {
                    ctx.refuse(ask.edge, ask.request, refusal);
                }
            }
            Self::ReadMark(_) | Self::Gone(_) | Self::Activity(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
