//! News about one conversation for one user: soft, merged, the highest wins.

use crate::shard::message::{Card, Membership, Point, ReceiptTold};
use roost_protocol::ids::{ConversationId, KeyKind, MessageId, Sequence, UserKey};
use std::sync::Arc;

/// Whether a conversation is in the list, or a stranger's who only asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not decided: it is when the news come to the list.
    #[default]
    Open,
    /// In the list.
    Accepted,
    /// A request, until it is accepted.
    Request,
}

/// Being in a group, or in a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Belonging {
    /// The member's number + 1; 0 in a channel that one merely reads.
    pub(crate) member: u32,
    /// The record that says so: the newest holds.
    pub(crate) since: Point,
    /// Not any more.
    pub(crate) left: bool,
    /// The newest record by which the user came: the read mark is there at least.
    pub(crate) joined: Point,
    /// Who let them in, if that is known.
    pub(crate) by: Option<UserKey>,
}

/// See the module's comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) conversation: ConversationId,
    /// The two users of a direct conversation; only those have one.
    pub(crate) card: Option<Arc<Card>>,
    pub(crate) head: Point,
    pub(crate) message_id: MessageId,
    /// Where sending moved the read mark.
    pub(crate) own_mark: Point,
    /// How far the other has got; in a group, all.
    pub(crate) peer_delivered: Sequence,
    pub(crate) peer_read: Sequence,
    pub(crate) membership: Option<Box<Belonging>>,
    pub(crate) standing: Standing,
}

/// What a delivery says to one of its recipients besides what it says to all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Own<'a> {
    /// Where sending moved their read mark.
    pub(crate) mark: Option<Point>,
    /// They wrote it.
    pub(crate) wrote: bool,
    /// They came or went.
    pub(crate) membership: Option<&'a Membership>,
    /// By whom.
    pub(crate) by: Option<UserKey>,
}

impl Row {
    pub(crate) fn new(conversation: ConversationId, card: &Arc<Card>) -> Self {
        let direct = conversation.kind() == KeyKind::Direct;
        Self {
            conversation,
            card: direct.then(|| Arc::clone(card)),
            head: Point::default(),
            message_id: MessageId(0),
            own_mark: Point::default(),
            peer_delivered: Sequence(0),
            peer_read: Sequence(0),
            membership: None,
            standing: Standing::Open,
        }
    }

    /// There is something new; says whether that was news here.
    pub(crate) fn deliver(&mut self, head: Point, id: MessageId, own: &Own<'_>) -> bool {
        let mut news = head.seq > self.head.seq;
        if news {
            self.head = head;
        }
        if id > self.message_id {
            self.message_id = id;
        }
        if let Some(mark) = own.mark
            && mark.seq > self.own_mark.seq
        {
            self.own_mark = mark;
            news = true;
        }
        if own.wrote && self.standing != Standing::Accepted {
            self.standing = Standing::Accepted;
            news = true;
        }
        if let Some(membership) = own.membership {
            news |= self.member(&Belonging::of(membership, own.by));
        }
        news
    }

    /// Somebody received or read what this user sent.
    pub(crate) fn receipt(&mut self, told: &ReceiptTold) -> bool {
        let before = (self.peer_delivered, self.peer_read);
        self.peer_delivered = self.peer_delivered.max(told.delivered);
        self.peer_read = self.peer_read.max(told.read);
        before != (self.peer_delivered, self.peer_read)
    }

    /// Came or went.
    pub(crate) fn member(&mut self, told: &Belonging) -> bool {
        let known = self.membership.get_or_insert_default();
        let mut news = false;
        if told.since.seq > known.since.seq || (known.since.seq.0 == 0 && **known != *told) {
            known.since = told.since;
            known.left = told.left;
            known.member = told.member;
            known.by = told.by;
            news = true;
        }
        if told.joined.seq > known.joined.seq {
            known.joined = told.joined;
            news = true;
        }
        news
    }

