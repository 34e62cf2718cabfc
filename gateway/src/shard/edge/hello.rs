//! Who a device is: tokens, tickets, Welcome, Refresh.

use super::Edges;
use super::table::{Flags, State};
use crate::ids::{EdgeAddress, EdgeId};
use crate::shard::auth::ticket::Ticket;
use crate::shard::auth::token;
use crate::shard::context::Context;
use crate::shard::links::{Cause, Owed};
use crate::shard::message::{Register, ToOwnMailbox};
use crate::shard::output::Outbox;
use crate::shard::report::Report;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{DeviceId, UserId};
use roost_protocol::limits;
use roost_protocol::request::{self, Credential, Hello, Request};
use roost_protocol::wire::{self, ErrorCode, server_frame};

/// Who a credential proves its bearer to be.
struct Proven {
    user: UserId,
    device: DeviceId,
    issued_ms: u64,
    expires_ms: u64,
    ticket_epoch: Option<u32>,
}

impl Edges {
    /// The first frame. `Ok(false)`: later, the turn's verifications are used up.
    pub(super) fn take_hello(
        &mut self,
        ctx: &mut Context,
        _outbox: &mut Outbox,
        id: EdgeId,
        content: &[u8],
    ) -> Result<bool, Refusal> {
        let asked = request::decode(content)?;
        let expected = Refusal::new(ErrorCode::ErrorHelloExpected, "the first frame is Hello");
        if !asked.is_hello {
            return Err(expected);
        }
        if let Some(edge) = self.table.get(id) {
            edge.set_hello_id(asked.request_id);
        }
        let Request::Hello(hello) = asked.body? else { return Err(expected) };
        if self.verifications_left == 0 {
            if let Some(edge) = self.table.get(id) {
                edge.flags.set(Flags::DEFERRED, true);
                self.deferred.push_back(id);
            }
            return Ok(false);
        }
        self.verifications_left -= 1;
        let proven = match self.prove(ctx, &hello) {
            Ok(proven) => proven,
            Err(refusal) => {
                ctx.stats.hellos_refused_total += 1;
                ctx.reports.push(Report::HelloRefused { code: refusal.code });
                return Err(refusal);
            }
        };
        let user = proven.user.key(&self.config.tenant);
        let tick = self.tick;
        let Some(edge) = self.table.get(id) else { return Ok(true) };
        edge.state = State::Registering;
        edge.heard_tick = tick;
        edge.user_id = proven.user.clone().into();
        edge.device = proven.device;
        edge.connection = hello.connection_number;
        edge.flags.set(Flags::EXTENSION, hello.role == wire::Role::Extension);
        edge.flags
            .set(Flags::BACKGROUND, hello.activity != wire::ActivityState::ActivityForeground);
        edge.set_token_expiry(proven.expires_ms);
        let register = Register {
            edge: EdgeAddress { shard: ctx.links.me(), edge: id },
            user,
            user_id: proven.user,
            device: proven.device,
            connection: hello.connection_number,
            role: hello.role,
            token_issued_ms: proven.issued_ms,
            ticket_epoch: proven.ticket_epoch,
            activity: hello.activity,
            client: hello.client,
        };
        let to = ctx.home_of_user(user);
        let message = ToOwnMailbox::Register(Box::new(register));
        ctx.links.tell(to, message, Owed::Nothing, Cause::edge(id));
        Ok(true)
    }

    fn prove(&self, ctx: &Context, hello: &Hello) -> Result<Proven, Refusal> {
        match &hello.credential {
            Credential::Token(text) => {
                let config = &self.config;
                let claims =
                    token::verify(&config.token_keys, &config.token_rules, text, ctx.now.wall)?;
                let device = claims.device.or(hello.device).ok_or(Refusal::new(
                    ErrorCode::ErrorInvalidRequest,
                    "the token names no device, so hello.device must",
                ))?;
                Ok(Proven {
                    user: claims.user,
                    device,
                    issued_ms: claims.issued_ms,
                    expires_ms: claims.expires_ms,
                    ticket_epoch: None,
                })
            }
            Credential::Ticket(bytes) => {
                let sealer = self.sealer.as_ref().ok_or(Refusal::new(
                    ErrorCode::ErrorTicketInvalid,
                    "this server has no ticket keys",
                ))?;
                let ticket = sealer.open(bytes, ctx.now.wall)?;
                Ok(Proven {
                    user: ticket.user,
                    device: ticket.device,
                    issued_ms: ticket.token_issued_ms,
                    expires_ms: ticket.token_expires_ms,
                    ticket_epoch: Some(ticket.device_epoch),
                })
            }
        }
    }

