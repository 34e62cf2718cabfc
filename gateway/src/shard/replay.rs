//! After a restart: everything that earlier runs owe is told again, paced by credit; when every
//! shard has told its part and it is confirmed, the old segments leave recovery.

use crate::ids::ShardId;
use crate::shard::context::{Context, Reading};
use crate::shard::conversation::table::Conversations;
use crate::shard::links::Links;
use crate::shard::message::Settle;
use crate::shard::report::Report;
use roost_protocol::ids::{ConversationId, KeyKind, UserKey};
use roost_storage_engine::{Query, StreamId};
use std::collections::{BTreeSet, VecDeque};

/// Streams being told at the same time, and messages that may wait meanwhile.
const AT_ONCE: usize = 32;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Replay {
    streams: VecDeque<StreamId>,
    reading: usize,
    unconfirmed: u64,
    told_streams: u64,
    announced: bool,
    heard: BTreeSet<ShardId>,
    state: OldSegments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OldSegments {
    Telling,
    /// Every shard has told; this one seals, or waits for the one that does.
    Told,
    Sealing,
    Sealed,
}

impl Replay {
    pub(crate) fn new(streams: Vec<StreamId>) -> Self {
        Self {
            streams: streams.into(),
            reading: 0,
            unconfirmed: 0,
            told_streams: 0,
            announced: false,
            heard: BTreeSet::new(),
            state: OldSegments::Telling,
        }
    }

    /// Whether the next stream can be told at once.
    pub(crate) fn has_more(&self, backlog: usize) -> bool {
        !self.streams.is_empty() && self.reading < AT_ONCE && backlog < AT_ONCE
    }

    /// Whether all this shard's part is told and confirmed.
    pub(crate) const fn is_told(&self) -> bool {
        self.announced
    }

    /// Tells a few more.
    pub(crate) fn step(&mut self, ctx: &mut Context, conversations: &mut Conversations) {
        while self.reading < AT_ONCE && ctx.links.backlog_len() < AT_ONCE {
            let Some(stream) = self.streams.pop_front() else { break };
            self.told_streams += 1;
            ctx.stats.retold_total += 1;
            let id = ConversationId::from_u128(stream.0);
            if id.kind() == KeyKind::User {
                let user = UserKey::from_u128(stream.0);
                ctx.read(Query::Replay { stream }, Reading::ReplayMailbox(user));
                self.reading += 1;
            } else if let Some(told) = conversations.replay(ctx, id) {
                self.unconfirmed += told;
            } else {
                self.reading += 1;
            }
        }
        let done = self.streams.is_empty() && self.reading == 0 && self.unconfirmed == 0;
        if done && !self.announced {
            self.announced = true;
            ctx.links.announce(true, false);
            let me = ctx.links.me();
            self.heard.insert(me);
            ctx.reports.push(Report::Retold { shard: me, streams: self.told_streams });
        }
        self.seal(ctx);
    }

    fn seal(&mut self, ctx: &mut Context) {
        let all = self.heard.len() == usize::from(ctx.links.shards());
        let custodian = ctx.links.me() == ShardId(0);
        match self.state {
            OldSegments::Telling if all && custodian => {
                self.state = OldSegments::Sealing;
                ctx.store.seal_old();
            }
            OldSegments::Told => {
                self.state = OldSegments::Sealing;
                ctx.store.await_old_sealed();
            }
            OldSegments::Telling | OldSegments::Sealing | OldSegments::Sealed => {}
        }
    }

    /// A stream's part was told: so many messages.
    pub(crate) fn told(&mut self, messages: u64) {
        self.reading -= 1;
        self.unconfirmed += messages;
    }

    /// So many of them are confirmed.
    pub(crate) fn settled(&mut self, number: u32) {
        self.unconfirmed = self.unconfirmed.checked_sub(number.into()).expect("told before");
    }

    /// Another shard's note.
    pub(crate) fn heard(&mut self, from: ShardId, note: &Settle) {
        if note.retold {
            self.heard.insert(from);
        }
        if note.old_sealed && self.state == OldSegments::Telling {
            self.state = OldSegments::Told;
        }
    }

    /// The old segments are sealed here.
    pub(crate) fn sealed(&mut self, links: &mut Links) {
        if self.state == OldSegments::Sealing {
            self.state = OldSegments::Sealed;
            if links.me() == ShardId(0) {
                links.announce(true, true);
            }
        }
    }
}
