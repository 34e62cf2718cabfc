//! Connections: from bytes to requests, from replies and pushes to bytes.
//!
//! An edge knows its user and what it may still send. It decides nothing about messages; it tells
//! an actor and passes on the answer.

pub(crate) mod asks;
pub(crate) mod buckets;
pub(crate) mod entrance;
pub(crate) mod gathering;
pub(crate) mod hello;
pub(crate) mod looking;
pub(crate) mod outgoing;
pub(crate) mod partials;
pub(crate) mod places;
pub(crate) mod queue;
pub(crate) mod requests;
pub(crate) mod secure;
pub(crate) mod sweep;
pub(crate) mod table;
pub(crate) mod tls_slab;
pub(crate) mod transport;

use crate::ids::{EdgeAddress, EdgeId};
use crate::shard::auth::ticket::TicketSealer;
use crate::shard::auth::token::{TokenKeys, TokenRules};
use crate::shard::context::Context;
use crate::shard::evicting::shrink;
use crate::shard::links::{Cause, Owed};
use crate::shard::message::{Gone, ToOwnMailbox};
use crate::shard::output::{Outbox, Output};
use buckets::RateLimits;
use entrance::{Entrance, ListenerRules};
use gathering::Gatherings;
use looking::Lookers;
use partials::{Partial, Partials};
use places::Places;
use queue::SendQueues;
use roost_detached_tls::ServerSettings;
use roost_protocol::error::Refusal;
use roost_protocol::frame::{self, Cut, FrameError};
use roost_protocol::limits::{BEFORE_WELCOME_MAX_BYTES, REPLY_MAX_BYTES};
use roost_protocol::preface::{self, Preface};
use roost_protocol::time::Instant;
use roost_protocol::wire::ErrorCode;
use secure::Secure;
use std::collections::VecDeque;
use std::sync::Arc;
pub(crate) use table::EDGE_BYTES;
use table::{EdgeTable, Flags, State};
pub(crate) use tls_slab::TLS_BYTES;

/// What a page under way counts for in the room of its connection. Hardly any is larger, and a
/// device that returns asks for some at once: while it waits for them its socket need not be let
/// alone.
const PAGE_EXPECTED_BYTES: usize = REPLY_MAX_BYTES / 2;

/// What all edges of a shard share.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// Prefixed to user ids before they become keys.
    pub tenant: String,
    /// Who may sign tokens.
    pub token_keys: Arc<TokenKeys>,
    /// What tokens must say.
    pub token_rules: TokenRules,
    /// What holds for the connections of each listener, in the order that drivers count them in.
    pub listeners: Arc<[ListenerRules]>,
    /// For TLS listeners; none: their connections never get anywhere.
    pub tls: Option<ServerSettings>,
    /// Told in Welcome: differs when the store is another one.
    pub incarnation: u64,
    /// Told in Welcome: differs when the server restarted.
    pub server_run: u64,
}

/// The connections of a shard.
#[derive(Debug)]
pub(crate) struct Edges {
    pub(crate) config: EdgeConfig,
    pub(crate) table: EdgeTable,
    pub(crate) queues: SendQueues,
    pub(crate) partials: Partials,
    entrance: Entrance,
    places: Places,
    secure: Secure,
    rates: RateLimits,
    gatherings: Gatherings,
    lookers: Lookers,
    sealer: Option<TicketSealer>,
    /// Connections whose Hello waits for its turn of verification.
    deferred: VecDeque<EdgeId>,
    verifications_left: u32,
    tick: u32,
    swept: u32,
    /// When those who take too little were last cut off.
    shed_tick: u32,
    /// When it was last reported that all queues together are full.
    full_tick: u32,
    draining: bool,
    /// Some of those that have something to send wait for more, for some batches.
    held: bool,
    /// While draining: slots before this one were told to leave.
    drain_next: u32,
    /// While draining: the tick at which those who have not left are told to.
    drain_ends_tick: u32,
    plain: Vec<u8>,
}

