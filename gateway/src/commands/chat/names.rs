//! Who is who: records and pushes name members of groups by numbers, people know each other by
//! names. What is learned here is kept in the state file, so that a chat that comes back knows it.

use roost_client::Event;
use roost_protocol::ids::ConversationId;
use roost_protocol::wire::{self, group_change::Change};
use std::collections::BTreeMap;

/// Names kept; past it nothing more is learned, and numbers are shown.
const NAMES_MAX: usize = 65_536;

/// Something that was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) conversation: ConversationId,
    /// A member's number + 1; 0: the name of the group itself.
    pub(super) member: u32,
    pub(super) text: String,
}

/// All names.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: BTreeMap<(ConversationId, u32), String>,
    /// The other user of a direct conversation; the session keeps these.
    peers: BTreeMap<ConversationId, String>,
    /// Not written down yet.
    learned: Vec<Name>,
    /// Whether somebody was met lately whom we do not know, and where.
    strange: Option<ConversationId>,
}

impl Names {
    /// What an earlier run had learned.
    pub(super) fn restored(names: Vec<Name>) -> Self {
        let mut all = Self::default();
        for Name { conversation, member, text } in names {
            all.known.insert((conversation, member), text);
        }
        all
    }

    /// Everything, to begin a new file with.
    pub(super) fn all(&self) -> impl Iterator<Item = Name> {
        let name = |((conversation, member), text): (&(ConversationId, u32), &String)| Name {
            conversation: *conversation,
            member: *member,
            text: text.clone(),
        };
        self.known.iter().map(name)
    }

    /// What was learned since it was asked last.
    pub(super) fn take_learned(&mut self) -> Vec<Name> {
        std::mem::take(&mut self.learned)
    }

    /// A group with members whom we do not know.
    pub(super) const fn take_strange(&mut self) -> Option<ConversationId> {
        self.strange.take()
    }

    /// A member by the number + 1.
    pub(super) fn member(&self, conversation: ConversationId, member: u32) -> Option<&str> {
        let name = if member == 0 {
            self.peers.get(&conversation)
        } else {
            self.known.get(&(conversation, member))
        };
        name.map(String::as_str)
    }

    /// What people call a conversation; its id when nobody said.
    pub(super) fn title(&self, conversation: ConversationId) -> String {
        let name = self.known.get(&(conversation, 0)).or_else(|| self.peers.get(&conversation));
        name.cloned().unwrap_or_else(|| conversation.to_string())
    }

    /// The other user of a direct conversation.
    pub(super) fn learn_peer(&mut self, conversation: ConversationId, peer: &str) {
        if !peer.is_empty() && self.peers.len() < NAMES_MAX {
            self.peers.insert(conversation, peer.to_owned());
        }
    }

    /// The name of a group.
    pub(super) fn learn_title(&mut self, conversation: ConversationId, name: &str) {
        self.learn(conversation, 0, name);
    }

    /// Members of a group.
    pub(super) fn learn_members(&mut self, conversation: ConversationId, members: &[wire::Member]) {
        for member in members {
            self.learn(conversation, member.member, &member.user);
        }
    }

    /// What an event says about names.
    pub(super) fn learn_from(&mut self, event: &Event) {
        match event {
            Event::Message { conversation, sender, peer, .. } => {
                if let Some(peer) = peer {
                    self.learn_peer(*conversation, peer.as_str());
                }
                self.met(*conversation, *sender);
            }
            Event::Record { conversation, record } => {
                self.learn_from_record(*conversation, record);
                self.met(*conversation, record.sender);
            }
            Event::Typing { conversation, member, .. } => self.met(*conversation, *member),
            Event::EntryChanged(entry) => {
                if let Some(id) = ConversationId::from_slice(&entry.conversation) {
                    self.learn_peer(id, &entry.peer);
                }
            }
            Event::Connected(_)
            | Event::Disconnected { .. }
            | Event::Accepted { .. }
            | Event::Refused { .. }
            | Event::EncryptAgain { .. }
            | Event::Answer { .. }
            | Event::Delivered { .. }
            | Event::Read { .. }
            | Event::Presence(_)
            | Event::DevicesChanged { .. }
            | Event::Older { .. }
            | Event::Dropped { .. }
            | Event::CaughtUp
            | Event::Fatal { .. } => {}
        }
    }

    /// What a record says about names.
    pub(super) fn learn_from_record(&mut self, id: ConversationId, record: &wire::Message) {
        let Some(wire::message::Content::System(system)) = &record.content else { return };
        self.learn_members(id, &system.members);
        let change = system.change.as_ref().and_then(|change| change.change.as_ref());
        if let Some(Change::Rename(name)) = change {
            self.learn_title(id, name);
        }
    }

    fn learn(&mut self, conversation: ConversationId, member: u32, text: &str) {
        let key = (conversation, member);
        let is_full = self.known.len() >= NAMES_MAX && !self.known.contains_key(&key);
        if text.is_empty() || is_full || self.known.get(&key).is_some_and(|known| known == text) {
            return;
        }
        let text = text.to_owned();
        self.known.insert(key, text.clone());
        self.learned.push(Name { conversation, member, text });
    }

    fn met(&mut self, id: ConversationId, member: u32) {
        if member != 0
            && !(self.known.contains_key(&(id, member)) && self.known.contains_key(&(id, 0)))
        {
            self.strange = Some(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_known_by_their_numbers_and_written_down_once() {
        let id = ConversationId::from_u128(2);
        let member = |member, user: &str| wire::Member {
            member,
            user: user.to_owned(),
            ..wire::Member::default()
        };
        let change = Some(wire::GroupChange { change: Some(Change::Rename("birds".to_owned())) });
        let members = vec![member(1, "ann"), member(2, "bob")];
        let system = wire::SystemMessage { change, members, created: false };
        let content = Some(wire::message::Content::System(system));
        let record = Box::new(wire::Message { sender: 3, content, ..wire::Message::default() });
        let event = Event::Record { conversation: id, record };
        let mut names = Names::default();
        names.learn_from(&event);
        assert_eq!(names.take_strange(), Some(id), "nobody said who 3 is");
        assert_eq!((names.member(id, 2), names.member(id, 3)), (Some("bob"), None));
        assert_eq!(names.title(id), "birds");
        let learned = names.take_learned();
        assert_eq!(learned.len(), 3);
        names.learn_from(&event);
        assert_eq!(names.take_learned(), []);
        let again = Names::restored(learned);
        assert_eq!(again.all().collect::<Vec<_>>(), names.all().collect::<Vec<_>>());
        assert_eq!(again.member(id, 1), Some("ann"));
        assert_eq!(Names::default().title(id), id.to_string());
    }
}
