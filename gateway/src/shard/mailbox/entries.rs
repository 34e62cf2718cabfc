//! A mailbox in memory: one entry per conversation, the change numbers that sync walks by, and
//! what is known of the user besides.

use super::profile::Profile;
use super::row::{Row, Standing};
use crate::shard::message::{Card, Point};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use roost_protocol::ids::{ConversationId, KeyKind, MessageId, Sequence, UserKey};
use roost_protocol::wire;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Change numbers reserved at once. A number that was shown is never used again, so a mailbox that
/// comes back after a crash goes on behind its block.
pub(crate) const CHANGE_BLOCK: u64 = 1024;

/// One conversation in a user's list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own; four fit a word")]
pub(crate) struct Entry {
    pub(crate) row: Row,
    /// What the user said they read, on any device.
    pub(crate) said: Point,
    /// Raised whenever something here changes.
    pub(crate) change: u64,
    /// No notification until then; 0: not muted.
    pub(crate) muted_until_ms: u64,
    /// What the user does not want to see any more, rising.
    pub(crate) hidden: Vec<Sequence>,
    /// Order among the pinned; 0: not pinned.
    pub(crate) pinned: u32,
    pub(crate) archived: bool,
    /// The conversation wants to know the version of the user's devices.
    pub(crate) wants_version: bool,
    /// The row is newer than what the store has.
    dirty: bool,
    /// Changed while no number could be reserved.
    unnumbered: bool,
}

impl Entry {
    /// The user's read mark, however it moved.
    pub(crate) fn read(&self) -> Point {
        let joined = self.row.membership.as_ref().map_or_else(Point::default, |m| m.joined);
        self.said.max(self.row.own_mark).max(joined)
    }

    /// Whether it is a stranger's, who only asks.
    pub(crate) fn is_request(&self) -> bool {
        self.row.standing == Standing::Request
    }

    pub(crate) fn to_wire(&self, user: UserKey) -> wire::Entry {
        let (row, read) = (&self.row, self.read());
        let peer = row.card.as_ref().and_then(|card| card.peer_of(user));
        let kind = match row.conversation.kind() {
            KeyKind::User | KeyKind::Direct => wire::ConversationKind::KindDirect,
            KeyKind::Group => wire::ConversationKind::KindGroup,
            KeyKind::Channel => wire::ConversationKind::KindChannel,
        };
        let head = row.readable_head();
        wire::Entry {
            conversation: row.conversation.to_wire(),
            kind: kind.into(),
            peer: peer.map(|(_, id)| id.as_str().to_owned()).unwrap_or_default(),
            head: head.seq.0,
            head_uncounted: head.uncounted,
            read: read.seq.0,
            read_uncounted: read.uncounted,
            peer_delivered: row.peer_delivered.max(row.peer_read).0,
            peer_read: row.peer_read.0,
            member: row.membership.as_ref().map_or(0, |membership| membership.member),
            muted_until_ms: self.muted_until_ms,
            archived: self.archived,
            pinned: self.pinned,
            request: self.is_request(),
            left: row.has_left(),
            last_message_id: row.message_id.0,
            hidden: self.hidden.iter().map(|seq| seq.0).collect(),
        }
    }