impl Edges {
    pub(crate) fn new(config: EdgeConfig) -> Self {
        Self {
            config,
            table: EdgeTable::default(),
            queues: SendQueues::default(),
            partials: Partials::default(),
            entrance: Entrance::default(),
            places: Places::default(),
            secure: Secure::default(),
            rates: RateLimits::default(),
            gatherings: Gatherings::default(),
            lookers: Lookers::default(),
            sealer: None,
            deferred: VecDeque::new(),
            verifications_left: 0,
            tick: 0,
            swept: 0,
            shed_tick: u32::MAX,
            full_tick: u32::MAX,
            draining: false,
            held: false,
            drain_next: 0,
            drain_ends_tick: 0,
            plain: Vec::new(),
        }
    }

    pub(crate) fn secrets(&mut self, secrets: &crate::shard::input::Secrets) {
        match &mut self.sealer {
            Some(sealer) => sealer.replace_keys(&secrets.ticket_keys, secrets.nonce_prefix),
            None => {
                let sealer = TicketSealer::new(&secrets.ticket_keys, secrets.nonce_prefix);
                self.sealer = Some(sealer);
            }
        }
    }

    // ---- life ----

    /// The connection is gone, whoever ended it.
    pub(crate) fn closed(&mut self, ctx: &mut Context, id: EdgeId) {
        if let Some(tls) = self.table.tls(id) {
            self.secure.forget(id, tls);
        }
        let Some(edge) = self.table.remove(id) else { return };
        ctx.stats.connections -= 1;
        if edge.queue != queue::NONE {
            self.queues.close(edge.queue);
        }
        drop(self.partials.take(id));
        self.entrance.prefixes.leave(id.slot);
        self.rates.forget(id);
        self.gatherings.forget(id);
        if let Some(user) = edge.user(&self.config.tenant) {
            let address = EdgeAddress { shard: ctx.links.me(), edge: id };
            let gone = Gone { edge: address, user, device: edge.device };
            let to = ctx.home_of_user(user);
            ctx.links.tell(to, ToOwnMailbox::Gone(Box::new(gone)), Owed::Nothing, Cause::NONE);
        }
    }

    /// Asks the driver to end a connection, after what is being sent.
    pub(crate) fn end(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId) {
        let tick = self.tick;
        if self.table.leaves(id, State::Closing)
            && let Some(edge) = self.table.get(id)
        {
            // The time it has for taking the last words, also if it was silent or paused.
            edge.heard_tick = tick;
            edge.flags.set(Flags::PAUSED, false);
            self.note_closing(ctx, outbox, id);
        }
        if self.table.get(id).is_none_or(|edge| edge.state == State::Aborting) {
            return;
        }
        self.say_goodbye(ctx, outbox, id);
        if self.has_last_words(id) {
            // The last words wait behind a send; `sent` comes back here.
            return;
        }
        if let Some(edge) = self.table.get(id)
            && !edge.flags.contains(Flags::CLOSE_ASKED)
        {
            edge.flags.set(Flags::CLOSE_ASKED, true);
            outbox.push(Output::Close { edge: id });
        }
    }

    /// Tells a connection why and ends it.
    pub(crate) fn refuse(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        refusal: &Refusal,
    ) {
        if matches!(refusal.code, ErrorCode::ErrorTooSlow) {
            ctx.stats.too_slow_total += 1;
        }
        self.refuse_with(ctx, outbox, id, 0, refusal.to_wire());
    }

    // ---- bytes in ----

    pub(crate) fn received(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        bytes: &[u8],
    ) {
        ctx.stats.received_bytes_total += bytes.len() as u64;
        self.take_bytes(ctx, outbox, id, bytes);
    }

    fn take_bytes(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId, bytes: &[u8]) {
        let tick = self.tick;
        let Some(edge) = self.table.get(id) else { return };
        match edge.state {
            State::Closing | State::Aborting | State::Free => return,
            State::Proxy => return self.received_proxy(ctx, outbox, id, bytes),
            // The time for Hello runs from the beginning, however it drips in.
            State::Preface | State::Hello => {}
            State::Registering | State::Ready => edge.heard_tick = tick,
        }
        if edge.speaks_tls() {
            return self.received_sealed(ctx, outbox, id, bytes);
        }
        self.take_plain(ctx, outbox, id, bytes);
    }

