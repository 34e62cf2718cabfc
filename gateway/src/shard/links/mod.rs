//! Links to the shards, this one included: credit by rank, backlog, and what is owed.
//!
//! * A message is *handed on* when it has credit of its rank and a place in the queue. Until then
//!   it waits in the backlog and holds the credit of the message that caused it.
//! * What a record owes is counted from append to confirmation (`Owed`). The receiver confirms
//!   counts, this side maps counts back to segments.
//! * Rank 4 has no credit: pushes that find no room are dropped and their edge is marked behind.

mod merging;

use crate::ids::{EdgeAddress, EdgeId, ShardId};
use crate::shard::evicting::shrink;
use crate::shard::message::{Hint, Message, Parcel, Rank, Settle, ToEdge};
use bytes::Bytes;
use merging::{may_merge, merge, merge_key};
use roost_protocol::ids::{ConversationId, UserKey};
use roost_storage_engine::SegmentId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Debts that share one entry of the ledger: fewer entries, later settlement.
const DEBTS_MERGED_MAX: u32 = 64;

/// Which record owes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owed {
    /// None: a request or a hint.
    Nothing,
    /// One in this segment of the present run.
    Segment(SegmentId),
    /// One of an earlier run, told again.
    Replay,
}

/// Names the credit that a message came with, while it is being handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u32);

impl Token {
    /// No credit: the cause is an edge, a completion or the clock.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Why something is being done: whose credit it holds, which edge feeds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause {
    /// The credit of the message being handled.
    pub(crate) token: Token,
    /// The edge whose bytes are being handled: paused while what it causes waits.
    pub(crate) feeder: Option<EdgeId>,
    /// The rank of the message being handled.
    pub(crate) rank: Option<Rank>,
}

impl Cause {
    /// The clock, a completion, recovery.
    pub(crate) const NONE: Self = Self { token: Token::NONE, feeder: None, rank: None };

    /// A message being handled.
    pub(crate) const fn message(token: Token, rank: Rank) -> Self {
        Self { token, feeder: None, rank: Some(rank) }
    }

    /// Bytes of an edge.
    pub(crate) const fn edge(edge: EdgeId) -> Self {
        Self { token: Token::NONE, feeder: Some(edge), rank: None }
    }
}

/// An owed message that was taken: to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// By whom it is owed.
    pub(crate) from: ShardId,
    /// Its number among the owed messages of its rank from there.
    pub(crate) index: u64,
}

/// A message that arrived, from whichever shard.
#[derive(Debug)]
pub(crate) struct Arrival<M = Message> {
    pub(crate) message: M,
    pub(crate) token: Token,
    pub(crate) taken: Option<Taken>,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    debts: Vec<Owed>,
    token: Token,
    feeder: Option<EdgeId>,
}

#[derive(Debug)]
struct Debt {
    count: u64,
    owed: Owed,
    number: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct MergeKey(u8, ConversationId, UserKey);

#[derive(Debug, Default)]
struct Backlog {
    waiting: VecDeque<Waiting>,
    popped: u64,
    merge: BTreeMap<MergeKey, u64>,
}

#[derive(Debug, Default)]
struct TakenInOrder {
    next: u64,
    confirmed: u64,
    done: VecDeque<bool>,
}

/// What waits for a place in the queue to connections of another shard.
#[derive(Debug)]
enum ForEdges {
    One(EdgeId, ToEdge),
    Many(Vec<EdgeId>, Bytes),
}

#[derive(Debug)]
struct Peer {
    credit: [u32; 3],
    slots: u32,
    backlog: [Backlog; 3],
    edge_backlog: VecDeque<ForEdges>,
    behind: BTreeSet<EdgeId>,
    sent_owed: [u64; 2],
    debts: [VecDeque<Debt>; 2],
    taken_two: TakenInOrder,
    taken_three: u64,
    due: Settle,
}

#[derive(Debug, Clone, Copy)]
struct TokenSlot {
    refs: u32,
    from: ShardId,
    rank: Rank,
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Links {
    me: ShardId,
    peers: Vec<Peer>,
    tokens: Vec<TokenSlot>,
    free_tokens: Vec<u32>,
    local: VecDeque<Arrival>,
    local_edges: VecDeque<(EdgeId, ToEdge)>,
    local_hints: VecDeque<Hint>,
    outgoing: Vec<(ShardId, Parcel)>,
    fed: BTreeMap<EdgeId, u32>,
    resumed: Vec<EdgeId>,
    settled: Vec<(Owed, u32)>,
    edge_backlog_max: usize,
    /// Pushes dropped for want of room in a queue.
    pub(crate) pushes_dropped: u64,
    /// Hints dropped for want of room in a queue.
    pub(crate) hints_dropped: u64,
}

impl Links {
    /// Lets go of room that only the busiest moment needed.
    pub(crate) fn give_back(&mut self) {
        shrink(&mut self.local);
        shrink(&mut self.local_edges);
        shrink(&mut self.outgoing);
        for peer in &mut self.peers {
            shrink(&mut peer.edge_backlog);
            shrink(&mut peer.taken_two.done);
            // Of much that was written in a few seconds each message stood here until a checkpoint.
            peer.debts.iter_mut().for_each(shrink);
            peer.backlog.iter_mut().for_each(|backlog| shrink(&mut backlog.waiting));
        }
    }

