//! Places of connections that are no sessions. Sessions are counted where their users are at home,
//! whatever shard they come by; so a shard may have more than its part of them. Here it is seen to
//! that neither those who have only come nor those who are being ended stand in their way.
//!
//! Newcomers have what sessions leave of the shard's part of `limits.connections_max`, and at least
//! the places beside it (`Limits::beside_of_shard`). When those are taken, further ones wait in the
//! kernel. Connections that were told why they end and have not gone yet have what newcomers leave,
//! and at least as many places again: of more of them the oldest are cut off.

use super::Edges;
use super::table::{Edge, State};
use crate::ids::EdgeId;
use crate::shard::context::Context;
use crate::shard::evicting::shrink;
use crate::shard::output::{Outbox, Output};
use crate::shard::report::Report;
use std::collections::VecDeque;

/// Of those being ended so many may have gone before the list is tidied.
const GONE_MIN: usize = 64;

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// No further newcomers are taken for now.
    full: bool,
    /// Connections that are being ended, in the order in which they were told; some have gone
    /// since.
    closing: VecDeque<EdgeId>,
}

impl Places {
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn give_back(&mut self) {
        shrink(&mut self.closing);
    }
}

impl Edges {
    /// How many newcomers there may be now, and how many connections that are being ended.
    fn places(&self, ctx: &Context) -> (u32, u32) {
        let shards = ctx.links.shards();
        let counts = self.table.counts();
        let part = ctx.limits.connections_of_shard(shards);
        let beside = ctx.limits.beside_of_shard(shards);
        let unused = part.saturating_sub(counts.sessions);
        let left = unused.saturating_sub(counts.newcomers);
        (unused.max(beside), left.max(beside))
    }

    /// There is one newcomer more.
    pub(super) fn newcomer_came(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        self.cut_closing(ctx, outbox);
        let (most, _) = self.places(ctx);
        if self.places.full || self.draining || self.table.counts().newcomers < most {
            return;
        }
        self.places.full = true;
        ctx.reports.push(Report::ConnectionsFull { limit: ctx.limits.connections_max.into() });
        for (listener, _) in (0..).zip(self.config.listeners.iter()) {
            outbox.push(Output::PauseAccepting { listener });
        }
    }

    /// Newcomers are taken again, if a quarter of their places is free.
    pub(crate) fn take_newcomers(&mut self, ctx: &Context, outbox: &mut Outbox) {
        if !self.places.full {
            return;
        }
        let (most, _) = self.places(ctx);
        if self.table.counts().newcomers > most - most.div_ceil(4) {
            return;
        }
        self.places.full = false;
        for (listener, _) in (0..).zip(self.config.listeners.iter()) {
            if !self.entrance.is_paced(listener) {
                outbox.push(Output::ResumeAccepting { listener });
            }
        }
    }

    /// A connection is being ended.
    pub(super) fn note_closing(&mut self, ctx: &mut Context, outbox: &mut Outbox, id: EdgeId) {
        let Self { places, table, .. } = self;
        places.closing.push_back(id);
        if places.closing.len() > table.counts().closing as usize * 2 + GONE_MIN {
            let is_closing = |edge: &Edge| edge.state == State::Closing;
            places.closing.retain(|id| table.peek(*id).is_some_and(is_closing));
        }
        self.cut_closing(ctx, outbox);
    }

    /// Cuts off those who were told first, if there are too many. When the server stops nobody
    /// needs their places, and all are told at once.
    fn cut_closing(&mut self, ctx: &mut Context, outbox: &mut Outbox) {
        let (_, most) = self.places(ctx);
        while self.table.counts().closing > most && !self.draining {
            let Some(oldest) = self.places.closing.pop_front() else { return };
            let state = self.table.peek(oldest).map(|edge| edge.state);
            if state == Some(State::Closing) && self.cut(outbox, oldest) {
                ctx.stats.closing_cut_total += 1;
            }
        }
    }

    /// Ends a connection at once. Says whether that was not asked for yet.
    pub(super) fn cut(&mut self, outbox: &mut Outbox, id: EdgeId) -> bool {
        let is_news = self.table.leaves(id, State::Aborting);
        if is_news {
            outbox.push(Output::Abort { edge: id });
        }
        is_news
    }
}
