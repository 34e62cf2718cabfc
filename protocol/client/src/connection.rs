//! Coming, staying and going: Hello, heartbeats, errors of the connection, and when to come back.

use crate::event::{DisconnectReason, Event, Welcomed};
use crate::interface::Output;
use crate::lane::Hold;
use crate::limits;
use crate::record::Change;
use crate::requests::{Asked, Connection, Leaving};
use crate::session::{Link, Session};
use bytes::Bytes;
use roost_protocol::frame::HEARTBEAT;
use roost_protocol::ids::DeviceId;
use roost_protocol::preface::PREFACE;
use roost_protocol::time::{Duration, Instant, Timestamp};
use roost_protocol::wire::{self, ErrorClass, ErrorCode, client_frame::Body};

impl Session {
    pub(crate) fn start(&mut self) {
        if matches!(self.link, Link::Off | Link::Waiting(_)) {
            self.begin();
        }
    }

    /// Connects, or asks for a token when there is nothing to say Hello with.
    fn begin(&mut self) {
        if self.token.is_none() && !self.ticket_is_valid() {
            self.link = Link::NeedsToken;
            self.outputs.push(Output::NeedToken);
            return;
        }
        let number = self.state.connection_number.saturating_add(1);
        self.change(Change::ConnectionNumber(number));
        self.number_persist = self.current_record();
        self.connection = Connection::new(self.now.monotonic);
        self.link = Link::Connecting;
        self.outputs.push(Output::Connect);
    }

    fn ticket_is_valid(&self) -> bool {
        let soon = self.now.wall.ms.saturating_add(limits::TICKET_MARGIN_MS);
        !self.state.ticket.is_empty() && self.state.ticket_expires_ms > soon
    }

    pub(crate) fn connected(&mut self) {
        if self.link == Link::Connecting {
            self.link = Link::Connected;
            self.connection.last_heard = self.now.monotonic;
            self.greet();
        }
    }

    /// Says Hello, when connected and the connection's number is persisted.
    pub(crate) fn greet(&mut self) {
        if self.link != Link::Connected || self.persist.confirmed < self.number_persist {
            return;
        }
        let with_ticket = self.ticket_is_valid();
        let (token, ticket) = match (with_ticket, &self.token) {
            (true, _) => (String::new(), self.state.ticket.clone()),
            (false, Some(token)) => (token.clone(), Bytes::new()),
            (false, None) => {
                let reason = DisconnectReason::Asked;
                return self.leave(reason, Some(limits::BACKOFF_MIN));
            }
        };
        let device =
            self.config.device.map_or_else(Bytes::new, |DeviceId(id)| Bytes::copy_from_slice(&id));
        let hello = wire::Hello {
            token,
            ticket,
            device,
            connection_number: self.state.connection_number,
            role: self.config.role.into(),
            activity: self.activity.into(),
            client: self.config.client.clone(),
        };
        self.connection.with_ticket = with_ticket;
        self.outbox.extend_from_slice(&PREFACE);
        self.ask(Asked::Hello, Body::Hello(hello));
        self.link = Link::Greeting;
    }

    pub(crate) fn welcome(&mut self, welcome: &wire::Welcome) {
        self.link = Link::Welcomed;
        self.connection.welcomed_at = Some(self.now.monotonic);
        self.connection.take_limits(welcome);
        self.keep_ticket(&welcome.ticket, welcome.ticket_expires_ms);
        let other_store = self.state.store != 0 && self.state.store != welcome.store_incarnation;
        let other_run = self.state.run != welcome.server_run;
        if self.state.store == 0 && welcome.store_incarnation != 0 {
            self.change(Change::Store(welcome.store_incarnation));
        }
        if other_run {
            self.change(Change::Run(welcome.server_run));
        }
        self.notices.welcomed(&self.state, other_run || self.fresh);
        self.fresh = false;
        self.sync.wanted = true;
        self.sync.next_at = self.now.monotonic + limits::SYNC_INTERVAL;
        self.ready.extend(self.state.lanes.keys().cloned());
        self.renew_watches();
        self.tell_now(Event::Connected(Welcomed {
            user: welcome.user.clone(),
            device: <[u8; 16]>::try_from(welcome.device.as_ref()).ok().map(DeviceId),
            server_time: Timestamp { ms: welcome.server_time_ms },
            other_store,
            other_run,
        }));
        if other_store {
            self.begin_checks(welcome.store_incarnation);
        }
    }

    pub(crate) fn keep_ticket(&mut self, ticket: &Bytes, expires_ms: u64) {
        if !ticket.is_empty() {
            self.change(Change::Ticket { ticket: ticket.clone(), expires_ms });
        }
    }