    pub(crate) fn new(me: ShardId, shards: u8, credit: u32, slots: u32) -> Self {
        let peer = || Peer {
            credit: [credit; 3],
            slots,
            backlog: Default::default(),
            edge_backlog: VecDeque::new(),
            behind: BTreeSet::new(),
            sent_owed: [0; 2],
            debts: Default::default(),
            taken_two: TakenInOrder::default(),
            taken_three: 0,
            due: Settle::default(),
        };
        Self {
            me,
            peers: (0..shards).map(|_| peer()).collect(),
            tokens: Vec::new(),
            free_tokens: Vec::new(),
            local: VecDeque::new(),
            local_edges: VecDeque::new(),
            local_hints: VecDeque::new(),
            outgoing: Vec::new(),
            fed: BTreeMap::new(),
            resumed: Vec::new(),
            settled: Vec::new(),
            edge_backlog_max: usize::try_from(slots).unwrap_or(usize::MAX).max(64),
            pushes_dropped: 0,
            hints_dropped: 0,
        }
    }

    /// How many shards there are, this one included.
    pub(crate) fn shards(&self) -> u8 {
        u8::try_from(self.peers.len()).expect("shards are counted in a u8")
    }

    /// This shard.
    pub(crate) const fn me(&self) -> ShardId {
        self.me
    }

    /// Every shard, this one included.
    pub(crate) fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards()).map(ShardId)
    }

    // ---- telling ----

    /// Tells an actor of a shard something. What it owes was counted by the caller.
    pub(crate) fn tell(
        &mut self,
        to: ShardId,
        message: impl Into<Message>,
        owed: Owed,
        cause: Cause,
    ) {
        let message = message.into();
        let rank = message.rank();
        assert!(cause.rank.is_none_or(|causing| causing < rank), "a message causes higher ranks");
        assert!(rank != Rank::Four, "rank 4 goes by tell_edge");
        let ready = self.may_hand_on(to, rank)
            && self.peers[to.index()].backlog[rank.index()].waiting.is_empty();
        if ready {
            self.hand_on(to, message, std::slice::from_ref(&owed));
        } else {
            self.wait(to, rank, message, owed, cause);
        }
    }

    /// Tells a connection something. Never waits.
    pub(crate) fn tell_edge(&mut self, to: EdgeAddress, what: ToEdge) {
        if to.shard == self.me {
            self.local_edges.push_back((to.edge, what));
            return;
        }
        let limit = self.edge_backlog_max;
        let peer = &mut self.peers[to.shard.index()];
        if peer.slots > 0 && peer.edge_backlog.is_empty() {
            peer.slots -= 1;
            let message = Message::ToEdge { edge: to, what };
            self.outgoing.push((to.shard, Parcel::Message { message, owed: false }));
        } else if what.may_be_dropped() && peer.edge_backlog.len() >= limit {
            self.pushes_dropped += 1;
            peer.behind.insert(to.edge);
        } else {
            peer.edge_backlog.push_back(ForEdges::One(to.edge, what));
        }
    }

    /// Pushes the same frame to many connections of a shard. Never waits.
    pub(crate) fn push_to_edges(&mut self, to: ShardId, edges: Vec<EdgeId>, frame: Bytes) {
        if to == self.me {
            let pushes = edges.into_iter().map(|edge| (edge, ToEdge::Push(frame.clone())));
            self.local_edges.extend(pushes);
            return;
        }
        let limit = self.edge_backlog_max;
        let peer = &mut self.peers[to.index()];
        if peer.slots > 0 && peer.edge_backlog.is_empty() {
            peer.slots -= 1;
            let message = Message::ToEdges { edges, frame };
            self.outgoing.push((to, Parcel::Message { message, owed: false }));
        } else if peer.edge_backlog.len() >= limit {
            self.pushes_dropped += edges.len() as u64;
            peer.behind.extend(edges);
        } else {
            peer.edge_backlog.push_back(ForEdges::Many(edges, frame));
        }
    }

