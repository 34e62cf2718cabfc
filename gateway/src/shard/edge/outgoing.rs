//! Replies and pushes on their way out: into the send queue, and out of it at the end of a batch.

use super::sweep::TICK_MS;
use super::table::{Flags, State};
use super::{Edges, queue};
use crate::ids::EdgeId;
use crate::shard::context::Context;
use crate::shard::message::{Reply, RequestTag, ToEdge};
use crate::shard::output::{Outbox, Output};
use crate::shard::report::Report;
use bytes::Bytes;
use roost_protocol::ids::ConversationId;
use roost_protocol::wire::{self, server_frame};
use roost_protocol::{encode, frame};

/// While further pages are under way to a connection, what it has to send waits for them, for so
/// many batches and until it is so much: a device that returns asks for some pages at once, and one
/// send costs as much as everything else that is done for a page.
const HELD_BATCHES: u8 = 3;
const HELD_MAX_BYTES: usize = 16 << 10;

impl Edges {
    /// Something for a connection arrived.
    pub(crate) fn take(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        what: ToEdge,
    ) {
        if self.table.get(id).is_none_or(|edge| edge.state.is_leaving()) {
            return;
        }
        match what {
            ToEdge::Registered { epoch, first_contacts, token_issued_ms } => {
                self.rates.leave(&ctx.limits, ctx.now.monotonic, id, first_contacts);
                self.welcome(ctx, outbox, id, epoch, token_issued_ms);
            }
            ToEdge::Sharers(sharers) => {
                if let Some(edge) = self.table.get(id) {
                    edge.sharers = sharers.max(1);
                }
            }
            ToEdge::Refused(error) => {
                let hello_id = match self.table.get(id) {
                    Some(edge) if edge.state == State::Registering => {
                        ctx.reports.push(Report::HelloRefused { code: error.code() });
                        edge.hello_id()
                    }
                    Some(_) | None => 0,
                };
                self.refuse_with(ctx, outbox, id, hello_id, *error);
            }
            ToEdge::Reply { request, reply } => self.answer(ctx, outbox, id, request, reply),
            ToEdge::Push(bytes) => self.push(ctx, id, &bytes),
            ToEdge::Receipt { conversation, delivered, read } => {
                let mut frame = self.queues.buffer();
                let tick = encode::Tick { conversation, delivered, read, member: 0 };
                encode::tick(&tick, &mut frame);
                self.push(ctx, id, &frame);
                self.queues.keep(frame);
            }
            ToEdge::Part { request, part } => {
                if let Some(body) = self.gatherings.take(id, request.id, *part) {
                    let reply = Reply::Frame(Box::new(body));
                    self.answer(ctx, outbox, id, request, reply);
                }
            }
            ToEdge::Watching { channel, stop: false } => self.look_at_channel(ctx, channel, id),
            ToEdge::Watching { channel, stop: true } => self.lookers.stop(channel, id),
            ToEdge::Behind => self.mark_behind(ctx, id),
        }
    }

    fn answer(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        request: RequestTag,
        reply: Reply,
    ) {
        if let Some(edge) = self.table.get(id) {
            edge.in_flight = edge.in_flight.saturating_sub(1);
            if request.page {
                edge.pages = edge.pages.checked_sub(1).expect("counted when it was asked for");
            }
            let begun = matches!(&reply, Reply::Sent { point, .. } if point.seq.0 == 1);
            if request.contact && !begun {
                let sharers = edge.sharers;
                self.rates.give_back(&ctx.limits, ctx.now.monotonic, id, sharers);
            }
        }
        let body = match reply {
            Reply::Sent { message_id, point, conversation } => {
                let (seq, uncounted) = (point.seq, point.uncounted);
                let sent = encode::Sent { message_id, seq, uncounted, conversation };
                return self.queue_with(id, |pending| encode::sent(request.id, &sent, pending));
            }
            Reply::Sync(reply) => server_frame::Body::Sync(*reply),
            Reply::History(reply) => server_frame::Body::History(*reply),
            Reply::Frame(body) => *body,
            Reply::Error(error) => server_frame::Body::Error(*error),
        };
        self.queue_frame(ctx, id, request.id, body);
        // Replies have reserved room, but not without end.
        if self.queues.bytes as u64 > ctx.limits.send_queues_bytes.saturating_mul(2) {
            self.shed(ctx, outbox);
        }
    }

