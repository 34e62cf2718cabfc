//! Whom the user does not want to hear of. The mailbox decides, the direct conversation of the two
//! is told and confirms: only then the user is answered.

use super::profile::Block;
use super::records::BlockRecord;
use super::slot::Privacy;
use super::{Answer, Asker, Mailboxes, records};
use crate::ids::EdgeAddress;
use crate::shard::context::{Context, Effect};
use crate::shard::links::{Cause, Owed};
use crate::shard::loading;
use crate::shard::message::{BlockConfirmed, BlockTold, RequestTag, ToConversation};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, UserId, UserKey};
use roost_protocol::wire::{self, ErrorCode, server_frame};
use std::collections::BTreeMap;

/// Requests that wait for one confirmation.
const WAITING_MAX: usize = 16;
/// About how long after a refusal for want of room it is tried again.
const BUSY_MS: u32 = 500;

/// A request that is answered when a conversation confirms.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitingRequest {
    pub(super) edge: EdgeAddress,
    pub(super) request: RequestTag,
    number: u64,
}

/// Requests that wait for a conversation to confirm what a record of the mailbox says. Bounded by
/// the requests that connections may have unanswered.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed(BTreeMap<(UserKey, ConversationId), Vec<WaitingRequest>>);

impl Unconfirmed {
    /// Answers a request when a record of this number is confirmed.
    pub(super) fn wait(
        &mut self,
        ctx: &mut Context,
        asker: Asker,
        conversation: ConversationId,
        number: u64,
    ) -> Result<(), Refusal> {
        let waiting = self.0.entry((asker.user, conversation)).or_default();
        if waiting.len() >= WAITING_MAX {
            return Err(loading::busy(ctx, BUSY_MS));
        }
        waiting.push(WaitingRequest { edge: asker.edge, request: asker.request, number });
        Ok(())
    }

    /// Those that wait for a record up to this number.
    pub(super) fn take(
        &mut self,
        user: UserKey,
        conversation: ConversationId,
        number: u64,
    ) -> Vec<WaitingRequest> {
        let Some(waiting) = self.0.get_mut(&(user, conversation)) else { return Vec::new() };
        let (due, left) = waiting.iter().partition(|waiting| waiting.number <= number);
        *waiting = left;
        if waiting.is_empty() {
            self.0.remove(&(user, conversation));
        }
        due
    }
}

impl Mailboxes {
    pub(super) fn block(
        &mut self,
        ctx: &mut Context,
        asker: Asker,
        peer: (UserKey, UserId),
        unblock: bool,
    ) -> Result<Answer, Refusal> {
        let (user, blocked) = (asker.user, !unblock);
        if peer.0 == user {
            let text = "nobody can block themselves";
            return Err(Refusal::new(ErrorCode::ErrorInvalidRequest, text));
        }
        let Some((_, entries)) = self.cells.active(user) else {
            return Err(super::gone_meanwhile());
        };
        let own = entries.profile.user_id.clone().ok_or(super::gone_meanwhile())?;
        let conversation = ConversationId::direct(user, peer.0);
        let known = entries.profile.blocks.get(&peer.0).cloned();
        let told = BlockRecord { own, peer, blocked };
        match known {
            None if unblock => return Ok(Answer::DONE),
            Some(known) if known.blocked == blocked && known.confirmed => return Ok(Answer::DONE),
            Some(known) if known.blocked == blocked => {
                // It was asked before, and nobody knows whether it arrived.
                self.unconfirmed.wait(ctx, asker, conversation, known.number)?;
                let message = told.told(user, known.number);
                let to = ctx.home_of_conversation(conversation);
                let (end, owed) = (ctx.log_end(), Owed::Nothing);
                let effect = Effect::Tell { to, message: message.into(), owed };
                ctx.park(end, effect, asker.cause);
                return Ok(Answer::Later);
            }
            Some(_) => {}
            None => self.make_room_for_block(ctx, user)?,
        }
        let by = self.commit(ctx, user, records::KIND_BLOCK, &told.encode().bytes)?;
        if let Some((slot, entries)) = self.cells.active(user) {
            slot.blocks_some = entries.profile.blocks_some();
        }
        ctx.store.owe(by.segment, 1);
        let message = told.told(user, by.number).into();
        let to = ctx.home_of_conversation(conversation);
        let effect = Effect::Tell { to, message, owed: Owed::Segment(by.segment) };
        ctx.park(by.position, effect, asker.cause);
        self.hide_from_watchers(ctx, user);
        self.unconfirmed.wait(ctx, asker, conversation, by.number)?;
        Ok(Answer::Later)
    }

