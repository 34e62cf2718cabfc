//! Requests of a welcomed device: check what only the edge can check, tell an actor.

use super::Edges;
use super::asks::tell_conversation;
use super::buckets::Costs;
use super::table::Flags;
use crate::ids::{EdgeAddress, EdgeId};
use crate::shard::context::Context;
use crate::shard::links::{Cause, Owed};
use crate::shard::message::{
    ActivityTold, DeliveredMark, HistoryAsk, ReadMark, RequestTag, Submit, SyncAsk, ToConversation,
    ToOwnMailbox,
};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, DeviceId, KeyKind, UserId, UserKey};
use roost_protocol::request::{
    self, Ask, Content, GroupChange, Hint, History, Mark, Request, Send, Target,
};
use roost_protocol::wire::{ActivityState, ErrorCode};

const TOO_MANY_IN_FLIGHT: Refusal = Refusal {
    code: ErrorCode::ErrorTooManyInFlight,
    text: "too many requests wait for their answers",
    retry_after_ms: 100,
};

/// Who asks, copied out of the table.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    pub(super) address: EdgeAddress,
    pub(super) user: UserKey,
    pub(super) device: DeviceId,
    pub(super) cause: Cause,
}

/// Whether nobody waits for an answer to it.
const fn is_notice(request: &Request) -> bool {
    matches!(
        request,
        Request::Delivered(_)
            | Request::Read(_)
            | Request::Activity(_)
            | Request::Hint(_)
            | Request::IgnoredNotice
    )
}

impl Edges {
    /// A frame of a welcomed device. An error ends the connection.
    pub(super) fn take_request(
        &mut self,
        ctx: &mut Context,
        id: EdgeId,
        content: &[u8],
    ) -> Result<bool, Refusal> {
        ctx.stats.requests_total += 1;
        let asked = request::decode(content)?;
        let request_id = asked.request_id;
        let Some(edge) = self.table.get(id) else { return Ok(true) };
        let extension = edge.flags.contains(Flags::EXTENSION);
        let Some(user) = edge.user(&self.config.tenant) else { return Ok(true) };
        let asker = Asker {
            address: EdgeAddress { shard: ctx.links.me(), edge: id },
            user,
            device: edge.device,
            cause: Cause::edge(id),
        };
        let is_notice = asked.body.as_ref().is_ok_and(is_notice);
        // A notice that has an id all the same gets no reply, so none is waited for.
        if request_id != 0 && !is_notice {
            if u32::from(edge.in_flight) >= ctx.limits.requests_in_flight_max {
                return self.say_no(ctx, id, request_id, &TOO_MANY_IN_FLIGHT);
            }
            edge.in_flight += 1;
        }
        let request = match asked.body {
            Ok(request) => request,
            Err(refusal) if request_id == 0 => {
                // About a notice: nobody waits for an answer, so it is only told.
                return self.say_no(ctx, id, 0, &refusal);
            }
            Err(refusal) => {
                self.answer_error(ctx, id, request_id, refusal.to_wire());
                return Ok(true);
            }
        };
        if let Err(refusal) = self.take_from_bucket(ctx, id, &request) {
            if request_id != 0 && !is_notice {
                self.answer_error(ctx, id, request_id, refusal.to_wire());
            }
            return Ok(true);
        }
        match request {
            Request::Hello(_) => {
                Err(Refusal::new(ErrorCode::ErrorHelloRepeated, "Hello comes once"))
            }
            Request::Send(_) | Request::Ask(_) if extension => {
                let code = ErrorCode::ErrorForbidden;
                let text = "a notification extension fetches and acknowledges, nothing else";
                let refusal = Refusal::new(code, text);
                self.answer_error(ctx, id, request_id, refusal.to_wire());
                Ok(true)
            }
            Request::Read(_) | Request::Activity(_) | Request::Hint(_) if extension => Ok(true),
            Request::Refresh { token } => {
                self.refresh(ctx, id, request_id, &token);
                Ok(true)
            }
            request @ (Request::Send(_)
            | Request::Sync { .. }
            | Request::History(_)
            | Request::Delivered(_)
            | Request::Read(_)
            | Request::Activity(_)
            | Request::Ask(_)
            | Request::Hint(_)
            | Request::IgnoredNotice) => {
                self.tell_actor(ctx, asker, request_id, request);
                Ok(true)
            }
        }
    }

    /// Counts a request against what the connection may ask.
    fn take_from_bucket(
        &mut self,
        ctx: &mut Context,
        id: EdgeId,
        request: &Request,
    ) -> Result<(), Refusal> {
        let Some(costs) = costs_of(request) else { return Ok(()) };
        let sharers = self.table.peek(id).map_or(1, |edge| edge.sharers);
        let now = ctx.now.monotonic;
        self.rates.take(&ctx.limits, now, id, costs, sharers).map_err(|retry_after_ms| {
            ctx.stats.rate_limited_total += 1;
            let code = ErrorCode::ErrorRateLimited;
            Refusal { retry_after_ms, ..Refusal::new(code, "too many of these just now") }
        })
    }

