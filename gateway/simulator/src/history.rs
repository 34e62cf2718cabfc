//! What each device saw.

use crate::record::Record;
use roost_protocol::ids::{ConversationId, KeyKind};
use std::collections::{BTreeMap, BTreeSet};

/// Something that a device was shown: it must stay true for ever.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fact {
    /// Which of the things said it is, as far as known.
    pub(crate) tag: Option<u64>,
    pub(crate) message_id: u64,
    /// What it says, once somebody saw more than its place.
    pub(crate) record: Option<Record>,
    /// Which user wrote it, where that is known without reading what lies before.
    pub(crate) author: Option<usize>,
    /// Which device saw it first, in words.
    pub(crate) by: String,
}

/// How far somebody's ticks are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ticks {
    pub(crate) delivered: u64,
    pub(crate) read: u64,
}

/// A device of a group is told that all have received, or read, everything up to a record.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) user: usize,
    pub(crate) conversation: ConversationId,
    pub(crate) up_to: u64,
    pub(crate) read: bool,
    /// The users of whom it was true then.
    pub(crate) true_of: Vec<usize>,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// What anybody saw, by place.
    pub(crate) facts: BTreeMap<(ConversationId, u64), Fact>,
    /// Where each thing said was seen.
    pub(crate) places: BTreeMap<u64, (ConversationId, u64)>,
    /// The seqs each device has ever shown, by (device, conversation).
    pub(crate) shown: BTreeMap<(usize, ConversationId), BTreeSet<u64>>,
    /// The same without what a restored backup does not know.
    pub(crate) kept: BTreeMap<(usize, ConversationId), BTreeSet<u64>>,
    /// What a user's devices looked up, or an observer was given: by (user, conversation).
    pub(crate) given: BTreeMap<(usize, ConversationId), BTreeSet<u64>>,
    /// What extensions of a user's phones acknowledged, by (user, conversation).
    pub(crate) acknowledged: BTreeMap<(usize, ConversationId), BTreeSet<u64>>,
    /// The highest seq that any device of a user ever showed or acknowledged: by (conversation,
    /// user).
    pub(crate) tops: BTreeMap<(ConversationId, usize), u64>,
    /// What devices of groups were told about how far all have got.
    pub(crate) claims: Vec<Claim>,
    /// Who was seen to be there, by whom: (of, by).
    pub(crate) presences: BTreeSet<(usize, usize)>,
    /// The ticks a device shows in this life of its app, by (device, conversation).
    pub(crate) ticks: BTreeMap<(usize, ConversationId), Ticks>,
    /// The furthest ticks it ever showed.
    pub(crate) ticks_ever: BTreeMap<(usize, ConversationId), Ticks>,
    /// The last message it showed in this life of its app.
    pub(crate) last_shown: BTreeMap<(usize, ConversationId), u64>,
}

impl History {
    /// A device's app begins a new life: what it shows begins anew.
    pub(crate) fn forget_ticks(&mut self, device: usize) {
        self.ticks.retain(|(of, _), _| *of != device);
        self.last_shown.retain(|(of, _), _| *of != device);
    }

    /// A device is restored from an old backup.
    pub(crate) fn forget_kept(&mut self, device: usize) {
        self.kept.retain(|(of, _), _| *of != device);
    }

    /// The highest seq that a device ever showed of a conversation.
    pub(crate) fn top_of(&self, device: usize, id: ConversationId) -> u64 {
        self.shown.get(&(device, id)).and_then(|seqs| seqs.last().copied()).unwrap_or(0)
    }

    /// The highest seq that anybody saw of a conversation.
    pub(crate) fn head(&self, id: ConversationId) -> u64 {
        let last = self.facts.range((id, 0)..=(id, u64::MAX)).next_back();
        last.map_or(0, |((_, seq), _)| *seq)
    }

    /// How far a device has shown each conversation without a hole: what a person can have read.
    pub(crate) fn read_through(&self, device: usize) -> Vec<(ConversationId, u64)> {
        let from = (device, ConversationId::from_u128(0));
        let own = self.kept.range(from..).take_while(|((of, _), _)| *of == device);
        let through = |id: ConversationId, seqs: &BTreeSet<u64>| {
            // In a group what comes first is the record of joining.
            let direct = id.kind() == KeyKind::Direct;
            let first = if direct { 1 } else { *seqs.first()? };
            let dense = seqs.iter().zip(first..).take_while(|(seq, expected)| **seq == *expected);
            dense.map(|(seq, _)| *seq).last()
        };
        own.filter_map(|((_, id), seqs)| Some((*id, through(*id, seqs)?))).collect()
    }
}
