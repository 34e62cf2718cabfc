//! Telling the members' mailboxes: one message to each shard that is home to one of them, with one
//! frame for all.

use super::contents::Prepared;
use super::members::{MemberNumber, Target};
use super::receipts::Got;
use super::records::Change;
use super::{Conversation, Noted, frame};
use crate::ids::{EdgeAddress, ShardId};
use crate::shard::context::{Context, Effect};
use crate::shard::links::{Cause, Owed};
use crate::shard::message::{
    Deliver, Fresh, Membership, OwnMarks, Point, Recipients, Submit, ToMailbox,
};
use bytes::Bytes;
use roost_protocol::encode::{self, PushedMessage};
use roost_protocol::ids::{ClientMessageId, MessageId, Sequence, UserKey};
use roost_protocol::wire::{self, message::Content, server_frame};
use roost_storage_engine::Appended;
use std::sync::Arc;

/// Who wrote a record, and by which request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer {
    pub(crate) user: UserKey,
    pub(crate) edge: EdgeAddress,
    pub(crate) client_message_id: ClientMessageId,
    pub(crate) reply_to: Sequence,
}

impl From<&Submit> for Writer {
    fn from(submit: &Submit) -> Self {
        Self {
            user: submit.user,
            edge: submit.edge,
            client_message_id: submit.client_message_id,
            reply_to: submit.reply_to,
        }
    }
}

impl Conversation {
    /// A record was written: everybody who is in at it is told once it is durable. The change it
    /// makes, if any, happens here, between those who are told and those who would be.
    pub(crate) fn deliver(
        &mut self,
        ctx: &mut Context,
        submit: &Submit,
        (noted, before): (Noted, Got),
        mut prepared: Prepared,
        appended: Appended,
        cause: Cause,
    ) {
        let change = prepared.change.take();
        if self.is_direct() {
            let fresh = self.fresh(submit.into(), noted, prepared);
            return self.deliver_to_two(ctx, noted, fresh, appended, cause);
        }
        let member = noted.author.member;
        let targets = self.targets_of(ctx, change.as_deref(), noted.point);
        if self.is_channel() {
            // What is said in a channel is pulled, by those who tend it, too.
            if let Some(change) = &change {
                let fresh = self.fresh(submit.into(), noted, prepared);
                self.deliver_change(ctx, change, noted, fresh, appended, cause);
            }
            return self.note_news(ctx, cause);
        }
        let memberships = change.as_deref().map(|change| self.memberships(change, noted.point));
        let fresh = self.fresh(submit.into(), noted, prepared);
        let memberships = memberships.unwrap_or_default();
        self.deliver_to_all(ctx, &targets, &memberships, fresh, (noted, appended), cause);
        let after = self.members.get(member).got();
        let changed = change.is_some();
        self.note_moved(ctx, (member, changed), (before, after), appended, cause);
    }

    /// Makes the change and gives those who get its record: with whoever came, and whoever went.
    pub(crate) fn targets_of(
        &mut self,
        ctx: &Context,
        change: Option<&Change>,
        at: Point,
    ) -> Arc<[Target]> {
        let Some(change) = change else { return self.members.targets(ctx) };
        let goes = |member: &wire::Member| member.left_seq == at.seq.0;
        let before = if change.message.members.iter().any(goes) {
            Some(self.members.targets(ctx))
        } else {
            None
        };
        self.apply(change, at).expect("a change was made of what there is");
        before.unwrap_or_else(|| self.members.targets(ctx))
    }

    /// What others get of a record, encoded once.
    pub(crate) fn fresh(&self, writer: Writer, noted: Noted, prepared: Prepared) -> Box<Fresh> {
        let sender = if self.is_direct() { 0 } else { noted.author.member.to_wire() };
        let message = PushedMessage {
            conversation: self.id,
            seq: noted.point.seq,
            message_id: noted.message_id,
            uncounted: noted.point.uncounted,
            client_message_id: None,
            sender,
            reply_to: writer.reply_to,
            content: prepared.content,
        };
        let frame = match &message.content {
            Content::Ciphertext(_) => without_content(&message),
            Content::Body(body) => frame::of_body(&message, body),
            Content::Edit(_)
            | Content::Delete(_)
            | Content::Reaction(_)
            | Content::Forward(_)
            | Content::System(_) => message.to_frame().into(),
        };
        Box::new(Fresh {
            frame,
            message,
            ciphertexts: prepared.ciphertexts,
            sender: writer.user,
            sender_edge: writer.edge,
            client_message_id: writer.client_message_id,
        })
    }

