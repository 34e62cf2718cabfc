//! Pages of history: which to ask for, and what they bring.

use crate::config::Order;
use crate::connection::{class, code};
use crate::event::Event;
use crate::interface::Peer;
use crate::limits::{FIRST_PAGE, PAGE, PULLS_IN_FLIGHT_MAX};
use crate::record::Change;
use crate::requests::{Asked, Pull, PullFrom, PullTarget, Purpose};
use crate::session::{Link, Session};
use roost_protocol::ids::{ConversationId, KeyKind};
use roost_protocol::wire::{self, ErrorClass, ErrorCode, client_frame::Body};

impl Session {
    /// Asks for what is missing, in several conversations at a time.
    pub(crate) fn pump_pulls(&mut self) {
        let settled = self.sync.is_idle();
        let some = self.timeline.wanting.iter().copied();
        let some: Vec<ConversationId> = if settled {
            some.take(PULLS_IN_FLIGHT_MAX).collect()
        } else {
            // A conversation nobody has named yet waits for the Sync that names it.
            let known = |id: &ConversationId| {
                self.state.conversations.get(id).is_some_and(|entry| entry.known)
            };
            some.filter(known).take(PULLS_IN_FLIGHT_MAX).collect()
        };
        for id in some {
            let blocked = self.timeline.is_full() || self.timeline.paused_until.is_some();
            if blocked || !self.connection.room_for_pull() {
                return;
            }
            let from = self.next_page(id);
            self.timeline.wanting.remove(&id);
            self.timeline.pulling.insert(id);
            let wanted = self.wanted(id);
            let target = PullTarget::Conversation(id);
            self.pull(Pull { target, from, purpose: Purpose::CatchUp, wanted });
        }
        if self.sync.announce && self.sync.is_idle() && self.timeline.is_idle() {
            self.sync.announce = false;
            self.tell(Event::CaughtUp);
        }
    }

    fn next_page(&self, id: ConversationId) -> PullFrom {
        let reach = self.reach(id);
        let entry = self.state.conversations.get(&id);
        let is_new = reach == 0 && entry.is_none_or(|entry| entry.floor.is_none());
        match self.config.order {
            // What a channel said in its life is looked up by whoever wants it.
            Order::InOrder if is_new && id.kind() == KeyKind::Channel => PullFrom::Newest,
            Order::InOrder => PullFrom::After(reach),
            Order::Newest if is_new => PullFrom::Newest,
            Order::Newest => {
                let missing = entry.and_then(|e| e.held.last_missing(reach, self.wanted(id)));
                PullFrom::Before(missing.unwrap_or(reach).saturating_add(1))
            }
        }
    }

    pub(crate) fn fetch_older(&mut self, id: ConversationId, limit: u32) {
        let busy = self.link != Link::Welcomed || !self.connection.room_for_pull();
        if busy || self.checking.is_some() {
            return self.tell_now(Event::Older { conversation: id, more: true });
        }
        let held =
            self.state.conversations.get(&id).map(|entry| entry.held.start_of(entry.reach()));
        let from = held.filter(|start| *start > 1).map_or(PullFrom::Newest, PullFrom::Before);
        if held == Some(1) && self.reach(id) > 0 {
            return self.tell_now(Event::Older { conversation: id, more: false });
        }
        let target = PullTarget::Conversation(id);
        let pull = Pull { target, from, purpose: Purpose::Older, wanted: self.wanted(id) };
        self.ask_history(pull, limit.clamp(1, PAGE));
    }

    pub(crate) fn pull(&mut self, pull: Pull) {
        let limit = if pull.from == PullFrom::Newest { FIRST_PAGE } else { PAGE };
        self.ask_history(pull, limit);
    }

