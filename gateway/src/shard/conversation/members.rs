//! Who is in a conversation, and who was: dense numbers that are never used again, and the
//! stretches in which somebody was in. They say who gets a record and who may read it.

use crate::ids::ShardId;
use crate::shard::codec::Malformed;
use crate::shard::context::Context;
use crate::shard::message::{Card, Point, Recipients};
use hashbrown::HashMap;
use roost_protocol::ids::{Sequence, UserId, UserKey};
use roost_protocol::wire;
use std::sync::Arc;

/// Members a group may have at a time; those who tend a channel likewise.
pub(crate) const PRESENT_MAX: usize = 1_024;
/// Members a group may ever have had: numbers are never used again.
pub(crate) const EVER_MAX: usize = 8_192;
/// Stretches kept of a member; of one who comes and goes more often the oldest are forgotten.
pub(crate) const STRETCHES_MAX: usize = 16;

const _: () = assert!(PRESENT_MAX <= EVER_MAX && EVER_MAX <= 1 << 14);

/// A member's dense number, from 0. On the wire it is one more, so that 0 can mean nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberNumber(pub(crate) u16);

impl MemberNumber {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn of(index: usize) -> Self {
        Self(u16::try_from(index).expect("members are bounded"))
    }

    /// As it travels.
    pub(crate) fn to_wire(self) -> u32 {
        u32::from(self.0) + 1
    }
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Member,
    Admin,
    Owner,
}

impl Role {
    pub(crate) fn to_wire(self) -> i32 {
        match self {
            Self::Member => wire::MemberRole::Member.into(),
            Self::Admin => wire::MemberRole::Admin.into(),
            Self::Owner => wire::MemberRole::Owner.into(),
        }
    }

    pub(crate) fn from_wire(role: i32) -> Result<Self, Malformed> {
        match wire::MemberRole::try_from(role) {
            Ok(wire::MemberRole::Member) => Ok(Self::Member),
            Ok(wire::MemberRole::Admin) => Ok(Self::Admin),
            Ok(wire::MemberRole::Owner) => Ok(Self::Owner),
            Err(_) => Err(Malformed),
        }
    }
}

/// From the record of coming to the record of going, both included; 0 is not gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) joined: Sequence,
    pub(crate) left: Sequence,
}

impl Stretch {
    pub(crate) fn holds(self, seq: Sequence) -> bool {
        self.joined <= seq && (self.left.0 == 0 || seq <= self.left)
    }
}

/// One who takes part, or did.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) user: UserKey,
    /// What a device of theirs holds. Soft: devices say it again.
    pub(crate) delivered: Sequence,
    /// Direct: up to where the other was told so in this run of the server. What was told before
    /// may be forgotten there, so it is told again when it is said again.
    pub(crate) delivered_told: Sequence,
    /// What they said they read, never above the head.
    pub(crate) read: Sequence,
    /// Direct: up to where the other was told so, likewise.
    pub(crate) read_told: Sequence,
    /// Where writing moved their read mark.
    pub(crate) own_mark: Point,
    /// Groups: their newest message.
    pub(crate) own_last: Sequence,
    /// Groups: their first message of which they were not told that all received it; 0: none.
    pub(crate) undelivered: Sequence,
    /// Groups: the same of reading.
    pub(crate) unread: Sequence,
    /// When `delivered` moved last, in ms since 1970.
    pub(crate) delivered_ms: u64,
    /// When `read` moved last, in ms since 1970.
    pub(crate) read_ms: u64,
    /// They do not want others to be told what they read.
    pub(crate) private: bool,
    pub(crate) role: Role,
    /// The user in full. Direct conversations have it in their card.
    pub(crate) user_id: Option<UserId>,
    /// When they were in, oldest first. Empty in direct conversations: always.
    pub(crate) stretches: Vec<Stretch>,
    /// Groups: of the record by which they came or went last, how many up to it do not count.
    pub(crate) since_uncounted: u64,
}

impl Member {
    pub(crate) fn new(user: UserKey, user_id: Option<UserId>) -> Self {
        Self {
            user,
            delivered: Sequence(0),
            delivered_told: Sequence(0),
            read: Sequence(0),
            read_told: Sequence(0),
            own_mark: Point::default(),
            own_last: Sequence(0),
            undelivered: Sequence(0),
            unread: Sequence(0),
            delivered_ms: 0,
            read_ms: 0,
            private: false,
            role: Role::Member,
            user_id,
            stretches: Vec::new(),
            since_uncounted: 0,
        }
    }

    /// Whether they are in now.
    pub(crate) fn is_present(&self) -> bool {
        self.stretches.last().is_none_or(|stretch| stretch.left.0 == 0)
    }

