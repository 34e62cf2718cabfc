//! The version of a user's list of devices: told to the conversations that encrypt for them.
//!
//! Whoever has many conversations has many to tell, so it is done from a list, in steps, never
//! while something is handled. What is told is owed by the record that changed the list: it is told
//! again after a crash until it is durable over there.

use super::{Committed, Mailboxes, records};
use crate::ids::EdgeAddress;
use crate::shard::context::Context;
use crate::shard::links::{Cause, Owed};
use crate::shard::loading;
use crate::shard::message::{ToConversation, VersionTold, VersionWanted};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, UserKey};
use roost_storage_engine::Position;
use std::collections::VecDeque;

/// Conversations on the list; past it the list of devices does not change until there is room. One
/// user more fits in any case.
const TELLINGS_MAX: usize = 1 << 18;
/// Conversations without an entry that a mailbox remembers: they asked before anything was said.
const WANTED_MAX: usize = 256;
/// Told in one step.
const STEP: usize = 64;
/// Messages that may wait meanwhile.
const BACKLOG_MAX: usize = 32;
/// About how long after a refusal for want of room it is tried again.
const BUSY_MS: u32 = 500;

/// A version to be told.
#[derive(Debug)]
struct Telling {
    user: UserKey,
    version: u64,
    to: Vec<ConversationId>,
    owed: Owed,
    /// When this is durable.
    after: Position,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Versions {
    tellings: VecDeque<Telling>,
    conversations: usize,
}

impl Versions {
    /// Whether a list of devices may change.
    pub(super) fn check_room(&self, ctx: &mut Context) -> Result<(), Refusal> {
        if self.conversations < TELLINGS_MAX { Ok(()) } else { Err(loading::busy(ctx, BUSY_MS)) }
    }

    fn add(&mut self, telling: Telling) {
        self.conversations += telling.to.len();
        self.tellings.push_back(telling);
    }
}

impl Mailboxes {
    /// The list of a user's devices changed by this record: tells the user's other devices, and the
    /// conversations that want to know.
    pub(super) fn version_changed(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        by: Committed,
        but: Option<EdgeAddress>,
        cause: Cause,
    ) {
        self.push_devices(ctx, user, but, cause);
        let to = self.wanting(user);
        let Some((slot, _)) = self.cells.active(user) else { return };
        let Ok(number) = u32::try_from(to.len()) else { return };
        if number > 0 {
            ctx.store.owe(by.segment, number);
            let (version, owed) = (slot.version.into(), Owed::Segment(by.segment));
            self.versions.add(Telling { user, version, to, owed, after: by.position });
        }
    }

    /// The conversations that want to know.
    fn wanting(&mut self, user: UserKey) -> Vec<ConversationId> {
        let Some((_, entries)) = self.cells.active(user) else { return Vec::new() };
        let listed = entries.list.iter().filter(|entry| entry.wants_version);
        let listed = listed.map(|entry| entry.row.conversation);
        listed.chain(entries.profile.versions_wanted.iter().copied()).collect()
    }

    /// A direct conversation wants to know, now and at each change.
    pub(super) fn version_wanted(&mut self, ctx: &mut Context, wanted: VersionWanted) {
        let VersionWanted { user, conversation } = wanted;
        let Some((_, entries)) = self.cells.active(user) else { return };
        let known = match entries.get(conversation) {
            Some(entry) => entry.wants_version,
            None => entries.profile.versions_wanted.contains(&conversation),
        };
        let entry = entries.find(conversation).is_some();
        let room = entry || known || entries.profile.versions_wanted.len() < WANTED_MAX;
        // Whoever is not told asks again when it must know.
        if !room || self.versions.check_room(ctx).is_err() {
            return;
        }
        let (mut owed, mut after) = (Owed::Nothing, ctx.log_end());
        if !known {
            let body = records::encode_conversation(conversation);
            let kind = records::KIND_VERSION_WANTED;
            let Ok(by) = self.commit(ctx, user, kind, &body.bytes) else { return };
            ctx.store.owe(by.segment, 1);
            (owed, after) = (Owed::Segment(by.segment), by.position);
        }
        let Some((slot, _)) = self.cells.active(user) else { return };
        let version = slot.version.into();
        self.versions.add(Telling { user, version, to: vec![conversation], owed, after });
    }

    /// Tells again, after a restart, everybody who wants to know. Gives how many.
    pub(super) fn tell_versions(&mut self, ctx: &Context, user: UserKey) -> u64 {
        let to = self.wanting(user);
        let Some((slot, _)) = self.cells.active(user) else { return 0 };
        let told = to.len() as u64;
        let (version, after) = (slot.version.into(), ctx.log_end());
        self.versions.add(Telling { user, version, to, owed: Owed::Replay, after });
        told
    }

    /// Whether the next step can be taken at once.
    pub(crate) fn has_tellings(&self, ctx: &Context) -> bool {
        let next = self.versions.tellings.front();
        next.is_some_and(|telling| telling.after <= ctx.store.durable())
            && ctx.links.backlog_len() < BACKLOG_MAX
    }

    /// Tells a few.
    pub(crate) fn step_tellings(&mut self, ctx: &mut Context) {
        for _ in 0..STEP {
            if !self.has_tellings(ctx) {
                return;
            }
            let Some(telling) = self.versions.tellings.front_mut() else { return };
            let Some(conversation) = telling.to.pop() else {
                self.versions.tellings.pop_front();
                continue;
            };
            self.versions.conversations -= 1;
            let (user, version, owed) = (telling.user, telling.version, telling.owed);
            let told = VersionTold { conversation, user, version };
            let to = ctx.home_of_conversation(conversation);
            ctx.links.tell(to, ToConversation::VersionTold(told), owed, Cause::NONE);
        }
    }
}