    /// Passes something on that may be lost. Without a place in the queue it is.
    pub(crate) fn hint(&mut self, to: ShardId, hint: Hint) {
        if to == self.me {
            self.local_hints.push_back(hint);
            return;
        }
        let peer = &mut self.peers[to.index()];
        let crowded = !peer.edge_backlog.is_empty()
            || peer.backlog.iter().any(|backlog| !backlog.waiting.is_empty());
        if peer.slots == 0 || crowded {
            self.hints_dropped += 1;
            return;
        }
        peer.slots -= 1;
        self.outgoing.push((to, Parcel::Hint(hint)));
    }

    /// A hint came from another shard.
    pub(crate) fn hint_arrived(&mut self, hint: Hint) {
        self.local_hints.push_back(hint);
    }

    /// The next hint to handle.
    pub(crate) fn next_hint(&mut self) -> Option<Hint> {
        self.local_hints.pop_front()
    }

    fn may_hand_on(&self, to: ShardId, rank: Rank) -> bool {
        let peer = &self.peers[to.index()];
        peer.credit[rank.index()] > 0 && (to == self.me || peer.slots > 0)
    }

    fn hand_on(&mut self, to: ShardId, message: Message, debts: &[Owed]) {
        let rank = message.rank();
        let peer = &mut self.peers[to.index()];
        peer.credit[rank.index()] -= 1;
        let owed = debts.iter().any(|debt| *debt != Owed::Nothing);
        if owed {
            let ledger = rank.index() - 1;
            peer.sent_owed[ledger] += 1;
            let count = peer.sent_owed[ledger];
            for debt in debts.iter().filter(|debt| **debt != Owed::Nothing) {
                match peer.debts[ledger].back_mut() {
                    Some(last) if last.owed == *debt && last.number < DEBTS_MERGED_MAX => {
                        last.count = count;
                        last.number += 1;
                    }
                    Some(_) | None => {
                        peer.debts[ledger].push_back(Debt { count, owed: *debt, number: 1 });
                    }
                }
            }
        }
        if to == self.me {
            self.arrive(to, message, owed);
        } else {
            peer.slots -= 1;
            self.outgoing.push((to, Parcel::Message { message, owed }));
        }
    }

    fn wait(&mut self, to: ShardId, rank: Rank, message: Message, owed: Owed, cause: Cause) {
        let backlog = &mut self.peers[to.index()].backlog[rank.index()];
        let key = merge_key(&message);
        if let Some(key) = key
            && let Some(at) = backlog.merge.get(&key)
        {
            let place = usize::try_from(*at - backlog.popped).expect("a place in the backlog");
            let waiting = &mut backlog.waiting[place];
            if may_merge(&waiting.message, &message) {
                merge(&mut waiting.message, message);
                if owed != Owed::Nothing {
                    waiting.debts.push(owed);
                }
                return;
            }
        }
        if let Some(key) = key {
            let place = backlog.popped + backlog.waiting.len() as u64;
            backlog.merge.insert(key, place);
        }
        let waiting =
            Waiting { message, debts: vec![owed], token: cause.token, feeder: cause.feeder };
        backlog.waiting.push_back(waiting);
        self.hold(cause.token);
        if let Some(edge) = cause.feeder {
            *self.fed.entry(edge).or_insert(0) += 1;
        }
    }

    /// Whether something this edge caused still waits.
    pub(crate) fn feeds_backlog(&self, edge: EdgeId) -> bool {
        self.fed.contains_key(&edge)
    }

    /// Hands on what can be, to everybody.
    pub(crate) fn pump(&mut self) {
        for to in self.all() {
            self.pump_edges(to);
            for rank in [Rank::Three, Rank::Two, Rank::One] {
                while self.may_hand_on(to, rank) {
                    let backlog = &mut self.peers[to.index()].backlog[rank.index()];
                    let Some(waiting) = backlog.waiting.pop_front() else { break };
                    backlog.popped += 1;
                    // A later one of the same key may have taken its place: that one stays.
                    if let Some(key) = merge_key(&waiting.message)
                        && backlog.merge.get(&key) == Some(&(backlog.popped - 1))
                    {
                        backlog.merge.remove(&key);
                    }
                    self.hand_on(to, waiting.message, &waiting.debts);
                    self.release(waiting.token);
                    self.unfeed(waiting.feeder);
                }
            }
        }
    }