    /// Counts a write that may open a conversation. It comes back with the answer, unless one
    /// began.
    fn take_first_contact(&mut self, ctx: &mut Context, id: EdgeId) -> Result<(), Refusal> {
        let sharers = self.table.peek(id).map_or(1, |edge| edge.sharers);
        let now = ctx.now.monotonic;
        let taken = self.rates.take(&ctx.limits, now, id, Costs::FirstContact, sharers);
        taken.map_err(|retry_after_ms| {
            ctx.stats.rate_limited_total += 1;
            let text = "too many first contacts in this hour";
            Refusal { retry_after_ms, ..Refusal::new(ErrorCode::ErrorRateLimited, text) }
        })
    }

    fn say_no(
        &mut self,
        ctx: &mut Context,
        id: EdgeId,
        request_id: u32,
        refusal: &Refusal,
    ) -> Result<bool, Refusal> {
        ctx.stats.refusals_total += 1;
        self.queue_frame(
            ctx,
            id,
            request_id,
            roost_protocol::wire::server_frame::Body::Error(refusal.to_wire()),
        );
        Ok(true)
    }

    fn tell_actor(&mut self, ctx: &mut Context, asker: Asker, request_id: u32, request: Request) {
        match request {
            Request::Send(send) => self.submit(ctx, asker, request_id, send),
            Request::Sync { cursor, limit } => {
                let ask = SyncAsk {
                    edge: asker.address,
                    request: self.expect_page(asker, request_id),
                    user: asker.user,
                    cursor,
                    limit: u32::try_from(limit).unwrap_or(u32::MAX),
                };
                let to = ctx.home_of_user(asker.user);
                ctx.links.tell(to, ToOwnMailbox::Sync(ask), Owed::Nothing, asker.cause);
            }
            Request::History(history) => self.history(ctx, asker, request_id, &history),
            Request::Delivered(marks) => delivered(ctx, asker, &marks),
            Request::Read(marks) => read(ctx, asker, &marks),
            Request::Activity(state) => self.activity(ctx, asker, state),
            Request::Ask(ask) => self.ask(ctx, asker, request_id, ask),
            Request::Hint(hint) => self.hint(ctx, asker, hint),
            Request::Hello(_) | Request::Refresh { .. } | Request::IgnoredNotice => {}
        }
    }

    /// Keeps room for a page, until the answer comes.
    pub(super) fn expect_page(&mut self, asker: Asker, request_id: u32) -> RequestTag {
        if let Some(edge) = self.table.get(asker.address.edge) {
            edge.pages += 1;
        }
        RequestTag { id: request_id, page: true, contact: false }
    }

    /// The app came to the front, or went away: the mailbox knows who is there.
    fn activity(&mut self, ctx: &mut Context, asker: Asker, state: ActivityState) {
        let Some(edge) = self.table.get(asker.address.edge) else { return };
        edge.flags.set(Flags::BACKGROUND, state != ActivityState::ActivityForeground);
        let (user, device) = (asker.user, asker.device);
        let told = ActivityTold { edge: asker.address, user, device, state };
        let to = ctx.home_of_user(user);
        ctx.links.tell(to, ToOwnMailbox::Activity(told), Owed::Nothing, asker.cause);
    }

    /// The conversation a request means; with the peer when it names a user.
    fn target(
        &self,
        user: UserKey,
        target: &Target,
    ) -> Result<(ConversationId, Option<(UserKey, UserId)>), Refusal> {
        match target {
            Target::Conversation(id) => Ok((*id, None)),
            Target::User(peer) => {
                let key = peer.key(&self.config.tenant);
                if key == user {
                    return Err(Refusal::new(
                        ErrorCode::ErrorInvalidRequest,
                        "a direct conversation has two users",
                    ));
                }
                Ok((ConversationId::direct(user, key), Some((key, peer.clone()))))
            }
        }
    }

