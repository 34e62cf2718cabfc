//! A conversation: its log, its numbers, its members and how far each has got. The one place that
//! says what was said, and in which order.
//!
//! It never knows a socket, and never asks a mailbox.
//!
//! Direct conversations, groups and channels are one type. What only groups and channels have is
//! in `group`, what only some direct ones have in `direct`; a write to a direct conversation
//! touches neither.

pub(crate) mod asks;
pub(crate) mod authors;
pub(crate) mod channel;
pub(crate) mod contents;
pub(crate) mod create;
pub(crate) mod deliver;
pub(crate) mod direct;
pub(crate) mod frame;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod members;
pub(crate) mod receipts;
pub(crate) mod records;
pub(crate) mod replay;
pub(crate) mod senders;
pub(crate) mod snapshot;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use crate::shard::codec::Writer;
use crate::shard::context::{Context, Effect, conversation_stream};
use crate::shard::links::{Arrival, Cause, Taken, Token};
use crate::shard::message::{Card, Point, Reply, Submit, ToConversation, ToEdge};
use crate::shard::report::Report;
use authors::{Author, Authors};
use contents::{Halt, Prepared};
pub(crate) use direct::{Block, Direct};
pub(crate) use group::Group;
use members::{MemberNumber, Members};
use receipts::Receipts;
use records::Head;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, MessageId, Sequence};
use roost_protocol::wire::{self, ErrorCode};
use roost_storage_engine::{Appended, NewRecord, Position};
use senders::{Accepted, Refused, Senders, Verdict};
use std::collections::VecDeque;
use std::sync::Arc;

/// How far ahead of the clock ids may run before it is reported.
const CLOCK_BEHIND_REPORT_MS: u64 = 1000;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Conversation {
    // What every write touches.
    pub(crate) id: ConversationId,
    /// The newest record that people see, durable or not.
    pub(crate) head: Point,
    /// The newest that may be shown.
    pub(crate) durable: Point,
    pub(crate) head_message_id: MessageId,
    /// The number of the last record of the stream.
    pub(crate) number: u64,
    /// The number of the newest snapshot record, 0 when there were records or changes since.
    pub(crate) snapshot_number: u64,
    pending: Pending,
    pub(crate) members: Members,
    pub(crate) senders: Senders,
    pub(crate) authors: Authors,
    pub(crate) card: Arc<Card>,
    /// Records written since the last snapshot, or since it came into memory.
    since_snapshot: u32,
    /// Pages and records being read for it: it stays in memory until they are answered.
    reading: u32,
    /// A write waits for a look at an old record, and everything else behind it.
    pub(crate) paused: Option<Box<Paused>>,
    /// Groups and channels.
    pub(crate) group: Option<Box<Group>>,
    /// Blocks and versions of device lists, once there are any.
    pub(crate) direct: Option<Box<Direct>>,
    pub(crate) receipts: Receipts,

    // What the table keeps of it.
    pub(crate) touched_tick: u64,
    /// Which coming into memory this is, for the clock hand of eviction.
    pub(crate) stamp: u64,
    /// What the budget counts for it.
    pub(crate) accounted_bytes: u64,
}

/// A write whose target is being looked up, and what came behind it.
#[derive(Debug)]
pub(crate) struct Paused {
    pub(crate) submit: Box<Submit>,
    pub(crate) target: Sequence,
    pub(crate) token: Token,
    pub(crate) waiting: Vec<Arrival<ToConversation>>,
}

/// Records that wait for their flush, oldest first. Nearly always it is at most one, for which
/// nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    first: Option<(Position, Point)>,
    more: VecDeque<(Position, Point)>,
}

impl Pending {
    pub(crate) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn push(&mut self, position: Position, point: Point) {
        if self.first.is_none() {
            self.first = Some((position, point));
        } else {
            self.more.push_back((position, point));
        }
    }

    /// The newest of those up to a position, which wait no more.
    fn take_until(&mut self, durable: Position) -> Option<Point> {
        let mut newest = None;
        while let Some((position, point)) = self.first
            && position <= durable
        {
            newest = Some(point);
            self.first = self.more.pop_front();
        }
        newest
    }
}

/// A record that people see, as it changes the state: the same when it is written and when it is
/// read back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted {
    pub(crate) point: Point,
    pub(crate) message_id: MessageId,
    pub(crate) own_mark: Point,
    pub(crate) author: Author,
    pub(crate) counted: bool,
}

