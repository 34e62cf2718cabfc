//! Ticks only rise, and say what is true.

use crate::history::Ticks;
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_protocol::ids::ConversationId;

impl Simulation {
    /// A device shows how far the other has got.
    pub(crate) fn check_ticks(
        &mut self,
        device: usize,
        conversation: ConversationId,
        shown: Ticks,
    ) -> Result<(), Broken> {
        let name = &self.devices[device].name;
        let ticks = self.history.ticks.entry((device, conversation)).or_default();
        let falls = (shown.delivered != 0 && shown.delivered <= ticks.delivered)
            || (shown.read != 0 && shown.read <= ticks.read);
        if falls {
            return Err(Broken::new(format!("{name}'s ticks do not rise: {shown:?}")));
        }
        for ticks in [ticks, self.history.ticks_ever.entry((device, conversation)).or_default()] {
            ticks.delivered = shown.delivered.max(ticks.delivered);
            ticks.read = shown.read.max(ticks.read);
        }
        let own = self.devices[device].user;
        let Some(peer) = self.peer_in(own, conversation) else {
            return Err(Broken::new(format!("{name} sees ticks of a conversation it is not in")));
        };
        self.check_read(peer, conversation, shown.read)?;
        self.check_delivered(peer, conversation, shown.delivered)
    }

    fn check_read(&self, peer: usize, id: ConversationId, up_to: u64) -> Result<(), Broken> {
        let read = self.shadow.read.get(&(peer, id)).copied().unwrap_or(0);
        if up_to > read {
            return Err(Broken::new(format!("read up to {up_to} is shown, true is {read}")));
        }
        Ok(())
    }

    fn check_delivered(&self, peer: usize, id: ConversationId, up_to: u64) -> Result<(), Broken> {
        let facts = self.history.facts.range((id, 0)..=(id, up_to));
        for ((_, seq), fact) in facts {
            let by_peer = self.shadow.find(fact.tag).is_some_and(|said| said.user == peer);
            let holds = |(index, device): (usize, &crate::device::Device)| {
                let shown = self.history.shown.get(&(index, id));
                device.user == peer && shown.is_some_and(|seqs| seqs.contains(seq))
            };
            if !by_peer && !self.devices.iter().enumerate().any(holds) {
                return Err(Broken::new(format!(
                    "delivered up to {up_to} is shown, but no device of theirs was shown {seq}"
                )));
            }
        }
        Ok(())
    }

    /// The other user of a direct conversation.
    pub(crate) fn peer_in(&self, own: usize, conversation: ConversationId) -> Option<usize> {
        let users = self.plan.devices.len();
        (0..users).find(|peer| *peer != own && self.direct(own, *peer) == conversation)
    }
}
