//! What is asked of a conversation, and what it passes on to a member's mailbox. Whoever was never
//! in it is told that there is none, whatever is asked; whoever left, that it is not allowed.

use super::members::{Member, MemberNumber};
use super::{Conversation, forbidden, invalid, not_found, unknown_conversation};
use crate::ids::{EdgeAddress, ShardId};
use crate::shard::context::{Context, Effect};
use crate::shard::links::{Cause, Owed};
use crate::shard::message::{
    Card, ConversationAsk, ConversationRequest, DevicesAsked, Hint, Part, PresenceAsked,
    PresenceLook, Recipients, Reply, RequestTag, ToEdge, ToMailbox, Watch,
};
use roost_protocol::encode;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{Sequence, UserId, UserKey};
use roost_protocol::limits::RECEIPT_DETAILS_PAGE_MAX;
use roost_protocol::wire::{self, server_frame};

/// Members of a group up to which it is told who writes.
const TYPING_MEMBERS_MAX: usize = 64;

impl Conversation {
    /// Answers a question, or passes it on.
    pub(crate) fn ask(&mut self, ctx: &mut Context, ask: &ConversationAsk, cause: Cause) {
        self.refresh_durable(ctx.store.durable());
        let answer = match &ask.what {
            ConversationRequest::WatchChannel { stop } => {
                return self.watch_channel(ctx, ask, *stop);
            }
            ConversationRequest::Describe => self.describe(ask.user),
            ConversationRequest::ListMembers { after_member, limit } => {
                self.list_members(ask.user, *after_member, *limit)
            }
            ConversationRequest::ReceiptDetails { seq, after_member } => {
                self.receipt_details(ask.user, *seq, *after_member)
            }
            ConversationRequest::UserDevices { about } => {
                return self.user_devices(ctx, ask, about, cause);
            }
        };
        match answer {
            Ok(body) => {
                let reply = Reply::Frame(Box::new(body));
                let what = ToEdge::Reply { request: ask.request, reply };
                let end = ctx.log_end();
                ctx.park(end, Effect::ToEdge { edge: ask.edge, what }, cause);
            }
            Err(refusal) => ctx.refuse(ask.edge, ask.request, &refusal),
        }
    }

    /// The asker's number, if they are in.
    fn asker(&self, user: UserKey) -> Result<MemberNumber, Refusal> {
        // What only a block began is nobody's business.
        let begun = self.head.seq.0 > 0;
        let number = self.members.find(user).filter(|_| begun).ok_or(unknown_conversation())?;
        if self.members.get(number).is_present() {
            Ok(number)
        } else {
            Err(forbidden("you are no longer in it"))
        }
    }

    fn describe(&self, user: UserKey) -> Result<server_frame::Body, Refusal> {
        // Who follows a channel is not known here, but in the mailbox that passed this on.
        let own = match self.asker(user) {
            Ok(number) => Some(self.wire_member(number)),
            Err(_) if self.is_channel() => None,
            Err(refusal) => return Err(refusal),
        };
        let count = match &self.group {
            Some(group) if group.channel.is_some() => {
                group.followers().max(self.members.present() as u64)
            }
            Some(_) | None => self.members.present() as u64,
        };
        let title = self.group.as_ref().map(|group| group.title.clone()).unwrap_or_default();
        let description = wire::ConversationDescription {
            conversation: self.id.to_wire(),
            kind: self.wire_kind().into(),
            name: title.name,
            picture: title.picture,
            member_count: u32::try_from(count).unwrap_or(u32::MAX),
            head: self.head.seq.0,
            own,
        };
        Ok(server_frame::Body::ConversationDescription(description))
    }

    fn wire_kind(&self) -> wire::ConversationKind {
        match &*self.card {
            Card::Direct(_) => wire::ConversationKind::KindDirect,
            Card::Group => wire::ConversationKind::KindGroup,
            Card::Channel => wire::ConversationKind::KindChannel,
        }
    }