impl Conversation {
    /// One without records.
    pub(crate) fn new(id: ConversationId, card: Arc<Card>) -> Self {
        let group = match &*card {
            Card::Direct(_) => None,
            Card::Group => Some(Box::new(Group::new(false))),
            Card::Channel => Some(Box::new(Group::new(true))),
        };
        Self {
            id,
            head: Point::default(),
            durable: Point::default(),
            head_message_id: MessageId(0),
            number: 0,
            snapshot_number: 0,
            pending: Pending::default(),
            members: Members::new(&card),
            senders: Senders::default(),
            authors: Authors::default(),
            card,
            since_snapshot: 0,
            reading: 0,
            paused: None,
            group,
            direct: None,
            receipts: Receipts::default(),
            touched_tick: 0,
            stamp: 0,
            accounted_bytes: 0,
        }
    }

    pub(crate) const fn is_direct(&self) -> bool {
        self.group.is_none()
    }

    /// Roughly what it takes in memory, for the eviction budget.
    pub(crate) fn bytes(&self) -> u64 {
        let group = if self.is_direct() { 0 } else { 512 };
        let members = self.members.ever() * (size_of::<members::Member>() + 128);
        let fixed = size_of::<Self>() + 256 + group;
        (fixed + members + self.senders.bytes() + self.authors.bytes()) as u64
    }

    /// Moves the durable head to what the log's durable end covers.
    pub(crate) fn refresh_durable(&mut self, durable: Position) {
        if let Some(point) = self.pending.take_until(durable) {
            self.durable = point;
        }
    }

    /// Whether nothing of it waits for a flush or for its time, and nothing is being read for it.
    pub(crate) fn is_settled(&mut self, durable: Position) -> bool {
        self.refresh_durable(durable);
        self.pending.is_empty()
            && self.reading == 0
            && self.paused.is_none()
            && self.receipts.is_settled()
            && self.group.as_ref().is_none_or(|group| group.is_settled())
    }

    // ---- writes ----

    /// Takes a write, or says why not. `target` is who wrote the record it is about, when that had
    /// to be looked up.
    pub(crate) fn submit(
        &mut self,
        ctx: &mut Context,
        submit: Box<Submit>,
        target: Option<Option<Author>>,
        cause: Cause,
    ) {
        let Some(member) = self.members.find(submit.user) else {
            // Whoever writes to a channel follows it, or it would not have come here.
            let refusal = if self.is_channel() {
                forbidden("only those who tend a channel write in it")
            } else {
                unknown_conversation()
            };
            return ctx.refuse(submit.edge, submit.request, &refusal);
        };
        if self.head.seq.0 == 0 && self.is_direct() && submit.opening.is_none() {
            // Nothing but a block is here, which is nobody's business.
            return ctx.refuse(submit.edge, submit.request, &unknown_conversation());
        }
        let (verdict, newer) = self.senders.judge(
            member,
            submit.device,
            submit.connection,
            submit.client_sequence,
            submit.client_message_id,
        );
        if newer {
            // A newer connection was heard: a snapshot without it would forget the fence.
            self.snapshot_number = 0;
        }
        let place = match verdict {
            Verdict::Next(place) => place,
            Verdict::Refused(refused) => return self.refused(ctx, &submit, refused, cause),
        };
        match self.prepare(ctx, &submit, member, target) {
            Ok(prepared) => {
                self.accept(ctx, &submit, (member, place), prepared, cause);
                self.snapshot_when_due(ctx);
            }
            Err(Halt::Refused(refusal)) => ctx.refuse(submit.edge, submit.request, &refusal),
            Err(Halt::DevicesChanged) => self.devices_changed(ctx, &submit, cause),
            Err(Halt::LookUp(seq)) => self.look_up(ctx, submit, seq, cause),
        }
    }

