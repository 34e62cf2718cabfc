//! What must outlive the app, as a value. It changes only through [`Change`]s, and each change is
//! also what is written down; so what is restored is what was.

use crate::error::RestoreError;
use crate::interface::{Peer, PersistId};
use crate::lane::{Lane, Unanswered};
use crate::limits;
use crate::record::{self, Change};
use crate::steps::Steps;
use crate::stretches::Stretches;
use bytes::Bytes;
use roost_protocol::ids::{ConversationId, UserId};
use roost_protocol::wire;
use std::collections::BTreeMap;
use std::fmt;

/// What a device was when the last of its records was confirmed. The default is a new device.
#[derive(Clone, Default)]
pub struct Restored {
    pub(crate) state: State,
}

impl fmt::Debug for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restored")
            .field("connection_number", &self.state.connection_number)
            .field("conversations", &self.state.conversations.len())
            .field("unanswered", &self.state.queued)
            .finish_non_exhaustive()
    }
}

impl Restored {
    /// Reads records in the order in which they were persisted. A torn last record is the business
    /// of whoever owns the file.
    ///
    /// # Errors
    /// [`RestoreError`] for a record that this version cannot read.
    pub fn from_records<'a>(
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, RestoreError> {
        let mut state = State::default();
        for record in records {
            for change in record::decode(record)? {
                state.apply(&change);
            }
        }
        for conversation in state.conversations.values_mut() {
            conversation.persisted = conversation.reach();
            // Who wrote what lies above a hole is not known any more.
            conversation.foreign = conversation.held.top();
        }
        Ok(Self { state })
    }

    /// The same state as few records, to begin a new file with.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Vec<u8>> {
        crate::snapshot::records(&self.state)
    }
}

/// One conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conversation {
    /// A Sync entry, or the answer to a first contact, has named it.
    pub(crate) known: bool,
    /// Direct: the other user.
    pub(crate) peer: Option<UserId>,
    /// The head that came with the cursor.
    pub(crate) target: u64,
    pub(crate) peer_delivered: u64,
    pub(crate) peer_read: u64,
    /// What lies up to here is not fetched without being asked for. `None`: not decided.
    pub(crate) floor: Option<u64>,
    pub(crate) held: Stretches,
    pub(crate) steps: Steps,
    /// The person has seen everything up to here.
    pub(crate) read: u64,
    pub(crate) read_uncounted: u64,
    /// The server may not know it yet.
    pub(crate) read_pending: bool,
    /// The entry of the user's list, without the conversation's id. Its read mark also moves with
    /// this device's writes.
    pub(crate) listed: Option<Box<wire::Entry>>,
    /// When it was last changed, among all conversations.
    pub(crate) touched: u64,
    /// Not persisted: how far one gets without a hole in what is confirmed.
    pub(crate) persisted: u64,
    /// Not persisted: the highest seq held that somebody else wrote.
    pub(crate) foreign: u64,
}

impl Conversation {
    /// How far one gets without a hole.
    pub(crate) fn reach(&self) -> u64 {
        self.held.reach(self.floor.unwrap_or(0))
    }

    pub(crate) fn hold(&mut self, from: u64, to: u64) {
        self.held.insert(from, to, self.floor.unwrap_or(0));
    }
}

/// Everything that is persisted. It holds the ticket, so it is not printed.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) connection_number: u64,
    pub(crate) ticket: Bytes,
    pub(crate) ticket_expires_ms: u64,
    /// The store's incarnation; 0 before the first Welcome.
    pub(crate) store: u64,
    /// The server's run; 0 before the first Welcome.
    pub(crate) run: u64,
    pub(crate) cursor: u64,
    /// Messages named so far.
    pub(crate) named: u64,
    pub(crate) conversations: BTreeMap<ConversationId, Conversation>,
    pub(crate) users: BTreeMap<UserId, ConversationId>,
    pub(crate) lanes: BTreeMap<Peer, Lane>,
    /// New groups without an answer, by their nonces: the app's tag and what was asked.
    pub(crate) creating: BTreeMap<Bytes, (u64, wire::CreateGroup)>,
    /// All unanswered sends, and their bytes.
    pub(crate) queued: usize,
    pub(crate) queued_bytes: usize,
    touches: u64,
    by_touch: BTreeMap<u64, ConversationId>,
}

impl State {
    /// The conversations, the one touched last first.
    pub(crate) fn recent(&self) -> impl DoubleEndedIterator<Item = ConversationId> {
        self.by_touch.values().rev().copied()
    }

