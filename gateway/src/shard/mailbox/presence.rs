//! Who is there: asked once, or watched. Nobody who did not ask is told.
//!
//! Side tables exist only for users who are watched. A change is told when it has lasted for the
//! debounce: what comes and goes within it never was.

use super::pushes;
use super::slot::SeenBy;
use super::{Mailbox, Mailboxes};
use crate::ids::EdgeAddress;
use crate::shard::context::Context;
use crate::shard::message::{Part, PresenceAsked, ToEdge, Watch};
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use roost_protocol::ids::{UserId, UserKey};
use roost_protocol::wire::{self, server_frame};
use std::collections::BTreeSet;

/// Users who are watched, per shard; the others are asked for.
const WATCHED_USERS_MAX: usize = 1 << 18;

/// What may be known of a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    online: bool,
    /// 0: hidden or unknown.
    last_seen_ms: u64,
}

#[derive(Debug)]
struct Watcher {
    edge: EdgeAddress,
    asker: UserKey,
    contact: bool,
    until_ms: u64,
}

#[derive(Debug)]
struct Watched {
    id: UserId,
    watchers: Vec<Watcher>,
    /// What all of them were told last.
    told: Seen,
    /// When a change will have lasted long enough.
    due_ms: Option<u64>,
    /// When this is looked at for watchers whose time is over.
    expires_ms: u64,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Watches {
    users: HashMap<UserKey, Watched, FixedState>,
    due: BTreeSet<(u64, UserKey)>,
    expiries: BTreeSet<(u64, UserKey)>,
}

impl Watches {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            users: HashMap::with_hasher(FixedState::with_seed(seed)),
            due: BTreeSet::new(),
            expiries: BTreeSet::new(),
        }
    }

    /// Whether somebody watches this user.
    pub(super) fn has(&self, user: UserKey) -> bool {
        self.users.contains_key(&user)
    }

    fn forget(&mut self, user: UserKey) {
        if let Some(watched) = self.users.remove(&user) {
            self.expiries.remove(&(watched.expires_ms, user));
            if let Some(due_ms) = watched.due_ms {
                self.due.remove(&(due_ms, user));
            }
        }
    }
}

impl Mailboxes {
    /// Somebody looks at a user who may be seen or not.
    pub(super) fn presence_asked(&mut self, ctx: &mut Context, asked: &PresenceAsked) {
        ctx.stats.presence_asked_total += 1;
        let user = asked.about.0;
        if asked.watch == Watch::Stop {
            return self.stop_watching(user, asked.edge);
        }
        let Some(mailbox) = self.cells.get(user) else { return answer_hidden(ctx, asked) };
        if !may_see(&mailbox, asked.asker, asked.contact) {
            self.stop_watching(user, asked.edge);
            return answer_hidden(ctx, asked);
        }
        let now = seen(ctx, &mailbox);
        match asked.watch {
            Watch::Once => answer(ctx, asked, now),
            Watch::Start => {
                let told = self.start_watching(ctx, asked, now);
                answer(ctx, asked, told);
            }
            Watch::Stop => {}
        }
    }

    /// Adds a watcher, if there is room. Gives what all watchers were told last.
    fn start_watching(&mut self, ctx: &mut Context, asked: &PresenceAsked, now: Seen) -> Seen {
        let (user, now_ms) = (asked.about.0, monotonic_ms(ctx));
        let until_ms = now_ms.saturating_add(ctx.limits.watch_ms.into());
        let watches = &mut self.watches;
        if !watches.has(user) && watches.users.len() >= WATCHED_USERS_MAX {
            ctx.stats.watchers_refused_total += 1;
            return now;
        }
        let watched = watches.users.entry(user).or_insert_with(|| {
            watches.expiries.insert((until_ms, user));
            let (id, watchers) = (asked.about.1.clone(), Vec::new());
            Watched { id, watchers, told: now, due_ms: None, expires_ms: until_ms }
        });
        if let Some(mailbox) = self.cells.get_mut(user) {
            mailbox.slot.watched = true;
        }
        let known = watched.watchers.iter_mut().find(|watcher| watcher.edge == asked.edge);
        if let Some(known) = known {
            known.until_ms = until_ms;
            known.contact = asked.contact;
            return watched.told;
        }
        let most = ctx.limits.watchers_max as usize;
        if watched.watchers.len() >= most {
            watched.watchers.retain(|watcher| watcher.until_ms > now_ms);
        }
        if watched.watchers.len() >= most {
            ctx.stats.watchers_refused_total += 1;
            return watched.told;
        }
        let (edge, asker, contact) = (asked.edge, asked.asker, asked.contact);
        watched.watchers.push(Watcher { edge, asker, contact, until_ms });
        watched.told
    }

    fn stop_watching(&mut self, user: UserKey, edge: EdgeAddress) {
        let Some(watched) = self.watches.users.get_mut(&user) else { return };
        watched.watchers.retain(|watcher| watcher.edge != edge);
        if watched.watchers.is_empty() {
            self.unwatch(user);
        }
    }

    fn unwatch(&mut self, user: UserKey) {
        self.watches.forget(user);
        if let Some(mailbox) = self.cells.get_mut(user) {
            mailbox.slot.watched = false;
        }
    }

