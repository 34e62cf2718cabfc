//! Channels: membership is the entry in the member's list, and requests to a channel go through it.
//!
//! Joining is asked for by a record, told to the channel, and an entry when the channel confirms.

use super::records::InChannel;
use super::{Answer, Asker, Mailboxes, records};
use crate::shard::context::{Context, Effect};
use crate::shard::conversation::unknown_conversation;
use crate::shard::links::{Cause, Owed};
use crate::shard::loading;
use crate::shard::message::{ChannelConfirmed, ChannelTold, ToConversation};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, KeyKind, UserKey};
use roost_protocol::wire::ErrorCode;

/// Channels that a user may be on the way into.
const JOINING_MAX: usize = 64;
/// About how long after a refusal for want of room it is tried again.
const BUSY_MS: u32 = 500;

impl Mailboxes {
    pub(super) fn join_channel(
        &mut self,
        ctx: &mut Context,
        asker: Asker,
        channel: ConversationId,
        leave: bool,
    ) -> Result<Answer, Refusal> {
        let user = asker.user;
        if channel.kind() != KeyKind::Channel {
            return Err(unknown_conversation());
        }
        let Some((_, entries)) = self.cells.active(user) else {
            return Err(super::gone_meanwhile());
        };
        let is_in = entries.get(channel).map(|entry| !entry.row.has_left());
        let asked = entries.profile.joining.get(&channel).copied();
        match (leave, is_in, asked) {
            (false, Some(true), _) | (true, Some(false), None) => return Ok(Answer::DONE),
            (true, None, None) => return Err(unknown_conversation()),
            (false, _, Some(number)) => {
                // It was asked before, and nobody knows whether it arrived.
                self.unconfirmed.wait(ctx, asker, channel, number)?;
                let end = ctx.log_end();
                let message = told(user, channel, number, true).into();
                let to = ctx.home_of_conversation(channel);
                ctx.park(end, Effect::Tell { to, message, owed: Owed::Nothing }, asker.cause);
                return Ok(Answer::Later);
            }
            (false, _, None) => {
                let most = ctx.limits.conversations_per_user_max as usize;
                if is_in.is_none() && entries.list.len() >= most {
                    let text = "the user has as many conversations as can be";
                    return Err(Refusal::new(ErrorCode::ErrorTooLarge, text));
                }
                if entries.profile.joining.len() >= JOINING_MAX {
                    return Err(loading::busy(ctx, BUSY_MS));
                }
            }
            (true, _, _) => {}
        }
        let body = records::encode_channel(channel, !leave);
        let by = self.commit(ctx, user, records::KIND_CHANNEL, &body.bytes)?;
        ctx.store.owe(by.segment, 1);
        let message = told(user, channel, by.number, !leave).into();
        let to = ctx.home_of_conversation(channel);
        let effect = Effect::Tell { to, message, owed: Owed::Segment(by.segment) };
        ctx.park(by.position, effect, asker.cause);
        if leave {
            self.push_entry(ctx, user, channel, Some(asker.edge), asker.cause);
        }
        self.unconfirmed.wait(ctx, asker, channel, by.number)?;
        Ok(Answer::Later)
    }

    /// A channel let the user in or go, or there is none.
    pub(super) fn channel_confirmed(
        &mut self,
        ctx: &mut Context,
        confirmed: ChannelConfirmed,
        cause: Cause,
    ) {
        let ChannelConfirmed { user, conversation: channel, number, exists, head } = confirmed;
        let Some((_, entries)) = self.cells.active(user) else { return };
        if entries.profile.joining.get(&channel) != Some(&number) {
            return self.answer_confirmed(ctx, user, channel, number);
        }
        let (message_id, _) = ctx.message_ids.next(ctx.now);
        let body = InChannel { channel, exists, head, message_id }.encode();
        let written = self.commit(ctx, user, records::KIND_IN_CHANNEL, &body.bytes);
        let refusal = match written {
            Ok(_) if exists => {
                self.push_entry(ctx, user, channel, None, cause);
                return self.answer_confirmed(ctx, user, channel, number);
            }
            Ok(_) => unknown_conversation(),
            // It is asked for again, and told again then.
            Err(refusal) => refusal,
        };
        for waiting in self.unconfirmed.take(user, channel, number) {
            ctx.refuse(waiting.edge, waiting.request, &refusal);
        }
    }

    /// Passes something on to a channel that the user is in.
    pub(super) fn for_channel(&self, ctx: &mut Context, asker: Asker, message: ToConversation) {
        let channel = message.conversation();
        let entries = self.cells.entries(asker.user);
        let entry = entries.and_then(|entries| entries.get(channel));
        let is_in =
            channel.kind() == KeyKind::Channel && entry.is_some_and(|entry| !entry.row.has_left());
        if is_in {
            let to = ctx.home_of_conversation(channel);
            return ctx.links.tell(to, message, Owed::Nothing, asker.cause);
        }
        if asker.request.id != 0 {
            ctx.refuse(asker.edge, asker.request, &unknown_conversation());
        }
    }
}

/// What a channel is told.
pub(super) fn told(
    user: UserKey,
    conversation: ConversationId,
    number: u64,
    joined: bool,
) -> ToConversation {
    ToConversation::ChannelTold(ChannelTold { conversation, user, number, joined })
}
