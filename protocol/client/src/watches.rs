//! What is only said while somebody looks: whose presence is watched, which channels, and that the
//! person types. Nothing here is persisted.

use crate::limits::{
    CHANNELS_WATCHED_MAX, TYPING_INTERVAL, TYPING_MAX, WATCH_RENEWAL, WATCHES_MAX,
};
use crate::question::text;
use crate::session::{Link, Session};
use roost_protocol::ids::{ConversationId, UserId};
use roost_protocol::limits::PRESENCE_USERS_MAX;
use roost_protocol::request::PresenceOf;
use roost_protocol::time::{Duration, Instant};
use roost_protocol::wire::{self, client_frame::Body};
use std::collections::{BTreeMap, BTreeSet};

/// A user, and the group from which that user is looked at.
type Watched = (Option<ConversationId>, UserId);

/// What is looked at.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    presence: BTreeSet<Watched>,
    channels: BTreeSet<ConversationId>,
    /// When all of them are said again.
    renew_at: Option<Instant>,
    /// Where typing was told of: when, and whether that still stands.
    typing: BTreeMap<ConversationId, (Instant, bool)>,
}

impl Watches {
    fn is_empty(&self) -> bool {
        self.presence.is_empty() && self.channels.is_empty()
    }

    pub(crate) fn disconnected(&mut self) {
        self.renew_at = None;
        self.typing.clear();
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.renew_at.filter(|_| !self.is_empty())
    }

    /// The server could not take a notice: perhaps one of these.
    pub(crate) fn refused(&mut self, now: Instant, after: Duration) {
        let sooner = self.renew_at.map_or(now + after, |at| at.min(now + after));
        self.renew_at = Some(sooner);
    }
}

impl Session {
    pub(crate) fn watch_presence(&mut self, of: PresenceOf, stop: bool) {
        let from = of.conversation;
        let mut told = Vec::new();
        for user in of.users {
            let watched = (from, user);
            let known = self.watches.presence.contains(&watched);
            if stop && known {
                self.watches.presence.remove(&watched);
                told.push(watched);
            } else if !stop && self.watches.presence.len() < WATCHES_MAX {
                self.watches.presence.insert(watched.clone());
                told.push(watched);
            }
        }
        self.say_presence(&told, stop);
    }

    fn say_presence(&mut self, watched: &[Watched], stop: bool) {
        if self.link != Link::Welcomed {
            return;
        }
        for same in watched.chunk_by(|(left, _), (right, _)| left == right) {
            for some in same.chunks(PRESENCE_USERS_MAX) {
                let conversation = some.first().and_then(|(from, _)| *from);
                self.transmit(
                    0,
                    Body::WatchPresence(wire::WatchPresence {
                        users: some.iter().map(|(_, user)| text(user)).collect(),
                        stop,
                        conversation: conversation.map(ConversationId::to_wire).unwrap_or_default(),
                    }),
                );
            }
        }
    }

    pub(crate) fn watch_channel(&mut self, id: ConversationId, stop: bool) {
        if stop {
            self.watches.channels.remove(&id);
        } else if self.watches.channels.len() < CHANNELS_WATCHED_MAX {
            self.watches.channels.insert(id);
        }
        self.say_channel(id, stop);
    }

    fn say_channel(&mut self, id: ConversationId, stop: bool) {
        if self.link == Link::Welcomed {
            let conversation = id.to_wire();
            self.transmit(0, Body::WatchChannel(wire::WatchChannel { conversation, stop }));
        }
    }

    /// Says all of them: on a new connection, and before the server forgets them.
    pub(crate) fn renew_watches(&mut self) {
        self.watches.renew_at = Some(self.now.monotonic + WATCH_RENEWAL);
        let presence: Vec<Watched> = self.watches.presence.iter().cloned().collect();
        self.say_presence(&presence, false);
        for id in self.watches.channels.iter().copied().collect::<Vec<_>>() {
            self.say_channel(id, false);
        }
    }

    pub(crate) fn tick_watches(&mut self) {
        if self.watches.deadline().is_some_and(|at| at <= self.now.monotonic) {
            self.renew_watches();
        }
    }

    pub(crate) fn typing(&mut self, id: ConversationId, stopped: bool) {
        if self.link != Link::Welcomed {
            return;
        }
        let now = self.now.monotonic;
        let told = self.watches.typing.get(&id).copied();
        let stands = told.is_some_and(|(_, stands)| stands);
        let is_late = told.is_none_or(|(at, _)| now >= at + TYPING_INTERVAL);
        let at = match (stopped, told) {
            (true, Some((at, _))) if stands => at,
            (false, _) if is_late => now,
            (_, _) => return,
        };
        self.watches.typing.insert(id, (at, !stopped));
        self.forget_typing();
        let conversation = id.to_wire();
        self.transmit(0, Body::Typing(wire::Typing { conversation, stopped }));
    }

    fn forget_typing(&mut self) {
        let typing = &mut self.watches.typing;
        if typing.len() > TYPING_MAX
            && let Some(oldest) = typing.iter().min_by_key(|(_, (at, _))| *at).map(|(id, _)| *id)
        {
            typing.remove(&oldest);
        }
    }
}
