//! TLS of all connections: records in, handshakes in turn, what goes out before anything else.
//!
//! **Order of the wire.** What is sealed goes out in the order it was sealed in, or never: at most
//! one send of a connection is outstanding, the driver sends the rest of a short write itself, and
//! whatever is sealed meanwhile (an alert, a goodbye) stands in `unsent`, in front of what the next
//! flush seals. Plain text is sealed at the flush and not kept, so nothing is sealed twice.
//!
//! **Handshakes.** Nothing is done for a connection before a whole record of it is there, so those
//! that stay silent cost their place only. Then it waits for its turn: a turn takes a few steps,
//! from those under way and those that begin by turns, each in their order. Those that begin wait
//! while as many are under way as may be; then one whose peer was silent for a second makes room.

use super::partials::{Partial, Partials};
use super::table::State;
use super::transport::{PROTOCOL, Tls};
use super::{Edges, queue};
use crate::ids::EdgeId;
use crate::shard::context::Context;
use crate::shard::evicting::shrink;
use crate::shard::output::Outbox;
use roost_detached_tls::{
    Alert, Detached, Established, HandshakeError, RECORD_MAX_BYTES, has_whole_record,
};
use roost_protocol::time::Instant;
use std::collections::{BTreeMap, VecDeque};

/// What of a handshake may be here and not yet be of use: one record. A Hello is a tenth of it.
const HANDSHAKE_INPUT_MAX_BYTES: usize = RECORD_MAX_BYTES;

/// For so long a peer may take to answer while others wait for its place: a round trip to a phone.
const ANSWER_MS: u64 = 1_000;

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Secure {
    /// Records that have arrived in part, or wait for their turn.
    pub(crate) records: Partials,
    /// Sealed bytes that go out before anything else of their connection.
    unsent: BTreeMap<EdgeId, Vec<u8>>,
    /// Connections with a first record.
    beginning: VecDeque<EdgeId>,
    /// Connections with a further record of a handshake.
    going_on: VecDeque<EdgeId>,
    /// Handshakes that hold memory.
    in_progress: u32,
    /// Handshakes and when they began, oldest first; some are done or gone.
    begun: VecDeque<(EdgeId, Instant)>,
    /// Whose turn it is next: of those that begin, or of those under way.
    begins: bool,
}

impl Secure {
    /// A connection is gone.
    pub(crate) fn forget(&mut self, id: EdgeId, tls: &Tls) {
        self.in_progress -= u32::from(tls.is_handshaking());
        self.unsent.remove(&id);
        drop(self.records.take(id));
    }

    /// Whether something sealed waits for a connection.
    pub(crate) fn has_unsent(&self, id: EdgeId) -> bool {
        self.unsent.contains_key(&id)
    }

    /// Takes what was sealed for a connection and not sent.
    pub(crate) fn take_unsent(&mut self, id: EdgeId) -> Option<Vec<u8>> {
        self.unsent.remove(&id)
    }

    /// Lets go of room that only a storm needed.
    pub(crate) fn give_back(&mut self) {
        shrink(&mut self.beginning);
        shrink(&mut self.going_on);
        if self.in_progress == 0 {
            self.begun.clear();
        }
        shrink(&mut self.begun);
    }

    fn send(&mut self, id: EdgeId, sealed: &[u8]) {
        if !sealed.is_empty() {
            self.unsent.entry(id).or_default().extend_from_slice(sealed);
        }
    }

    /// The next whose turn it is: by turns, so that neither keeps the other waiting.
    fn next(&mut self, most: u32) -> Option<EdgeId> {
        let may_begin = self.in_progress < most;
        self.begins = !self.begins;
        match (self.begins && may_begin, self.going_on.is_empty()) {
            (true, _) => self.beginning.pop_front().or_else(|| self.going_on.pop_front()),
            (false, false) => self.going_on.pop_front(),
            (false, true) => may_begin.then(|| self.beginning.pop_front()).flatten(),
        }
    }
}