    /// Answers a write that is not the next one of its device.
    fn refused(&self, ctx: &mut Context, submit: &Submit, refused: Refused, cause: Cause) {
        match refused {
            Refused::Duplicate(accepted) => {
                ctx.stats.duplicates_total += 1;
                let reply = self.sent(submit, accepted.message_id, accepted.point);
                let what = ToEdge::Reply { request: submit.request, reply };
                let effect = Effect::ToEdge { edge: submit.edge, what };
                ctx.park(accepted.position, effect, cause);
            }
            Refused::Conflict { expected } => {
                ctx.stats.conflicts_total += 1;
                let mut error = refusal_error(ErrorCode::ErrorSequenceConflict);
                error.text = "this client_sequence is used up".to_owned();
                error.expected_sequence = expected.0;
                // The head named here must be durable before it is shown.
                error.head = self.head_of(submit.user).seq.0;
                park_error(ctx, submit, error, cause);
            }
            Refused::Gap { expected } => {
                ctx.stats.gaps_total += 1;
                let mut error = refusal_error(ErrorCode::ErrorGap);
                error.text = "a write before this one is missing".to_owned();
                error.expected_sequence = expected.0;
                park_error(ctx, submit, error, cause);
            }
            Refused::Stale => {
                ctx.stats.stale_connections_total += 1;
                let refusal = Refusal::new(
                    ErrorCode::ErrorStaleConnection,
                    "a newer connection of this device has written here",
                );
                ctx.refuse(submit.edge, submit.request, &refusal);
            }
        }
    }

    const fn sent(&self, submit: &Submit, message_id: MessageId, point: Point) -> Reply {
        let conversation = if submit.by_user { Some(self.id) } else { None };
        Reply::Sent { message_id, point, conversation }
    }

    /// Writes what was prepared, and tells everybody once it is durable.
    fn accept(
        &mut self,
        ctx: &mut Context,
        submit: &Submit,
        (member, place): (MemberNumber, usize),
        prepared: Prepared,
        cause: Cause,
    ) {
        let noted = self.next(ctx, submit, member, &prepared);
        let head = Head {
            member,
            device: submit.device,
            client_message_id: submit.client_message_id,
            client_sequence: submit.client_sequence,
            uncounted: noted.point.uncounted,
            own_mark: noted.own_mark,
            reply_to: submit.reply_to,
        };
        let mut out = ctx.take_scratch();
        head.encode(&mut out);
        let parts: [&[u8]; 2] = [&out.bytes, prepared.stored()];
        let (seq, stamp) = (noted.point.seq, noted.message_id);
        let appended = self.append(ctx, prepared.kind, seq, stamp, &parts);
        ctx.give_scratch(out);
        let appended = match appended {
            Ok(appended) => appended,
            Err(refusal) => return ctx.refuse(submit.edge, submit.request, &refusal),
        };
        ctx.stats.messages_total += 1;
        self.pending.push(appended.position, noted.point);
        self.refresh_durable(ctx.store.durable());
        let accepted = Accepted {
            message_id: noted.message_id,
            point: noted.point,
            position: appended.position,
        };
        self.senders.accept(place, submit.client_message_id, accepted);
        let before = self.members.get(member).got();
        self.note(noted);

        let reply = self.sent(submit, noted.message_id, noted.point);
        let what = ToEdge::Reply { request: submit.request, reply };
        ctx.park(appended.position, Effect::ToEdge { edge: submit.edge, what }, cause);
        self.deliver(ctx, submit, (noted, before), prepared, appended, cause);
    }

    /// What the next record is, if it is written.
    fn next(
        &self,
        ctx: &mut Context,
        submit: &Submit,
        member: MemberNumber,
        prepared: &Prepared,
    ) -> Noted {
        let seq = self.head.seq.next();
        let uncounted = self.head.uncounted + u64::from(!prepared.counted);
        let point = Point { seq, uncounted };
        // Seen, or written oneself, everything but this: the own mark moves with it; else only as
        // far as was seen. (Of two that were sent at once the second saw nothing of the first.)
        let known = self.members.get(member).own_mark.seq.max(submit.seen);
        let own_mark = if known.next() == seq {
            point
        } else {
            let seen = submit.seen.min(self.head.seq);
            Point { seq: seen, uncounted: submit.seen_uncounted.min(seen.0) }
        };
        let author = Author { member, class: records::class_of(prepared.kind) };
        let message_id = next_message_id(ctx);
        Noted { point, message_id, own_mark, author, counted: prepared.counted }
    }