    fn ask_history(&mut self, pull: Pull, limit: u32) {
        let mut history =
            wire::History { limit: Some(self.connection.page(limit)), ..wire::History::default() };
        match &pull.target {
            PullTarget::Conversation(id) => history.conversation = id.to_wire(),
            PullTarget::User(user) => history.user = user.as_str().to_owned(),
        }
        match pull.from {
            PullFrom::Newest => {}
            PullFrom::Before(seq) => history.before = Some(seq),
            PullFrom::After(seq) => history.after = Some(seq),
        }
        self.ask(Asked::Pull(pull), Body::History(history));
    }

    /// A page came.
    pub(crate) fn page(&mut self, pull: &Pull, reply: wire::HistoryReply) {
        let id = match &pull.target {
            PullTarget::Conversation(id) => *id,
            PullTarget::User(user) => {
                let Some(id) = ConversationId::from_slice(&reply.conversation) else {
                    return self.broken();
                };
                self.name_peer(user, id);
                id
            }
        };
        if pull.purpose == Purpose::CatchUp {
            self.timeline.pulling.remove(&id);
        }
        let more = reply.more;
        self.trimmed_below(id, reply.first_seq);
        let head = reply.head;
        let covered = match pull.from {
            PullFrom::After(after) => self.page_up(id, after, reply),
            PullFrom::Before(top) => self.page_down(id, top.saturating_sub(1), reply, false),
            PullFrom::Newest => self.page_down(id, head, reply, pull.purpose == Purpose::CatchUp),
        };
        self.take_kept(id);
        match pull.purpose {
            Purpose::Look => {
                let stuck = !more || pull.from == PullFrom::After(covered);
                let looked = if stuck { u64::MAX } else { covered };
                self.set_looked(&Peer::Conversation(id), looked, false);
            }
            Purpose::Older => self.tell(Event::Older { conversation: id, more }),
            Purpose::CatchUp => self.check_progress(id, pull, covered, head),
        }
        self.page_done(id);
    }

    /// Whoever waited for a page may go on.
    fn page_done(&mut self, id: ConversationId) {
        self.consider(id);
        self.ready.insert(Peer::Conversation(id));
        self.ready.append(&mut self.timeline.looking);
    }

    /// Oldest first, above `after`. Seqs that are not in the page are not for this user: held.
    fn page_up(&mut self, id: ConversationId, after: u64, reply: wire::HistoryReply) -> u64 {
        let in_order = self.config.order == Order::InOrder;
        if in_order && after > self.reach(id) {
            return after;
        }
        let mut last = after;
        for message in reply.messages {
            let seq = message.seq;
            if seq <= last {
                continue;
            }
            self.hold(id, last.saturating_add(1), seq.saturating_sub(1));
            self.arrive(id, message);
            last = seq;
        }
        let end = if reply.more { reply.next } else { reply.head };
        self.hold(id, last.saturating_add(1), end);
        last.max(end)
    }

    /// Newest first, from `top` down. `first`: what lies below is not fetched by itself.
    fn page_down(
        &mut self,
        id: ConversationId,
        top: u64,
        reply: wire::HistoryReply,
        first: bool,
    ) -> u64 {
        let top = top.min(reply.head);
        let lowest = reply.messages.last().map(|message| message.seq);
        let bottom = match (reply.more, lowest) {
            (false, _) => 1,
            (true, Some(lowest)) => lowest.min(reply.next.max(1)),
            (true, None) => reply.next.max(1),
        };
        if first {
            let entry = self.state.conversations.entry(id).or_default();
            let floor = *entry.floor.get_or_insert_with(|| bottom.saturating_sub(1));
            // Somebody else may have written down there: they are told, too.
            entry.foreign = entry.foreign.max(floor);
            self.persist.touched.insert(id);
        }
        for message in reply.messages {
            self.arrive(id, message);
        }
        if self.config.order == Order::Newest {
            self.hold(id, bottom, top);
        }
        top
    }

    /// What lies below `first_seq` is gone for everybody.
    fn trimmed_below(&mut self, id: ConversationId, first_seq: u64) {
        let gone = first_seq.saturating_sub(1);
        let entry = self.state.conversations.entry(id).or_default();
        if gone > entry.floor.unwrap_or(0) {
            entry.floor = Some(gone);
            self.persist.touched.insert(id);
        }
    }

