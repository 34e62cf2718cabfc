//! A mailbox in memory: one entry per conversation, and the change numbers that sync walks by.

use crate::shard::message::{Card, Point};
use hashbrown::HashMap;
use roost_protocol::ids::{ConversationId, MessageId, Sequence, UserKey};
use roost_protocol::wire;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Change numbers reserved at once. A number that was shown is never used again, so a mailbox that
/// comes back after a crash goes on behind its block.
pub(crate) const CHANGE_BLOCK: u64 = 1024;

/// News about one conversation: soft, merged, the highest wins.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) card: Arc<Card>,
    pub(crate) head: Point,
    pub(crate) message_id: MessageId,
    /// Where sending moved the read mark.
    pub(crate) own_mark: Point,
    pub(crate) peer_delivered: Sequence,
    pub(crate) peer_read: Sequence,
}

impl Row {
    pub(crate) fn new(card: Arc<Card>) -> Self {
        Self {
            card,
            head: Point::default(),
            message_id: MessageId(0),
            own_mark: Point::default(),
            peer_delivered: Sequence(0),
            peer_read: Sequence(0),
        }
    }

    /// Takes what is further; says whether anything was.
    pub(crate) fn merge(&mut self, newer: &Self) -> bool {
        let before = (self.head, self.own_mark, self.peer_delivered, self.peer_read);
        self.head = self.head.max(newer.head);
        self.message_id = self.message_id.max(newer.message_id);
        self.own_mark = self.own_mark.max(newer.own_mark);
        self.peer_delivered = self.peer_delivered.max(newer.peer_delivered);
        self.peer_read = self.peer_read.max(newer.peer_read);
        before != (self.head, self.own_mark, self.peer_delivered, self.peer_read)
    }
}

/// One conversation in a user's list.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) conversation: ConversationId,
    pub(crate) row: Row,
    /// What the user said they read, on any device.
    pub(crate) said: Point,
    /// Raised whenever something here changes.
    pub(crate) change: u64,
    /// The row is newer than what the store has.
    pub(crate) dirty: bool,
    /// Changed while no number could be reserved.
    pub(crate) unnumbered: bool,
}

impl Entry {
    /// The user's read mark, however it moved.
    pub(crate) fn read(&self) -> Point {
        self.said.max(self.row.own_mark)
    }

    pub(crate) fn to_wire(&self, user: UserKey) -> wire::Entry {
        let read = self.read();
        let peer = self.row.card.peer_of(user);
        wire::Entry {
            conversation: self.conversation.to_bytes().to_vec().into(),
            kind: wire::ConversationKind::KindDirect.into(),
            peer: peer.map(|(_, id)| id.as_str().to_owned()).unwrap_or_default(),
            head: self.row.head.seq.0,
            head_uncounted: self.row.head.uncounted,
            read: read.seq.0,
            read_uncounted: read.uncounted,
            peer_delivered: self.row.peer_delivered.max(self.row.peer_read).0,
            peer_read: self.row.peer_read.0,
            last_message_id: self.row.message_id.0,
            ..wire::Entry::default()
        }
    }
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Entries {
    pub(crate) list: Vec<Entry>,
    index: HashMap<ConversationId, u32, foldhash::fast::FixedState>,
    /// Written read marks of conversations that the mailbox was not told of yet.
    pub(crate) early: BTreeMap<ConversationId, Point>,
    /// Read marks that found no room on the disk.
    pub(crate) unwritten: BTreeMap<ConversationId, Point>,
    pub(crate) change: u64,
    /// The end of the durable block of change numbers that this load may use; 0: none yet.
    pub(crate) block_end: u64,
    /// Some entry is dirty, and the mailbox stands in the checkpoint's list.
    pub(crate) dirty: bool,
    /// What the budget counts for it.
    pub(crate) accounted_bytes: u64,
    /// The stream number of the snapshot that equals this state; 0 when something changed since.
    pub(crate) snapshot_number: u64,
}

impl Entries {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            list: Vec::new(),
            index: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            early: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            change: 0,
            block_end: 0,
            dirty: false,
            accounted_bytes: 0,
            snapshot_number: 0,
        }
    }

    /// Whether it holds nothing that a read of the store would not bring again for nothing.
    pub(crate) fn is_pristine(&self) -> bool {
        self.list.is_empty()
            && self.early.is_empty()
            && self.unwritten.is_empty()
            && self.change == 0
            && self.block_end == 0
    }

    /// Roughly what it takes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        256 + self.list.len() as u64 * 220
    }

    pub(crate) fn get_mut(&mut self, id: ConversationId) -> Option<&mut Entry> {
        let place = *self.index.get(&id)?;
        self.list.get_mut(place as usize)
    }

    /// What the user said they read.
    pub(crate) fn said(&self, id: ConversationId) -> Point {
        let place = self.index.get(&id);
        let entry = place.and_then(|place| self.list.get(*place as usize));
        let early = || self.early.get(&id).copied().unwrap_or_default();
        entry.map_or_else(early, |entry| entry.said)
    }

    /// The user said they read up to here.
    pub(crate) fn say(&mut self, id: ConversationId, said: Point) {
        let known = match self.index.get(&id) {
            Some(place) => &mut self.list[*place as usize].said,
            None => self.early.entry(id).or_default(),
        };
        *known = known.max(said);
    }

    /// The entry of a conversation, made when it is new.
    pub(crate) fn entry(&mut self, id: ConversationId, card: &Arc<Card>) -> usize {
        if let Some(place) = self.index.get(&id) {
            return *place as usize;
        }
        let place = u32::try_from(self.list.len()).expect("conversations of a user fit a u32");
        self.index.insert(id, place);
        self.list.push(Entry {
            conversation: id,
            row: Row::new(Arc::clone(card)),
            said: self.early.remove(&id).unwrap_or_default(),
            change: 0,
            dirty: false,
            unnumbered: false,
        });
        place as usize
    }

    /// Entries changed since a cursor, in the order of their changes, and whether there are more.
    /// What could not be numbered comes last, each time, until it has a number.
    pub(crate) fn changed_since(&self, cursor: u64, limit: usize) -> (Vec<&Entry>, bool) {
        let mut changed: Vec<&Entry> =
            self.list.iter().filter(|entry| entry.change > cursor && !entry.unnumbered).collect();
        changed.sort_by_key(|entry| entry.change);
        let more = changed.len() > limit;
        changed.truncate(limit);
        if !more {
            let room = limit - changed.len();
            changed.extend(self.list.iter().filter(|entry| entry.unnumbered).take(room));
        }
        (changed, more)
    }
}