    fn take_plain(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId, bytes: &[u8]) {
        let Some(mut held) = self.partials.take(id) else {
            if let Some(left) = self.take_stream(ctx, outbox, id, bytes, None) {
                let rest = bytes.get(left.from..).unwrap_or_default();
                self.partials.put(id, Partial::new(rest.to_vec(), left.since));
            }
            return;
        };
        held.bytes.extend_from_slice(bytes);
        self.take_held(ctx, outbox, id, held);
    }

    fn take_held(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId, held: Partial) {
        let left = self.take_stream(ctx, outbox, id, held.rest(), Some(held.since));
        if let Some(left) = left {
            self.partials.put(id, held.without(left.from, left.since));
        }
    }

    /// Goes on with what a connection left, now that nothing holds it back.
    pub(crate) fn go_on(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId) {
        if let Some(held) = self.partials.take(id) {
            self.take_held(ctx, outbox, id, held);
        }
        if !self.is_blocked(ctx, id)
            && let Some(edge) = self.table.get(id)
            && edge.flags.contains(Flags::PAUSED)
        {
            edge.flags.set(Flags::PAUSED, false);
            outbox.push(Output::Resume { edge: id });
        }
    }

    /// Whether the next frame must wait: for Welcome, for room towards another actor, for the
    /// device to take what it was answered, for its turn of verification. Pages that are being
    /// prepared count for what they mostly are at most, so what waits for a connection has a bound:
    /// the limit, and what the few pages that fit it may be larger.
    fn is_blocked(&mut self, ctx: &Context, id: EdgeId) -> bool {
        let limit = ctx.limits.send_queue_bytes as usize;
        let Some(edge) = self.table.get(id) else { return true };
        let expected = usize::from(edge.pages) * PAGE_EXPECTED_BYTES;
        let waits = matches!(edge.state, State::Registering | State::Free)
            || edge.state.is_leaving()
            || edge.flags.contains(Flags::DEFERRED);
        let index = edge.queue;
        let queued = if index == queue::NONE { 0 } else { self.queues.get(index).bytes() };
        waits || queued + expected >= limit || ctx.links.feeds_backlog(id)
    }

    /// Takes the frames at the start of a stream; says what is left, if it is to be kept.
    fn take_stream(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        stream: &[u8],
        since: Option<Instant>,
    ) -> Option<Left> {
        let mut rest = stream;
        loop {
            if self.is_blocked(ctx, id) {
                self.pause(ctx, outbox, id);
                break;
            }
            if rest.is_empty() {
                break;
            }
            match self.take_next(ctx, outbox, id, rest) {
                Step::Took(bytes) => rest = rest.get(bytes..).unwrap_or_default(),
                Step::NeedsMore => {
                    if self.is_blocked(ctx, id) {
                        self.pause(ctx, outbox, id);
                    }
                    break;
                }
                Step::Refused => return None,
            }
        }
        let alive = self.table.get(id).is_some_and(|edge| !edge.state.is_leaving());
        // The deadline of a half frame runs from its own first byte.
        let since = since.filter(|_| rest.len() == stream.len()).unwrap_or(ctx.now.monotonic);
        let from = stream.len() - rest.len();
        (alive && !rest.is_empty()).then_some(Left { from, since })
    }

    fn pause(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId) {
        if let Some(edge) = self.table.get(id)
            && !edge.flags.contains(Flags::PAUSED)
            && !edge.state.is_leaving()
        {
            edge.flags.set(Flags::PAUSED, true);
            ctx.stats.paused_total += 1;
            outbox.push(Output::Pause { edge: id });
        }
    }