    pub(crate) fn take_token(&mut self, token: String) {
        self.token = Some(token);
        match self.link {
            Link::NeedsToken => self.begin(),
            Link::Welcomed => self.refresh(),
            Link::Off | Link::Waiting(_) | Link::Connecting | Link::Connected | Link::Greeting => {}
        }
    }

    /// The token ends soon. The old one stays for the case that the connection ends first.
    pub(crate) fn need_token(&mut self) {
        self.outputs.push(Output::NeedToken);
    }

    fn refresh(&mut self) {
        let token = self.token.clone().unwrap_or_default();
        let running = self.connection.requests.values().any(|asked| asked.asked == Asked::Refresh);
        if !running {
            self.ask(Asked::Refresh, Body::Refresh(wire::Refresh { token }));
        }
    }

    /// The token is refused on an open connection; a better one may come.
    pub(crate) fn refresh_refused(&mut self, error: &wire::Error) {
        self.token = None;
        if class(error) == ErrorClass::ClassNewToken {
            self.outputs.push(Output::NeedToken);
        }
    }

    pub(crate) fn set_activity(&mut self, state: wire::ActivityState) {
        self.activity = state;
        if self.link == Link::Welcomed {
            self.say_notices();
            self.transmit(0, Body::Activity(wire::Activity { state: state.into() }));
            self.sync.wanted |= state == wire::ActivityState::ActivityBackground;
        }
    }

    pub(crate) fn go_away(&mut self, go_away: wire::GoAway) {
        self.connection.leaving = Some(Leaving {
            deadline: self.now.monotonic + limits::LEAVE_WITHIN,
            delay: Duration::from_ms(go_away.reconnect_after_ms.into()).max(limits::BACKOFF_MIN),
            alternative: go_away.alternative,
        });
    }

    /// Leaves once what is in flight is answered, or took too long.
    pub(crate) fn leave_when_done(&mut self) {
        let Some(leaving) = &self.connection.leaving else { return };
        let late = self.now.monotonic >= leaving.deadline;
        if late || self.connection.requests.is_empty() {
            let (delay, alternative) = (leaving.delay, leaving.alternative.clone());
            self.leave(DisconnectReason::GoAway { alternative }, Some(delay));
        }
    }

    pub(crate) fn close(&mut self) {
        match self.link {
            Link::Off => {}
            Link::NeedsToken | Link::Waiting(_) => self.link = Link::Off,
            Link::Connecting | Link::Connected | Link::Greeting | Link::Welcomed => {
                if self.link == Link::Welcomed {
                    self.say_notices();
                }
                self.leave(DisconnectReason::Asked, None);
            }
        }
    }

    pub(crate) fn connect_failed(&mut self) {
        if self.link == Link::Connecting {
            let delay = self.backoff.next(0);
            self.lost(DisconnectReason::ConnectFailed, Some(delay));
        }
    }

    pub(crate) fn disconnected(&mut self) {
        if matches!(self.link, Link::Connected | Link::Greeting | Link::Welcomed) {
            let delay = self.next_delay(0);
            self.lost(DisconnectReason::Closed, Some(delay));
        }
    }

    /// The peer said what is not the protocol.
    pub(crate) fn broken(&mut self) {
        let delay = self.next_delay(0);
        self.leave(DisconnectReason::Protocol, Some(delay));
    }

    /// An error that means the connection.
    pub(crate) fn refused(&mut self, error: &wire::Error) {
        let code = code(error);
        let text = error.text.clone();
        let class = class(error);
        let expected = error.expected_connection_number;
        if code == ErrorCode::ErrorConnectionSuperseded && expected != 0 {
            let before = expected.saturating_sub(1).max(self.state.connection_number);
            self.change(Change::ConnectionNumber(before));
        } else if class == ErrorClass::ClassNever {
            self.leave(DisconnectReason::Refused { code, text: text.clone() }, None);
            return self.tell_now(Event::Fatal { code, text });
        } else if class == ErrorClass::ClassNewToken {
            if self.connection.with_ticket && self.link == Link::Greeting {
                self.change(Change::Ticket { ticket: Bytes::new(), expires_ms: 0 });
            } else {
                self.token = None;
            }
        }
        let delay = self.next_delay(error.retry_after_ms);
        self.leave(DisconnectReason::Refused { code, text }, Some(delay));
    }

    fn next_delay(&mut self, asked_ms: u32) -> Duration {
        let welcomed = self.connection.welcomed_at;
        if welcomed.is_some_and(|at| self.now.monotonic.since(at) >= limits::LASTED) {
            self.backoff.reset();
        }
        self.backoff.next(asked_ms)
    }