    /// Lowers a head that turned out not to be there, and stops asking when pages bring nothing:
    /// nobody may be asked the same for ever.
    fn check_progress(&mut self, id: ConversationId, pull: &Pull, covered: u64, head: u64) {
        self.settle_name(id);
        let heard_more = self.wanted(id) > pull.wanted;
        if head < pull.wanted && !heard_more {
            let there = head.max(self.reach(id));
            self.timeline.forget_hint(id);
            self.set_target(id, there);
        }
        let stuck = match pull.from {
            PullFrom::After(after) => covered <= after,
            PullFrom::Before(_) | PullFrom::Newest => head < pull.wanted,
        };
        if stuck && !heard_more {
            self.timeline.given_up.insert(id);
        }
    }

    /// A conversation that no Sync has named by now will not be named: stop waiting for it.
    fn settle_name(&mut self, id: ConversationId) {
        if self.state.conversations.get(&id).is_some_and(|entry| !entry.known) {
            self.change_entry(id, |entry| entry.known = true);
        }
    }

    /// Lowers or raises the persisted head.
    pub(crate) fn set_target(&mut self, id: ConversationId, target: u64) {
        if self.state.conversations.get(&id).is_some_and(|entry| entry.target != target) {
            self.change_entry(id, |entry| entry.target = target);
        }
    }

    /// A page was refused.
    pub(crate) fn page_refused(&mut self, pull: &Pull, error: &wire::Error) {
        let id = match &pull.target {
            PullTarget::Conversation(id) => Some(*id),
            PullTarget::User(_) => None,
        };
        if let (Some(id), Purpose::CatchUp) = (id, pull.purpose) {
            self.timeline.pulling.remove(&id);
        }
        let retry = class(error) == ErrorClass::ClassRetry;
        if retry {
            let until = self.now.monotonic + self.backoff.retry(error.retry_after_ms);
            self.timeline.paused_until = self.timeline.paused_until.max(Some(until));
        } else if class(error) != ErrorClass::ClassNever {
            return self.refused(error);
        }
        if let Some(id) = id {
            if code(error) == ErrorCode::ErrorTrimmed {
                self.trimmed_below(id, error.first_seq);
            } else if !retry && pull.purpose == Purpose::CatchUp {
                self.timeline.given_up.insert(id);
            }
            if pull.purpose == Purpose::Older {
                self.tell(Event::Older { conversation: id, more: retry });
            }
            self.page_done(id);
        }
        if pull.purpose == Purpose::Look {
            self.look_refused(&pull.target, pull.wanted, retry, error.retry_after_ms);
        }
    }

    /// The history cannot be read: now, or at all. In the latter case the sends are repeated, and
    /// refused if they must be.
    fn look_refused(&mut self, target: &PullTarget, head: u64, retry: bool, asked_ms: u32) {
        let peer = match target {
            PullTarget::Conversation(id) => Peer::Conversation(*id),
            PullTarget::User(user) => Peer::User(user.clone()),
        };
        let peer = self.state.resolve(&peer);
        self.set_looked(&peer, if retry { 0 } else { head }, false);
        if retry {
            let until = self.now.monotonic + self.backoff.retry(asked_ms);
            self.state.lane(&peer).delay_until = Some(until);
            self.ready.remove(&peer);
            self.delayed.insert(peer);
        }
    }

    /// Changes an entry through a record.
    pub(crate) fn change_entry(
        &mut self,
        id: ConversationId,
        change: impl FnOnce(&mut crate::state::Conversation),
    ) {
        let mut entry = self.state.conversations.get(&id).cloned().unwrap_or_default();
        change(&mut entry);
        self.change(Change::Entry {
            conversation: id,
            known: entry.known,
            target: entry.target,
            peer_delivered: entry.peer_delivered,
            peer_read: entry.peer_read,
        });
    }
}