    /// Cuts off those who let half a queue gather, not whoever is answered next. It looks at every
    /// connection, so once a tick.
    fn shed(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        if self.shed_tick == self.tick {
            return;
        }
        self.shed_tick = self.tick;
        self.report_full(ctx);
        let most = ctx.limits.send_queue_bytes as usize / 2;
        for slot in 0..self.table.slots() {
            let Some(id) = self.table.at(slot) else { continue };
            let index = self.table.get(id).map_or(queue::NONE, |edge| edge.queue);
            if index == queue::NONE {
                continue;
            }
            if self.queues.get(index).bytes() > most {
                self.abort(ctx, outbox, id);
            }
        }
    }

    /// Answers a request that this edge itself refuses.
    pub(super) fn answer_error(
        &mut self,
        ctx: &mut Context,
        id: EdgeId,
        request_id: u32,
        error: wire::Error,
    ) {
        ctx.stats.refusals_total += 1;
        if let Some(edge) = self.table.get(id) {
            edge.in_flight = edge.in_flight.saturating_sub(1);
        }
        self.queue_frame(ctx, id, request_id, server_frame::Body::Error(error));
    }

    /// Tells a connection why and ends it; `request_id` is Hello's when Hello is what is refused.
    pub(super) fn refuse_with(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        request_id: u32,
        error: wire::Error,
    ) {
        self.queue_frame(ctx, id, request_id, server_frame::Body::Error(error));
        self.flush_one(ctx, outbox, id);
        self.end(ctx, outbox, id);
    }

    pub(super) fn abort(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId) {
        if self.cut(outbox, id) {
            ctx.stats.too_slow_total += 1;
        }
    }

    /// There is news in a channel: for those who look at it.
    pub(crate) fn news(&mut self, ctx: &mut Context, channel: ConversationId, frame: &Bytes) {
        let lookers: Vec<EdgeId> = self.lookers.at(channel).collect();
        for id in lookers {
            self.push(ctx, id, frame);
        }
    }

    fn look_at_channel(&mut self, ctx: &mut Context, channel: ConversationId, id: EdgeId) {
        let ends_tick = self.tick.saturating_add(ctx.limits.watch_ms / TICK_MS);
        let most = ctx.limits.channel_watches_max as usize;
        if !self.lookers.look(channel, id, ends_tick, most) {
            ctx.stats.hints_dropped_total += 1;
        }
    }

    // ---- the queue ----

    /// Appends a frame to what waits.
    pub(super) fn queue_frame(
        &mut self,
        _ctx: &Context,
        id: EdgeId,
        request_id: u32,
        body: server_frame::Body,
    ) {
        self.queue_with(id, |pending| encode::server(request_id, body, pending));
    }

    pub(super) fn queue_heartbeat(&mut self, ctx: &Context, id: EdgeId) {
        // A device that takes nothing gets no echoes either: they would pile up.
        let limit = ctx.limits.send_queue_bytes as usize;
        if self.queued_bytes(id) <= limit {
            self.queue_with(id, |pending| pending.push(frame::HEARTBEAT));
        }
    }

    fn queued_bytes(&mut self, id: EdgeId) -> usize {
        let index = self.table.get(id).map_or(queue::NONE, |edge| edge.queue);
        if index == queue::NONE { 0 } else { self.queues.get(index).pending.len() }
    }

    fn queue_with(&mut self, id: EdgeId, write: impl FnOnce(&mut Vec<u8>)) {
        let Self { table, queues, .. } = self;
        if let Some(edge) = table.get(id) {
            queues.append(edge, id, write);
        }
    }

    fn push(&mut self, ctx: &mut Context, id: EdgeId, bytes: &[u8]) {
        let Self { table, queues, .. } = self;
        let Some(edge) = table.get(id) else { return };
        if edge.state != State::Ready || edge.flags.contains(Flags::EXTENSION) {
            return;
        }
        let queued =
            if edge.queue == queue::NONE { 0 } else { queues.get(edge.queue).pending.len() };
        let all_full = queues.bytes as u64 > ctx.limits.send_queues_bytes;
        let full = all_full || queued + bytes.len() > ctx.limits.send_queue_bytes as usize;
        if !edge.flags.contains(Flags::BEHIND) && !full {
            return queues.append(edge, id, |pending| pending.extend_from_slice(bytes));
        }
        if all_full {
            self.report_full(ctx);
        }
        ctx.stats.pushes_dropped_total += 1;
        self.mark_behind(ctx, id);
    }

    /// Tells the operator that the room for all queues is used up; once a tick says enough.
    fn report_full(&mut self, ctx: &mut Context) {
        if std::mem::replace(&mut self.full_tick, self.tick) != self.tick {
            let limit_bytes = ctx.limits.send_queues_bytes;
            ctx.reports.push(Report::SendQueuesFull { limit_bytes });
        }
    }