    fn pump_edges(&mut self, to: ShardId) {
        let peer = &mut self.peers[to.index()];
        while peer.slots > 0 {
            let behind = |edge| ForEdges::One(edge, ToEdge::Behind);
            let next = peer.edge_backlog.pop_front();
            let Some(next) = next.or_else(|| peer.behind.pop_first().map(behind)) else { break };
            peer.slots -= 1;
            let message = match next {
                ForEdges::One(edge, what) => {
                    Message::ToEdge { edge: EdgeAddress { shard: to, edge }, what }
                }
                ForEdges::Many(edges, frame) => Message::ToEdges { edges, frame },
            };
            self.outgoing.push((to, Parcel::Message { message, owed: false }));
        }
    }

    fn unfeed(&mut self, feeder: Option<EdgeId>) {
        let Some(edge) = feeder else { return };
        let count = self.fed.get_mut(&edge).expect("a feeder is counted while it feeds");
        *count -= 1;
        if *count == 0 {
            self.fed.remove(&edge);
            self.resumed.push(edge);
        }
    }

    /// Edges of which nothing waits any more.
    pub(crate) fn take_resumed(&mut self) -> Vec<EdgeId> {
        std::mem::take(&mut self.resumed)
    }

    // ---- arriving ----

    /// Takes a message; it is handled when its turn comes.
    pub(crate) fn arrive(&mut self, from: ShardId, message: Message, owed: bool) {
        let rank = message.rank();
        let message = match message {
            Message::ToEdge { edge, what } => return self.local_edges.push_back((edge.edge, what)),
            Message::ToEdges { edges, frame } => {
                return self.push_to_edges(self.me, edges, frame);
            }
            other @ (Message::ToOwnMailbox(_)
            | Message::ToConversation(_)
            | Message::ToMailbox(_)) => other,
        };
        let token = self.new_token(from, rank);
        let peer = &mut self.peers[from.index()];
        let taken = match (owed, rank) {
            (true, Rank::Two) => {
                peer.taken_two.next += 1;
                peer.taken_two.done.push_back(false);
                Some(Taken { from, index: peer.taken_two.next })
            }
            (true, Rank::Three) => {
                peer.taken_three += 1;
                Some(Taken { from, index: peer.taken_three })
            }
            (_, _) => None,
        };
        self.local.push_back(Arrival { message, token, taken });
    }

    /// The next message to handle.
    pub(crate) fn next_arrival(&mut self) -> Option<Arrival> {
        self.local.pop_front()
    }

    /// The next thing for a connection of this shard.
    pub(crate) fn next_for_edge(&mut self) -> Option<(EdgeId, ToEdge)> {
        self.local_edges.pop_front()
    }

