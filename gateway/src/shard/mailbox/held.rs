//! What waits while a list is read from disk.

use super::row::Row;
use crate::ids::EdgeAddress;
use crate::shard::links::Arrival;
use crate::shard::message::{ToMailbox, ToOwnMailbox};
use bytes::Bytes;
use roost_protocol::ids::ConversationId;

/// Pushes held for one user until it is known which are of strangers; past it their devices are
/// told to sync.
const PUSHES_MAX: usize = 32;
/// Questions of others about one user.
const QUESTIONS_MAX: usize = 64;

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    /// What the user's own connections want.
    pub(crate) waiting: Vec<Arrival<ToOwnMailbox>>,
    /// News, in the order of their conversations.
    pub(crate) rows: Vec<Row>,
    questions: Vec<ToMailbox>,
    pushes: Vec<HeldPush>,
    /// Entries to show, to all devices but for a connection that knows.
    shown: Vec<(ConversationId, Option<EdgeAddress>)>,
    /// Some pushes found no room.
    behind: bool,
    /// It is loaded for others, who may not have many loaded at a time.
    pub(crate) for_others: bool,
}

/// A push of which it is not known yet whether it may be shown.
#[derive(Debug)]
pub(crate) struct HeldPush {
    pub(crate) conversation: ConversationId,
    pub(crate) edge: EdgeAddress,
    pub(crate) frame: Bytes,
}

impl Loading {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self { rows, ..Self::default() }
    }

    /// Keeps a push until the list is there.
    pub(crate) fn hold(&mut self, push: HeldPush) {
        if self.pushes.len() < PUSHES_MAX {
            self.pushes.push(push);
        } else {
            self.behind = true;
        }
    }

    /// Notes an entry to show. Past the bound it is found by Sync.
    pub(crate) fn show(&mut self, conversation: ConversationId, but: Option<EdgeAddress>) {
        let new = !self.shown.contains(&(conversation, but));
        if new && self.shown.len() < PUSHES_MAX {
            self.shown.push((conversation, but));
        }
    }

    pub(crate) fn take_shown(&mut self) -> Vec<(ConversationId, Option<EdgeAddress>)> {
        std::mem::take(&mut self.shown)
    }

    /// Keeps a question, or gives it back for want of room.
    pub(crate) fn ask(&mut self, question: ToMailbox) -> Option<ToMailbox> {
        if self.questions.len() < QUESTIONS_MAX {
            self.questions.push(question);
            return None;
        }
        Some(question)
    }

    pub(crate) fn take_questions(&mut self) -> Vec<ToMailbox> {
        std::mem::take(&mut self.questions)
    }

    /// The pushes, and whether some are missing.
    pub(crate) fn take_pushes(&mut self) -> (Vec<HeldPush>, bool) {
        (std::mem::take(&mut self.pushes), self.behind)
    }
}