    /// An app came or went: if somebody watches, they are told when that has lasted.
    pub(super) fn presence_changed(&mut self, ctx: &Context, user: UserKey) {
        let Some(mailbox) = self.cells.get(user).filter(|mailbox| mailbox.slot.watched) else {
            return;
        };
        let Some(watched) = self.watches.users.get_mut(&user) else { return };
        let differs = mailbox.slot.is_present() != watched.told.online;
        match (differs, watched.due_ms) {
            (true, None) => {
                let now_ms = monotonic_ms(ctx);
                let due_ms = now_ms.saturating_add(ctx.limits.presence_debounce_ms.into());
                watched.due_ms = Some(due_ms);
                self.watches.due.insert((due_ms, user));
            }
            (false, Some(due_ms)) => {
                watched.due_ms = None;
                self.watches.due.remove(&(due_ms, user));
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Time passes: tells what has lasted, forgets watchers who did not say that they still look.
    pub(crate) fn tick(&mut self, ctx: &mut Context) {
        let now_ms = monotonic_ms(ctx);
        while let Some((due_ms, user)) = self.watches.due.first().copied() {
            if due_ms > now_ms {
                break;
            }
            self.watches.due.remove(&(due_ms, user));
            self.tell_watchers(ctx, user);
        }
        while let Some((expires_ms, user)) = self.watches.expiries.first().copied() {
            if expires_ms > now_ms {
                break;
            }
            self.watches.expiries.remove(&(expires_ms, user));
            let Some(watched) = self.watches.users.get_mut(&user) else { continue };
            watched.watchers.retain(|watcher| watcher.until_ms > now_ms);
            match watched.watchers.iter().map(|watcher| watcher.until_ms).min() {
                Some(next_ms) => {
                    watched.expires_ms = next_ms;
                    self.watches.expiries.insert((next_ms, user));
                }
                None => self.unwatch(user),
            }
        }
    }

    /// Pushes a change to everybody who watches.
    fn tell_watchers(&mut self, ctx: &mut Context, user: UserKey) {
        let now_ms = monotonic_ms(ctx);
        let Some(watched) = self.watches.users.get_mut(&user) else { return };
        watched.due_ms = None;
        // Whoever left memory meanwhile is not there.
        let now = self.cells.get(user).map(|mailbox| seen(ctx, &mailbox));
        let gone = Seen { online: false, ..watched.told };
        watched.told = now.unwrap_or(gone);
        let frame = frame(&watched.id, watched.told);
        for watcher in watched.watchers.iter().filter(|watcher| watcher.until_ms > now_ms) {
            ctx.stats.presence_pushes_total += 1;
            ctx.links.tell_edge(watcher.edge, ToEdge::Push(frame.clone()));
        }
    }

    /// Settings or blocks changed: whoever may not see the user any more is told nothing more.
    pub(super) fn hide_from_watchers(&mut self, ctx: &mut Context, user: UserKey) {
        let Some(mailbox) = self.cells.get(user).filter(|mailbox| mailbox.slot.watched) else {
            return;
        };
        let Some(watched) = self.watches.users.get_mut(&user) else { return };
        let frame = frame(&watched.id, Seen::default());
        let may_see = |watcher: &Watcher| may_see(&mailbox, watcher.asker, watcher.contact);
        let (seeing, blind) = std::mem::take(&mut watched.watchers).into_iter().partition(may_see);
        watched.watchers = seeing;
        let blind: Vec<Watcher> = blind;
        let empty = watched.watchers.is_empty();
        for watcher in blind {
            ctx.stats.presence_pushes_total += 1;
            ctx.links.tell_edge(watcher.edge, ToEdge::Push(frame.clone()));
        }
        if empty {
            self.unwatch(user);
        }
    }
}

/// Whether a user lets another see them.
fn may_see(mailbox: &Mailbox, asker: UserKey, contact: bool) -> bool {
    if asker == mailbox.user {
        return true;
    }
    let audience = match mailbox.slot.privacy.presence {
        SeenBy::Everyone => true,
        SeenBy::Contacts => contact,
        SeenBy::Nobody => false,
    };
    // Without the list in memory it is known that nobody is blocked.
    audience && mailbox.entries().is_none_or(|entries| !entries.profile.is_blocked(asker))
}

fn seen(ctx: &Context, mailbox: &Mailbox) -> Seen {
    if mailbox.slot.is_present() {
        return Seen { online: true, last_seen_ms: ctx.now.wall.ms };
    }
    Seen { online: false, last_seen_ms: u64::from(mailbox.slot.present_until_s) * 1000 }
}

/// Says of a user what is said of one who hides, or never was there.
pub(super) fn answer_hidden(ctx: &mut Context, asked: &PresenceAsked) {
    answer(ctx, asked, Seen::default());
}

fn answer(ctx: &mut Context, asked: &PresenceAsked, seen: Seen) {
    let what = match asked.watch {
        Watch::Once => {
            let part = Part::Presence(presence(&asked.about.1, seen));
            ToEdge::Part { request: asked.request, part: Box::new(part) }
        }
        Watch::Start => ToEdge::Push(frame(&asked.about.1, seen)),
        Watch::Stop => return,
    };
    ctx.links.tell_edge(asked.edge, what);
}

fn presence(user: &UserId, seen: Seen) -> wire::Presence {
    wire::Presence {
        user: user.as_str().to_owned(),
        online: seen.online,
        last_seen_ms: seen.last_seen_ms,
    }
}

fn frame(user: &UserId, seen: Seen) -> Bytes {
    let presences = vec![presence(user, seen)];
    pushes::frame(server_frame::Body::Presence(wire::PresencePush { presences }))
}

const fn monotonic_ms(ctx: &Context) -> u64 {
    ctx.now.monotonic.ns / 1_000_000
}
