//! The user's list as this device knows it: entries, what is unread, and what the answers to its
//! own questions say about them.

use crate::answer::Answer;
use crate::record::Change;
use crate::session::Session;
use crate::state::Conversation;
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, UserId};
use roost_protocol::wire::{self, client_frame::Body};

impl Session {
    /// The user's list, in the order of ids: what the last entries said, without the conversation's
    /// id in them.
    pub fn conversations(&self) -> impl Iterator<Item = (ConversationId, &wire::Entry)> {
        let all = self.state.conversations.iter();
        all.filter_map(|(id, held)| held.listed.as_deref().map(|entry| (*id, entry)))
    }

    /// The entry of a conversation, as the last one said, without the conversation's id in it.
    #[must_use]
    pub fn entry_of(&self, id: ConversationId) -> Option<&wire::Entry> {
        self.state.conversations.get(&id)?.listed.as_deref()
    }

    /// The direct conversation with a user, if it is known.
    #[must_use]
    pub fn conversation_with(&self, user: &UserId) -> Option<ConversationId> {
        self.state.users.get(user).copied()
    }

    /// How many messages of a conversation count as unread; none of a stranger's.
    #[must_use]
    pub fn unread(&self, id: ConversationId) -> u64 {
        self.state.conversations.get(&id).map_or(0, Conversation::unread)
    }

    /// Takes the entry of the list, and says what was held back for a stranger's.
    pub(crate) fn list(&mut self, id: ConversationId, entry: &wire::Entry) {
        let mut entry = wire::Entry { conversation: Bytes::new(), ..entry.clone() };
        let before = self.entry_of(id);
        // An entry that was on its way while this device wrote knows less: marks only rise.
        if let Some(before) = before.filter(|before| before.read > entry.read) {
            (entry.read, entry.read_uncounted) = (before.read, before.read_uncounted);
        }
        let accepted = before.is_some_and(|before| before.request) && !entry.request;
        if before != Some(&entry) {
            self.change(Change::Listed { conversation: id, entry });
        }
        if accepted {
            self.notices.accepted(id);
        }
    }

    fn relist(&mut self, id: &[u8], change: impl FnOnce(&mut wire::Entry)) {
        let Some(id) = ConversationId::from_slice(id) else { return };
        let Some(mut entry) = self.entry_of(id).cloned() else { return };
        change(&mut entry);
        self.list(id, &entry);
    }

    /// This device wrote a record after having seen up to `seen`: the server moves the mark, too.
    pub(crate) fn wrote(&mut self, id: ConversationId, seq: (u64, u64), seen: (u64, u64)) {
        let read = self.entry_of(id).map_or(0, |entry| entry.read);
        let known = seen.0.max(read);
        let mark = if known == seq.0.saturating_sub(1) { seq } else { seen };
        self.raise_mark(id, mark);
    }

    /// The user wrote a record on another device.
    pub(crate) fn wrote_elsewhere(&mut self, id: ConversationId, seq: u64, uncounted: u64) {
        let held = self.state.conversations.get(&id);
        let read = held.and_then(|held| held.listed.as_ref()).map_or(0, |entry| entry.read);
        if read == seq.saturating_sub(1) {
            self.raise_mark(id, (seq, uncounted));
        }
    }

    fn raise_mark(&mut self, id: ConversationId, (read, read_uncounted): (u64, u64)) {
        if self.entry_of(id).is_some_and(|entry| entry.read < read) {
            self.relist(&id.to_bytes(), |entry| {
                (entry.read, entry.read_uncounted) = (read, read_uncounted);
            });
        }
    }

    /// What an answer says about the list; the server pushes nothing to the device that asked.
    pub(crate) fn learn(&mut self, asked: &Body, answer: &Answer) {
        match (asked, answer) {
            (Body::SetConversation(set), Answer::Done) => {
                let set = set.clone();
                self.relist(&set.conversation.clone(), |entry| {
                    entry.muted_until_ms = set.muted_until_ms.unwrap_or(entry.muted_until_ms);
                    entry.archived = set.archived.unwrap_or(entry.archived);
                    entry.pinned = set.pinned.unwrap_or(entry.pinned);
                });
            }
            (Body::DeleteForMe(delete), Answer::Done) => {
                let seqs = delete.seqs.clone();
                self.relist(&delete.conversation.clone(), |entry| {
                    entry.hidden.extend(seqs);
                    entry.hidden.sort_unstable();
                    entry.hidden.dedup();
                });
            }
            (Body::AcceptRequest(accept), Answer::Done) => {
                self.relist(&accept.conversation.clone(), |entry| entry.request = false);
            }
            (Body::JoinChannel(join), Answer::Done) => {
                let left = join.leave;
                self.relist(&join.conversation.clone(), |entry| entry.left = left);
                self.sync.wanted = true;
            }
            (Body::CreateGroup(_), Answer::GroupCreated { conversation, head }) => {
                self.heard_of(*conversation, head.0);
                self.sync.expect(*conversation, head.0);
            }
            (_, _) => {}
        }
    }
}

impl Conversation {
    /// From somebody this user has not accepted.
    pub(crate) fn is_request(&self) -> bool {
        self.listed.as_ref().is_some_and(|entry| entry.request)
    }

    /// This user deleted it for themselves.
    pub(crate) fn is_hidden(&self, seq: u64) -> bool {
        self.listed.as_ref().is_some_and(|entry| entry.hidden.binary_search(&seq).is_ok())
    }

    fn unread(&self) -> u64 {
        let Some(entry) = self.listed.as_ref().filter(|entry| !entry.request) else { return 0 };
        let top = self.held.top();
        let head = if top > entry.head {
            (top, self.steps.at(top))
        } else {
            (entry.head, entry.head_uncounted)
        };
        let read = if self.read > entry.read {
            (self.read, self.read_uncounted)
        } else {
            (entry.read, entry.read_uncounted)
        };
        counted(head).saturating_sub(counted(read))
    }
}

/// How many of the records up to one count as unread.
const fn counted((seq, uncounted): (u64, u64)) -> u64 {
    seq.saturating_sub(uncounted)
}