/// What is to be done with a connection after some of its bytes were looked at.
enum Verdict {
    GoesOn,
    /// It said goodbye.
    Leaves,
    /// It broke a rule; the alert is on its way.
    Broke,
}

impl Edges {
    /// Bytes of a connection that speaks TLS.
    pub(super) fn received_sealed(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        bytes: &[u8],
    ) {
        match self.table.tls(id) {
            Some(Tls::Open(_)) => self.received_records(ctx, outbox, id, bytes),
            Some(Tls::Waiting { .. } | Tls::Handshaking { .. }) => {
                self.received_handshake(ctx, outbox, id, bytes);
            }
            Some(Tls::Failed) | None => {}
        }
    }

    // ---- handshakes ----

    fn received_handshake(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        bytes: &[u8],
    ) {
        let held = self.secure.records.take(id);
        let mut held = held.unwrap_or_else(|| Partial::new(Vec::new(), ctx.now.monotonic));
        held.bytes.extend_from_slice(bytes);
        let (is_whole, length) = (has_whole_record(&held.bytes), held.bytes.len());
        self.secure.records.put(id, held);
        let Some(tls) = self.table.tls(id) else { return };
        if is_whole && tls.queue() {
            let begins = !tls.is_handshaking();
            let queue = if begins { &mut self.secure.beginning } else { &mut self.secure.going_on };
            queue.push_back(id);
        }
        if length > HANDSHAKE_INPUT_MAX_BYTES {
            // It waits for us, so the rest waits in the kernel.
            self.pause(ctx, outbox, id);
        }
    }

    /// Whether a handshake waits for its turn.
    pub(crate) fn has_handshakes(&self, ctx: &Context) -> bool {
        let may_begin = self.secure.in_progress < ctx.limits.handshakes_in_progress_max;
        !self.secure.going_on.is_empty() || (may_begin && !self.secure.beginning.is_empty())
    }

    /// When as many handshakes are under way as may be, those whose peers stay silent make room for
    /// those that wait: else a few silent peers could keep everybody out.
    fn make_room(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        let most = ctx.limits.handshakes_in_progress_max;
        while self.secure.in_progress >= most && !self.secure.beginning.is_empty() {
            let Some((id, since)) = self.secure.begun.front().copied() else { return };
            let tls = self.table.tls(id);
            let waits = tls.is_some_and(|tls| tls.is_handshaking() && !tls.is_queued());
            if waits && ctx.now.monotonic.since(since).as_ms() < ANSWER_MS {
                return;
            }
            self.secure.begun.pop_front();
            if waits {
                self.fails(ctx, outbox, id, &[]);
            }
        }
    }

    /// Forgets handshakes that are done, now and then, so that the list has a bound.
    fn note_begun(&mut self, ctx: &Context, id: EdgeId) {
        let Self { table, secure, .. } = self;
        if secure.begun.len() >= 2 * ctx.limits.handshakes_in_progress_max as usize {
            secure.begun.retain(|(id, _)| table.tls(*id).is_some_and(|tls| tls.is_handshaking()));
        }
        secure.begun.push_back((id, ctx.now.monotonic));
    }

    /// A turn's part of the handshakes.
    pub(crate) fn take_handshakes(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        self.take_steps(ctx, outbox);
        self.make_room(ctx, outbox);
        ctx.stats.tls_handshakes_in_progress = self.secure.in_progress.into();
    }

    fn take_steps(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        let mut left = ctx.limits.handshake_steps_per_turn_max;
        while left > 0 {
            let next = self.secure.next(ctx.limits.handshakes_in_progress_max);
            let Some(id) = next else { return };
            // Whoever left while it waited cost nothing.
            left -= u32::from(self.take_handshake(ctx, outbox, id));
        }
    }

