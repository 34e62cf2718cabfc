//! A conversation: its log, its numbers, its members and how far each has got. The one place that
//! says what was said, and in which order.
//!
//! It never knows a socket, and never asks a mailbox.

pub(crate) mod history;
pub(crate) mod records;
pub(crate) mod senders;
pub(crate) mod table;

use crate::ids::ShardId;
use crate::shard::context::{Context, Effect, conversation_stream};
use crate::shard::links::{Arrival, Cause, Owed, Taken, Token};
use crate::shard::message::{
    Card, Deliver, DeliveredMark, Fresh, Point, ReadTold, ReceiptTold, Recipients, Reply, Submit,
    ToConversation, ToEdge, ToMailbox,
};
use crate::shard::report::Report;
use records::MessageHead;
use roost_protocol::encode::PushedMessage;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, DeviceId, MessageId, Sequence, UserKey};
use roost_protocol::wire::{self, ErrorCode};
use roost_storage_engine::{NewRecord, Position, SegmentId};
use senders::{Accepted, Sender, Verdict};
use std::collections::VecDeque;
use std::sync::Arc;

/// A shard, and those of the members whose mailboxes are there.
type Target = (ShardId, Recipients);

/// How far ahead of the clock ids may run before it is reported.
const CLOCK_BEHIND_REPORT_MS: u64 = 1000;

/// One who takes part.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) user: UserKey,
    /// What a device of theirs holds. Soft: devices say it again.
    pub(crate) delivered: Sequence,
    /// Up to where the other was told so since this conversation was loaded. What was told before
    /// may be forgotten there, so it is told again when it is said again.
    pub(crate) delivered_told: Sequence,
    /// What they said they read.
    pub(crate) read: Point,
    /// Where sending moved their read mark.
    pub(crate) own_mark: Point,
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) id: ConversationId,
    pub(crate) card: Arc<Card>,
    /// The number of the last record of the stream.
    pub(crate) number: u64,
    /// The newest message, durable or not.
    pub(crate) head: Point,
    pub(crate) head_message_id: MessageId,
    /// The newest message that may be shown.
    pub(crate) durable: Point,
    pub(crate) members: Vec<Member>,
    pub(crate) senders: Vec<Sender>,
    /// The number of the newest snapshot record, 0 when there were records or changes since.
    pub(crate) snapshot_number: u64,
    /// Records written since the last snapshot, or since it came into memory.
    since_snapshot: u32,
    pub(crate) touched_tick: u64,
    /// Which coming into memory this is, for the clock hand of eviction.
    pub(crate) stamp: u64,
    /// What the budget counts for it.
    pub(crate) accounted_bytes: u64,
    /// Pages being read for it: it stays in memory until they are answered.
    reading: u32,
    pending: VecDeque<(Position, Point)>,
}

impl Conversation {
    pub(crate) fn new(id: ConversationId, card: Arc<Card>) -> Self {
        let members = card.users.iter().map(|(user, _)| Member::new(*user)).collect();
        Self {
            id,
            card,
            number: 0,
            head: Point::default(),
            head_message_id: MessageId(0),
            durable: Point::default(),
            members,
            senders: Vec::new(),
            snapshot_number: 0,
            since_snapshot: 0,
            touched_tick: 0,
            stamp: 0,
            accounted_bytes: 0,
            reading: 0,
            pending: VecDeque::new(),
        }
    }

    /// Roughly what it takes in memory, for the eviction budget.
    pub(crate) fn bytes(&self) -> u64 {
        let senders: usize = self.senders.iter().map(|sender| 96 + sender.window.len() * 48).sum();
        512 + senders as u64
    }

    fn member_index(&self, user: UserKey) -> Option<u8> {
        let index = self.members.iter().position(|member| member.user == user)?;
        u8::try_from(index).ok()
    }

    /// The sender of that device, made when it writes for the first time.
    pub(crate) fn sender(&mut self, member: u8, device: DeviceId) -> &mut Sender {
        let known = |sender: &Sender| sender.member == member && sender.device == device;
        let index = self.senders.iter().position(known).unwrap_or_else(|| {
            self.senders.push(Sender::new(member, device));
            self.senders.len() - 1
        });
        &mut self.senders[index]
    }

