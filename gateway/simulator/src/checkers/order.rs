//! Messages are shown in the order of their seqs, and what one device said comes in the order in
//! which it was said.

use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_protocol::ids::{ConversationId, KeyKind};
use std::collections::{BTreeMap, BTreeSet};

impl Simulation {
    /// A device shows a message: in one life of its app, seqs rise.
    pub(crate) fn check_rising(
        &mut self,
        device: usize,
        conversation: ConversationId,
        seq: u64,
    ) -> Result<(), Broken> {
        let last = self.history.last_shown.insert((device, conversation), seq);
        match last {
            Some(last) if last >= seq => {
                let name = &self.devices[device].name;
                Err(Broken::new(format!("{name} is shown {seq} behind {last}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Everything seen: dense from 1, each device's in the order it was said, no id twice.
    pub(crate) fn check_order(&self) -> Result<(), Broken> {
        let mut next: BTreeMap<ConversationId, u64> = BTreeMap::new();
        let mut last_tag: BTreeMap<(ConversationId, usize), u64> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for ((conversation, seq), fact) in &self.history.facts {
            let expected = next.entry(*conversation).or_insert(1);
            if seq != expected && conversation.kind() != KeyKind::Channel {
                return Err(Broken::new(format!("nobody holds {expected}, but {seq}")));
            }
            *expected += 1;
            if !ids.insert(fact.message_id) {
                return Err(Broken::new("two messages have one id"));
            }
            let Some(tag) = fact.tag else { continue };
            let Some(said) = self.shadow.find(tag) else { continue };
            if said.revived {
                continue;
            }
            let last = last_tag.insert((*conversation, said.device), tag);
            if let Some(last) = last.filter(|last| *last > tag) {
                return Err(Broken::new(format!(
                    "#{tag} was said before #{last} and is behind it"
                )));
            }
        }
        Ok(())
    }
}
