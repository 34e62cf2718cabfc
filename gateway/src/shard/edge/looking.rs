//! Which connections look at which channel: they are told that there is news. A look ends by
//! itself, so nobody needs to say that a connection is gone.

use crate::ids::EdgeId;
use roost_protocol::ids::ConversationId;
use std::collections::{BTreeMap, VecDeque};

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Lookers {
    by_channel: BTreeMap<ConversationId, BTreeMap<EdgeId, u32>>,
    /// In the order in which looks end; one that was renewed stands here again.
    ends: VecDeque<(u32, ConversationId, EdgeId)>,
}

impl Lookers {
    /// A connection looks until this tick. False: too many looks are remembered.
    pub(crate) fn look(
        &mut self,
        channel: ConversationId,
        id: EdgeId,
        ends_tick: u32,
        most: usize,
    ) -> bool {
        if self.ends.len() >= most {
            return false;
        }
        self.by_channel.entry(channel).or_default().insert(id, ends_tick);
        self.ends.push_back((ends_tick, channel, id));
        true
    }

    /// A connection looks away.
    pub(crate) fn stop(&mut self, channel: ConversationId, id: EdgeId) {
        let Some(lookers) = self.by_channel.get_mut(&channel) else { return };
        lookers.remove(&id);
        if lookers.is_empty() {
            self.by_channel.remove(&channel);
        }
    }

    /// Who looks at a channel.
    pub(crate) fn at(&self, channel: ConversationId) -> impl Iterator<Item = EdgeId> + use<'_> {
        self.by_channel.get(&channel).into_iter().flat_map(|lookers| lookers.keys().copied())
    }

    /// A tick passed: some looks end.
    pub(crate) fn expire(&mut self, tick: u32) {
        while let Some((ends_tick, channel, id)) = self.ends.front().copied()
            && ends_tick <= tick
        {
            self.ends.pop_front();
            let renewed = self.by_channel.get(&channel).and_then(|lookers| lookers.get(&id));
            if renewed.is_some_and(|ends| *ends <= tick) {
                self.stop(channel, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ConversationId = ConversationId::from_u128(3);

    fn edge(slot: u32) -> EdgeId {
        EdgeId { slot, generation: 1 }
    }

    #[test]
    fn looks_end_unless_they_are_renewed() {
        let mut lookers = Lookers::default();
        assert!(lookers.look(CHANNEL, edge(1), 10, 3));
        assert!(lookers.look(CHANNEL, edge(2), 10, 3));
        assert!(lookers.look(CHANNEL, edge(1), 20, 3));
        assert!(!lookers.look(CHANNEL, edge(3), 20, 3), "no more than the limit");
        lookers.expire(10);
        assert_eq!(lookers.at(CHANNEL).collect::<Vec<_>>(), [edge(1)]);
        lookers.expire(20);
        assert_eq!(lookers.at(CHANNEL).count(), 0);
        assert!(lookers.by_channel.is_empty() && lookers.ends.is_empty());
    }

    #[test]
    fn who_looks_away_is_not_told() {
        let mut lookers = Lookers::default();
        lookers.look(CHANNEL, edge(1), 10, 3);
        lookers.stop(CHANNEL, edge(1));
        assert!(lookers.by_channel.is_empty());
        lookers.expire(10);
        assert!(lookers.ends.is_empty());
    }
}