    /// Moves the durable head to what the log's durable end covers.
    pub(crate) fn refresh_durable(&mut self, durable: Position) {
        while let Some((position, point)) = self.pending.front()
            && *position <= durable
        {
            self.durable = *point;
            self.pending.pop_front();
        }
    }

    /// Whether nothing of it waits for a flush, and nothing is being read for it.
    pub(crate) fn is_settled(&mut self, durable: Position) -> bool {
        self.refresh_durable(durable);
        self.pending.is_empty() && self.reading == 0
    }

    // ---- writes ----

    /// Takes a write, or says why not.
    pub(crate) fn submit(&mut self, ctx: &mut Context, submit: Submit, cause: Cause) {
        let Some(member) = self.member_index(submit.user) else {
            return ctx.refuse(submit.edge, submit.request, &unknown_conversation());
        };
        let named = submit.by_user.then_some(self.id);
        let sender = self.sender(member, submit.device);
        let before = sender.connection;
        let verdict =
            sender.judge(submit.connection, submit.client_sequence, submit.client_message_id);
        if sender.connection != before {
            // A newer connection was heard: a snapshot without it would forget the fence.
            self.snapshot_number = 0;
        }
        match verdict {
            Verdict::Next => {
                self.accept(ctx, submit, member, cause);
                if self.since_snapshot >= ctx.limits.snapshot_every_records {
                    // Without room it is tried again with the next write.
                    drop(self.snapshot(ctx));
                }
            }
            Verdict::Duplicate(accepted) => {
                ctx.stats.duplicates_total += 1;
                let reply = Reply::Sent {
                    message_id: accepted.message_id,
                    point: accepted.point,
                    conversation: named,
                };
                let what = ToEdge::Reply { request: submit.request, reply };
                let effect = Effect::ToEdge { edge: submit.edge, what };
                ctx.park(accepted.position, effect, cause);
            }
            Verdict::Conflict { expected } => {
                ctx.stats.conflicts_total += 1;
                let mut error = refusal_error(ErrorCode::ErrorSequenceConflict);
                error.text = "this client_sequence is used up".to_owned();
                error.expected_sequence = expected.0;
                error.head = self.head.seq.0;
                // The head named here must be durable before it is shown.
                self.park_error(ctx, &submit, error, cause);
            }
            Verdict::Gap { expected } => {
                ctx.stats.gaps_total += 1;
                let mut error = refusal_error(ErrorCode::ErrorGap);
                error.text = "a write before this one is missing".to_owned();
                error.expected_sequence = expected.0;
                self.park_error(ctx, &submit, error, cause);
            }
            Verdict::Stale => {
                ctx.stats.stale_connections_total += 1;
                let refusal = Refusal::new(
                    ErrorCode::ErrorStaleConnection,
                    "a newer connection of this device has written here",
                );
                ctx.refuse(submit.edge, submit.request, &refusal);
            }
        }
    }

    fn park_error(&self, ctx: &mut Context, submit: &Submit, error: wire::Error, cause: Cause) {
        ctx.stats.refusals_total += 1;
        let reply = Reply::Error(Box::new(error));
        let what = ToEdge::Reply { request: submit.request, reply };
        let end = ctx.log_end();
        ctx.park(end, Effect::ToEdge { edge: submit.edge, what }, cause);
    }

    /// Begins the log with the record that holds both users in full.
    pub(crate) fn create(&mut self, ctx: &mut Context) -> Result<(), Refusal> {
        let body = records::encode_created(&self.card);
        self.append(ctx, records::KIND_CREATED, Sequence(0), MessageId(0), &[&body.bytes])?;
        Ok(())
    }

    fn append(
        &mut self,
        ctx: &mut Context,
        kind: u8,
        seq: Sequence,
        stamp: MessageId,
        body: &[&[u8]],
    ) -> Result<(Position, SegmentId), Refusal> {
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
        Ok((appended.position, appended.segment))
    }

