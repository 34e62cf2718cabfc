//! One connection: what was asked on it and when it was last heard. Dropped whole with it.

use crate::interface::Peer;
use crate::limits;
use roost_protocol::frame::FrameReader;
use roost_protocol::ids::{ConversationId, UserId};
use roost_protocol::limits as protocol;
use roost_protocol::time::{Duration, Instant};
use roost_protocol::wire;
use std::collections::BTreeMap;

/// What a request was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Hello,
    Refresh,
    /// Notices said in an epoch before `barrier` have arrived when it is answered.
    Sync {
        barrier: u64,
    },
    Pull(Pull),
    Send {
        peer: Peer,
        id: u64,
    },
    /// Something of the app's: see `asks.rs`.
    Question {
        name: u64,
    },
    /// The durable head of a conversation in another store.
    Check {
        conversation: ConversationId,
    },
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pull {
    pub(crate) target: PullTarget,
    pub(crate) from: PullFrom,
    pub(crate) purpose: Purpose,
    /// The head that was wanted when it was asked for.
    pub(crate) wanted: u64,
}

/// Where from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PullTarget {
    Conversation(ConversationId),
    User(UserId),
}

/// Where the page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullFrom {
    Newest,
    Before(u64),
    After(u64),
}

/// Who waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    CatchUp,
    /// A lane in conflict looks for its own sends.
    Look,
    /// The person.
    Older,
}

/// An unanswered request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) asked: Asked,
    pub(crate) deadline: Instant,
}

/// The server asked this device to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) deadline: Instant,
    pub(crate) delay: Duration,
    pub(crate) alternative: String,
}

/// What is true of one connection only.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) reader: FrameReader,
    /// By id; ids rise, so the first is the oldest.
    pub(crate) requests: BTreeMap<u32, Request>,
    last_id: u32,
    pub(crate) with_ticket: bool,
    pub(crate) last_sent: Instant,
    pub(crate) last_heard: Instant,
    pub(crate) last_heartbeat: Instant,
    pub(crate) welcomed_at: Option<Instant>,
    pub(crate) foreground: Duration,
    pub(crate) background: Duration,
    limits: wire::Limits,
    /// Who the user is.
    user: String,
    pub(crate) leaving: Option<Leaving>,
    pub(crate) writes: usize,
    pub(crate) pulls: usize,
}

impl Connection {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            last_sent: now,
            last_heard: now,
            last_heartbeat: now,
            foreground: limits::HEARTBEAT_DEFAULT,
            background: limits::HEARTBEAT_DEFAULT,
            ..Self::default()
        }
    }

    pub(crate) fn take_limits(&mut self, welcome: &wire::Welcome) {
        let interval = |ms: u32| match ms {
            0 => limits::HEARTBEAT_DEFAULT,
            ms => Duration::from_ms(ms.into()),
        };
        self.foreground = interval(welcome.heartbeat_foreground_ms);
        self.background = interval(welcome.heartbeat_background_ms);
        self.limits = welcome.limits.unwrap_or_default();
        self.user.clone_from(&welcome.user);
    }

    /// Notes a request; gives its id.
    pub(crate) fn note(&mut self, asked: Asked, deadline: Instant) -> u32 {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        match asked {
            Asked::Send { .. } => self.writes = self.writes.saturating_add(1),
            Asked::Pull(_) | Asked::Check { .. } => self.pulls = self.pulls.saturating_add(1),
            Asked::Hello | Asked::Refresh | Asked::Sync { .. } | Asked::Question { .. } => {}
        }
        self.requests.insert(self.last_id, Request { asked, deadline });
        self.last_id
    }

    /// The request an answer belongs to.
    pub(crate) fn answered(&mut self, id: u32) -> Option<Asked> {
        let asked = self.requests.remove(&id)?.asked;
        match asked {
            Asked::Send { .. } => self.writes = self.writes.saturating_sub(1),
            Asked::Pull(_) | Asked::Check { .. } => self.pulls = self.pulls.saturating_sub(1),
            Asked::Hello | Asked::Refresh | Asked::Sync { .. } | Asked::Question { .. } => {}
        }
        Some(asked)
    }

    /// Whether a record brings this user into a group, or out of it.
    pub(crate) fn moves_user(&self, message: &wire::Message) -> bool {
        let Some(wire::message::Content::System(system)) = &message.content else { return false };
        let moves = |member: &wire::Member| {
            member.user == self.user
                && (member.joined_seq == message.seq || member.left_seq == message.seq)
        };
        system.members.iter().any(moves)
    }

    /// Whether one more write may be asked for.
    pub(crate) fn room_for_write(&self) -> bool {
        let most = bound(self.limits.requests_in_flight_max, limits::REQUESTS_IN_FLIGHT_MAX);
        let most = most.saturating_sub(limits::REQUESTS_RESERVED).max(1);
        self.leaving.is_none() && self.writes < most
    }

    /// Whether one more pull may be asked for.
    pub(crate) const fn room_for_pull(&self) -> bool {
        self.leaving.is_none() && self.pulls < limits::PULLS_IN_FLIGHT_MAX
    }

    /// Unanswered writes one conversation may have.
    pub(crate) fn window(&self) -> usize {
        bound(self.limits.unanswered_writes_max, protocol::UNANSWERED_WRITES_MAX)
    }

    /// Messages of a page, at most.
    pub(crate) fn page(&self, wanted: u32) -> u32 {
        match self.limits.history_page_max {
            0 => wanted,
            most => wanted.min(most),
        }
    }

    /// Bytes of a frame's content, at most.
    pub(crate) fn frame_max(&self) -> usize {
        bound(self.limits.frame_max_bytes, protocol::FRAME_MAX_BYTES)
    }

    /// Bytes of a body, at most.
    pub(crate) fn body_max(&self) -> usize {
        bound(self.limits.body_max_bytes, protocol::BODY_MAX_BYTES)
    }
}

/// What the server grants, when it is less than ours.
fn bound(granted: u32, ours: usize) -> usize {
    match usize::try_from(granted) {
        Ok(0) | Err(_) => ours,
        Ok(granted) => granted.min(ours),
    }
}