    /// The record changes the state.
    pub(crate) fn note(&mut self, noted: Noted) {
        self.head = noted.point;
        self.head_message_id = noted.message_id;
        self.authors.push(noted.author);
        // In a group one is told how far all have got.
        let is_group = self.group.as_ref().is_some_and(|group| group.channel.is_none());
        let member = self.members.get_mut(noted.author.member);
        member.own_mark = member.own_mark.max(noted.own_mark);
        if is_group && noted.counted {
            member.wrote(noted.point.seq);
            self.receipts.awaited = true;
        }
    }

    pub(crate) fn append(
        &mut self,
        ctx: &mut Context,
        kind: u8,
        seq: Sequence,
        stamp: MessageId,
        body: &[&[u8]],
    ) -> Result<Appended, Refusal> {
        let appended = ctx.append(&NewRecord {
            stream: conversation_stream(self.id),
            number: self.number + 1,
            seq: seq.0,
            stamp: stamp.0,
            kind,
            snapshot_start: kind == records::KIND_SNAPSHOT,
            body,
        })?;
        self.number += 1;
        self.snapshot_number = 0;
        self.since_snapshot = self.since_snapshot.saturating_add(1);
        Ok(appended)
    }

    /// Appends a record of the state, which nobody sees.
    pub(crate) fn append_state(
        &mut self,
        ctx: &mut Context,
        kind: u8,
        body: &Writer,
    ) -> Result<Appended, Refusal> {
        self.append(ctx, kind, Sequence(0), MessageId(0), &[&body.bytes])
    }

    /// The newest record this user may read, durable or not.
    pub(crate) fn head_of(&self, user: roost_protocol::ids::UserKey) -> Point {
        match self.members.find(user) {
            Some(number) => self.members.get(number).head(self.head),
            None => self.head,
        }
    }

    // ---- eviction ----

    /// Writes a snapshot, after which it may leave memory.
    pub(crate) fn snapshot(&mut self, ctx: &mut Context) -> Result<Position, Refusal> {
        self.senders.forget_answers();
        let body = snapshot::encode(self, ctx.store.run());
        let appended = self.append_state(ctx, records::KIND_SNAPSHOT, &body)?;
        self.snapshot_number = self.number;
        self.since_snapshot = 0;
        Ok(appended.position)
    }

    /// Writes one when so much was written that loading would take long.
    pub(crate) fn snapshot_when_due(&mut self, ctx: &mut Context) {
        if self.since_snapshot >= ctx.limits.snapshot_every_records {
            // Without room it is tried again with the next write.
            drop(self.snapshot(ctx));
        }
    }
}

/// The id of the next message; a clock that lags is reported.
pub(crate) fn next_message_id(ctx: &mut Context) -> MessageId {
    let (message_id, ahead_ms) = ctx.message_ids.next(ctx.now);
    if ahead_ms > CLOCK_BEHIND_REPORT_MS {
        ctx.reports.push(Report::ClockBehind { behind_ms: ahead_ms });
    }
    message_id
}

fn park_error(ctx: &mut Context, submit: &Submit, error: wire::Error, cause: Cause) {
    ctx.stats.refusals_total += 1;
    let reply = Reply::Error(Box::new(error));
    let what = ToEdge::Reply { request: submit.request, reply };
    let end = ctx.log_end();
    ctx.park(end, Effect::ToEdge { edge: submit.edge, what }, cause);
}

/// What was owed has its effect when everything appended so far is durable.
pub(crate) fn confirm(ctx: &mut Context, taken: Option<Taken>, cause: Cause) {
    if let Some(taken) = taken {
        let end = ctx.log_end();
        ctx.park(end, Effect::Confirm(taken), cause);
    }
}

/// The answer to whoever may not know that a conversation exists, and to whoever names none.
pub(crate) const fn unknown_conversation() -> Refusal {
    Refusal::new(
        ErrorCode::ErrorUnknownConversation,
        "there is no such conversation, or you are not in it",
    )
}

pub(crate) const fn forbidden(text: &'static str) -> Refusal {
    Refusal::new(ErrorCode::ErrorForbidden, text)
}

pub(crate) const fn invalid(text: &'static str) -> Refusal {
    Refusal::new(ErrorCode::ErrorInvalidRequest, text)
}

pub(crate) const fn not_found(text: &'static str) -> Refusal {
    Refusal::new(ErrorCode::ErrorNotFound, text)
}

fn refusal_error(code: ErrorCode) -> wire::Error {
    Refusal::new(code, "").to_wire()
}