    fn accept(&mut self, ctx: &mut Context, submit: Submit, member: u8, cause: Cause) {
        let seq = self.head.seq.next();
        let point = Point { seq, uncounted: self.head.uncounted };
        // Seen everything but this: the own mark moves with it; else only as far as was seen.
        let own_mark = if submit.seen.0 + 1 == seq.0 {
            point
        } else {
            Point { seq: submit.seen.min(self.head.seq), uncounted: submit.seen_uncounted }
        };
        let (message_id, ahead_ms) = ctx.message_ids.next(ctx.now);
        if ahead_ms > CLOCK_BEHIND_REPORT_MS {
            ctx.reports.push(Report::ClockBehind { behind_ms: ahead_ms });
        }
        let head = MessageHead {
            member,
            device: submit.device,
            client_message_id: submit.client_message_id,
            client_sequence: submit.client_sequence,
            uncounted: point.uncounted,
            own_mark,
            reply_to: submit.reply_to,
        };
        let head = head.encode();
        let parts: [&[u8]; 2] = [&head.bytes, &submit.body];
        let appended = self.append(ctx, records::KIND_MESSAGE, seq, message_id, &parts);
        let (position, segment) = match appended {
            Ok(appended) => appended,
            Err(refusal) => return ctx.refuse(submit.edge, submit.request, &refusal),
        };
        ctx.stats.messages_total += 1;
        self.head = point;
        self.head_message_id = message_id;
        self.pending.push_back((position, point));
        let mark = &mut self.members[usize::from(member)].own_mark;
        *mark = mark.max(own_mark);
        let accepted =
            Accepted { client_message_id: submit.client_message_id, message_id, point, position };
        self.sender(member, submit.device).accept(submit.client_sequence, accepted);

        let conversation = submit.by_user.then_some(self.id);
        let reply = Reply::Sent { message_id, point, conversation };
        let what = ToEdge::Reply { request: submit.request, reply };
        ctx.park(position, Effect::ToEdge { edge: submit.edge, what }, cause);
        self.deliver(ctx, &submit, accepted, own_mark, (position, segment), cause);
    }

    fn deliver(
        &self,
        ctx: &mut Context,
        submit: &Submit,
        accepted: Accepted,
        own_mark: Point,
        (position, segment): (Position, SegmentId),
        cause: Cause,
    ) {
        let fresh = Fresh {
            message: PushedMessage {
                conversation: self.id,
                seq: accepted.point.seq,
                message_id: accepted.message_id,
                uncounted: accepted.point.uncounted,
                client_message_id: None,
                reply_to: submit.reply_to,
                body: submit.body.clone(),
            },
            sender: submit.user,
            sender_edge: submit.edge,
            client_message_id: submit.client_message_id,
        };
        let deliver = Deliver {
            conversation: self.id,
            card: Arc::clone(&self.card),
            recipients: Recipients::One(submit.user),
            head: accepted.point,
            message_id: accepted.message_id,
            own_marks: vec![(submit.user, own_mark)],
            fresh: Some(Box::new(fresh)),
        };
        let owed = Owed::Segment(segment);
        let ((to, recipients), other) = self.recipients(ctx);
        if let Some((to, recipients)) = other {
            ctx.store.owe(segment, 1);
            let message = ToMailbox::Deliver(Box::new(Deliver { recipients, ..deliver.clone() }));
            ctx.park(position, Effect::Tell { to, message: message.into(), owed }, cause);
        }
        ctx.store.owe(segment, 1);
        let message = ToMailbox::Deliver(Box::new(Deliver { recipients, ..deliver }));
        ctx.park(position, Effect::Tell { to, message: message.into(), owed }, cause);
    }

    /// The members by the shards of their mailboxes: one message each.
    fn recipients(&self, ctx: &Context) -> (Target, Option<Target>) {
        let [low, high] = [self.members[0].user, self.members[1].user];
        let (low_home, high_home) = (ctx.home_of_user(low), ctx.home_of_user(high));
        if low_home == high_home {
            return ((low_home, Recipients::Two([low, high])), None);
        }
        ((low_home, Recipients::One(low)), Some((high_home, Recipients::One(high))))
    }

    // ---- receipts ----

    /// A device holds everything up to a seq. Soft: nothing is written.
    pub(crate) fn delivered(&mut self, ctx: &mut Context, mark: DeliveredMark, cause: Cause) {
        self.refresh_durable(ctx.store.durable());
        let Some(index) = self.member_index(mark.user) else { return };
        let member = &mut self.members[usize::from(index)];
        // A watermark from the future, or of what a crash took back, says nothing.
        if mark.seq <= member.delivered_told || mark.seq > self.durable.seq {
            return;
        }
        member.delivered_told = mark.seq;
        if mark.seq > member.delivered {
            member.delivered = mark.seq;
            self.snapshot_number = 0;
        }
        ctx.stats.receipts_total += 1;
        let told = self.receipt(index, mark.seq, Sequence(0));
        let to = ctx.home_of_user(told.to);
        ctx.links.tell(to, ToMailbox::ReceiptTold(Box::new(told)), Owed::Nothing, cause);
    }

