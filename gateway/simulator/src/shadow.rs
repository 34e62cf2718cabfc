//! What must come true, predicted: what people wrote and read, what they asked for, and what their
//! devices were told became of it.

use crate::register::Register;
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, Sequence};
use roost_protocol::request::{Content, CreateGroup};
use roost_protocol::wire::ErrorCode;
use std::collections::BTreeMap;

/// One thing that somebody wrote.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) device: usize,
    pub(crate) user: usize,
    pub(crate) to: ConversationId,
    pub(crate) content: Content,
    pub(crate) reply_to: Sequence,
    /// Where a device was told that it is.
    pub(crate) accepted: Option<(ConversationId, u64)>,
    /// For good.
    pub(crate) refused: Option<ErrorCode>,
    /// It was refused, and the device may not know so any more.
    pub(crate) revived: bool,
    /// The life of the app it was said in.
    pub(crate) life: u32,
    /// The device had the conversation in its list.
    pub(crate) listed: bool,
    pub(crate) at_ns: u64,
}

impl Said {
    /// What was said, without the tag.
    pub(crate) fn text(&self) -> &str {
        let Content::Body(body) = &self.content else { return "" };
        let text = std::str::from_utf8(body).unwrap_or_default();
        text.split_once(':').map_or(text, |(_, text)| text)
    }
}

/// A group or channel that somebody asked for.
#[derive(Debug, Clone)]
pub(crate) struct Creation {
    pub(crate) creator: usize,
    pub(crate) asked: CreateGroup,
    /// A device was told that it is there.
    pub(crate) answered: bool,
}

/// See the module's comment. What was said is named by its place, the tag.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    pub(crate) said: Vec<Said>,
    /// The ids that devices gave to what they wrote.
    pub(crate) names: BTreeMap<u64, u64>,
    /// The furthest a person read: by (user, conversation).
    pub(crate) read: BTreeMap<(usize, ConversationId), u64>,
    /// The same of what no dying app can have forgotten: by (device, conversation).
    pub(crate) read_kept: BTreeMap<(usize, ConversationId), u64>,
    /// When a person first read something: by (user, conversation).
    pub(crate) first_read: BTreeMap<(usize, ConversationId), u64>,
    /// How far a person had seen a conversation when writing in it: by (user, conversation).
    pub(crate) seen: BTreeMap<(usize, ConversationId), u64>,
    pub(crate) groups: BTreeMap<ConversationId, Creation>,
    /// Who blocked whom: by (who, whom).
    pub(crate) blocks: BTreeMap<(usize, usize), Register<bool>>,
    /// By user: presence, contacts only, read receipts.
    pub(crate) privacy: BTreeMap<(usize, Privacy), Register<i32>>,
    /// By (user, conversation).
    pub(crate) settings: BTreeMap<(usize, ConversationId, Setting), Register<u64>>,
    /// Who follows which channel: by (user, channel).
    pub(crate) follows: BTreeMap<(usize, ConversationId), Register<bool>>,
    /// What a user deleted for themselves, and whether that was answered.
    pub(crate) hidden: BTreeMap<(usize, ConversationId), BTreeMap<u64, bool>>,
    /// Where somebody said that they type.
    pub(crate) typed: BTreeMap<(ConversationId, usize), u64>,
}

/// A privacy setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Privacy {
    Presence,
    ContactsOnly,
    ReadReceipts,
}

/// A setting of one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    Muted,
    Archived,
    Pinned,
}

impl Shadow {
    pub(crate) fn say(&mut self, said: Said) -> u64 {
        self.said.push(said);
        u64::try_from(self.said.len() - 1).unwrap_or(u64::MAX)
    }

    /// A person has seen a conversation up to here, and writes in it.
    pub(crate) fn note_seen(&mut self, user: usize, id: ConversationId, seq: u64) {
        let seen = self.seen.entry((user, id)).or_default();
        *seen = seq.max(*seen);
    }

    /// How far a person can have read a conversation, whatever tells so.
    pub(crate) fn read_at_most(&self, user: usize, id: ConversationId) -> u64 {
        let of = |map: &BTreeMap<(usize, ConversationId), u64>| {
            map.get(&(user, id)).copied().unwrap_or(0)
        };
        of(&self.read).max(of(&self.seen))
    }

    /// Whether a user may have deleted a record for themselves.
    pub(crate) fn may_hide(&self, user: usize, id: ConversationId, seq: u64) -> bool {
        self.hidden.get(&(user, id)).is_some_and(|seqs| seqs.contains_key(&seq))
    }

    /// Whether a user ever asked for this in the privacy settings.
    pub(crate) fn ever_private(&self, user: usize, which: Privacy, value: i32) -> bool {
        self.privacy.get(&(user, which)).is_some_and(|register| register.was_asked(value))
    }

    /// The tag of what is said next.
    pub(crate) fn next_tag(&self) -> u64 {
        u64::try_from(self.said.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn find(&self, tag: u64) -> Option<&Said> {
        self.said.get(usize::try_from(tag).ok()?)
    }

    pub(crate) fn find_mut(&mut self, tag: u64) -> Option<&mut Said> {
        self.said.get_mut(usize::try_from(tag).ok()?)
    }

    /// The tag that a body begins with.
    pub(crate) fn tag_of(body: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(body).ok()?;
        text.split_once(':')?.0.parse().ok()
    }

    /// A body that begins with a tag.
    pub(crate) fn body(tag: u64, text: &str) -> Bytes {
        Bytes::from(format!("{tag}:{text}").into_bytes())
    }
}
