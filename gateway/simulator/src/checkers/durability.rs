//! What anybody was shown is there, at that place and with that content, for ever: a crash takes
//! nothing back. What is shown is what somebody wrote, and nobody else's.

use crate::history::Fact;
use crate::record::Record;
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_protocol::ids::{ConversationId, KeyKind};
use roost_protocol::wire;

/// One look at one record.
#[derive(Debug, Clone)]
struct Look<'a> {
    user: usize,
    by: &'a str,
    conversation: ConversationId,
    seq: u64,
    message_id: u64,
    /// 0 unless the user wrote it.
    name: u64,
    tag: Option<u64>,
    record: Option<Record>,
}

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
        self.check_not_blocked(tag)?;
        let by = self.devices[device].name.clone();
        let (user, name) = (self.devices[device].user, 0);
        let tag = Some(tag);
        let record = None;
        let look = Look { user, by: &by, conversation, seq, message_id, name, tag, record };
        self.look(look)?;
        self.note_shown(device, conversation, seq);
        Ok(())
    }

    /// A device shows a record.
    pub(crate) fn check_shown(
        &mut self,
        device: usize,
        conversation: ConversationId,
        (seq, message_id, name): (u64, u64, u64),
        record: Record,
    ) -> Result<(), Broken> {
        let by = self.devices[device].name.clone();
        let user = self.devices[device].user;
        self.check_rising(device, conversation, seq)?;
        let tag = record.tag();
        let record = Some(record);
        let look = Look { user, by: &by, conversation, seq, message_id, name, tag, record };
        self.look(look)?;
        self.note_shown(device, conversation, seq);
        Ok(())
    }

    /// A user is given a record in a page.
    pub(crate) fn check_given(
        &mut self,
        user: usize,
        by: &str,
        conversation: ConversationId,
        message: &wire::Message,
    ) -> Result<(), Broken> {
        let record = Record::of_message(message);
        let (seq, message_id) = (message.seq, message.message_id);
        let (name, tag) = (message.client_message_id, record.tag());
        let record = Some(record);
        self.look(Look { user, by, conversation, seq, message_id, name, tag, record })?;
        self.history.given.entry((user, conversation)).or_default().insert(seq);
        Ok(())
    }

    fn note_shown(&mut self, device: usize, conversation: ConversationId, seq: u64) {
        self.history.shown.entry((device, conversation)).or_default().insert(seq);
        self.history.kept.entry((device, conversation)).or_default().insert(seq);
        let of = &self.devices[device];
        let top = self.history.tops.entry((conversation, of.user)).or_default();
        *top = seq.max(*top);
        if of.session.as_ref().is_some_and(|session| session.unanswered() > 0) {
            // What waits to be sent may have been written behind it.
            self.shadow.note_seen(of.user, conversation, seq);
        }
    }

    fn look(&mut self, look: Look<'_>) -> Result<(), Broken> {
        let Look { conversation, seq, by, .. } = look;
        let named = match look.name {
            0 => None,
            name => {
                let tag = self.shadow.names.get(&name).copied();
                Some(tag.ok_or_else(|| Broken::new(format!("{by} sees a name of nobody, {seq}")))?)
            }
        };
        if let (Some(one), Some(other)) = (look.tag, named)
            && one != other
        {
            return Err(Broken::new(format!("{by} sees #{one} under the name of #{other}")));
        }
        let tag = look.tag.or(named);
        let own = look.name != 0 || (look.record.is_none() && look.tag.is_some());
        self.trace.number(tag.unwrap_or(u64::MAX));
        self.trace.number(seq);
        if let Some(tag) = tag {
            self.check_said(tag, &look, own)?;
            self.check_once(tag, conversation, seq)?;
        }
        let author = match (own, conversation.kind()) {
            (true, _) => Some(look.user),
            (false, KeyKind::Direct) => self.people.peer_in(look.user, conversation),
            (false, _) => None,
        };
        let fact = Fact {
            tag,
            message_id: look.message_id,
            record: look.record.clone(),
            author,
            by: by.to_owned(),
        };
        self.join_facts(conversation, seq, fact)
    }

    /// What is shown with a tag is what was said with it.
    fn check_said(&self, tag: u64, look: &Look<'_>, own: bool) -> Result<(), Broken> {
        let (by, seq) = (look.by, look.seq);
        let said = self.shadow.find(tag);
        let said =
            said.ok_or_else(|| Broken::new(format!("{by} sees {seq}: nobody said #{tag}")))?;
        if own != (said.user == look.user) {
            return Err(Broken::new(format!("#{tag} is shown to {by} with own={own}")));
        }
        match &look.record {
            Some(record) if !record.is(said) => {
                let what = format!("{by} sees #{tag} at {seq} as {record:?}, which nobody said");
                Err(Broken::new(what))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Everybody sees the same at one place.
    fn join_facts(&mut self, id: ConversationId, seq: u64, fact: Fact) -> Result<(), Broken> {
        let Some(known) = self.history.facts.get_mut(&(id, seq)) else {
            self.history.facts.insert((id, seq), fact);
            return Ok(());
        };
        let differs = |what: &str| {
            let (one, other) = (&known.by, &fact.by);
            Broken::new(format!(
                "at {seq} {one} was shown {known:?}, and {other} {fact:?}: another {what}"
            ))
        };
        if known.message_id != fact.message_id {
            return Err(differs("id"));
        }
        if let (Some(one), Some(other)) = (known.tag, fact.tag)
            && one != other
        {
            return Err(differs("tag"));
        }
        if let (Some(one), Some(other)) = (known.author, fact.author)
            && one != other
        {
            return Err(differs("author"));
        }
        let record = match (&known.record, &fact.record) {
            (Some(one), Some(other)) => Some(one.joined(other).ok_or_else(|| differs("record"))?),
            (one, other) => one.clone().or_else(|| other.clone()),
        };
        let said = known.tag.or(fact.tag).and_then(|tag| self.shadow.find(tag));
        if let (Some(record), Some(said)) = (&record, said)
            && !record.is(said)
        {
            return Err(differs("content than was said"));
        }
        known.record = record;
        known.tag = known.tag.or(fact.tag);
        known.author = known.author.or(fact.author);
        Ok(())
    }
}
