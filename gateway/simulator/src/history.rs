//! What each device saw.

use roost_protocol::ids::ConversationId;
use std::collections::{BTreeMap, BTreeSet};

/// Something that a device was shown: it must stay true for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) tag: u64,
    pub(crate) message_id: u64,
    /// Which device saw it first.
    pub(crate) by: usize,
}

/// How far somebody's ticks are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ticks {
    pub(crate) delivered: u64,
    pub(crate) read: u64,
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

    pub(crate) fn shown_by(&self, device: usize, id: ConversationId) -> usize {
        self.shown.get(&(device, id)).map_or(0, BTreeSet::len)
    }

    /// How far a device has shown each conversation without a hole: what a person can have read.
    pub(crate) fn read_through(&self, device: usize) -> Vec<(ConversationId, u64)> {
        let own = self.kept.iter().filter(|((of, _), _)| *of == device);
        let through = |seqs: &BTreeSet<u64>| {
            let dense = seqs.iter().zip(1..).take_while(|(seq, expected)| **seq == *expected);
            dense.map(|(seq, _)| *seq).last()
        };
        own.filter_map(|((_, id), seqs)| Some((*id, through(seqs)?))).collect()
    }
}