    /// Takes what is further of other news; says whether anything was. A request is only made with
    /// the entry: what is there is never turned into one.
    pub(crate) fn merge(&mut self, newer: &Self) -> bool {
        let own = Own {
            mark: Some(newer.own_mark),
            wrote: newer.standing == Standing::Accepted,
            ..Own::default()
        };
        let mut news = self.deliver(newer.head, newer.message_id, &own);
        if newer.peer_delivered > self.peer_delivered || newer.peer_read > self.peer_read {
            self.peer_delivered = self.peer_delivered.max(newer.peer_delivered);
            self.peer_read = self.peer_read.max(newer.peer_read);
            news = true;
        }
        if let Some(membership) = &newer.membership {
            news |= self.member(membership);
        }
        news
    }

    /// Whether the user is not in it any more.
    pub(crate) fn has_left(&self) -> bool {
        self.membership.as_ref().is_some_and(|membership| membership.left)
    }

    /// The newest record that the user may read.
    pub(crate) fn readable_head(&self) -> Point {
        let left = self.membership.as_ref().filter(|membership| membership.left);
        left.map_or(self.head, |membership| membership.since)
    }
}

impl Belonging {
    fn of(told: &Membership, by: Option<UserKey>) -> Self {
        Self {
            member: told.member.saturating_add(1),
            since: told.since,
            left: told.left,
            joined: if told.left { Point::default() } else { told.since },
            by,
        }
    }
}

/// The row of a conversation among some that are in order, made if it is not there.
pub(crate) fn row_of<'a>(
    rows: &'a mut Vec<Row>,
    conversation: ConversationId,
    card: &Arc<Card>,
) -> (&'a mut Row, bool) {
    let found = rows.binary_search_by_key(&conversation, |row| row.conversation);
    let place = found.unwrap_or_else(|place| {
        if rows.is_empty() {
            // Most have news of one conversation only, and a vector makes room for four.
            rows.reserve_exact(1);
        }
        rows.insert(place, Row::new(conversation, card));
        place
    });
    (&mut rows[place], found.is_err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_protocol::ids::UserId;

    fn at(seq: u64) -> Point {
        Point { seq: Sequence(seq), uncounted: 0 }
    }

    fn told(seq: u64, left: bool) -> Membership {
        let user_id = UserId::new("ann").unwrap();
        Membership { user: user_id.key(""), user_id, member: 4, since: at(seq), left }
    }

    fn group() -> Row {
        Row::new(ConversationId::from_u128(2), &Arc::new(Card::Group))
    }

    fn deliver(row: &mut Row, seq: u64, membership: &Membership) -> bool {
        let own = Own { membership: Some(membership), ..Own::default() };
        row.deliver(at(seq), MessageId(seq), &own)
    }

    #[test]
    fn the_newest_of_comings_and_goings_holds() {
        let mut row = group();
        assert!(deliver(&mut row, 5, &told(5, false)));
        assert!(deliver(&mut row, 9, &told(9, true)));
        assert_eq!(row.readable_head(), at(9));
        // An older one that is told again changes nothing.
        assert!(!deliver(&mut row, 5, &told(5, false)));
        // What was said since is not for somebody who left, whatever is merged on the way.
        row.deliver(at(12), MessageId(12), &Own::default());
        assert!(row.has_left());
        assert_eq!(row.readable_head(), at(9));
        assert!(deliver(&mut row, 20, &told(20, false)));
        let membership = row.membership.as_deref().unwrap();
        assert_eq!((membership.member, membership.joined), (5, at(20)));
        assert_eq!(row.readable_head(), at(20));
    }

    #[test]
    fn merging_does_not_depend_on_the_order() {
        let mut came = group();
        deliver(&mut came, 5, &told(5, false));
        let mut went = group();
        deliver(&mut went, 9, &told(9, true));
        let (mut one, mut other) = (came.clone(), went.clone());
        assert!(one.merge(&went));
        assert!(other.merge(&came));
        assert_eq!(one, other);
        assert!(!one.merge(&came));
    }

    #[test]
    fn a_row_is_small() {
        assert!(size_of::<Row>() <= 112, "{}", size_of::<Row>());
    }
}
