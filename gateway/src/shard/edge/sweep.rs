//! Time for connections: no timer each, but a sweep over a part of the table at every tick.

use super::table::{Flags, State};
use super::{Edges, queue};
use crate::ids::EdgeId;
use crate::shard::context::Context;
use crate::shard::output::Outbox;
use crate::shard::report::{Refused, Report};
use roost_protocol::error::Refusal;
use roost_protocol::time::Instant;
use roost_protocol::wire::{self, ErrorCode, server_frame};

/// A tick, in milliseconds.
pub(crate) const TICK_MS: u32 = 100;
/// Ticks for one sweep over the whole table, at least.
const SWEEP_TICKS: u32 = 10;
/// Connections that are looked at in one tick, at most: a quarter of a millisecond. With a million
/// a sweep takes five seconds, and who is silent is found so much later.
const LOOKS_PER_TICK_MAX: u32 = 20_000;
/// So long before the process ends those who have not left are told: it must still reach them.
const LAST_WORDS_TICKS: u32 = 5;
/// How long before its token expires a device is told.
const TOKEN_WARNING_MS: u64 = 60_000;

impl Edges {
    /// The next tick: looks at a part of the table, and at the oldest halves of frames.
    pub(crate) fn sweep(&mut self, ctx: &mut Context, outbox: &mut Outbox, tick: u32) {
        self.tick = tick;
        if self.draining && tick >= self.drain_ends_tick {
            self.end_drain(ctx, outbox);
        } else if self.draining {
            self.step_drain(ctx, outbox);
        }
        let slots = self.table.slots();
        let part = slots.div_ceil(SWEEP_TICKS).min(LOOKS_PER_TICK_MAX);
        for _ in 0..part {
            self.swept = if self.swept + 1 >= slots { 0 } else { self.swept + 1 };
            if let Some(id) = self.table.at(self.swept) {
                self.look_at(ctx, outbox, id);
            }
        }
        self.sweep_partials(ctx, outbox);
        self.reopen(ctx, outbox);
        self.lookers.expire(tick);
    }

    fn look_at(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId) {
        let tick = self.tick;
        let Some(edge) = self.table.get(id) else { return };
        self.rates.forget_full(&ctx.limits, ctx.now.monotonic, id, edge.sharers);
        let silent_ms = u64::from(tick.saturating_sub(edge.heard_tick)) * u64::from(TICK_MS);
        let limits = &ctx.limits;
        let (patience_ms, code, text) = match (edge.state, edge.flags.contains(Flags::BACKGROUND)) {
            (State::Free | State::Aborting, _) => return,
            (State::Proxy | State::Preface | State::Hello, _) => {
                (limits.hello_timeout_ms.into(), ErrorCode::ErrorTooSlow, "no Hello in time")
            }
            (State::Registering | State::Closing, _) => {
                (limits.send_stall_timeout_ms.into(), ErrorCode::ErrorTooSlow, "")
            }
            (State::Ready, false) => (
                u64::from(limits.heartbeat_foreground_ms) * 5 / 2,
                ErrorCode::ErrorIdleTimeout,
                "silent for two and a half heartbeat intervals",
            ),
            (State::Ready, true) => (
                u64::from(limits.heartbeat_background_ms) * 5 / 2,
                ErrorCode::ErrorIdleTimeout,
                "silent for two and a half heartbeat intervals",
            ),
        };
        let state = edge.state;
        let paused = edge.flags.contains(Flags::PAUSED);
        let (index, expires_ms) = (edge.queue, edge.token_expires_ms());
        if index != queue::NONE {
            let queue = self.queues.get(index);
            let stalled_ms = u64::from(tick.saturating_sub(queue.since_tick)) * u64::from(TICK_MS);
            if queue.in_flight_bytes > 0 && stalled_ms > u64::from(limits.send_stall_timeout_ms) {
                return self.abort(ctx, outbox, id);
            }
        }
        // While we do not read from it, its silence says nothing.
        if silent_ms > patience_ms && !paused {
            if state == State::Closing {
                return self.abort(ctx, outbox, id);
            }
            if state == State::Proxy {
                return self.turn_away(ctx, outbox, id, Refused::NoProxyHeader, None);
            }
            ctx.stats.idle_closed_total += u64::from(code == ErrorCode::ErrorIdleTimeout);
            return self.refuse(ctx, outbox, id, &Refusal::new(code, text));
        }
        if state == State::Ready {
            self.look_at_token(ctx, outbox, id, expires_ms);
        }
    }

    fn look_at_token(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        expires_ms: u64,
    ) {
        let now_ms = ctx.now.wall.ms;
        if now_ms >= expires_ms.saturating_add(u64::from(ctx.limits.token_grace_ms)) {
            let refusal = Refusal::new(ErrorCode::ErrorTokenExpired, "the token expired");
            return self.refuse(ctx, outbox, id, &refusal);
        }
        let Some(edge) = self.table.get(id) else { return };
        if now_ms.saturating_add(TOKEN_WARNING_MS) >= expires_ms
            && !edge.flags.contains(Flags::WARNED)
        {
            edge.flags.set(Flags::WARNED, true);
            let expiring = wire::TokenExpiring { token_expires_ms: expires_ms };
            self.queue_frame(ctx, id, 0, server_frame::Body::TokenExpiring(expiring));
        }
    }

