//! Messages that wait for credit or room and mean the same actor and thing become one.

use super::MergeKey;
use crate::shard::message::{Message, ToConversation, ToMailbox};

pub(super) fn merge_key(message: &Message) -> Option<MergeKey> {
    match message {
        Message::ToConversation(ToConversation::Delivered(mark)) => {
            Some(MergeKey(0, mark.conversation, mark.user))
        }
        Message::ToConversation(ToConversation::ReadTold(told)) => {
            Some(MergeKey(1, told.conversation, told.user))
        }
        Message::ToMailbox(ToMailbox::Deliver(deliver)) => deliver
            .recipients
            .as_slice()
            .first()
            .map(|user| MergeKey(2, deliver.conversation, *user)),
        Message::ToMailbox(ToMailbox::ReceiptTold(told)) => {
            Some(MergeKey(3, told.conversation, told.to))
        }
        Message::ToConversation(
            ToConversation::Submit(_)
            | ToConversation::History(_)
            | ToConversation::Create(_)
            | ToConversation::Ask(_)
            | ToConversation::Look(_)
            | ToConversation::BlockTold(_)
            | ToConversation::VersionTold(_)
            | ToConversation::ChannelTold(_),
        )
        | Message::ToMailbox(
            ToMailbox::PresenceAsked(_)
            | ToMailbox::DevicesAsked(_)
            | ToMailbox::BlockConfirmed(_)
            | ToMailbox::VersionWanted(_)
            | ToMailbox::ChannelConfirmed(_),
        )
        | Message::ToOwnMailbox(_)
        | Message::ToEdge { .. }
        | Message::ToEdges { .. } => None,
    }
}

/// Whether one that waits can take a newer one in: what is for a group is merged while it is for
/// the same members, else those who came would hear nothing, and those who went too much.
pub(super) fn may_merge(waiting: &Message, newer: &Message) -> bool {
    match (waiting, newer) {
        (
            Message::ToMailbox(ToMailbox::Deliver(old)),
            Message::ToMailbox(ToMailbox::Deliver(new)),
        ) => old.recipients == new.recipients,
        (_, _) => true,
    }
}

/// Folds a message into one that waits for the same actor about the same thing.
pub(super) fn merge(waiting: &mut Message, newer: Message) {
    match (waiting, newer) {
        (Message::ToConversation(old), Message::ToConversation(new)) => merge_marks(old, new),
        (Message::ToMailbox(old), Message::ToMailbox(new)) => merge_news(old, new),
        (_, _) => unreachable!("merge keys tell the kinds apart"),
    }
}

fn merge_marks(waiting: &mut ToConversation, newer: ToConversation) {
    match (waiting, newer) {
        (ToConversation::Delivered(old), ToConversation::Delivered(new)) => {
            old.seq = old.seq.max(new.seq);
        }
        (ToConversation::ReadTold(old), ToConversation::ReadTold(new)) => {
            if new.seq > old.seq {
                *old = new;
            }
        }
        (_, _) => unreachable!("merge keys tell the kinds apart"),
    }
}

/// Bodies are lost, never seqs.
fn merge_news(waiting: &mut ToMailbox, newer: ToMailbox) {
    match (waiting, newer) {
        (ToMailbox::Deliver(old), ToMailbox::Deliver(new)) => {
            if new.head.seq > old.head.seq {
                old.head = new.head;
                old.message_id = new.message_id;
            }
            for (user, point) in &new.own_marks {
                old.own_marks.merge(*user, *point);
            }
            for membership in new.memberships {
                let known = old.memberships.iter_mut().find(|known| known.user == membership.user);
                match known {
                    Some(known) if known.since.seq >= membership.since.seq => {}
                    Some(known) => *known = membership,
                    None => old.memberships.push(membership),
                }
            }
            old.fresh = None;
        }
        (ToMailbox::ReceiptTold(old), ToMailbox::ReceiptTold(new)) => {
            old.delivered = old.delivered.max(new.delivered);
            old.read = old.read.max(new.read);
        }
        (_, _) => unreachable!("merge keys tell the kinds apart"),
    }
}
