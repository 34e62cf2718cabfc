//! The user's list of conversations as the user arranges it, and who may learn what.

use super::slot::SeenBy;
use super::{Answer, Asker, Mailboxes, pushes, records};
use crate::ids::EdgeAddress;
use crate::shard::context::{Context, Effect};
use crate::shard::conversation::unknown_conversation;
use crate::shard::links::Cause;
use crate::shard::message::ToEdge;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, MessageId, Sequence, UserKey};
use roost_protocol::limits::REPLY_MAX_BYTES;
use roost_protocol::request::{ConversationSettings, SetPrivacy};
use roost_protocol::wire::{self, ErrorCode, server_frame};

/// Bytes of entries in one page: what a reply may have, less its frame.
pub(super) const PAGE_BYTES: usize = REPLY_MAX_BYTES - 1024;
/// Seqs that a user may hide in all conversations together: a mailbox is stored as one record.
const HIDDEN_MAX: usize = 32_768;

impl Mailboxes {
    pub(super) fn list_conversations(&self, asker: Asker, before: MessageId, limit: u32) -> Answer {
        let mut list = wire::ConversationList::default();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
        if let Some(entries) = self.cells.entries(asker.user) {
            let (found, more) = entries.by_activity(asker.user, before, limit, PAGE_BYTES);
            list.entries = found.iter().map(|entry| entry.to_wire(asker.user)).collect();
            list.more = more;
        }
        Answer::Now(server_frame::Body::ConversationList(list))
    }

    pub(super) fn set_conversation(
        &mut self,
        ctx: &mut Context,
        asker: Asker,
        conversation: ConversationId,
        settings: ConversationSettings,
    ) -> Result<Answer, Refusal> {
        let Some((_, entries)) = self.cells.active(asker.user) else {
            return Err(super::gone_meanwhile());
        };
        let entry = entries.get(conversation).ok_or(unknown_conversation())?;
        let known = (entry.muted_until_ms, entry.archived, entry.pinned);
        let wanted = (
            settings.muted_until_ms.unwrap_or(known.0),
            settings.archived.unwrap_or(known.1),
            settings.pinned.unwrap_or(known.2),
        );
        if wanted != known {
            let (muted, archived, pinned) = wanted;
            let body = records::encode_settings(&entry.row, asker.user, muted, archived, pinned);
            self.commit(ctx, asker.user, records::KIND_SETTINGS, &body.bytes)?;
            self.push_entry(ctx, asker.user, conversation, Some(asker.edge), asker.cause);
        }
        Ok(Answer::DONE)
    }

    pub(super) fn delete_for_me(
        &mut self,
        ctx: &mut Context,
        asker: Asker,
        conversation: ConversationId,
        seqs: &[Sequence],
    ) -> Result<Answer, Refusal> {
        let Some((_, entries)) = self.cells.active(asker.user) else {
            return Err(super::gone_meanwhile());
        };
        let entry = entries.get(conversation).ok_or(unknown_conversation())?;
        let mut new: Vec<Sequence> = seqs.to_vec();
        new.retain(|seq| entry.hidden.binary_search(seq).is_err());
        new.sort_unstable();
        new.dedup();
        if new.is_empty() {
            return Ok(Answer::DONE);
        }
        let most = ctx.limits.hidden_per_conversation_max as usize;
        if entry.hidden.len() + new.len() > most || entries.hidden + new.len() > HIDDEN_MAX {
            let text = "too many messages are hidden; no more can be";
            return Err(Refusal::new(ErrorCode::ErrorTooLarge, text));
        }
        let body = records::encode_hidden(&entry.row, asker.user, &new);
        self.commit(ctx, asker.user, records::KIND_HIDDEN, &body.bytes)?;
        self.push_entry(ctx, asker.user, conversation, Some(asker.edge), asker.cause);
        Ok(Answer::DONE)
    }

    pub(super) fn accept_request(
        &mut self,
        ctx: &mut Context,
        asker: Asker,
        conversation: ConversationId,
    ) -> Result<Answer, Refusal> {
        let Some((_, entries)) = self.cells.active(asker.user) else {
            return Err(super::gone_meanwhile());
        };
        let entry = entries.get(conversation).ok_or(unknown_conversation())?;
        if entry.is_request() {
            let body = records::about(&entry.row, asker.user, |_| {});
            self.commit(ctx, asker.user, records::KIND_ACCEPTED, &body.bytes)?;
            self.push_entry(ctx, asker.user, conversation, Some(asker.edge), asker.cause);
        }
        Ok(Answer::DONE)
    }

    pub(super) fn set_privacy(
        &mut self,
        ctx: &mut Context,
        asker: Asker,
        settings: SetPrivacy,
    ) -> Result<Answer, Refusal> {
        let Some((slot, _)) = self.cells.active(asker.user) else {
            return Err(super::gone_meanwhile());
        };
        let mut privacy = slot.privacy;
        privacy.presence = settings.presence.map_or(privacy.presence, SeenBy::from);
        privacy.contacts_only = settings.contacts_only.unwrap_or(privacy.contacts_only);
        privacy.read_receipts = settings.read_receipts.unwrap_or(privacy.read_receipts);
        if privacy != slot.privacy {
            let body = records::encode_privacy(privacy);
            self.commit(ctx, asker.user, records::KIND_PRIVACY, &body.bytes)?;
            self.hide_from_watchers(ctx, asker.user);
        }
        Ok(Answer::DONE)
    }

    /// Tells the user's connected devices, but for one, how an entry is now.
    pub(super) fn push_entry(
        &self,
        ctx: &mut Context,
        user: UserKey,
        conversation: ConversationId,
        but: Option<EdgeAddress>,
        cause: Cause,
    ) {
        let edges = self.main_edges(user, but);
        if edges.is_empty() {
            return;
        }
        let Some(entries) = self.cells.entries(user) else { return };
        let Some(entry) = entries.get(conversation) else { return };
        let changed = wire::EntryChanged { entries: vec![entry.to_wire(user)] };
        let frame = pushes::frame(server_frame::Body::EntryChanged(changed));
        let end = ctx.log_end();
        for edge in edges {
            let what = ToEdge::Push(frame.clone());
            ctx.park(end, Effect::ToEdge { edge, what }, cause);
        }
    }
}