    fn take_next(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        rest: &[u8],
    ) -> Step {
        let Some(edge) = self.table.get(id) else { return Step::Refused };
        let state = edge.state;
        if state == State::Preface {
            return self.take_preface(ctx, outbox, id, rest);
        }
        let limit = if state == State::Ready {
            ctx.limits.frame_max_bytes as usize
        } else {
            BEFORE_WELCOME_MAX_BYTES
        };
        match frame::cut(rest, limit) {
            Ok(Cut::Frame { content, consumed }) => {
                let taken = if state == State::Ready {
                    self.take_request(ctx, id, content)
                } else {
                    self.take_hello(ctx, outbox, id, content)
                };
                match taken {
                    Ok(true) => Step::Took(consumed),
                    Ok(false) => Step::NeedsMore,
                    Err(refusal) => self.refused(ctx, outbox, id, &refusal),
                }
            }
            Ok(Cut::Heartbeat) if state == State::Ready => {
                ctx.stats.heartbeats_total += 1;
                self.queue_heartbeat(ctx, id);
                Step::Took(1)
            }
            Ok(Cut::Heartbeat) => {
                let code = ErrorCode::ErrorHelloExpected;
                let refusal = Refusal::new(code, "the first frame is Hello");
                self.refused(ctx, outbox, id, &refusal)
            }
            Ok(Cut::Incomplete { .. }) => Step::NeedsMore,
            Err(FrameError::TooLarge { .. }) => {
                let refusal =
                    Refusal::new(ErrorCode::ErrorFrameTooLarge, "the frame is over the limit");
                self.refused(ctx, outbox, id, &refusal)
            }
            Err(FrameError::InvalidLength) => {
                let refusal = Refusal::new(
                    ErrorCode::ErrorMalformedFrame,
                    "the frame's length is not a number of at most five bytes",
                );
                self.refused(ctx, outbox, id, &refusal)
            }
        }
    }

    fn refused(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        refusal: &Refusal,
    ) -> Step {
        ctx.stats.frames_refused_total += 1;
        let hello_id = match self.table.get(id) {
            Some(edge) if edge.state == State::Hello => edge.hello_id(),
            Some(_) | None => 0,
        };
        self.refuse_with(ctx, outbox, id, hello_id, refusal.to_wire());
        Step::Refused
    }

    fn take_preface(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        rest: &[u8],
    ) -> Step {
        let refusal = match preface::check(rest) {
            Preface::Valid => {
                if let Some(edge) = self.table.get(id) {
                    edge.state = State::Hello;
                }
                return Step::Took(preface::PREFACE.len());
            }
            Preface::Incomplete => return Step::NeedsMore,
            Preface::UnsupportedVersion(_) => {
                Refusal::new(ErrorCode::ErrorUnsupportedVersion, "this server speaks version 1")
            }
            Preface::Invalid => Refusal::new(
                ErrorCode::ErrorBadPreface,
                "a connection begins with the bytes 52 4f 4f 01",
            ),
        };
        self.refused(ctx, outbox, id, &refusal)
    }

    // ---- the turn ----

    /// Begins a batch: verification has its budget again.
    pub(crate) fn begin_batch(&mut self, ctx: &Context) {
        self.verifications_left = ctx.limits.verifications_per_turn_max;
    }

    /// Lets go of room that only the busiest moment needed.
    pub(crate) fn give_back(&mut self) {
        self.queues.give_back();
        self.secure.give_back();
        self.places.give_back();
        shrink(&mut self.deferred);
    }

    /// Whether a Hello or a handshake still waits for its turn.
    pub(crate) fn has_deferred(&self, ctx: &Context) -> bool {
        !self.deferred.is_empty() || self.held || self.has_handshakes(ctx)
    }

    /// Gives those whose Hello waited another turn.
    pub(crate) fn take_deferred(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        while self.verifications_left > 0 {
            let Some(id) = self.deferred.pop_front() else { return };
            if let Some(edge) = self.table.get(id) {
                edge.flags.set(Flags::DEFERRED, false);
                self.go_on(ctx, outbox, id);
            }
        }
    }
}

/// What of a stream is to be kept: from where on, and since when it waits.
struct Left {
    from: usize,
    since: Instant,
}

enum Step {
    Took(usize),
    NeedsMore,
    Refused,
}

#[cfg(test)]
mod tests;