    /// Most bytes of it in a page, about.
    pub(crate) fn wire_bytes(&self, user: UserKey) -> usize {
        let peer = self.row.card.as_ref().and_then(|card| card.peer_of(user));
        160 + peer.map_or(0, |(_, id)| id.as_str().len()) + 10 * self.hidden.len()
    }
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Entries {
    pub(crate) list: Vec<Entry>,
    index: HashTable<u32>,
    hasher: FixedState,
    /// Entries in the order of their changes. What changed again since is found out when it is
    /// walked: then the entry has a higher number.
    order: Vec<(u64, u32)>,
    dirty: Vec<u32>,
    unnumbered: Vec<u32>,
    /// Written read marks of conversations that the mailbox was not told of yet.
    pub(crate) early: BTreeMap<ConversationId, Point>,
    /// Read marks that found no room on the disk.
    pub(crate) unwritten: BTreeMap<ConversationId, Point>,
    pub(crate) change: u64,
    /// The end of the durable block of change numbers that this load may use; 0: none yet.
    pub(crate) block_end: u64,
    /// What the budget counts for it.
    pub(crate) accounted_bytes: u64,
    /// The stream number of the record up to which the store equals this state; 0 when something
    /// changed since.
    pub(crate) stored_number: u64,
    /// Records since the last snapshot that only say what is soft of the slot.
    pub(crate) since_snapshot: u32,
    /// Seqs hidden in all entries.
    pub(crate) hidden: usize,
    pub(crate) profile: Profile,
}

impl Entries {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            list: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            order: Vec::new(),
            dirty: Vec::new(),
            unnumbered: Vec::new(),
            early: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            change: 0,
            block_end: 0,
            accounted_bytes: 0,
            stored_number: 0,
            since_snapshot: 0,
            hidden: 0,
            profile: Profile::default(),
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
        let order = self.order.capacity() as u64 * 16;
        let profile = self.profile.bytes();
        384 + self.list.len() as u64 * 360 + self.hidden as u64 * 8 + order + profile
    }

    // ---- entries ----

    pub(crate) fn find(&self, id: ConversationId) -> Option<u32> {
        let is_it = |place: &u32| self.at(*place).row.conversation == id;
        self.index.find(self.hasher.hash_one(id), is_it).copied()
    }

    pub(crate) fn at(&self, place: u32) -> &Entry {
        &self.list[place as usize]
    }

    pub(crate) fn at_mut(&mut self, place: u32) -> &mut Entry {
        &mut self.list[place as usize]
    }

    pub(crate) fn get(&self, id: ConversationId) -> Option<&Entry> {
        self.find(id).map(|place| self.at(place))
    }

    /// The entry of a conversation, made when it is new.
    pub(crate) fn entry(&mut self, id: ConversationId, card: &Arc<Card>) -> u32 {
        if let Some(place) = self.find(id) {
            return place;
        }
        let place = u32::try_from(self.list.len()).expect("conversations of a user fit a u32");
        let (hasher, list) = (&self.hasher, &self.list);
        let rehash = |place: &u32| hasher.hash_one(list[*place as usize].row.conversation);
        self.index.insert_unique(hasher.hash_one(id), place, rehash);
        self.list.push(Entry {
            row: Row::new(id, card),
            said: self.early.remove(&id).unwrap_or_default(),
            change: 0,
            muted_until_ms: 0,
            hidden: Vec::new(),
            pinned: 0,
            archived: false,
            wants_version: self.profile.versions_wanted.remove(&id),
            dirty: false,
            unnumbered: false,
        });
        place
    }

    /// Decides how a new entry stands: with `contacts_only` a stranger's is a request.
    pub(crate) fn decide(&mut self, place: u32, user: UserKey, contacts_only: bool) {
        if self.at(place).row.standing != Standing::Open {
            return;
        }
        let stranger = contacts_only && self.is_strangers(&self.at(place).row, user);
        let standing = if stranger { Standing::Request } else { Standing::Accepted };
        self.at_mut(place).row.standing = standing;
    }

    /// Whether a conversation came from somebody whom the user never wrote to nor accepted.
    fn is_strangers(&self, row: &Row, user: UserKey) -> bool {
        match row.conversation.kind() {
            KeyKind::User | KeyKind::Direct => true,
            KeyKind::Group | KeyKind::Channel => {
                let by = row.membership.as_ref().and_then(|membership| membership.by);
                // Told again after a crash, nobody knows by whom: the person may decide.
                let Some(by) = by else { return true };
                let direct = self.get(ConversationId::direct(user, by));
                by != user && direct.is_none_or(Entry::is_request)
            }
        }
    }

    /// What the user said they read.
    pub(crate) fn said(&self, id: ConversationId) -> Point {
        let early = || self.early.get(&id).copied().unwrap_or_default();
        self.get(id).map_or_else(early, |entry| entry.said)
    }

    /// The user said they read up to here. Gives the entry, if there is one.
    pub(crate) fn say(&mut self, id: ConversationId, said: Point) -> Option<u32> {
        let place = self.find(id);
        let known = match place {
            Some(place) => &mut self.at_mut(place).said,
            None => self.early.entry(id).or_default(),
        };
        *known = known.max(said);
        place
    }

