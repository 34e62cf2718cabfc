//! Per sending device: its last number, and what answers its last 32 writes again.
//!
//! A conversation keeps the numbers of all devices that its members write from, but the answers
//! only of those that wrote lately: a device whose number is known and whose answer is not is told
//! `sequence_conflict`, and finds its write by reading.

use super::members::MemberNumber;
use crate::shard::message::Point;
use roost_protocol::ids::{ClientMessageId, ClientSequence, ConnectionNumber, DeviceId, MessageId};
use roost_protocol::limits::{DEVICES_MAX, UNANSWERED_WRITES_MAX};
use roost_storage_engine::Position;

/// Devices of a member whose numbers are kept. More than a user may have: those that wrote longest
/// ago are of devices that were signed out.
pub(crate) const SENDERS_PER_MEMBER_MAX: usize = DEVICES_MAX + 2;
/// Devices of a member that were only refused so far.
pub(crate) const UNHEARD_PER_MEMBER_MAX: usize = 2;
/// The same of a member who left.
pub(crate) const SENDERS_OF_LEFT_MAX: usize = 4;
/// Devices whose answers a snapshot holds: those that wrote last.
pub(crate) const WINDOWS_MAX: usize = 512;

/// An accepted write, as it is answered when it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) message_id: MessageId,
    pub(crate) point: Point,
    /// Where the record ends in this run's log; what was loaded is durable and has 0.
    pub(crate) position: Position,
}

/// The last accepted writes of a device. Ids lie beside each other: each write is looked for among
/// them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Window {
    ids: Vec<ClientMessageId>,
    answers: Vec<Accepted>,
    /// When it is full: the oldest, which the next one replaces.
    oldest: usize,
}

impl Window {
    fn find(&self, id: ClientMessageId) -> Option<Accepted> {
        let place = self.ids.iter().position(|known| *known == id)?;
        self.answers.get(place).copied()
    }

    pub(crate) fn push(&mut self, id: ClientMessageId, accepted: Accepted) {
        if self.ids.len() < UNANSWERED_WRITES_MAX {
            self.ids.push(id);
            self.answers.push(accepted);
            return;
        }
        self.ids[self.oldest] = id;
        self.answers[self.oldest] = accepted;
        self.oldest = (self.oldest + 1) % UNANSWERED_WRITES_MAX;
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientMessageId, Accepted)> {
        let (newer, older) = (0..self.oldest, self.oldest..self.ids.len());
        older.chain(newer).map(|place| (self.ids[place], self.answers[place]))
    }
}

/// One device that writes to a conversation.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) member: MemberNumber,
    pub(crate) device: DeviceId,
    /// 0: nothing of it was accepted yet.
    pub(crate) last: ClientSequence,
    /// The newest connection this device was heard on in this run of the server.
    pub(crate) connection: ConnectionNumber,
    /// The seq of its last write.
    pub(crate) used: u64,
    pub(crate) window: Window,
}

impl Sender {
    pub(crate) fn new(member: MemberNumber, device: DeviceId) -> Self {
        Self {
            member,
            device,
            last: ClientSequence(0),
            connection: ConnectionNumber(0),
            used: 0,
            window: Window::default(),
        }
    }

    fn judge(&self, number: ClientSequence, id: ClientMessageId) -> Option<Refused> {
        if let Some(accepted) = self.window.find(id) {
            return Some(Refused::Duplicate(accepted));
        }
        let expected = ClientSequence(self.last.0 + 1);
        match number.cmp(&expected) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Less => Some(Refused::Conflict { expected }),
            std::cmp::Ordering::Greater => Some(Refused::Gap { expected }),
        }
    }
}

/// What a write's number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one: accept it, if the rules allow. At this place among the senders.
    Next(usize),
    /// Not.
    Refused(Refused),
}

/// Why a write is not the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It was accepted before.
    Duplicate(Accepted),
    /// The number is used up; go on from this one after reading up to the head.
    Conflict { expected: ClientSequence },
    /// Something before it is missing.
    Gap { expected: ClientSequence },
    /// It came by a connection older than one already heard.
    Stale,
}

/// The senders of a conversation, by member and device.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    pub(crate) list: Vec<Sender>,
    /// Answers kept, of all.
    answers: usize,
}

impl Senders {
    fn place(&self, member: MemberNumber, device: DeviceId) -> Result<usize, usize> {
        let key = |sender: &Sender| (sender.member, u128::from_be_bytes(sender.device.0));
        self.list.binary_search_by_key(&(member, u128::from_be_bytes(device.0)), key)
    }