    /// Parcels to forward; there is room for them.
    pub(crate) fn take_outgoing(&mut self) -> std::vec::Drain<'_, (ShardId, Parcel)> {
        self.outgoing.drain(..)
    }

    /// Places that became free in the queue to a shard.
    pub(crate) fn slots_freed(&mut self, by: ShardId, slots: u32) {
        self.peers[by.index()].slots += slots;
    }

    // ---- credit ----

    fn new_token(&mut self, from: ShardId, rank: Rank) -> Token {
        let slot = TokenSlot { refs: 1, from, rank };
        if let Some(index) = self.free_tokens.pop() {
            self.tokens[index as usize] = slot;
            return Token(index);
        }
        self.tokens.push(slot);
        Token(u32::try_from(self.tokens.len() - 1).expect("tokens are bounded by credit"))
    }

    /// One more effect of a message is not handed on yet.
    pub(crate) fn hold(&mut self, token: Token) {
        if token != Token::NONE {
            self.tokens[token.0 as usize].refs += 1;
        }
    }

    /// One effect was handed on. With the last one the credit goes back.
    pub(crate) fn release(&mut self, token: Token) {
        if token == Token::NONE {
            return;
        }
        let slot = &mut self.tokens[token.0 as usize];
        slot.refs -= 1;
        if slot.refs > 0 {
            return;
        }
        let (from, rank) = (slot.from, slot.rank);
        self.free_tokens.push(token.0);
        let peer = &mut self.peers[from.index()];
        if from == self.me {
            peer.credit[rank.index()] += 1;
        } else {
            peer.due.credit[rank.index()] += 1;
        }
    }

    // ---- told ----

    /// The durable effect of an owed message of rank 2 that was taken.
    pub(crate) fn confirm_two(&mut self, taken: Taken) {
        let order = &mut self.peers[taken.from.index()].taken_two;
        let place = usize::try_from(taken.index - order.confirmed - 1).expect("not yet confirmed");
        order.done[place] = true;
        while order.done.front() == Some(&true) {
            order.done.pop_front();
            order.confirmed += 1;
        }
        let confirmed = order.confirmed;
        self.confirm(taken.from, 0, confirmed);
    }

    /// How many owed messages of rank 3 were taken from each shard, for a checkpoint that begins.
    pub(crate) fn taken_three(&self) -> Vec<u64> {
        self.peers.iter().map(|peer| peer.taken_three).collect()
    }

    /// Whether a checkpoint would confirm anything.
    pub(crate) fn checkpoint_due(&self) -> bool {
        self.peers.iter().any(|peer| peer.taken_three > peer.due.confirmed[1])
    }

    /// A checkpoint that began with these counts is durable.
    pub(crate) fn confirm_three(&mut self, counts: &[u64]) {
        for (index, count) in counts.iter().enumerate() {
            let from = ShardId(u8::try_from(index).expect("shards are counted in a u8"));
            self.confirm(from, 1, *count);
        }
    }

    fn confirm(&mut self, from: ShardId, ledger: usize, count: u64) {
        self.peers[from.index()].due.confirmed[ledger] = count;
        if from == self.me {
            self.confirmed(from, ledger, count);
        }
    }

    fn confirmed(&mut self, by: ShardId, ledger: usize, count: u64) {
        let debts = &mut self.peers[by.index()].debts[ledger];
        while debts.front().is_some_and(|debt| debt.count <= count) {
            if let Some(debt) = debts.pop_front() {
                self.settled.push((debt.owed, debt.number));
            }
        }
    }

    /// Debts that were confirmed since the last call.
    pub(crate) fn take_settled(&mut self) -> Vec<(Owed, u32)> {
        std::mem::take(&mut self.settled)
    }

    // ---- the note ----

    /// Asks every shard that owes us confirmations for its checkpoint. Returns whether this shard
    /// itself should write one.
    pub(crate) fn want_checkpoints(&mut self) -> bool {
        for peer in &mut self.peers {
            peer.due.checkpoint_wanted = !peer.debts[1].is_empty();
        }
        std::mem::take(&mut self.peers[self.me.index()].due.checkpoint_wanted)
    }

    /// Tells every other shard how far the telling of earlier runs is.
    pub(crate) fn announce(&mut self, retold: bool, old_sealed: bool) {
        for peer in &mut self.peers {
            peer.due.retold |= retold;
            peer.due.old_sealed |= old_sealed;
        }
    }

    /// Takes the note of another shard.
    pub(crate) fn settle(&mut self, from: ShardId, note: &Settle) {
        let peer = &mut self.peers[from.index()];
        for (credit, given) in peer.credit.iter_mut().zip(note.credit) {
            *credit += given;
        }
        self.confirmed(from, 0, note.confirmed[0]);
        self.confirmed(from, 1, note.confirmed[1]);
    }

    /// Notes that are due, where there is a place for them.
    pub(crate) fn send_notes(&mut self, sent: &mut [Settle]) {
        for to in self.all().filter(|to| *to != self.me) {
            let peer = &mut self.peers[to.index()];
            let last = &mut sent[to.index()];
            let news = peer.due.credit != [0; 3] || Settle { credit: [0; 3], ..peer.due } != *last;
            if news && peer.slots > 0 {
                peer.slots -= 1;
                let note = peer.due;
                peer.due.credit = [0; 3];
                peer.due.checkpoint_wanted = false;
                *last = peer.due;
                self.outgoing.push((to, Parcel::Settle(note)));
            }
        }
    }

    /// Whether nothing local is left to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.local.is_empty()
            && self.local_edges.is_empty()
            && self.local_hints.is_empty()
            && self.settled.is_empty()
            && self.resumed.is_empty()
    }

    /// Messages that wait for credit or room, for gauges and tests.
    pub(crate) fn backlog_len(&self) -> usize {
        self.peers
            .iter()
            .map(|peer| {
                peer.edge_backlog.len()
                    + peer.backlog.iter().map(|backlog| backlog.waiting.len()).sum::<usize>()
            })
            .sum()
    }
}
