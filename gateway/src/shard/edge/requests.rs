//! Requests of a welcomed device: check what only the edge can check, tell an actor.

use super::Edges;
use crate::ids::{EdgeAddress, EdgeId};
use crate::shard::context::Context;
use crate::shard::links::{Cause, Owed};
use crate::shard::message::{
    DeliveredMark, HistoryAsk, ReadMark, RequestTag, Submit, SyncAsk, ToConversation, ToOwnMailbox,
};
use crate::shard::output::Outbox;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, UserId, UserKey};
use roost_protocol::request::{self, History, Mark, Request, Send, Target};
use roost_protocol::wire::{ActivityState, ErrorCode};

/// Who asks, copied out of the table.
#[derive(Clone, Copy)]
struct Asker {
    address: EdgeAddress,
    user: UserKey,
    cause: Cause,
}

impl Edges {
    /// A frame of a welcomed device. An error ends the connection.
    pub(super) fn take_request(
        &mut self,
        ctx: &mut Context,
        _outbox: &mut Outbox,
        id: EdgeId,
        content: &[u8],
    ) -> Result<bool, Refusal> {
        ctx.stats.requests_total += 1;
        let asked = request::decode(content)?;
        let request_id = asked.request_id;
        let Some(edge) = self.table.get(id) else { return Ok(true) };
        let extension = edge.flags.extension;
        let asker = Asker {
            address: EdgeAddress { shard: ctx.links.me(), edge: id },
            user: edge.user,
            cause: Cause::edge(id),
        };
        let is_notice = matches!(
            asked.body,
            Ok(Request::Delivered(_)
                | Request::Read(_)
                | Request::Activity(_)
                | Request::IgnoredNotice)
        );
        // A notice that has an id all the same gets no reply, so none is waited for.
        if request_id != 0 && !is_notice {
            if u32::from(edge.in_flight) >= ctx.limits.requests_in_flight_max {
                let refusal = Refusal {
                    retry_after_ms: 100,
                    ..Refusal::new(
                        ErrorCode::ErrorTooManyInFlight,
                        "too many requests wait for their answers",
                    )
                };
                return self.say_no(ctx, id, request_id, &refusal);
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
        match request {
            Request::Hello(_) => {
                Err(Refusal::new(ErrorCode::ErrorHelloRepeated, "Hello comes once"))
            }
            Request::Send(_) if extension => {
                let code = ErrorCode::ErrorForbidden;
                let refusal = Refusal::new(code, "a notification extension sends no messages");
                self.answer_error(ctx, id, request_id, refusal.to_wire());
                Ok(true)
            }
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
            | Request::IgnoredNotice) => {
                self.tell_actor(ctx, asker, request_id, request);
                Ok(true)
            }
        }
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
            Request::Activity(state) => {
                if let Some(edge) = self.table.get(asker.address.edge) {
                    edge.flags.background = state != ActivityState::ActivityForeground;
                }
            }
            Request::Hello(_) | Request::Refresh { .. } | Request::IgnoredNotice => {}
        }
    }

    /// Keeps room for a page, until the answer comes.
    fn expect_page(&mut self, asker: Asker, request_id: u32) -> RequestTag {
        if let Some(edge) = self.table.get(asker.address.edge) {
            edge.pages += 1;
        }
        RequestTag { id: request_id, page: true }
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
        if send.body.len() > ctx.limits.body_max_bytes as usize {
            let refusal = Refusal::new(ErrorCode::ErrorTooLarge, "the body is over the limit");
            return self.answer_error(ctx, id, request_id, refusal.to_wire());
        }
        let (conversation, peer) = match self.target(asker.user, &send.target) {
            Ok(target) => target,
            Err(refusal) => return self.answer_error(ctx, id, request_id, refusal.to_wire()),
        };
        let Some(edge) = self.table.get(id) else { return };
        let by_user = peer.is_some();
        let peer_key = peer.as_ref().map(|(key, _)| *key);
        let opening = match (send.first, peer, &edge.user_id) {
            (true, Some((_, peer)), Some(own)) => Some(Box::new((own.clone(), peer))),
            (_, _, _) => None,
        };
        let submit = Submit {
            edge: asker.address,
            request: RequestTag { id: request_id, page: false },
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
            body: send.body,
        };
        let to = ctx.home_of_conversation(conversation);
        ctx.links.tell(to, ToConversation::Submit(Box::new(submit)), Owed::Nothing, asker.cause);
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
            by_user: peer.is_some(),
            from: history.from,
            limit: u32::try_from(history.limit).unwrap_or(u32::MAX),
        };
        let to = ctx.home_of_conversation(conversation);
        ctx.links.tell(to, ToConversation::History(Box::new(ask)), Owed::Nothing, asker.cause);
    }
}

fn delivered(ctx: &mut Context, asker: Asker, marks: &[Mark]) {
    for mark in marks {
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