    /// Judges a write by its number and id alone: this comes before rights, so that a duplicate
    /// gets the original's answer even from somebody removed since. Says whether a newer connection
    /// was heard.
    pub(crate) fn judge(
        &mut self,
        member: MemberNumber,
        device: DeviceId,
        connection: ConnectionNumber,
        number: ClientSequence,
        id: ClientMessageId,
    ) -> (Verdict, bool) {
        let place = match self.place(member, device) {
            Ok(place) => place,
            Err(_) => self.insert(member, device),
        };
        let sender = &mut self.list[place];
        if connection < sender.connection {
            return (Verdict::Refused(Refused::Stale), false);
        }
        let newer = connection > sender.connection;
        sender.connection = connection;
        let verdict = sender.judge(number, id).map_or(Verdict::Next(place), Verdict::Refused);
        (verdict, newer)
    }

    /// A device that was never heard; of those that were only refused the first makes room.
    fn insert(&mut self, member: MemberNumber, device: DeviceId) -> usize {
        let unheard = |sender: &&Sender| sender.last.0 == 0;
        let (from, to) = self.of_member(member);
        if self.list[from..to].iter().filter(unheard).count() >= UNHEARD_PER_MEMBER_MAX
            && let Some(place) = self.list[from..to].iter().position(|s| s.last.0 == 0)
        {
            self.list.remove(from + place);
        }
        let place = self.place(member, device).unwrap_or_else(|place| place);
        self.list.insert(place, Sender::new(member, device));
        place
    }

    fn of_member(&self, member: MemberNumber) -> (usize, usize) {
        let from = self.list.partition_point(|sender| sender.member < member);
        let to = self.list.partition_point(|sender| sender.member <= member);
        (from, to)
    }

    /// Takes back what a snapshot holds.
    pub(crate) fn restore(&mut self, sender: Sender) {
        self.answers += sender.window.len();
        self.list.push(sender);
    }

    /// Remembers an accepted write of the sender at a place.
    pub(crate) fn accept(&mut self, place: usize, id: ClientMessageId, accepted: Accepted) {
        let sender = &mut self.list[place];
        let first = sender.last.0 == 0;
        sender.last = ClientSequence(sender.last.0 + 1);
        sender.used = accepted.point.seq.0;
        let before = sender.window.len();
        sender.window.push(id, accepted);
        self.answers += sender.window.len() - before;
        if first {
            let member = sender.member;
            self.forget(member, SENDERS_PER_MEMBER_MAX);
        }
    }

    /// The same for a record that is read back.
    pub(crate) fn accept_again(
        &mut self,
        (member, device): (MemberNumber, DeviceId),
        number: ClientSequence,
        id: ClientMessageId,
        accepted: Accepted,
    ) -> bool {
        let place = match self.place(member, device) {
            Ok(place) => place,
            Err(_) => self.insert(member, device),
        };
        let dense = number.0 == self.list[place].last.0 + 1;
        self.accept(place, id, accepted);
        dense
    }

    /// Of a member's devices only those that wrote last stay, so many.
    pub(crate) fn forget(&mut self, member: MemberNumber, most: usize) {
        loop {
            let (from, to) = self.of_member(member);
            let heard = self.list[from..to].iter().enumerate().filter(|(_, s)| s.last.0 > 0);
            if heard.clone().count() <= most {
                return;
            }
            let Some((place, _)) = heard.min_by_key(|(_, sender)| sender.used) else { return };
            self.answers -= self.list[from + place].window.len();
            self.list.remove(from + place);
        }
    }

    /// Only the answers of those that wrote last stay.
    pub(crate) fn forget_answers(&mut self) {
        let mut used: Vec<u64> =
            self.list.iter().filter(|s| s.window.len() > 0).map(|s| s.used).collect();
        if used.len() <= WINDOWS_MAX {
            return;
        }
        used.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = used[WINDOWS_MAX - 1];
        for sender in self.list.iter_mut().filter(|sender| sender.used < oldest) {
            self.answers -= sender.window.len();
            sender.window = Window::default();
        }
    }