    // ---- what is not written ----

    /// The row of an entry is newer than what the store has.
    pub(crate) fn soil(&mut self, place: u32) {
        if !std::mem::replace(&mut self.at_mut(place).dirty, true) {
            self.dirty.push(place);
        }
        self.stored_number = 0;
    }

    /// Rows that are newer than what the store has.
    pub(crate) fn dirty_rows(&self) -> Vec<&Row> {
        self.dirty.iter().map(|place| &self.at(*place).row).collect()
    }

    /// They are written.
    pub(crate) fn clean(&mut self) {
        for place in std::mem::take(&mut self.dirty) {
            self.at_mut(place).dirty = false;
        }
    }

    // ---- change numbers ----

    /// Gives an entry the next change number, which is reserved.
    pub(crate) fn number(&mut self, place: u32) {
        assert!(self.change < self.block_end, "change numbers are reserved before they are used");
        self.change += 1;
        let change = self.change;
        let entry = self.at_mut(place);
        entry.change = change;
        if std::mem::take(&mut entry.unnumbered) {
            self.unnumbered.retain(|other| *other != place);
        }
        self.note_change(place, change);
    }

    /// An entry changed, and no number could be reserved for it.
    pub(crate) fn unnumber(&mut self, place: u32) {
        if !std::mem::replace(&mut self.at_mut(place).unnumbered, true) {
            self.unnumbered.push(place);
        }
    }

    /// Entries that changed and have no number for it.
    pub(crate) fn unnumbered(&self) -> &[u32] {
        &self.unnumbered
    }

    fn note_change(&mut self, place: u32, change: u64) {
        if self.order.len() > 2 * self.list.len() + 16 {
            let list = &self.list;
            self.order.retain(|(change, place)| list[*place as usize].change == *change);
        }
        self.order.push((change, place));
    }

    /// The changes as they were stored are in place.
    pub(crate) fn index_changes(&mut self) {
        let all = self.list.iter().enumerate().filter(|(_, entry)| entry.change > 0);
        let places = all.map(|(place, entry)| (entry.change, u32::try_from(place).unwrap_or(0)));
        self.order = places.collect();
        self.order.sort_unstable();
    }

    /// Entries changed since a cursor, in the order of their changes: as many as a page may have,
    /// and whether there are more. What could not be numbered comes last, each time, until it has
    /// a number.
    pub(crate) fn changed_since(
        &self,
        user: UserKey,
        cursor: u64,
        limit: usize,
        max_bytes: usize,
    ) -> (Vec<&Entry>, bool) {
        let from = self.order.partition_point(|(change, _)| *change <= cursor);
        let current = |(change, place): &(u64, u32)| {
            let entry = self.at(*place);
            (entry.change == *change && !entry.unnumbered).then_some(entry)
        };
        let numbered = self.order[from..].iter().filter_map(current);
        let unnumbered = self.unnumbered.iter().map(|place| self.at(*place));
        let (mut page, mut bytes) = (Vec::new(), 0);
        for entry in numbered.chain(unnumbered) {
            bytes += entry.wire_bytes(user);
            if page.len() >= limit || (bytes > max_bytes && !page.is_empty()) {
                // What has no number cannot be asked for by one.
                return (page, !entry.unnumbered);
            }
            page.push(entry);
        }
        (page, false)
    }

