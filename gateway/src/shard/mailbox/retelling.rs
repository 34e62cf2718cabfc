//! After a restart: what a mailbox's records owe is told again.

use super::cells::Body;
use super::records::BlockRecord;
use super::{Mailboxes, channels, records};
use crate::shard::context::Context;
use crate::shard::links::{Cause, Owed};
use crate::shard::message::{ReadTold, ToConversation};
use roost_protocol::ids::{ConversationId, UserKey};
use roost_storage_engine::StoredRecord;
use std::collections::BTreeMap;

/// What some records of a mailbox owe, the newest of each kind for each conversation.
#[derive(Debug, Default)]
pub(super) struct Debts {
    messages: BTreeMap<(u8, ConversationId), ToConversation>,
    /// The list of devices changed, or somebody wanted to know it: those that want to know it are
    /// known by the list only.
    versions: bool,
}

impl Debts {
    fn add(&mut self, user: UserKey, record: &StoredRecord) {
        match record.kind {
            records::KIND_READ | records::KIND_EARLY_READ => {
                let said = records::decode_read(record.kind, &record.body);
                if let Ok((conversation, said, private)) = said {
                    let (seq, uncounted) = (said.seq, said.uncounted);
                    let told = ReadTold { conversation, user, seq, uncounted, private };
                    // They only rise.
                    self.messages.insert((0, conversation), ToConversation::ReadTold(told));
                }
            }
            records::KIND_BLOCK => {
                if let Ok(block) = BlockRecord::decode(&record.body) {
                    let told = block.told(user, record.number);
                    self.messages.insert((1, told.conversation()), told);
                }
            }
            records::KIND_CHANNEL => {
                if let Ok((channel, joined)) = records::decode_channel(&record.body) {
                    let told = channels::told(user, channel, record.number, joined);
                    self.messages.insert((2, channel), told);
                }
            }
            records::KIND_DEVICE | records::KIND_SIGNED_OUT | records::KIND_VERSION_WANTED => {
                self.versions = true;
            }
            _ => {}
        }
    }
}

impl Mailboxes {
    /// The records of a mailbox in unsealed segments of earlier runs: what they owe is told again.
    /// Returns how many messages; nothing when the list must be read first.
    pub(crate) fn tell_again(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        stored: Option<&[StoredRecord]>,
    ) -> Option<u64> {
        let mut debts = Debts::default();
        for record in stored.unwrap_or_default() {
            debts.add(user, record);
        }
        let versions = debts.versions;
        let (is_there, is_coming) = match self.cells.get(user).as_deref().map(|m| &m.body) {
            Some(Body::Active(_) | Body::Corrupt) => (true, false),
            Some(Body::Loading(_)) => (false, true),
            Some(Body::Cold(_)) | None => (false, false),
        };
        if versions && !is_there {
            if !is_coming {
                self.load(ctx, user);
            }
            self.retelling.insert(user, debts);
            return None;
        }
        Some(self.tell_debts(ctx, user, debts))
    }

    /// Tells what records owe, the versions if the list is there. Gives how many messages.
    pub(super) fn tell_debts(&mut self, ctx: &mut Context, user: UserKey, debts: Debts) -> u64 {
        let told = debts.messages.len() as u64;
        for message in debts.messages.into_values() {
            let to = ctx.home_of_conversation(message.conversation());
            ctx.links.tell(to, message, Owed::Replay, Cause::NONE);
        }
        let versions = if debts.versions { self.tell_versions(ctx, user) } else { 0 };
        told + versions
    }
}