    /// Closes the connection ourselves.
    pub(crate) fn leave(&mut self, reason: DisconnectReason, retry_in: Option<Duration>) {
        self.flush();
        self.outputs.push(Output::Disconnect);
        self.lost(reason, retry_in);
    }

    /// The connection is no more: whatever it carried is unanswered.
    fn lost(&mut self, reason: DisconnectReason, retry_in: Option<Duration>) {
        self.outbox.clear();
        self.connection = Connection::new(self.now.monotonic);
        self.checking = None;
        self.sync.disconnected();
        self.notices.disconnected();
        self.questions.disconnected();
        self.watches.disconnected();
        self.disconnect_timeline();
        self.disconnect_lanes();
        self.link = retry_in.map_or(Link::Off, |delay| Link::Waiting(self.now.monotonic + delay));
        self.tell_now(Event::Disconnected { reason, retry_in });
    }

    /// What was refused for good is dropped now: the rest would only meet a gap.
    fn disconnect_lanes(&mut self) {
        let refusing: Vec<_> = self
            .state
            .lanes
            .iter_mut()
            .filter_map(|(peer, lane)| {
                let refusing = lane.sends.iter().any(|send| send.refused.is_some());
                lane.disconnect();
                refusing.then(|| peer.clone())
            })
            .collect();
        self.ready.clear();
        self.unconfirmed.clear();
        self.delayed.clear();
        for peer in refusing {
            self.state.lane(&peer).hold = Some(Hold::Refused);
            self.resolve_hold(&peer);
        }
    }

    fn heartbeat_interval(&self) -> Duration {
        match self.activity {
            wire::ActivityState::ActivityForeground => self.connection.foreground,
            wire::ActivityState::ActivityBackground | wire::ActivityState::ActivitySuspended => {
                self.connection.background
            }
        }
    }

    fn silent_at(&self) -> Instant {
        let interval = self.heartbeat_interval().ns;
        let patience = Duration { ns: interval.saturating_mul(5) / 2 };
        self.connection.last_heard + patience
    }

    /// When the next heartbeat leaves: nothing was sent, or nothing was heard, for an interval.
    fn heartbeat_at(&self) -> Instant {
        let asked = self.connection.last_heard.max(self.connection.last_heartbeat);
        self.connection.last_sent.min(asked) + self.heartbeat_interval()
    }

    /// What of the connection waits for a time.
    pub(crate) fn connection_deadline(&self) -> Option<Instant> {
        let oldest = self.connection.requests.values().next().map(|request| request.deadline);
        match self.link {
            Link::Off | Link::NeedsToken | Link::Connecting => None,
            Link::Waiting(until) => Some(until),
            Link::Connected | Link::Greeting => oldest,
            Link::Welcomed => {
                let leaving = self.connection.leaving.as_ref().map(|leaving| leaving.deadline);
                let due = self.silent_at().min(self.heartbeat_at()).min(self.sync.due_at());
                let paused = self.timeline.paused_until;
                let now = self.now.monotonic;
                let own = [self.questions.deadline(now), self.notices.deadline(now)];
                let watches = self.watches.deadline();
                let all = [oldest, leaving, paused, watches, Some(due)].into_iter().chain(own);
                all.flatten().min()
            }
        }
    }

    pub(crate) fn tick(&mut self) {
        let now = self.now.monotonic;
        match self.link {
            Link::Off | Link::NeedsToken | Link::Connecting => return,
            Link::Waiting(until) if now >= until => return self.begin(),
            Link::Waiting(_) => return,
            Link::Connected | Link::Greeting | Link::Welcomed => {}
        }
        let oldest = self.connection.requests.values().next();
        if oldest.is_some_and(|request| now >= request.deadline) {
            let delay = self.next_delay(0);
            return self.leave(DisconnectReason::Timeout, Some(delay));
        }
        if self.link != Link::Welcomed {
            return;
        }
        if now >= self.silent_at() {
            let delay = self.next_delay(0);
            return self.leave(DisconnectReason::Silent, Some(delay));
        }
        if now >= self.heartbeat_at() {
            self.outbox.push(HEARTBEAT);
            self.connection.last_sent = now;
            self.connection.last_heartbeat = now;
        }
        self.sync.tick(now);
        self.tick_watches();
        self.timeline.tick(now);
        self.wake_lanes();
    }
}

/// The code of an error; one we do not know is unspecified.
pub(crate) fn code(error: &wire::Error) -> ErrorCode {
    ErrorCode::try_from(error.code).unwrap_or(ErrorCode::ErrorUnspecified)
}

/// The class of an error; one we do not know is not repeated.
pub(crate) fn class(error: &wire::Error) -> ErrorClass {
    ErrorClass::try_from(error.class).unwrap_or(ErrorClass::ClassNever)
}