    /// Whether they were in at that record, which is whether they may read it.
    pub(crate) fn was_in(&self, seq: Sequence) -> bool {
        self.stretches.is_empty() || self.stretches.iter().any(|stretch| stretch.holds(seq))
    }

    /// The newest record they may read, in a conversation with this head.
    pub(crate) fn head(&self, head: Point) -> Point {
        match self.stretches.last() {
            Some(Stretch { left, .. }) if left.0 > 0 && *left < head.seq => {
                Point { seq: *left, uncounted: self.since_uncounted }
            }
            Some(_) | None => head,
        }
    }

    /// Groups: the record by which they came or went last.
    pub(crate) fn since(&self) -> Point {
        let seq = match self.stretches.last() {
            Some(stretch) if stretch.left.0 > 0 => stretch.left,
            Some(stretch) => stretch.joined,
            None => Sequence(0),
        };
        Point { seq, uncounted: self.since_uncounted }
    }

    /// What they hold, or they would not have read it or written behind it.
    pub(crate) fn has_received(&self) -> Sequence {
        self.delivered.max(self.has_read())
    }

    /// What they read, or they would not have written behind it.
    pub(crate) fn has_read(&self) -> Sequence {
        self.read.max(self.own_mark.seq)
    }

    /// How far they have got, as it counts for all: what of it is private is nobody's business.
    pub(crate) fn got(&self) -> super::receipts::Got {
        if !self.is_present() {
            return [None; 2];
        }
        [Some(self.has_received()), (!self.private).then(|| self.has_read())]
    }

    /// They wrote a message of which they want to know who got it.
    pub(crate) fn wrote(&mut self, seq: Sequence) {
        self.own_last = seq;
        for first in [&mut self.undelivered, &mut self.unread] {
            if first.0 == 0 {
                *first = seq;
            }
        }
    }
}

/// The members of a group at home on one shard.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) shard: ShardId,
    pub(crate) users: Arc<[UserKey]>,
}

/// A shard, and those of two who are at home there.
pub(crate) type PairTarget = (ShardId, Recipients);

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) list: Vec<Member>,
    /// Groups: who has which number.
    index: Option<HashMap<UserKey, MemberNumber, foldhash::fast::FixedState>>,
    present: usize,
    /// Those who are in by the shards of their mailboxes, until somebody comes or goes.
    targets: Option<Arc<[Target]>>,
}

impl Members {
    /// The two of a direct conversation, or nobody yet.
    pub(crate) fn new(card: &Card) -> Self {
        match card {
            Card::Direct(users) => Self {
                list: users.iter().map(|(user, _)| Member::new(*user, None)).collect(),
                index: None,
                present: 2,
                targets: None,
            },
            Card::Group | Card::Channel => Self {
                list: Vec::new(),
                index: Some(HashMap::with_hasher(foldhash::fast::FixedState::default())),
                present: 0,
                targets: None,
            },
        }
    }

    /// Who was ever in has a number.
    pub(crate) fn find(&self, user: UserKey) -> Option<MemberNumber> {
        match &self.index {
            Some(index) => index.get(&user).copied(),
            None => {
                let index = self.list.iter().position(|member| member.user == user)?;
                Some(MemberNumber::of(index))
            }
        }
    }

    pub(crate) fn get(&self, number: MemberNumber) -> &Member {
        &self.list[number.index()]
    }

    pub(crate) fn get_mut(&mut self, number: MemberNumber) -> &mut Member {
        &mut self.list[number.index()]
    }

    /// How many are in now.
    pub(crate) const fn present(&self) -> usize {
        self.present
    }

    /// How many ever were.
    pub(crate) fn ever(&self) -> usize {
        self.list.len()
    }

    /// Those who are in now, by number.
    pub(crate) fn iter_present(&self) -> impl Iterator<Item = (MemberNumber, &Member)> {
        let numbered = self.list.iter().enumerate();
        numbered
            .filter(|(_, member)| member.is_present())
            .map(|(index, member)| (MemberNumber::of(index), member))
    }

    /// Takes back what a snapshot holds.
    pub(crate) fn restore(&mut self, member: Member) -> Result<(), Malformed> {
        let number = MemberNumber::of(self.list.len());
        self.present += usize::from(member.is_present());
        if let Some(index) = &mut self.index
            && index.insert(member.user, number).is_some()
        {
            return Err(Malformed);
        }
        self.list.push(member);
        Ok(())
    }