    /// Ends those who left half of something for too long, and the oldest over the pool's cap.
    pub(crate) fn sweep_partials(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        let patience =
            roost_protocol::time::Duration::from_ms(ctx.limits.half_frame_timeout_ms.into());
        let now = ctx.now.monotonic;
        let limit = ctx.limits.half_frame_pool_bytes;
        let mut full = false;
        while let Some((since, id, is_sealed)) = self.oldest_half() {
            let over = self.half_bytes() > limit;
            full |= over;
            if !over && now.since(since) <= patience {
                break;
            }
            let pool = if is_sealed { &mut self.secure.records } else { &mut self.partials };
            let Some(mut held) = pool.take(id) else { break };
            let is_paused =
                self.table.get(id).is_some_and(|edge| edge.flags.contains(Flags::PAUSED));
            let waits = is_paused || self.table.tls(id).is_some_and(|tls| tls.is_queued());
            if waits && !over {
                // It waits for us, not we for it.
                held.since = now;
                pool.put(id, held);
                continue;
            }
            if self.table.get(id).is_some_and(|edge| edge.state == State::Proxy) {
                self.turn_away(ctx, outbox, id, Refused::NoProxyHeader, None);
                continue;
            }
            let text = if is_sealed {
                "half a TLS record, then silence"
            } else {
                "half a frame, then silence"
            };
            self.refuse(ctx, outbox, id, &Refusal::new(ErrorCode::ErrorTooSlow, text));
        }
        if full {
            ctx.reports.push(Report::HalfFramePoolFull { limit_bytes: limit });
        }
    }

    /// Over the pool's cap between ticks: the oldest go at once.
    pub(crate) fn partials_over(&self, ctx: &Context) -> bool {
        self.half_bytes() > ctx.limits.half_frame_pool_bytes
    }

    /// Bytes of frames and of records that are not whole.
    fn half_bytes(&self) -> u64 {
        (self.partials.bytes() + self.secure.records.bytes()) as u64
    }

    /// The connection that has been in a pool for longest, and whether it is a record.
    fn oldest_half(&self) -> Option<(Instant, EdgeId, bool)> {
        let frame = self.partials.oldest().map(|(since, id)| (since, id, false));
        let record = self.secure.records.oldest().map(|(since, id)| (since, id, true));
        frame.into_iter().chain(record).min()
    }

    /// Begins to tell everybody to leave: so many a second, for all come back somewhere else, and
    /// each costs memory until it was told.
    pub(crate) fn drain(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        self.draining = true;
        let drain_ticks = ctx.limits.drain_ms / TICK_MS;
        let patience = drain_ticks.saturating_sub(LAST_WORDS_TICKS);
        self.drain_ends_tick = self.tick.saturating_add(patience);
        if patience == 0 {
            self.end_drain(ctx, outbox);
        } else {
            self.step_drain(ctx, outbox);
        }
    }

    /// Tells the next ones.
    fn step_drain(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        // At its pace, or faster if that would not reach all of them in time.
        let pace = ctx.limits.goaways_per_second * TICK_MS / 1000;
        let open = u32::try_from(self.table.open()).unwrap_or(u32::MAX);
        let ticks_left = self.drain_ends_tick.saturating_sub(self.tick) * 2 / 3;
        let mut left = pace.max(open.div_ceil(ticks_left.max(1))).max(1);
        while left > 0 && self.drain_next < self.table.slots() {
            let slot = self.drain_next;
            self.drain_next += 1;
            let Some(id) = self.table.at(slot) else { continue };
            let state = self.table.get(id).map_or(State::Free, |edge| edge.state);
            if state.is_leaving() {
                continue;
            }
            left -= 1;
            let ready = state == State::Ready;
            if ready {
                let reconnect_after_ms = ctx.prng.jitter_ms(1000);
                let away = wire::GoAway { reconnect_after_ms, alternative: String::new() };
                self.queue_frame(ctx, id, 0, server_frame::Body::GoAway(away));
            } else {
                let refusal = Refusal::new(ErrorCode::ErrorGoingAway, "shutting down");
                self.refuse(ctx, outbox, id, &refusal);
            }
        }
    }

    /// Ends those who did not leave when they were told to.
    fn end_drain(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        for slot in 0..self.table.slots() {
            let Some(id) = self.table.at(slot) else { continue };
            if self.table.get(id).is_some_and(|edge| !edge.state.is_leaving()) {
                let refusal = Refusal::new(ErrorCode::ErrorGoingAway, "shutting down");
                self.refuse(ctx, outbox, id, &refusal);
            }
        }
    }
}