    /// Roughly what they take in memory.
    pub(crate) const fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<Sender>() + self.answers * (size_of::<Accepted>() + 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_protocol::ids::Sequence;

    const ANN: MemberNumber = MemberNumber(0);

    fn accepted(id: u64) -> Accepted {
        Accepted {
            message_id: MessageId(id),
            point: Point { seq: Sequence(id), uncounted: 0 },
            position: Position(0),
        }
    }

    fn device(name: u8) -> DeviceId {
        DeviceId([name; 16])
    }

    fn judge(senders: &mut Senders, name: u8, connection: u64, number: u64, id: u64) -> Verdict {
        let (connection, number) = (ConnectionNumber(connection), ClientSequence(number));
        senders.judge(ANN, device(name), connection, number, ClientMessageId(id)).0
    }

    fn say(senders: &mut Senders, name: u8, number: u64, id: u64) {
        let Verdict::Next(place) = judge(senders, name, 1, number, id) else {
            panic!("{number} is not the next")
        };
        senders.accept(place, ClientMessageId(id), accepted(id));
    }

    #[test]
    fn numbers_are_dense_and_ids_are_remembered_for_32_writes() {
        let mut senders = Senders::default();
        for n in 1..=40 {
            say(&mut senders, 1, n, n);
        }
        let refused = Verdict::Refused;
        let known = |id| refused(Refused::Duplicate(accepted(id)));
        assert_eq!(judge(&mut senders, 1, 1, 40, 40), known(40));
        // An id among the last 32 is a duplicate, whatever its number.
        assert_eq!(judge(&mut senders, 1, 1, 41, 9), known(9));
        let expected = ClientSequence(41);
        assert_eq!(judge(&mut senders, 1, 1, 8, 8), refused(Refused::Conflict { expected }));
        assert_eq!(judge(&mut senders, 1, 1, 40, 99), refused(Refused::Conflict { expected }));
        assert_eq!(judge(&mut senders, 1, 1, 42, 99), refused(Refused::Gap { expected }));
        let ids: Vec<u64> = senders.list[0].window.iter().map(|(id, _)| id.0).collect();
        assert_eq!(ids, (9..=40).collect::<Vec<_>>());
    }

    #[test]
    fn a_stale_copy_is_refused_before_anything_else() {
        let mut senders = Senders::default();
        assert_eq!(judge(&mut senders, 1, 7, 1, 1), Verdict::Next(0));
        assert_eq!(judge(&mut senders, 1, 6, 1, 1), Verdict::Refused(Refused::Stale));
        assert_eq!(judge(&mut senders, 1, 7, 1, 1), Verdict::Next(0));
    }

    #[test]
    fn of_a_members_devices_those_that_wrote_longest_ago_are_forgotten() {
        let mut senders = Senders::default();
        for name in 1..=20 {
            say(&mut senders, name, 1, u64::from(name));
        }
        assert_eq!(senders.list.len(), SENDERS_PER_MEMBER_MAX);
        let expected = ClientSequence(1);
        let gap = Verdict::Refused(Refused::Gap { expected });
        assert_eq!(judge(&mut senders, 8, 1, 2, 99), gap);
        assert!(matches!(judge(&mut senders, 9, 1, 2, 99), Verdict::Next(_)));
        // Those that are only refused take no place from those that wrote.
        for name in 100..200 {
            assert_eq!(judge(&mut senders, name, 1, 2, 99), gap);
        }
        assert_eq!(senders.list.len(), SENDERS_PER_MEMBER_MAX + UNHEARD_PER_MEMBER_MAX);
        assert!(matches!(judge(&mut senders, 20, 1, 2, 99), Verdict::Next(_)));
        senders.forget(ANN, SENDERS_OF_LEFT_MAX);
        let heard = senders.list.iter().filter(|sender| sender.last.0 > 0);
        assert_eq!(heard.map(|sender| sender.device.0[0]).collect::<Vec<_>>(), [17, 18, 19, 20]);
    }

    #[test]
    fn a_number_outlives_its_answers() {
        let mut senders = Senders::default();
        for member in 0..=u16::try_from(WINDOWS_MAX).unwrap() {
            let member = MemberNumber(member);
            let id = u64::from(member.0) + 1;
            let accepted = accepted(id);
            let (number, id) = (ClientSequence(1), ClientMessageId(id));
            assert!(senders.accept_again((member, device(1)), number, id, accepted));
        }
        senders.forget_answers();
        let expected = ClientSequence(2);
        let conflict = Verdict::Refused(Refused::Conflict { expected });
        assert_eq!(judge(&mut senders, 1, 1, 1, 1), conflict);
        let held = senders.list.iter().filter(|sender| sender.window.len() > 0).count();
        assert_eq!(held, WINDOWS_MAX);
        assert_eq!(senders.answers, WINDOWS_MAX);
    }
}