    /// Somebody comes, for the first time or again, with this record. What was before is behind
    /// them: their marks move to it.
    pub(crate) fn join(&mut self, user: UserKey, user_id: &UserId, at: Point) -> MemberNumber {
        let number = self.find(user).unwrap_or_else(|| {
            let number = MemberNumber::of(self.list.len());
            self.list.push(Member::new(user, Some(user_id.clone())));
            if let Some(index) = &mut self.index {
                index.insert(user, number);
            }
            number
        });
        let member = &mut self.list[number.index()];
        if member.stretches.len() == STRETCHES_MAX {
            member.stretches.remove(0);
        }
        member.stretches.push(Stretch { joined: at.seq, left: Sequence(0) });
        member.since_uncounted = at.uncounted;
        member.delivered = member.delivered.max(at.seq);
        member.read = member.read.max(at.seq);
        member.own_mark = member.own_mark.max(at);
        // What they wrote before they went is not ticked any more.
        (member.undelivered, member.unread) = (Sequence(0), Sequence(0));
        self.present += 1;
        self.targets = None;
        number
    }

    /// Somebody goes with this record; it is the last they may read.
    pub(crate) fn leave(&mut self, number: MemberNumber, at: Point) {
        let member = &mut self.list[number.index()];
        if let Some(stretch) = member.stretches.last_mut() {
            stretch.left = at.seq;
        }
        member.since_uncounted = at.uncounted;
        member.role = Role::Member;
        (member.undelivered, member.unread) = (Sequence(0), Sequence(0));
        self.present -= 1;
        self.targets = None;
    }

    /// Those who are in, by the shards of their mailboxes. Made once until somebody comes or goes.
    pub(crate) fn targets(&mut self, ctx: &Context) -> Arc<[Target]> {
        if let Some(targets) = &self.targets {
            return Arc::clone(targets);
        }
        let mut by_shard: Vec<(ShardId, Vec<UserKey>)> =
            ctx.links.all().map(|shard| (shard, Vec::new())).collect();
        for (_, member) in self.iter_present() {
            by_shard[ctx.home_of_user(member.user).index()].1.push(member.user);
        }
        let targets: Arc<[Target]> = by_shard
            .into_iter()
            .filter(|(_, users)| !users.is_empty())
            .map(|(shard, users)| Target { shard, users: users.into() })
            .collect();
        self.targets = Some(Arc::clone(&targets));
        targets
    }

    /// The two of a direct conversation by the shards of their mailboxes.
    pub(crate) fn pair_targets(&self, ctx: &Context) -> (PairTarget, Option<PairTarget>) {
        let [low, high] = [self.list[0].user, self.list[1].user];
        let (low_home, high_home) = (ctx.home_of_user(low), ctx.home_of_user(high));
        if low_home == high_home {
            return ((low_home, Recipients::Two([low, high])), None);
        }
        ((low_home, Recipients::One(low)), Some((high_home, Recipients::One(high))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: u128) -> (UserKey, UserId) {
        (UserKey::from_u128(name << 2), UserId::new(&format!("user {name}")).unwrap())
    }

    fn at(seq: u64) -> Point {
        Point { seq: Sequence(seq), uncounted: 1 }
    }

    #[test]
    fn a_number_is_kept_over_leaving_and_coming_back() {
        let mut members = Members::new(&Card::Group);
        let (ann, bob) = (user(1), user(2));
        assert_eq!(members.join(ann.0, &ann.1, at(1)), MemberNumber(0));
        assert_eq!(members.join(bob.0, &bob.1, at(1)), MemberNumber(1));
        members.leave(MemberNumber(0), at(5));
        assert_eq!((members.present(), members.ever()), (1, 2));
        assert_eq!(members.join(ann.0, &ann.1, at(9)), MemberNumber(0));
        let member = members.get(MemberNumber(0));
        let readable: Vec<u64> = (0..12).filter(|seq| member.was_in(Sequence(*seq))).collect();
        assert_eq!(readable, [1, 2, 3, 4, 5, 9, 10, 11]);
        assert_eq!((member.read, member.delivered), (Sequence(9), Sequence(9)));
    }

    #[test]
    fn of_one_who_comes_and_goes_the_oldest_stretches_are_forgotten() {
        let mut members = Members::new(&Card::Group);
        let ann = user(1);
        for turn in 0..20 {
            let number = members.join(ann.0, &ann.1, at(turn * 10 + 1));
            members.leave(number, at(turn * 10 + 5));
        }
        let member = members.get(MemberNumber(0));
        assert_eq!(member.stretches.len(), STRETCHES_MAX);
        assert!(!member.was_in(Sequence(31)) && member.was_in(Sequence(41)));
        assert_eq!(member.head(at(500)), Point { seq: Sequence(195), uncounted: 1 });
    }
}
