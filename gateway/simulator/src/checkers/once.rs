//! Each thing said is visible once, in the conversation it was said in; what was refused never.

use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_protocol::ids::ConversationId;

impl Simulation {
    /// Something said is seen at a place.
    pub(crate) fn check_once(
        &mut self,
        tag: u64,
        conversation: ConversationId,
        seq: u64,
    ) -> Result<(), Broken> {
        let said = self.shadow.find(tag);
        let said = said.ok_or_else(|| Broken::new(format!("#{tag} was never said")))?;
        if said.refused.is_some() {
            return Err(Broken::new(format!("#{tag} was refused and is visible")));
        }
        if conversation != said.to {
            return Err(Broken::new(format!("#{tag} is visible in another conversation")));
        }
        let place = *self.history.places.entry(tag).or_insert((conversation, seq));
        if place != (conversation, seq) {
            return Err(Broken::new(format!("#{tag} is visible twice: at {} and {seq}", place.1)));
        }
        Ok(())
    }
}