    /// A mailbox tells its user's read mark.
    pub(crate) fn read(
        &mut self,
        ctx: &mut Context,
        told: ReadTold,
        taken: Option<Taken>,
        cause: Cause,
    ) {
        let Some(index) = self.member_index(told.user) else {
            return confirm(ctx, taken, cause);
        };
        let member = &mut self.members[usize::from(index)];
        if told.seq <= member.read.seq {
            return confirm(ctx, taken, cause);
        }
        let read = Point { seq: told.seq, uncounted: told.uncounted };
        let body = records::encode_receipt(index, read);
        let appended =
            self.append(ctx, records::KIND_RECEIPT, Sequence(0), MessageId(0), &[&body.bytes]);
        let Ok((position, segment)) = appended else {
            // The mark is safe in the mailbox, and owed: it is tried again until it is here too.
            ctx.retry.push_back(Arrival {
                message: ToConversation::ReadTold(told).into(),
                token: Token::NONE,
                taken,
            });
            return;
        };
        self.members[usize::from(index)].read = read;
        ctx.stats.reads_total += 1;
        let receipt = self.receipt(index, Sequence(0), told.seq);
        let to = ctx.home_of_user(receipt.to);
        ctx.store.owe(segment, 1);
        let message = ToMailbox::ReceiptTold(Box::new(receipt));
        ctx.park(
            position,
            Effect::Tell { to, message: message.into(), owed: Owed::Segment(segment) },
            cause,
        );
        confirm(ctx, taken, cause);
    }

    /// What the other member is told about this one.
    fn receipt(&self, about: u8, delivered: Sequence, read: Sequence) -> ReceiptTold {
        let other = 1 - usize::from(about);
        ReceiptTold {
            conversation: self.id,
            card: Arc::clone(&self.card),
            to: self.members[other].user,
            delivered,
            read,
        }
    }

    // ---- recovery and eviction ----

    /// Tells everybody again what this conversation's records owe. Returns how many messages.
    pub(crate) fn tell_again(&mut self, ctx: &mut Context) -> u64 {
        self.refresh_durable(ctx.store.durable());
        let mut told = 0;
        let (first, second) = self.recipients(ctx);
        for (to, recipients) in std::iter::once(first).chain(second) {
            let deliver = Deliver {
                conversation: self.id,
                card: Arc::clone(&self.card),
                recipients,
                head: self.durable,
                message_id: self.head_message_id,
                own_marks: self.members.iter().map(|m| (m.user, m.own_mark)).collect(),
                fresh: None,
            };
            ctx.links.tell(to, ToMailbox::Deliver(Box::new(deliver)), Owed::Replay, Cause::NONE);
            told += 1;
        }
        for index in [0, 1] {
            let member = &self.members[usize::from(index)];
            if member.read.seq > Sequence(0) || member.delivered > Sequence(0) {
                let receipt = self.receipt(index, member.delivered, member.read.seq);
                let to = ctx.home_of_user(receipt.to);
                let message = ToMailbox::ReceiptTold(Box::new(receipt));
                ctx.links.tell(to, message, Owed::Replay, Cause::NONE);
                told += 1;
            }
        }
        told
    }

    /// Writes a snapshot, after which it may leave memory.
    pub(crate) fn snapshot(&mut self, ctx: &mut Context) -> Result<Position, Refusal> {
        let body = records::encode_snapshot(self, ctx.store.run());
        let appended =
            self.append(ctx, records::KIND_SNAPSHOT, Sequence(0), MessageId(0), &[&body.bytes])?;
        self.snapshot_number = self.number;
        self.since_snapshot = 0;
        Ok(appended.0)
    }
}

fn confirm(ctx: &mut Context, taken: Option<Taken>, cause: Cause) {
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

fn refusal_error(code: ErrorCode) -> wire::Error {
    Refusal::new(code, "").to_wire()
}
