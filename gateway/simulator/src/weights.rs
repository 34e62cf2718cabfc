//! Everything a person can do, and how often it is done, as weights against each other: drawn anew
//! per seed, some of them nothing.

use crate::prng::Prng;

/// Something a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Act {
    Say,
    Reply,
    Forward,
    Edit,
    Delete,
    React,
    Encrypt,
    Read,
    Typing,
    CreateGroup,
    CreateChannel,
    CreateAgain,
    ChangeGroup,
    Race,
    Follow,
    WatchChannel,
    Hide,
    Settings,
    Block,
    Privacy,
    Accept,
    QueryPresence,
    WatchPresence,
    Lists,
    Rename,
    SignOut,
    LookUp,
    Activity,
    Sync,
    Older,
    Refresh,
    Extension,
}

/// All of them, with how often each is done on an ordinary day.
const ALL: [(Act, u64); 32] = [
    (Act::Say, 60),
    (Act::Reply, 10),
    (Act::Forward, 4),
    (Act::Edit, 6),
    (Act::Delete, 3),
    (Act::React, 15),
    (Act::Encrypt, 4),
    (Act::Read, 60),
    (Act::Typing, 20),
    (Act::CreateGroup, 2),
    (Act::CreateChannel, 1),
    (Act::CreateAgain, 1),
    (Act::ChangeGroup, 6),
    (Act::Race, 2),
    (Act::Follow, 3),
    (Act::WatchChannel, 2),
    (Act::Hide, 2),
    (Act::Settings, 4),
    (Act::Block, 2),
    (Act::Privacy, 1),
    (Act::Accept, 1),
    (Act::QueryPresence, 5),
    (Act::WatchPresence, 5),
    (Act::Lists, 5),
    (Act::Rename, 1),
    (Act::SignOut, 1),
    (Act::LookUp, 8),
    (Act::Activity, 10),
    (Act::Sync, 2),
    (Act::Older, 1),
    (Act::Refresh, 1),
    (Act::Extension, 5),
];

/// See the module's comment. Without any, people only talk to each other and read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActWeights {
    weights: Vec<(Act, u64)>,
}

impl ActWeights {
    /// An ordinary day.
    #[must_use]
    pub fn ordinary() -> Self {
        Self { weights: ALL.to_vec() }
    }

    /// Some kinds are off, the others get wildly different odds.
    #[must_use]
    pub fn draw_new(prng: &mut Prng) -> Self {
        let mut weight = |act: Act| {
            let odds = prng.pick(&[1, 1, 2, 4, 8, 16]);
            let off = prng.percent(55);
            if act == Act::Say || !off { odds } else { 0 }
        };
        Self { weights: ALL.iter().map(|(act, _)| (*act, weight(*act))).collect() }
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// One of them by its weight.
    #[must_use]
    pub fn draw(&self, prng: &mut Prng) -> Option<Act> {
        let sum = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = prng.below(sum);
        for (act, weight) in &self.weights {
            if drawn < *weight {
                return Some(*act);
            }
            drawn -= weight;
        }
        None
    }
}