    /// Entries by last activity, below a message id.
    pub(crate) fn by_activity(
        &self,
        user: UserKey,
        before: MessageId,
        limit: usize,
        max_bytes: usize,
    ) -> (Vec<&Entry>, bool) {
        let is_before = |entry: &&Entry| before.0 == 0 || entry.row.message_id < before;
        let mut found: Vec<&Entry> = self.list.iter().filter(is_before).collect();
        let newest_first =
            |entry: &&Entry| std::cmp::Reverse((entry.row.message_id, entry.row.conversation));
        let mut more = found.len() > limit;
        if more {
            found.select_nth_unstable_by_key(limit, newest_first);
            found.truncate(limit);
        }
        found.sort_unstable_by_key(newest_first);
        let mut bytes = 0;
        let fitting = found.iter().take_while(|entry| {
            bytes += entry.wire_bytes(user);
            bytes <= max_bytes
        });
        let fitting = fitting.count().max(1);
        more |= found.len() > fitting;
        found.truncate(fitting);
        (found, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> ConversationId {
        ConversationId::from_u128((u128::from(n) << 64) | 2)
    }

    fn entries(count: u32) -> Entries {
        let mut entries = Entries::new(1);
        entries.block_end = u64::MAX;
        for n in 0..count {
            let place = entries.entry(id(n), &Arc::new(Card::Group));
            entries.at_mut(place).row.message_id = MessageId(u64::from(n) + 1);
            entries.number(place);
        }
        entries
    }

    fn changed(entries: &Entries, cursor: u64, limit: usize) -> (Vec<u64>, bool) {
        let user = UserKey::from_u128(0);
        let (found, more) = entries.changed_since(user, cursor, limit, usize::MAX);
        (found.iter().map(|entry| entry.change).collect(), more)
    }

    #[test]
    fn sync_walks_by_changes_and_touches_nothing_else() {
        let mut entries = entries(1000);
        assert_eq!(changed(&entries, 995, 500), (vec![996, 997, 998, 999, 1000], false));
        for n in [3, 7, 3, 9] {
            let place = entries.find(id(n)).unwrap();
            entries.number(place);
        }
        // Entry 3 changed twice and is given once.
        assert_eq!(changed(&entries, 1000, 500), (vec![1002, 1003, 1004], false));
        assert_eq!(changed(&entries, 1000, 2), (vec![1002, 1003], true));
        assert_eq!(changed(&entries, 1003, 2), (vec![1004], false));
        // However often they change, the index grows with the entries only.
        for n in 0..100_000 {
            let place = entries.find(id(n % 1000)).unwrap();
            entries.number(place);
        }
        assert!(entries.order.len() <= 2 * 1000 + 17);
        let (all, _) = changed(&entries, 0, usize::MAX);
        assert_eq!(all.len(), 1000);
        assert!(all.is_sorted());
        // As it is stored, so it comes back.
        let before = entries.order.clone();
        entries.index_changes();
        let (again, _) = changed(&entries, 0, usize::MAX);
        assert_eq!(all, again);
        assert!(entries.order.len() <= before.len());
    }

    #[test]
    fn a_page_ends_by_its_bytes_too() {
        let entries = entries(100);
        let user = UserKey::from_u128(0);
        let each = entries.list[0].wire_bytes(user);
        let (page, more) = entries.changed_since(user, 0, 500, 10 * each);
        assert_eq!((page.len(), more), (10, true));
        // One that is larger than a page comes alone.
        let (page, more) = entries.changed_since(user, 0, 500, 1);
        assert_eq!((page.len(), more), (1, true));
        let (page, more) = entries.by_activity(user, MessageId(0), 500, 10 * each);
        assert_eq!((page.len(), more), (10, true));
    }

    #[test]
    fn what_has_no_number_comes_last_until_it_has_one() {
        let mut entries = entries(3);
        entries.unnumber(0);
        entries.unnumber(0);
        assert_eq!(changed(&entries, 0, 10), (vec![2, 3, 1], false));
        assert_eq!(changed(&entries, 3, 10), (vec![1], false));
        assert_eq!(changed(&entries, 0, 2), (vec![2, 3], false), "no cursor reaches it");
        entries.number(0);
        assert!(entries.unnumbered().is_empty());
        assert_eq!(changed(&entries, 3, 10), (vec![4], false));
    }

    #[test]
    fn the_list_is_paged_by_last_activity() {
        let entries = entries(10);
        let user = UserKey::from_u128(0);
        let ids = |before, limit| {
            let (found, more) = entries.by_activity(user, MessageId(before), limit, usize::MAX);
            let ids: Vec<u64> = found.iter().map(|entry| entry.row.message_id.0).collect();
            (ids, more)
        };
        assert_eq!(ids(0, 4), (vec![10, 9, 8, 7], true));
        assert_eq!(ids(7, 4), (vec![6, 5, 4, 3], true));
        assert_eq!(ids(3, 4), (vec![2, 1], false));
        assert_eq!(ids(1, 4), (vec![], false));
    }
}