    /// The key of the lane that serves a peer.
    pub(crate) fn resolve(&self, peer: &Peer) -> Peer {
        match peer {
            Peer::User(user) => match self.users.get(user) {
                Some(id) => Peer::Conversation(*id),
                None => peer.clone(),
            },
            Peer::Conversation(id) => {
                let named = self.conversations.get(id).filter(|conversation| !conversation.known);
                match named.and_then(|conversation| conversation.peer.as_ref()) {
                    Some(user) if !self.users.contains_key(user) => Peer::User(user.clone()),
                    Some(_) | None => peer.clone(),
                }
            }
        }
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::ConnectionNumber(number) => self.connection_number = *number,
            Change::Ticket { ticket, expires_ms } => {
                self.ticket = ticket.clone();
                self.ticket_expires_ms = *expires_ms;
            }
            Change::Store(store) => self.store = *store,
            Change::Run(run) => self.run = *run,
            Change::Cursor(cursor) => self.cursor = *cursor,
            Change::Named(count) => self.named = *count,
            Change::PeerNamed { user, conversation } => self.name_peer(user, *conversation),
            Change::PeerUnnamed { user } => self.unname_peer(user),
            Change::Queued { peer, send } => self.queue(peer, send),
            Change::Answered { peer, id } => self.answer(peer, *id),
            Change::Renumbered { peer, from, to } => self.lane(peer).renumber(*from, *to),
            Change::Next { peer, next } => self.lane(peer).next = *next,
            Change::Held { conversation, floor, held, steps } => {
                let entry = self.touch(*conversation);
                entry.floor = *floor;
                entry.held = held.clone();
                entry.steps = steps.clone();
            }
            Change::Entry { conversation, known, target, peer_delivered, peer_read } => {
                let entry = self.touch(*conversation);
                entry.known = *known;
                entry.target = *target;
                entry.peer_delivered = *peer_delivered;
                entry.peer_read = *peer_read;
            }
            Change::Rewritten { peer, id, said } => self.rewrite(peer, *id, said),
            Change::Listed { conversation, entry } => {
                self.touch(*conversation).listed = Some(Box::new(entry.clone()));
            }
            Change::Creating { tag, group } => {
                self.creating.insert(group.nonce.clone(), (*tag, group.clone()));
            }
            Change::Created { nonce } => drop(self.creating.remove(nonce)),
            Change::ReadMark { conversation, seq, uncounted, pending } => {
                let entry = self.touch(*conversation);
                entry.read = *seq;
                entry.read_uncounted = *uncounted;
                entry.read_pending = *pending;
            }
        }
    }

    /// The lane, made when there is none. Past the bound one without sends is forgotten: its
    /// conversation will answer with a conflict, which is survivable.
    pub(crate) fn lane(&mut self, peer: &Peer) -> &mut Lane {
        if self.lanes.len() >= limits::CONVERSATIONS_MAX && !self.lanes.contains_key(peer) {
            let idle = |(_, lane): &(&Peer, &Lane)| lane.sends.is_empty() && lane.in_flight == 0;
            if let Some(key) = self.lanes.iter().find(idle).map(|(key, _)| key.clone()) {
                self.lanes.remove(&key);
            }
        }
        self.lanes.entry(peer.clone()).or_default()
    }

    fn touch(&mut self, id: ConversationId) -> &mut Conversation {
        self.touches = self.touches.saturating_add(1);
        if let Some(entry) = self.conversations.get(&id) {
            self.by_touch.remove(&entry.touched);
        }
        if self.by_touch.len() >= limits::CONVERSATIONS_MAX
            && let Some((_, oldest)) = self.by_touch.pop_first()
        {
            self.conversations.remove(&oldest);
            self.users.retain(|_, conversation| *conversation != oldest);
        }
        self.by_touch.insert(self.touches, id);
        let entry = self.conversations.entry(id).or_default();
        entry.touched = self.touches;
        entry
    }

    fn name_peer(&mut self, user: &UserId, id: ConversationId) {
        self.users.insert(user.clone(), id);
        let entry = self.touch(id);
        entry.peer = Some(user.clone());
        entry.known = true;
        if let Some(lane) = self.lanes.remove(&Peer::User(user.clone())) {
            let key = Peer::Conversation(id);
            match self.lanes.get_mut(&key) {
                Some(other) => other.absorb(lane),
                None => {
                    self.lanes.insert(key, lane);
                }
            }
        }
    }

    fn unname_peer(&mut self, user: &UserId) {
        let Some(id) = self.users.remove(user) else { return };
        self.touch(id).known = false;
        if let Some(lane) = self.lanes.remove(&Peer::Conversation(id)) {
            self.lanes.insert(Peer::User(user.clone()), lane);
        }
    }

    fn queue(&mut self, peer: &Peer, send: &Unanswered) {
        self.named = self.named.saturating_add(1);
        self.queued = self.queued.saturating_add(1);
        self.queued_bytes = self.queued_bytes.saturating_add(send.bytes());
        let lane = self.lane(peer);
        lane.next = send.number.saturating_add(1);
        lane.sends.push_back(send.clone());
    }

    fn answer(&mut self, peer: &Peer, id: u64) {
        let lane = self.lane(peer);
        let Some(place) = lane.sends.iter().position(|send| send.id == id) else { return };
        let Some(send) = lane.sends.remove(place) else { return };
        self.queued = self.queued.saturating_sub(1);
        self.queued_bytes = self.queued_bytes.saturating_sub(send.bytes());
    }

    fn rewrite(&mut self, peer: &Peer, id: u64, said: &wire::Send) {
        let Some(send) = self.lane(peer).find(id) else { return };
        let before = send.bytes();
        send.said = said.clone();
        let now = send.bytes();
        self.queued_bytes = self.queued_bytes.saturating_sub(before).saturating_add(now);
    }

    /// All sends of a lane were changed by the record with this id.
    pub(crate) fn changed_by(&mut self, peer: &Peer, persist: PersistId) {
        if let Some(lane) = self.lanes.get_mut(peer) {
            for send in &mut lane.sends {
                send.persist = persist;
            }
        }
    }
}
