//! How a conversation begins: a direct one with the first write or a block, a group or channel
//! because somebody asked for it.

use super::authors::{Author, Class};
use super::contents::Prepared;
use super::deliver::Writer;
use super::direct::card_of_block;
use super::members::{MemberNumber, PRESENT_MAX};
use super::records::{self, Title};
use super::{Conversation, Noted, group, invalid, next_message_id};
use crate::shard::context::{Context, Effect};
use crate::shard::links::Cause;
use crate::shard::message::{BlockTold, Card, Create, Point, Reply, Submit, ToEdge};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ClientMessageId, ConversationId, KeyKind, Sequence, UserId, UserKey};
use roost_protocol::wire::{self, server_frame};
use std::sync::Arc;

impl Conversation {
    /// Begins a direct conversation, if this write may; an error when just now it cannot.
    pub(crate) fn begin_by_write(
        ctx: &mut Context,
        submit: &Submit,
    ) -> Result<Option<Box<Self>>, Refusal> {
        let Some(card) = card_of_write(submit) else { return Ok(None) };
        if submit.client_sequence.0 != 1 {
            return Ok(None);
        }
        Self::begin_direct(ctx, submit.conversation, card).map(Some)
    }

    /// Begins a direct conversation in which nothing is said, for a block. Who does not block any
    /// more needs none.
    pub(crate) fn begin_by_block(
        ctx: &mut Context,
        told: &BlockTold,
    ) -> Result<Option<Box<Self>>, Refusal> {
        let card = card_of_block(told).filter(|_| told.blocked);
        let Some(card) = card else { return Ok(None) };
        Self::begin_direct(ctx, told.conversation, card).map(Some)
    }

    /// Begins the log with the record that holds both users in full.
    fn begin_direct(
        ctx: &mut Context,
        id: ConversationId,
        card: Card,
    ) -> Result<Box<Self>, Refusal> {
        let mut conversation = Box::new(Self::new(id, Arc::new(card)));
        let card = Arc::clone(&conversation.card);
        if let Card::Direct(users) = &*card {
            let body = records::encode_direct(users);
            conversation.append_state(ctx, records::KIND_DIRECT, &body)?;
        }
        Ok(conversation)
    }

    /// Begins a group or channel: its first record is a system message that names everybody.
    pub(crate) fn begin_group(
        ctx: &mut Context,
        create: &Create,
        cause: Cause,
    ) -> Result<Option<Box<Self>>, Refusal> {
        let channel = match create.conversation.kind() {
            KeyKind::Group => false,
            KeyKind::Channel => true,
            KeyKind::User | KeyKind::Direct => return Ok(None),
        };
        if channel && !create.members.is_empty() {
            return Err(invalid("those who follow a channel come by themselves"));
        }
        if create.members.len() > PRESENT_MAX {
            return Err(group::group_full());
        }
        let change = Self::draft_created(&create.creator, &create.members)?;
        let title = Title { name: create.name.clone(), picture: create.picture.clone() };
        let card = if channel { Card::Channel } else { Card::Group };
        let mut conversation = Box::new(Self::new(create.conversation, Arc::new(card)));
        let point = Point { seq: Sequence(1), uncounted: 1 };
        let message_id = next_message_id(ctx);
        let body = records::encode_group(&title, &change);
        let kind = records::KIND_GROUP;
        let appended = conversation.append(ctx, kind, point.seq, message_id, &[&body.bytes])?;
        conversation.pending.push(appended.position, point);
        conversation.begin_with(title, &change).expect("a change was made of what there is");
        let author = Author { member: MemberNumber(0), class: Class::Fixed };
        let noted = Noted { point, message_id, own_mark: point, author, counted: false };
        conversation.note(noted);
        conversation.answer_created(ctx, create, cause);
        let prepared = Prepared::change(change.clone());
        let writer = Writer {
            user: create.creator.0,
            edge: create.edge,
            client_message_id: ClientMessageId(0),
            reply_to: Sequence(0),
        };
        let fresh = conversation.fresh(writer, noted, prepared);
        if channel {
            conversation.deliver_change(ctx, &change, noted, fresh, appended, cause);
        } else {
            let memberships = conversation.memberships(&change, point);
            let targets = conversation.members.targets(ctx);
            conversation.deliver_to_all(
                ctx,
                &targets,
                &memberships,
                fresh,
                (noted, appended),
                cause,
            );
        }
        Ok(Some(conversation))
    }

    /// The first record of a group: the same when it is written and when it is read back.
    pub(crate) fn begin_with(
        &mut self,
        title: Title,
        change: &records::Change,
    ) -> Result<(), crate::shard::codec::Malformed> {
        let group = self.group.as_mut().ok_or(crate::shard::codec::Malformed)?;
        group.title = title;
        self.apply(change, Point { seq: Sequence(1), uncounted: 1 })?;
        self.count_last();
        Ok(())
    }

    /// Answers whoever creates, for the first time or again: nothing changes by repeating it,
    /// whatever else it says. The id is made of the creator's key, so nobody else can name it.
    pub(crate) fn answer_created(&self, ctx: &mut Context, create: &Create, cause: Cause) {
        let created = wire::GroupCreated {
            conversation: self.id.to_wire(),
            head: self.head_of(create.creator.0).seq.0,
        };
        let body = server_frame::Body::GroupCreated(created);
        let reply = Reply::Frame(Box::new(body));
        let what = ToEdge::Reply { request: create.request, reply };
        let end = ctx.log_end();
        ctx.park(end, Effect::ToEdge { edge: create.edge, what }, cause);
    }
}

/// The two users of a direct conversation, if a write names them and they are those of its id.
fn card_of_write(submit: &Submit) -> Option<Card> {
    let (own, peer) = submit.opening.as_deref()?;
    let peer_key = submit.peer_key?;
    let mut users: [(UserKey, UserId); 2] = [(submit.user, own.clone()), (peer_key, peer.clone())];
    users.sort();
    let id = ConversationId::direct(users[0].0, users[1].0);
    (id == submit.conversation && users[0].0 != users[1].0).then_some(Card::Direct(users))
}
