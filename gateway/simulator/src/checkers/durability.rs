//! What anybody was shown is there, at that place and with that body, for ever: a crash takes
//! nothing back.

use crate::history::Fact;
use crate::shadow::Shadow;
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_protocol::ids::ConversationId;
use roost_protocol::wire::ErrorCode;

impl Simulation {
    /// A device is told that what it said is stored.
    pub(crate) fn check_accepted(
        &mut self,
        device: usize,
        tag: u64,
        conversation: ConversationId,
        seq: u64,
        message_id: u64,
    ) -> Result<(), Broken> {
        let said = self.shadow.find_mut(tag);
        let said = said.ok_or_else(|| Broken::new(format!("#{tag} was never said")))?;
        said.accepted = Some((conversation, seq));
        self.fact(device, tag, conversation, seq, message_id)
    }

    /// A device is told that what it said never will be visible.
    pub(crate) fn check_refused(&mut self, tag: u64, code: ErrorCode) -> Result<(), Broken> {
        if let Some(said) = self.shadow.find_mut(tag) {
            said.refused = true;
        }
        // Nothing that people say here deserves it.
        Err(Broken::new(format!("#{tag} is refused for good: {code:?}")))
    }

    /// A device shows a message.
    pub(crate) fn check_message(
        &mut self,
        device: usize,
        conversation: ConversationId,
        seq: u64,
        message_id: u64,
        body: &[u8],
        own: bool,
    ) -> Result<(), Broken> {
        let said = Shadow::tag_of(body).and_then(|tag| Some((tag, self.shadow.find(tag)?)));
        let Some((tag, said)) = said.filter(|(_, said)| said.body == body) else {
            return Err(Broken::new(format!("a message that nobody said, at {seq}")));
        };
        if own != (said.user == self.devices[device].user) {
            return Err(Broken::new(format!("#{tag} is shown with own={own}")));
        }
        self.check_rising(device, conversation, seq)?;
        self.fact(device, tag, conversation, seq, message_id)
    }

    fn fact(
        &mut self,
        device: usize,
        tag: u64,
        conversation: ConversationId,
        seq: u64,
        message_id: u64,
    ) -> Result<(), Broken> {
        self.trace.number(tag);
        self.trace.number(seq);
        self.check_once(tag, conversation, seq)?;
        let fact = Fact { tag, message_id, by: device };
        let known = self.history.facts.entry((conversation, seq)).or_insert_with(|| fact.clone());
        if (known.tag, known.message_id) != (tag, message_id) {
            let (before, by) = (known.tag, &self.devices[known.by].name);
            let now_by = &self.devices[device].name;
            return Err(Broken::new(format!(
                "at {seq} {by} was shown #{before}, and {now_by} is shown #{tag}"
            )));
        }
        self.history.shown.entry((device, conversation)).or_default().insert(seq);
        self.history.kept.entry((device, conversation)).or_default().insert(seq);
        Ok(())
    }
}
