//! What only channels have: how many follow, and on which shards somebody looks. Followers are not
//! members: they stand in their mailboxes, through which everything they ask comes.

use super::{Conversation, confirm};
use crate::ids::ShardId;
use crate::shard::context::{Context, Effect};
use crate::shard::links::{Cause, Owed, Taken};
use crate::shard::message::{
    ChannelConfirmed, ChannelTold, ConversationAsk, Hint, Point, ToEdge, ToMailbox,
};
use bytes::Bytes;
use roost_protocol::encode;
use roost_protocol::wire::{self, server_frame};

/// News of a channel are told to a shard at most once in this time.
const NEWS_INTERVAL_MS: u64 = 1_000;
/// How long a shard counts as looking after one of its connections said so.
const LOOKING_MS: u64 = 300_000;

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// About how many follow: after a crash some may be counted twice, or not at all.
    pub(crate) followers: u64,
    /// Shards with connections that look, each until when (monotonic ms).
    looking: Vec<(ShardId, u64)>,
    /// When news may be told again (monotonic ms).
    next_news_ms: u64,
    /// There is news that was not told.
    news_due: bool,
}

impl Channel {
    pub(crate) const fn is_settled(&self) -> bool {
        !self.news_due
    }

    fn look(&mut self, shard: ShardId, until_ms: u64) {
        match self.looking.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, until)) => *until = until_ms,
            None => self.looking.push((shard, until_ms)),
        }
    }
}

impl Conversation {
    fn channel_mut(&mut self) -> Option<&mut Channel> {
        self.group.as_mut().and_then(|group| group.channel.as_mut())
    }

    /// A channel that nobody tends any more is over.
    pub(crate) fn is_dissolved(&self) -> bool {
        !self.is_direct() && self.members.present() == 0
    }

    /// A mailbox tells that its user came, or went. Only a count: it is not written.
    pub(crate) fn channel_told(
        &mut self,
        ctx: &mut Context,
        told: ChannelTold,
        taken: Option<Taken>,
        cause: Cause,
    ) {
        let exists = !self.is_dissolved();
        let head = self.head;
        if let Some(channel) = self.channel_mut() {
            let followers = &mut channel.followers;
            *followers = if told.joined {
                *followers + u64::from(exists)
            } else {
                followers.saturating_sub(1)
            };
            // What is not in a snapshot would be forgotten at eviction.
            self.snapshot_number = 0;
        }
        let exists = exists && self.is_channel();
        confirm_channel(ctx, told, exists, head, cause);
        confirm(ctx, taken, cause);
    }

    /// A channel is on somebody's screen, or not any more. The shard is told of news for a while;
    /// which of its connections look it knows itself.
    pub(crate) fn watch_channel(&mut self, ctx: &mut Context, ask: &ConversationAsk, stop: bool) {
        let until_ms = ctx.now_ms() + LOOKING_MS;
        let Some(channel) = self.channel_mut() else { return };
        if !stop {
            channel.look(ask.edge.shard, until_ms);
        }
        let channel = self.id;
        ctx.links.tell_edge(ask.edge, ToEdge::Watching { channel, stop });
    }

    /// There is a new record: those who look are told at once, or when the interval is over.
    pub(crate) fn note_news(&mut self, ctx: &mut Context, cause: Cause) {
        let (now_ms, id) = (ctx.now_ms(), self.id);
        let Some(channel) = self.channel_mut() else { return };
        if now_ms >= channel.next_news_ms {
            return self.tell_news(ctx, cause);
        }
        if !channel.news_due {
            channel.news_due = true;
            ctx.timers.at(channel.next_news_ms, id);
        }
    }

    /// The interval may be over.
    pub(crate) fn news_due(&mut self, ctx: &mut Context) {
        let now_ms = ctx.now_ms();
        let due = |channel: &mut Channel| channel.news_due && now_ms >= channel.next_news_ms;
        if self.channel_mut().is_some_and(due) {
            self.tell_news(ctx, Cause::NONE);
        }
    }

    fn tell_news(&mut self, ctx: &mut Context, cause: Cause) {
        let (now_ms, id, head) = (ctx.now_ms(), self.id, self.head);
        let Some(channel) = self.channel_mut() else { return };
        channel.news_due = false;
        channel.next_news_ms = now_ms + NEWS_INTERVAL_MS;
        channel.looking.retain(|(_, until_ms)| *until_ms > now_ms);
        if channel.looking.is_empty() {
            return;
        }
        ctx.stats.channel_news_total += 1;
        let news =
            wire::News { conversation: id.to_wire(), head: head.seq.0, uncounted: head.uncounted };
        let mut frame = Vec::new();
        encode::server(0, server_frame::Body::News(news), &mut frame);
        let frame = Bytes::from(frame);
        let shards: Vec<ShardId> = channel.looking.iter().map(|(shard, _)| *shard).collect();
        let end = ctx.log_end();
        for to in shards {
            let hint = Hint::News { channel: id, frame: frame.clone() };
            ctx.park(end, Effect::Hint { to, hint }, cause);
        }
    }
}

/// What a channel answers to a mailbox, or nobody where there is none.
pub(crate) fn confirm_channel(
    ctx: &mut Context,
    told: ChannelTold,
    exists: bool,
    head: Point,
    cause: Cause,
) {
    let message = ToMailbox::ChannelConfirmed(ChannelConfirmed {
        user: told.user,
        conversation: told.conversation,
        number: told.number,
        exists,
        head,
    });
    let to = ctx.home_of_user(told.user);
    let effect = Effect::Tell { to, message: message.into(), owed: Owed::Nothing };
    let end = ctx.log_end();
    ctx.park(end, effect, cause);
}