    fn deliver_to_two(
        &self,
        ctx: &mut Context,
        noted: Noted,
        fresh: Box<Fresh>,
        appended: Appended,
        cause: Cause,
    ) {
        let ((to, recipients), other) = self.members.pair_targets(ctx);
        ctx.store.owe(appended.segment, 1 + u32::from(other.is_some()));
        if let Some((to, recipients)) = other {
            let deliver = self.told(noted, recipients, Some(fresh.clone()), Vec::new());
            park(ctx, to, deliver, appended, cause);
        }
        let deliver = self.told(noted, recipients, Some(fresh), Vec::new());
        park(ctx, to, deliver, appended, cause);
    }

    /// To those of a group who get a record: one message to each shard.
    pub(crate) fn deliver_to_all(
        &self,
        ctx: &mut Context,
        targets: &[Target],
        memberships: &[Membership],
        fresh: Box<Fresh>,
        (noted, appended): (Noted, Appended),
        cause: Cause,
    ) {
        ctx.store.owe(appended.segment, u32::try_from(targets.len()).unwrap_or(u32::MAX));
        let mut fresh = Some(fresh);
        for (left, target) in (0..targets.len()).rev().zip(targets) {
            let recipients = Recipients::Many(Arc::clone(&target.users));
            let there = memberships
                .iter()
                .filter(|membership| ctx.home_of_user(membership.user) == target.shard)
                .cloned()
                .collect();
            // The last one takes it.
            let fresh = if left == 0 { fresh.take() } else { fresh.clone() };
            let deliver = self.told(noted, recipients, fresh, there);
            park(ctx, target.shard, deliver, appended, cause);
        }
    }

    /// To those whom a change of a channel concerns, one by one.
    pub(crate) fn deliver_change(
        &self,
        ctx: &mut Context,
        change: &Change,
        noted: Noted,
        fresh: Box<Fresh>,
        appended: Appended,
        cause: Cause,
    ) {
        let memberships = self.memberships(change, noted.point);
        for user in &change.keys {
            let own = memberships.iter().filter(|membership| membership.user == *user);
            let own: Vec<Membership> = own.cloned().collect();
            if own.is_empty() {
                continue;
            }
            ctx.store.owe(appended.segment, 1);
            let deliver = self.told(noted, Recipients::One(*user), Some(fresh.clone()), own);
            park(ctx, ctx.home_of_user(*user), deliver, appended, cause);
        }
    }

    fn told(
        &self,
        noted: Noted,
        recipients: Recipients,
        fresh: Option<Box<Fresh>>,
        memberships: Vec<Membership>,
    ) -> Deliver {
        let sender = self.members.get(noted.author.member).user;
        let here = recipients.as_slice().contains(&sender);
        Deliver {
            conversation: self.id,
            card: Arc::clone(&self.card),
            recipients,
            head: noted.point,
            message_id: noted.message_id,
            own_marks: if here { OwnMarks::One((sender, noted.own_mark)) } else { OwnMarks::None },
            memberships,
            fresh,
        }
    }

    /// Who came or went with a change. Whoever does not tend a channel any more still follows it.
    pub(crate) fn memberships(&self, change: &Change, at: Point) -> Vec<Membership> {
        let numbers = change.keys.iter().filter_map(|key| self.members.find(*key));
        let changed = numbers.filter(|number| self.members.get(*number).since().seq == at.seq);
        let told = changed.filter_map(|number| self.membership(number));
        told.filter(|membership| !(self.is_channel() && membership.left)).collect()
    }

    // ---- recovery ----

