//! Who takes part: the users by number, their ids, and the direct conversations between them.

use roost_protocol::ids::{ConversationId, UserId, UserKey};
use std::collections::BTreeMap;

/// What the first users are called.
const NAMES: [&str; 4] = ["ann", "bob", "cat", "dan"];

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct People {
    ids: Vec<(UserId, UserKey)>,
    by_name: BTreeMap<String, usize>,
    directs: BTreeMap<ConversationId, [usize; 2]>,
}

impl People {
    pub(crate) const fn len(&self) -> usize {
        self.ids.len()
    }

    /// What a user is called when nobody chose a name.
    pub(crate) fn usual_name(user: usize) -> String {
        NAMES.get(user).map_or_else(|| format!("user{user}"), |name| (*name).to_owned())
    }

    /// The number of a user, who is new if the name is.
    pub(crate) fn add(&mut self, name: &str) -> usize {
        if let Some(user) = self.by_name.get(name) {
            return *user;
        }
        let user = self.ids.len();
        let id = UserId::new(name).expect("a short word is a user id");
        let key = id.key("");
        for (other, (_, known)) in self.ids.iter().enumerate() {
            self.directs.insert(ConversationId::direct(*known, key), [other, user]);
        }
        self.by_name.insert(name.to_owned(), user);
        self.ids.push((id, key));
        user
    }

    pub(crate) fn id(&self, user: usize) -> &UserId {
        &self.ids[user].0
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The conversation of two users.
    pub(crate) fn direct(&self, one: usize, other: usize) -> ConversationId {
        ConversationId::direct(self.ids[one].1, self.ids[other].1)
    }

    /// The group or channel that a user makes with a nonce.
    pub(crate) fn group(&self, creator: usize, nonce: [u8; 16], channel: bool) -> ConversationId {
        ConversationId::group(self.ids[creator].1, nonce, channel)
    }

    /// Whose direct conversation it is.
    pub(crate) fn pair(&self, id: ConversationId) -> Option<[usize; 2]> {
        self.directs.get(&id).copied()
    }

    /// The other user of a direct conversation.
    pub(crate) fn peer_in(&self, own: usize, id: ConversationId) -> Option<usize> {
        match self.pair(id)? {
            [one, other] if one == own => Some(other),
            [one, other] if other == own => Some(one),
            [_, _] => None,
        }
    }
}