    /// A ticket, and when it ends. When the token was issued is not kept: Hello and Refresh say it.
    fn ticket(&mut self, ctx: &Context, id: EdgeId, token_issued_ms: u64) -> (Vec<u8>, u64) {
        let Some(edge) = self.table.get(id) else { return (Vec::new(), 0) };
        let Some(user) = edge.user_id.get() else { return (Vec::new(), 0) };
        let grace_ms = ctx.limits.token_grace_ms;
        let ticket = Ticket {
            user,
            device: edge.device,
            device_epoch: edge.epoch(),
            issued_ms: ctx.now.wall.ms,
            expires_ms: Ticket::expiry_ms(ctx.now.wall, edge.token_expires_ms(), grace_ms),
            token_issued_ms,
            token_expires_ms: edge.token_expires_ms(),
        };
        let sealed = self.sealer.as_mut().map(|sealer| sealer.seal(&ticket)).unwrap_or_default();
        (sealed, ticket.expires_ms)
    }

    /// The mailbox took the device.
    pub(super) fn welcome(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        epoch: u32,
        token_issued_ms: u64,
    ) {
        let Some(hello_id) = self.table.welcome(id, epoch) else { return };
        self.entrance.prefixes.welcomed(id.slot);
        let (ticket, ticket_expires_ms) = self.ticket(ctx, id, token_issued_ms);
        let limits = &ctx.limits;
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let Some(edge) = self.table.get(id) else { return };
        let welcome = wire::Welcome {
            ticket: ticket.into(),
            heartbeat_foreground_ms: limits.heartbeat_foreground_ms,
            heartbeat_background_ms: limits.heartbeat_background_ms,
            server_time_ms: ctx.now.wall.ms,
            store_incarnation: self.config.incarnation,
            server_run: self.config.server_run,
            user: edge.user_id.get().map(|user| user.as_str().to_owned()).unwrap_or_default(),
            device: edge.device.0.to_vec().into(),
            limits: Some(wire::Limits {
                frame_max_bytes: limits.frame_max_bytes,
                body_max_bytes: limits.body_max_bytes,
                requests_in_flight_max: limits.requests_in_flight_max,
                unanswered_writes_max: number(limits::UNANSWERED_WRITES_MAX),
                history_page_max: number(limits::HISTORY_PAGE_MAX),
                sync_page_max: number(limits::SYNC_PAGE_MAX),
            }),
            ticket_expires_ms,
        };
        ctx.stats.welcomed_total += 1;
        self.queue_frame(ctx, id, hello_id, server_frame::Body::Welcome(welcome));
        self.go_on(ctx, outbox, id);
    }

    /// A new token on an open connection: the same user and device.
    pub(super) fn refresh(&mut self, ctx: &mut Context, id: EdgeId, request_id: u32, text: &str) {
        let config = &self.config;
        let claims = token::verify(&config.token_keys, &config.token_rules, text, ctx.now.wall);
        let claims = match claims {
            Ok(claims) => claims,
            Err(refusal) => return self.answer_error(ctx, id, request_id, refusal.to_wire()),
        };
        let Some(edge) = self.table.get(id) else { return };
        let same_user = edge.user_id.get().as_ref() == Some(&claims.user);
        if !same_user || claims.device.is_some_and(|device| device != edge.device) {
            let code = ErrorCode::ErrorTokenOtherUser;
            let refusal = Refusal::new(code, "the token is of another user or device");
            return self.answer_error(ctx, id, request_id, refusal.to_wire());
        }
        edge.set_token_expiry(claims.expires_ms);
        edge.flags.set(Flags::WARNED, false);
        edge.in_flight = edge.in_flight.saturating_sub(1);
        let (ticket, ticket_expires_ms) = self.ticket(ctx, id, claims.issued_ms);
        let refreshed = wire::Refreshed {
            ticket: ticket.into(),
            ticket_expires_ms,
            token_expires_ms: claims.expires_ms,
        };
        self.queue_frame(ctx, id, request_id, server_frame::Body::Refreshed(refreshed));
    }
}