    fn submit(&mut self, ctx: &mut Context, asker: Asker, request_id: u32, send: Send) {
        let id = asker.address.edge;
        if let Content::Body(body) = &send.content
            && body.len() > ctx.limits.body_max_bytes as usize
        {
            let refusal = Refusal::new(ErrorCode::ErrorTooLarge, "the body is over the limit");
            return self.answer_error(ctx, id, request_id, refusal.to_wire());
        }
        let (conversation, peer) = match self.target(asker.user, &send.target) {
            Ok(target) => target,
            Err(refusal) => return self.answer_error(ctx, id, request_id, refusal.to_wire()),
        };
        let people = self.people(&send.content);
        let contact = send.first && peer.is_some();
        if contact && let Err(refusal) = self.take_first_contact(ctx, id) {
            return self.answer_error(ctx, id, request_id, refusal.to_wire());
        }
        let Some(edge) = self.table.get(id) else { return };
        let by_user = peer.is_some();
        let peer_key = peer.as_ref().map(|(key, _)| *key);
        let opening = match (send.first, peer, edge.user_id.get()) {
            (true, Some((_, peer)), Some(own)) => Some(Box::new((own, peer))),
            (_, _, _) => None,
        };
        let submit = Submit {
            edge: asker.address,
            request: RequestTag { id: request_id, page: false, contact },
            conversation,
            user: asker.user,
            opening,
            peer_key,
            by_user,
            device: edge.device,
            connection: edge.connection,
            client_message_id: send.client_message_id,
            client_sequence: send.client_sequence,
            seen: send.seen,
            seen_uncounted: send.seen_uncounted,
            reply_to: send.reply_to,
            content: send.content,
            people,
        };
        let request = submit.request;
        tell_conversation(ctx, asker, request, ToConversation::Submit(Box::new(submit)));
    }

    /// The keys of the users that a content names, in its order.
    fn people(&self, content: &Content) -> Vec<UserKey> {
        match content {
            Content::Group(
                GroupChange::Add(users)
                | GroupChange::Remove(users)
                | GroupChange::Promote(users)
                | GroupChange::Demote(users),
            ) => self.keys(users.iter()),
            Content::Group(GroupChange::Transfer(user)) => self.keys(std::iter::once(user)),
            Content::ToDevices { ciphertexts, versions, key_message: _ } => {
                let named = ciphertexts.iter().map(|ciphertext| &ciphertext.user);
                self.keys(named.chain(versions.iter().map(|version| &version.user)))
            }
            Content::Group(
                GroupChange::Rename(_)
                | GroupChange::Picture(_)
                | GroupChange::Leave
                | GroupChange::Dissolve,
            )
            | Content::Body(_)
            | Content::Edit { .. }
            | Content::Delete { .. }
            | Content::Reaction { .. }
            | Content::Forward { .. } => Vec::new(),
        }
    }

    fn history(&mut self, ctx: &mut Context, asker: Asker, request_id: u32, history: &History) {
        let (conversation, peer) = match self.target(asker.user, &history.target) {
            Ok(target) => target,
            Err(refusal) => {
                let id = asker.address.edge;
                return self.answer_error(ctx, id, request_id, refusal.to_wire());
            }
        };
        let ask = HistoryAsk {
            edge: asker.address,
            request: self.expect_page(asker, request_id),
            conversation,
            user: asker.user,
            device: asker.device,
            by_user: peer.is_some(),
            from: history.from,
            limit: u32::try_from(history.limit).unwrap_or(u32::MAX),
        };
        let request = ask.request;
        tell_conversation(ctx, asker, request, ToConversation::History(Box::new(ask)));
    }
}

/// What a request takes from the connection's buckets.
const fn costs_of(request: &Request) -> Option<Costs> {
    match request {
        Request::Send(Send { content: Content::Group(_), .. })
        | Request::Ask(Ask::CreateGroup(_) | Ask::JoinChannel { .. }) => Some(Costs::GroupChange),
        Request::Send(_) => Some(Costs::Send),
        Request::Sync { .. } | Request::History(_) | Request::Ask(_) => Some(Costs::Query),
        Request::Hint(
            Hint::Typing { .. } | Hint::WatchPresence { .. } | Hint::WatchChannel { .. },
        ) => Some(Costs::Query),
        Request::Hello(_)
        | Request::Refresh { .. }
        | Request::Delivered(_)
        | Request::Read(_)
        | Request::Activity(_)
        | Request::IgnoredNotice => None,
    }
}

fn delivered(ctx: &mut Context, asker: Asker, marks: &[Mark]) {
    for mark in marks.iter().filter(|mark| mark.conversation.kind() != KeyKind::Channel) {
        let message = ToConversation::Delivered(DeliveredMark {
            conversation: mark.conversation,
            user: asker.user,
            seq: mark.seq,
        });
        let to = ctx.home_of_conversation(mark.conversation);
        ctx.links.tell(to, message, Owed::Nothing, asker.cause);
    }
}

fn read(ctx: &mut Context, asker: Asker, marks: &[Mark]) {
    for mark in marks {
        let message = ToOwnMailbox::ReadMark(Box::new(ReadMark {
            edge: asker.address,
            user: asker.user,
            conversation: mark.conversation,
            seq: mark.seq,
            uncounted: mark.uncounted,
        }));
        let to = ctx.home_of_user(asker.user);
        ctx.links.tell(to, message, Owed::Nothing, asker.cause);
    }
}