    fn wire_member(&self, number: MemberNumber) -> wire::Member {
        let member = self.members.get(number);
        let id = member.user_id.as_ref().or_else(|| self.card.user_id(member.user));
        let last = member.stretches.last();
        wire::Member {
            member: number.to_wire(),
            user: id.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            role: member.role.to_wire(),
            joined_seq: last.map_or(0, |stretch| stretch.joined.0),
            left_seq: last.map_or(0, |stretch| stretch.left.0),
        }
    }

    /// Members with numbers (one more, as they travel) above this one.
    fn above(&self, after_member: u32) -> impl Iterator<Item = (MemberNumber, &Member)> {
        let skipped = usize::try_from(after_member).unwrap_or(usize::MAX);
        let numbered = self.members.list.iter().enumerate().skip(skipped);
        numbered.map(|(index, member)| (MemberNumber::of(index), member))
    }

    fn list_members(
        &self,
        user: UserKey,
        after_member: u32,
        limit: u32,
    ) -> Result<server_frame::Body, Refusal> {
        if let Err(refusal) = self.asker(user)
            && !self.is_channel()
        {
            return Err(refusal);
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut numbers = self.above(after_member).map(|(number, _)| number);
        let members = numbers.by_ref().take(limit).map(|n| self.wire_member(n)).collect();
        let more = numbers.next().is_some();
        Ok(server_frame::Body::MemberList(wire::MemberList { members, more }))
    }

    fn receipt_details(
        &self,
        user: UserKey,
        seq: Sequence,
        after_member: u32,
    ) -> Result<server_frame::Body, Refusal> {
        if self.is_channel() {
            return Err(invalid("a channel keeps no receipts"));
        }
        let asker = self.asker(user)?;
        if seq.0 == 0 || seq > self.durable.seq || !self.members.get(asker).was_in(seq) {
            return Err(not_found("there is no such message"));
        }
        let mut concerned = self.above(after_member).filter(|(_, member)| member.was_in(seq));
        let page = concerned.by_ref().take(RECEIPT_DETAILS_PAGE_MAX);
        let direct = self.is_direct();
        let members = page.map(|(number, member)| wire_receipt(number, member, direct)).collect();
        let more = concerned.next().is_some();
        let reply = wire::ReceiptDetailsReply { members, more };
        Ok(server_frame::Body::ReceiptDetails(reply))
    }

    /// The devices of one of the two: their mailbox answers.
    fn user_devices(
        &self,
        ctx: &mut Context,
        ask: &ConversationAsk,
        about: &(UserKey, UserId),
        cause: Cause,
    ) {
        // The first message may be in ciphertexts, so there need not be one yet.
        let allowed = self.members.find(ask.user).ok_or(unknown_conversation()).and_then(|asker| {
            if !self.is_direct() || self.members.find(about.0).is_none() {
                return Err(invalid("devices are of the two who talk"));
            }
            self.direct.as_ref().map_or(Ok(()), |direct| direct.permit(asker))
        });
        if let Err(refusal) = allowed {
            return refuse_part(ctx, ask.edge, ask.request, &refusal);
        }
        let (edge, request, about) = (ask.edge, ask.request, about.clone());
        let to = ctx.home_of_user(about.0);
        let message = ToMailbox::DevicesAsked(Box::new(DevicesAsked { edge, request, about }));
        ctx.links.tell(to, message, Owed::Nothing, cause);
    }

    /// Somebody looks at a user from here. Whether both are in it is all that is said of it.
    pub(crate) fn look(&self, ctx: &mut Context, look: PresenceLook, cause: Cause) {
        let is_in = |user| {
            let number = self.members.find(user);
            number.is_some_and(|number| self.members.get(number).is_present())
        };
        // What only a block began makes nobody a contact.
        let contact =
            self.head.seq.0 > 0 && !self.is_channel() && is_in(look.asker) && is_in(look.about.0);
        pass_look_on(ctx, look, contact, cause);
    }

    // ---- hints ----

    /// One of the members writes, or stopped: the others are told, if they are few.
    pub(crate) fn typing(&self, ctx: &mut Context, user: UserKey, stopped: bool) {
        let Some(number) = self.members.find(user) else { return };
        let blocked = self.direct.as_ref().is_some_and(|direct| direct.is_blocked());
        let crowd = self.members.present() > TYPING_MEMBERS_MAX;
        if blocked || crowd || self.is_channel() || !self.members.get(number).is_present() {
            return;
        }
        ctx.stats.typing_total += 1;
        let member = if self.is_direct() { 0 } else { number.to_wire() };
        let conversation = self.id.to_wire();
        let push = wire::TypingPush { conversation, member, stopped };
        let mut frame = Vec::new();
        encode::server(0, server_frame::Body::Typing(push), &mut frame);
        let frame = bytes::Bytes::from(frame);
        let mut by_shard: Vec<(ShardId, Vec<UserKey>)> =
            ctx.links.all().map(|shard| (shard, Vec::new())).collect();
        for (_, other) in self.members.iter_present().filter(|(other, _)| *other != number) {
            by_shard[ctx.home_of_user(other.user).index()].1.push(other.user);
        }
        for (to, users) in by_shard.into_iter().filter(|(_, users)| !users.is_empty()) {
            let recipients = match users.as_slice() {
                [user] => Recipients::One(*user),
                _ => Recipients::Many(users.into()),
            };
            ctx.links.hint(
                to,
                Hint::TypingTold { conversation: self.id, recipients, frame: frame.clone() },
            );
        }
    }
}

/// In groups, what somebody wrote says what they had read; of two, only a read mark does.
fn wire_receipt(number: MemberNumber, member: &Member, direct: bool) -> wire::MemberReceipt {
    let read = if direct { member.read } else { member.has_read() };
    let received = if direct { member.delivered.max(member.read) } else { member.has_received() };
    let (read, read_at_ms) = if member.private { (0, 0) } else { (read.0, member.read_ms) };
    wire::MemberReceipt {
        member: number.to_wire(),
        delivered: received.0,
        delivered_at_ms: member.delivered_ms.max(member.read_ms),
        read,
        read_at_ms,
    }
}

/// Lets the mailbox of the one looked at say what may be seen.
pub(crate) fn pass_look_on(ctx: &mut Context, look: PresenceLook, contact: bool, cause: Cause) {
    let PresenceLook { edge, request, asker, about, watch, .. } = look;
    let to = ctx.home_of_user(about.0);
    let asked = PresenceAsked { edge, request, asker, about, contact, watch };
    ctx.links.tell(to, ToMailbox::PresenceAsked(Box::new(asked)), Owed::Nothing, cause);
}

/// Nobody can be asked just now: what is looked at stays hidden.
pub(crate) fn hide(ctx: &mut Context, look: PresenceLook) {
    if look.watch == Watch::Once {
        let user = look.about.1.as_str().to_owned();
        let hidden = wire::Presence { user, online: false, last_seen_ms: 0 };
        let part = Part::Presence(hidden);
        ctx.links
            .tell_edge(look.edge, ToEdge::Part { request: look.request, part: Box::new(part) });
    }
}

/// No to a question that several actors answer.
pub(crate) fn refuse_part(
    ctx: &mut Context,
    edge: EdgeAddress,
    request: RequestTag,
    refusal: &Refusal,
) {
    ctx.stats.refusals_total += 1;
    let part = Part::Refused(Box::new(refusal.to_wire()));
    ctx.links.tell_edge(edge, ToEdge::Part { request, part: Box::new(part) });
}

/// Refuses a question in the way it is answered.
pub(crate) fn refuse_ask(ctx: &mut Context, ask: &ConversationAsk, refusal: &Refusal) {
    match ask.what {
        // A notice: nobody waits.
        ConversationRequest::WatchChannel { .. } => {}
        ConversationRequest::UserDevices { .. } => {
            refuse_part(ctx, ask.edge, ask.request, refusal);
        }
        ConversationRequest::Describe
        | ConversationRequest::ListMembers { .. }
        | ConversationRequest::ReceiptDetails { .. } => {
            ctx.refuse(ask.edge, ask.request, refusal);
        }
    }
}