    /// Tells everybody again what this conversation's records owe. Returns how many messages.
    pub(crate) fn tell_again(&mut self, ctx: &mut Context) -> u64 {
        let mut told = 0;
        if self.head.seq.0 > 0 {
            told += if self.is_direct() {
                self.tell_two_again(ctx)
            } else {
                self.tell_present_again(ctx) + self.tell_former_again(ctx)
            };
        }
        told + self.tell_receipts_again(ctx)
    }

    fn tell_two_again(&self, ctx: &mut Context) -> u64 {
        let own_marks: Vec<_> = self.members.list.iter().map(|m| (m.user, m.own_mark)).collect();
        let (first, second) = self.members.pair_targets(ctx);
        let mut told = 0;
        for (to, recipients) in std::iter::once(first).chain(second) {
            let deliver = self.news(self.head, recipients, own_marks.clone(), Vec::new());
            tell(ctx, to, deliver);
            told += 1;
        }
        told
    }

    fn tell_present_again(&mut self, ctx: &mut Context) -> u64 {
        let targets = self.members.targets(ctx);
        // Posts do not move what entries of a channel show.
        let head = if self.is_channel() { Point::default() } else { self.head };
        for target in &*targets {
            let (mut own_marks, mut memberships) = (Vec::new(), Vec::new());
            for user in &*target.users {
                let Some(number) = self.members.find(*user) else { continue };
                own_marks.push((*user, self.members.get(number).own_mark));
                memberships.extend(self.membership(number));
            }
            let recipients = Recipients::Many(Arc::clone(&target.users));
            let deliver = self.news(head, recipients, own_marks, memberships);
            tell(ctx, target.shard, deliver);
        }
        targets.len() as u64
    }

    /// Whoever left has another head, so each is told alone.
    fn tell_former_again(&self, ctx: &mut Context) -> u64 {
        let mut told = 0;
        for (index, member) in self.members.list.iter().enumerate() {
            if member.is_present() || self.is_channel() {
                continue;
            }
            let recipients = Recipients::One(member.user);
            let own_marks = vec![(member.user, member.own_mark)];
            let membership = self.membership(MemberNumber::of(index)).into_iter().collect();
            let head = member.head(self.head);
            let deliver = self.news(head, recipients, own_marks, membership);
            tell(ctx, ctx.home_of_user(member.user), deliver);
            told += 1;
        }
        told
    }

    fn membership(&self, number: MemberNumber) -> Option<Membership> {
        let member = self.members.get(number);
        Some(Membership {
            user: member.user,
            user_id: member.user_id.clone()?,
            member: u32::from(number.0),
            since: member.since(),
            left: !member.is_present(),
        })
    }

    fn news(
        &self,
        head: Point,
        recipients: Recipients,
        own_marks: Vec<(UserKey, Point)>,
        memberships: Vec<Membership>,
    ) -> Deliver {
        Deliver {
            conversation: self.id,
            card: Arc::clone(&self.card),
            recipients,
            head,
            message_id: if head.seq == self.head.seq { self.head_message_id } else { MessageId(0) },
            own_marks: own_marks.into(),
            memberships,
            fresh: None,
        }
    }
}

/// Tells again what may be shown once everything appended so far is durable.
fn tell(ctx: &mut Context, to: ShardId, deliver: Deliver) {
    let message = ToMailbox::Deliver(Box::new(deliver)).into();
    let end = ctx.log_end();
    ctx.park(end, Effect::Tell { to, message, owed: Owed::Replay }, Cause::NONE);
}

fn park(ctx: &mut Context, to: ShardId, deliver: Deliver, at: Appended, cause: Cause) {
    let message = ToMailbox::Deliver(Box::new(deliver)).into();
    let owed = Owed::Segment(at.segment);
    ctx.park(at.position, Effect::Tell { to, message, owed }, cause);
}

/// The frame of a record whose content differs by device, for devices that have none.
fn without_content(message: &PushedMessage) -> Bytes {
    let wire = wire::Message {
        conversation: message.conversation.to_wire(),
        seq: message.seq.0,
        message_id: message.message_id.0,
        uncounted: message.uncounted,
        client_message_id: 0,
        sender: message.sender,
        reply_to: message.reply_to.0,
        content: None,
    };
    let mut out = Vec::new();
    encode::server(0, server_frame::Body::Message(wire), &mut out);
    out.into()
}