    /// One step of a handshake. Says whether there was one.
    fn take_handshake(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId) -> bool {
        let Self { table, secure, config, .. } = self;
        if table.get(id).is_none_or(|edge| edge.state.is_leaving()) {
            return false;
        }
        let (Some(tls), Some(settings)) = (table.tls(id), &config.tls) else { return false };
        let Some(mut held) = secure.records.take(id) else { return false };
        let was_handshaking = tls.is_handshaking();
        let Some(handshake) = tls.handshake(settings) else { return false };
        secure.in_progress += u32::from(!was_handshaking);
        let mut output = self.queues.buffer();
        let outcome = handshake.advance(&mut held.bytes, &mut output);
        let refusal = handshake.refusal(Alert::DecodeError);
        match outcome {
            Ok(progress) => {
                self.secure.send(id, &output);
                if progress.taken > 0 {
                    held.bytes.drain(..progress.taken);
                    held.since = ctx.now.monotonic;
                }
                self.queues.keep(output);
                self.mark_ready(id);
                if progress.is_done {
                    self.establish(ctx, outbox, id, &held.bytes);
                } else if held.bytes.len() > HANDSHAKE_INPUT_MAX_BYTES {
                    // A message that long is none that we want to see the end of.
                    self.fails(ctx, outbox, id, &refusal);
                } else if !held.bytes.is_empty() {
                    self.secure.records.put(id, held);
                }
                if !was_handshaking && !progress.is_done {
                    self.note_begun(ctx, id);
                }
                self.go_on(ctx, outbox, id);
            }
            Err(_) => self.fails(ctx, outbox, id, &output),
        }
        true
    }

    /// A handshake is done: what rustls has is dropped, and data may have come already.
    fn establish(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId, rest: &[u8]) {
        let Some(place) = self.table.tls(id) else { return };
        let Tls::Handshaking { handshake, .. } = std::mem::replace(place, Tls::Failed) else {
            return;
        };
        self.secure.in_progress -= 1;
        let finished: Result<Established, HandshakeError> = handshake.finish();
        let Ok(Established { detached, protocol, is_resumed, .. }) = finished else {
            return self.fails(ctx, outbox, id, &[]);
        };
        let speaks_ours = protocol.as_deref() == Some(PROTOCOL);
        *place = Tls::Open(detached);
        ctx.stats.tls_handshakes_total += 1;
        ctx.stats.tls_resumed_total += u64::from(is_resumed);
        if !speaks_ours {
            return self.breaks(ctx, outbox, id, Some(Alert::NoApplicationProtocol));
        }
        if !rest.is_empty() {
            self.received_records(ctx, outbox, id, rest);
        }
    }

    /// A handshake does not come to an end; what it says last is given.
    fn fails(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId, last_words: &[u8]) {
        ctx.stats.tls_failed_total += 1;
        self.secure.send(id, last_words);
        drop(self.secure.records.take(id));
        if let Some(tls) = self.table.tls(id) {
            let before = std::mem::replace(tls, Tls::Failed);
            self.secure.in_progress -= u32::from(before.is_handshaking());
        }
        self.end(ctx, outbox, id);
    }

    // ---- records ----

