//! Messages for an actor that is being read from disk, or cannot be read: they wait, within a
//! bound, or whoever asked is told no.

use crate::shard::context::Context;
use crate::shard::links::{Arrival, Taken};
use roost_protocol::error::Refusal;
use roost_protocol::wire::ErrorCode;

/// About how long after a refusal for want of room it is tried again.
const BUSY_MS: u32 = 100;

/// What one kind of actor is told.
pub(crate) trait ToActor: Sized {
    /// Said when the actor cannot be read.
    const UNREADABLE: &'static str;

    /// Whether it waits however many do: it cannot be refused, and credit bounds it.
    fn must_wait(&self, taken: Option<Taken>) -> bool;

    /// Says no to whoever asked, if anybody did.
    fn refuse(self, ctx: &mut Context, taken: Option<Taken>, refusal: &Refusal);
}

/// Keeps a message until its actor is there, or refuses it.
pub(crate) fn wait<M: ToActor>(
    ctx: &mut Context,
    waiting: &mut Vec<Arrival<M>>,
    arrival: Arrival<M>,
) {
    let room = waiting.len() < ctx.limits.loading_inputs_max as usize;
    if room || arrival.message.must_wait(arrival.taken) {
        waiting.push(arrival);
        return;
    }
    ctx.stats.busy_total += 1;
    let refusal = busy(ctx, BUSY_MS);
    refuse(ctx, arrival, &refusal);
}

/// Try again after about so long.
pub(crate) fn busy(ctx: &mut Context, ms: u32) -> Refusal {
    let retry_after_ms = ctx.prng.jitter_ms(ms);
    Refusal { retry_after_ms, ..Refusal::new(ErrorCode::ErrorBusy, "try again shortly") }
}

/// Refuses what came for an actor that cannot be read.
pub(crate) fn refuse_unreadable<M: ToActor>(ctx: &mut Context, arrival: Arrival<M>) {
    let refusal = Refusal::new(ErrorCode::ErrorStorageCorrupt, M::UNREADABLE);
    refuse(ctx, arrival, &refusal);
}

/// Refuses a message and gives its credit back.
pub(crate) fn refuse<M: ToActor>(ctx: &mut Context, arrival: Arrival<M>, refusal: &Refusal) {
    let Arrival { message, token, taken } = arrival;
    message.refuse(ctx, taken, refusal);
    ctx.links.release(token);
}