    fn mark_behind(&mut self, ctx: &mut Context, id: EdgeId) {
        let Some(edge) = self.table.get(id) else { return };
        if !edge.flags.contains(Flags::BEHIND) {
            edge.flags.set(Flags::BEHIND, true);
            ctx.stats.behind_total += 1;
        }
        self.mark_ready(id);
    }

    /// Puts a connection on the list of those that have something to send.
    pub(super) fn mark_ready(&mut self, id: EdgeId) {
        if let Some(edge) = self.table.get(id)
            && !edge.flags.contains(Flags::READY)
        {
            edge.flags.set(Flags::READY, true);
            self.queues.ready.push(id);
        }
    }

    /// A send went out.
    pub(crate) fn sent(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        buffer: Vec<u8>,
    ) {
        let index = self.table.get(id).map_or(queue::NONE, |edge| edge.queue);
        self.queues.keep(buffer);
        if index == queue::NONE {
            return;
        }
        let sent = std::mem::take(&mut self.queues.get(index).in_flight_bytes);
        self.queues.bytes -= sent;
        ctx.stats.sent_bytes_total += sent as u64;
        match self.table.get(id).map_or(State::Free, |edge| edge.state) {
            State::Closing => {
                // What was queued behind it are the last words; then it ends.
                self.flush_one(ctx, outbox, id);
                return self.end(ctx, outbox, id);
            }
            State::Aborting | State::Free => return,
            State::Proxy | State::Preface | State::Hello | State::Registering | State::Ready => {}
        }
        self.mark_ready(id);
        if self.table.get(id).is_some_and(|edge| edge.flags.contains(Flags::PAUSED)) {
            self.go_on(ctx, outbox, id);
        }
    }

    /// The end of a batch: every connection with something to send and nothing outstanding sends.
    pub(crate) fn flush(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        let mut ready = std::mem::take(&mut self.queues.ready);
        self.held = false;
        for id in ready.drain(..) {
            if self.holds(id) {
                self.held = true;
                self.queues.ready.push(id);
            } else {
                self.flush_one(ctx, outbox, id);
            }
        }
        ready.append(&mut self.queues.ready);
        self.queues.ready = ready;
    }

    /// Whether what a connection has to send waits for more.
    fn holds(&mut self, id: EdgeId) -> bool {
        let Some(edge) = self.table.get(id) else { return false };
        if edge.pages == 0 || edge.queue == queue::NONE || edge.state != State::Ready {
            return false;
        }
        let queue = self.queues.get(edge.queue);
        let holds = queue.in_flight_bytes == 0
            && !queue.pending.is_empty()
            && queue.pending.len() < HELD_MAX_BYTES
            && queue.held < HELD_BATCHES;
        queue.held += u8::from(holds);
        holds
    }

    pub(super) fn flush_one(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId) {
        let wants_write = self.wants_to_seal(id);
        let Some(edge) = self.table.get(id) else { return };
        edge.flags.set(Flags::READY, false);
        if edge.state == State::Aborting
            || edge.flags.contains(Flags::CLOSE_ASKED)
            || (edge.queue == queue::NONE && !wants_write && !edge.flags.contains(Flags::BEHIND))
        {
            return;
        }
        if edge.queue == queue::NONE {
            edge.queue = self.queues.open();
        }
        let (index, behind) = (edge.queue, edge.flags.contains(Flags::BEHIND));
        if self.queues.get(index).in_flight_bytes > 0 {
            return;
        }
        if behind
            && self.queues.get(index).pending.len() * 2 <= ctx.limits.send_queue_bytes as usize
        {
            // There is room again: say so once, and the device syncs.
            if let Some(edge) = self.table.get(id) {
                edge.flags.set(Flags::BEHIND, false);
            }
            let behind = server_frame::Body::Behind(wire::Behind {});
            let before = self.queues.get(index).pending.len();
            encode::server(0, behind, &mut self.queues.get(index).pending);
            self.queues.bytes += self.queues.get(index).pending.len() - before;
        }
        let plain = std::mem::take(&mut self.queues.get(index).pending);
        self.queues.bytes -= plain.len();
        let Some(buffer) = self.seal(id, plain) else { return self.abort(ctx, outbox, id) };
        if buffer.is_empty() {
            self.queues.keep(buffer);
            self.queues.close(index);
            if let Some(edge) = self.table.get(id) {
                edge.queue = queue::NONE;
            }
            return;
        }
        let tick = self.tick;
        let queue = self.queues.get(index);
        queue.in_flight_bytes = buffer.len();
        queue.held = 0;
        queue.since_tick = tick;
        self.queues.bytes += buffer.len();
        outbox.push(Output::Send { edge: id, buffer });
    }
}