    fn received_records(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        bytes: &[u8],
    ) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let verdict = match self.secure.records.take(id) {
            None => self.open_records(ctx, id, bytes, None, &mut plain),
            Some(mut held) => {
                held.bytes.extend_from_slice(bytes);
                self.open_records(ctx, id, &held.bytes, Some(held.since), &mut plain)
            }
        };
        if !plain.is_empty() {
            self.take_plain(ctx, outbox, id, &plain);
        }
        self.plain = plain;
        match verdict {
            Ok(Verdict::GoesOn) => {}
            Ok(Verdict::Leaves) => self.end(ctx, outbox, id),
            Ok(Verdict::Broke) => self.breaks(ctx, outbox, id, None),
            Err(alert) => self.breaks(ctx, outbox, id, Some(alert)),
        }
    }

    /// Opens the whole records of a stream; what is left of it goes to the pool.
    fn open_records(
        &mut self,
        ctx: &Context,
        id: EdgeId,
        stream: &[u8],
        since: Option<Instant>,
        plain: &mut Vec<u8>,
    ) -> Result<Verdict, Alert> {
        let Some(detached) = self.detached(id) else { return Ok(Verdict::GoesOn) };
        match detached.open(stream, plain) {
            Ok(taken) => {
                let leaves = detached.peer_has_closed();
                if let Some(rest) = stream.get(taken..).filter(|rest| !rest.is_empty()) {
                    // The deadline of a half record runs from its own first byte.
                    let since = since.filter(|_| taken == 0).unwrap_or(ctx.now.monotonic);
                    self.secure.records.put(id, Partial::new(rest.to_vec(), since));
                }
                Ok(if leaves { Verdict::Leaves } else { Verdict::GoesOn })
            }
            Err(error) => error.alert().map_or(Ok(Verdict::Broke), Err),
        }
    }

    fn detached(&mut self, id: EdgeId) -> Option<&mut Detached> {
        match self.table.tls(id)? {
            Tls::Open(detached) => Some(detached),
            Tls::Waiting { .. } | Tls::Handshaking { .. } | Tls::Failed => None,
        }
    }

    /// A peer broke a rule of TLS, or says that we did.
    fn breaks(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId, alert: Option<Alert>) {
        ctx.stats.tls_failed_total += 1;
        if let Some(alert) = alert {
            let mut sealed = self.queues.buffer();
            if let Some(detached) = self.detached(id) {
                detached.refuse(alert, &mut sealed);
            }
            self.secure.send(id, &sealed);
            self.queues.keep(sealed);
        }
        if let Some(tls) = self.table.tls(id) {
            *tls = Tls::Failed;
        }
        self.end(ctx, outbox, id);
    }

    // ---- out ----

    /// What goes to the socket: what was sealed before, then these bytes sealed, then a goodbye if
    /// it is time for that. `None`: nothing can be sealed any more.
    pub(super) fn seal(&mut self, id: EdgeId, plain: Vec<u8>) -> Option<Vec<u8>> {
        let edge = self.table.get(id)?;
        let is_closing = edge.state == State::Closing;
        if !edge.speaks_tls() {
            return Some(plain);
        }
        let tls = self.table.tls(id)?;
        let unsent = self.secure.take_unsent(id);
        let mut sealed = unsent.unwrap_or_else(|| self.queues.buffer());
        let mut is_good = true;
        if let Tls::Open(detached) = tls {
            if !detached.has_ended() {
                is_good = detached.seal(&plain, &mut sealed).is_ok();
            }
            if is_closing {
                detached.close(&mut sealed);
            }
        }
        // Whoever has not shaken hands is told nothing in plain.
        self.queues.keep(plain);
        is_good.then_some(sealed)
    }

    /// Whether a connection has something to send that is not in its queue.
    pub(super) fn wants_to_seal(&mut self, id: EdgeId) -> bool {
        self.secure.has_unsent(id)
            || (self.table.get(id).is_some_and(|edge| edge.state == State::Closing)
                && self.table.tls(id).is_some_and(|tls| tls.owes_goodbye()))
    }

    /// Lets the last words of a connection go, if there is no send that they wait behind.
    pub(super) fn say_goodbye(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId) {
        if self.wants_to_seal(id) {
            self.flush_one(ctx, outbox, id);
        }
    }

    /// Whether last words wait behind a send.
    pub(super) fn has_last_words(&mut self, id: EdgeId) -> bool {
        let index = self.table.get(id).map_or(queue::NONE, |edge| edge.queue);
        let queued = index != queue::NONE && !self.queues.get(index).pending.is_empty();
        queued || self.wants_to_seal(id)
    }
}