    /// Refuses one block too many. Ends of blocks that nobody confirmed make room: they are told
    /// until they are known over there.
    fn make_room_for_block(&mut self, ctx: &Context, user: UserKey) -> Result<(), Refusal> {
        let Some((_, entries)) = self.cells.active(user) else {
            return Err(super::gone_meanwhile());
        };
        let blocks = &mut entries.profile.blocks;
        if blocks.len() >= ctx.limits.blocks_max as usize {
            let ended = blocks.iter().find(|(_, block)| !block.blocked);
            let text = "the user blocks as many as can be";
            let refusal = Refusal::new(ErrorCode::ErrorTooLarge, text);
            let ended = ended.map(|(key, _)| *key).ok_or(refusal)?;
            blocks.remove(&ended);
        }
        Ok(())
    }

    /// A conversation knows of a block, or of its end.
    pub(super) fn block_confirmed(&mut self, ctx: &mut Context, confirmed: BlockConfirmed) {
        let BlockConfirmed { user, conversation, number } = confirmed;
        if let Some((_, entries)) = self.cells.active(user) {
            let blocks = &mut entries.profile.blocks;
            let is_it = |block: &Block| block.number == number;
            let key = blocks.iter().find(|(_, block)| is_it(block)).map(|(key, _)| *key);
            if let Some(block) = key.and_then(|key| blocks.get_mut(&key)) {
                block.confirmed = true;
            }
            // What is over and known needs no place.
            blocks.retain(|_, block| block.blocked || !block.confirmed);
        }
        self.answer_confirmed(ctx, user, conversation, number);
    }

    /// Answers those who waited for a confirmation.
    pub(super) fn answer_confirmed(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        conversation: ConversationId,
        number: u64,
    ) {
        for waiting in self.unconfirmed.take(user, conversation, number) {
            let (edge, request) = (waiting.edge, waiting.request);
            let asker = Asker { edge, request, user, cause: Cause::NONE };
            asker.answer(ctx, server_frame::Body::Done(wire::Done {}));
        }
    }

    pub(super) fn list_blocks(&self, asker: Asker, after: Option<&UserId>, limit: u32) -> Answer {
        let mut list = wire::BlockList::default();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
        if let Some(mailbox) = self.cells.get(asker.user) {
            let Privacy { presence, contacts_only, read_receipts } = mailbox.slot.privacy;
            list.privacy = Some(wire::SetPrivacy {
                presence: Some(wire::Audience::from(presence).into()),
                contacts_only: Some(contacts_only),
                read_receipts: Some(read_receipts),
            });
        }
        if let Some(entries) = self.cells.entries(asker.user) {
            let blocks = entries.profile.blocks.values().filter(|block| block.blocked);
            let ids = blocks.map(|block| &block.id).filter(|id| after.is_none_or(|a| *id > a));
            let mut ids: Vec<&UserId> = ids.collect();
            ids.sort_unstable();
            list.more = ids.len() > limit;
            list.users = ids.iter().take(limit).map(|id| id.as_str().to_owned()).collect();
        }
        Answer::Now(server_frame::Body::BlockList(list))
    }
}

impl BlockRecord {
    /// What the conversation is told.
    pub(super) fn told(&self, user: UserKey, number: u64) -> ToConversation {
        let mut users = [(user, self.own.clone()), self.peer.clone()];
        users.sort();
        ToConversation::BlockTold(BlockTold {
            conversation: ConversationId::direct(user, self.peer.0),
            users: Box::new(users),
            by: user,
            number,
            blocked: self.blocked,
        })
    }
}
