//! The session: inputs in, outputs out. Here it is put together and its turn is ordered; each
//! concern has a file of its own.
//!
//! A turn: the input is taken; then what can be sent is sent; then everything that changed leaves
//! as one record, with the events that wait for it.

use crate::arrivals;
use crate::asks::Questions;
use crate::backoff::Backoff;
use crate::config::{Config, Credential};
use crate::content;
use crate::event::Event;
use crate::interface::{Command, Input, Output, Peer, PersistId};
use crate::limits;
use crate::notices::Notices;
use crate::other_store::Checking;
use crate::record::{self, Change};
use crate::requests::{Asked, Connection};
use crate::state::{Restored, State};
use crate::sync::SyncRun;
use crate::timeline::Timeline;
use crate::watches::Watches;
use roost_protocol::encode;
use roost_protocol::ids::{ClientMessageId, ConversationId, Sequence};
use roost_protocol::request::Content;
use roost_protocol::time::{Instant, Now};
use roost_protocol::wire::{self, client_frame};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Not wanted.
    Off,
    /// Waits for a token.
    NeedsToken,
    /// Waits to connect again.
    Waiting(Instant),
    /// The driver connects.
    Connecting,
    /// Connected; Hello waits until the connection's number is persisted.
    Connected,
    /// Hello was sent.
    Greeting,
    Welcomed,
}

/// What happens when a record is confirmed.
#[derive(Debug)]
pub(crate) enum Effect {
    Tell(Event),
    /// Held without a hole up to here; `tell`: the server wants to know.
    Holds {
        conversation: ConversationId,
        up_to: u64,
        tell: bool,
    },
    /// The read mark may be said.
    ReadMark(ConversationId),
    /// An answer does not count as unanswered any more.
    Confirmed(Peer),
}

/// Records on their way.
#[derive(Debug, Default)]
pub(crate) struct Persisting {
    changes: Vec<Change>,
    /// Conversations whose holdings changed in this turn.
    pub(crate) touched: BTreeSet<ConversationId>,
    pub(crate) effects: Vec<Effect>,
    /// The last id given.
    last: u64,
    pub(crate) confirmed: PersistId,
    parked: VecDeque<(PersistId, Vec<Effect>)>,
}

/// One device of one user.
pub struct Session {
    pub(crate) config: Config,
    pub(crate) token: Option<String>,
    pub(crate) state: State,
    pub(crate) now: Now,
    pub(crate) link: Link,
    pub(crate) activity: wire::ActivityState,
    pub(crate) backoff: Backoff,
    pub(crate) number_persist: PersistId,
    /// The restored state has not been told since this app started.
    pub(crate) fresh: bool,
    pub(crate) persist: Persisting,
    pub(crate) connection: Connection,
    pub(crate) timeline: Timeline,
    pub(crate) notices: Notices,
    pub(crate) questions: Questions,
    pub(crate) watches: Watches,
    pub(crate) sync: SyncRun,
    pub(crate) checking: Option<Checking>,
    /// Lanes that may have something to send.
    pub(crate) ready: BTreeSet<Peer>,
    /// Lanes whose next send waits for its record.
    pub(crate) unconfirmed: BTreeSet<Peer>,
    /// Lanes that wait for a time.
    pub(crate) delayed: BTreeSet<Peer>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) outbox: Vec<u8>,
}

impl Session {
    /// A device that is not yet started.
    #[must_use]
    pub fn new(config: Config, credential: Credential, restored: Restored) -> Self {
        let token = match credential {
            Credential::Token(token) => Some(token),
            Credential::None => None,
        };
        let mut session = Self {
            token,
            now: Now::default(),
            link: Link::Off,
            activity: config.activity,
            backoff: Backoff::new(config.seed),
            number_persist: PersistId::default(),
            fresh: true,
            persist: Persisting::default(),
            connection: Connection::default(),
            timeline: Timeline::default(),
            notices: Notices::default(),
            questions: Questions::default(),
            watches: Watches::default(),
            sync: SyncRun::default(),
            checking: None,
            ready: BTreeSet::new(),
            unconfirmed: BTreeSet::new(),
            delayed: BTreeSet::new(),
            outputs: Vec::new(),
            outbox: Vec::new(),
            state: restored.state,
            config,
        };
        session.restore_wishes();
        session.restore_questions();
        session
    }

    /// Takes what happened; appends what should be done, in order.
    pub fn handle(&mut self, now: Now, input: Input<'_>, outputs: &mut Vec<Output>) {
        self.now = now;
        match input {
            Input::Start => self.start(),
            Input::Connected => self.connected(),
            Input::ConnectFailed => self.connect_failed(),
            Input::Received(bytes) => self.received(bytes),
            Input::Disconnected => self.disconnected(),
            Input::Tick => self.tick(),
            Input::Persisted(id) => self.persisted(id),
            Input::Token(token) => self.take_token(token),
            Input::Command(command) => self.command(command),
        }
        self.pump();
        while self.commit() {
            self.pump();
        }
        self.flush();
        outputs.append(&mut self.outputs);
    }

    /// When [`Input::Tick`] is due at the latest, if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let lanes = self.delayed.iter().filter_map(|peer| self.state.lanes.get(peer)?.delay_until);
        lanes.chain(self.connection_deadline()).min()
    }

    /// Nothing is on its way: no write or question without an answer, no *delivered* unsaid, no
    /// pull, sync or other request running, nothing unpersisted.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state.queued == 0
            && self.questions.len() == 0
            && self.connection.requests.is_empty()
            && self.persist.parked.is_empty()
            && self.persist.changes.is_empty()
            && self.notices.is_idle()
            && self.sync.is_idle()
            && self.checking.is_none()
            && self.timeline.is_idle()
    }

    /// Whether the server has welcomed this device on the present connection.
    #[must_use]
    pub fn is_welcomed(&self) -> bool {
        self.link == Link::Welcomed
    }

    /// How many questions have no answer yet.
    #[must_use]
    pub fn unanswered_asks(&self) -> usize {
        self.questions.len()
    }

    /// How many sends and other writes have no answer yet.
    #[must_use]
    pub const fn unanswered(&self) -> usize {
        self.state.queued
    }

    /// The sends that have no answer yet: the app's tag and the id of each.
    pub fn unanswered_sends(&self) -> impl Iterator<Item = (u64, ClientMessageId)> {
        let sends = self.state.lanes.values().flat_map(|lane| &lane.sends);
        sends.map(|send| (send.tag, ClientMessageId(send.id)))
    }

    /// The present state as few records that restore to it. A file may begin anew with them, as
    /// soon as every record before them was written.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Vec<u8>> {
        crate::snapshot::records(&self.state)
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send { to, body, tag } => {
                let said = content::said(Content::Body(body), Sequence::default());
                self.queue_write(&to, said, tag);
            }
            Command::Write { to, content, reply_to, tag } => {
                self.queue_write(&to, content::said(content, reply_to), tag);
            }
            Command::EncryptedAgain { client_message_id, content } => {
                self.encrypted_again(client_message_id.0, content);
            }
            Command::Ask { ask, tag } => self.queue_ask(ask, tag),
            Command::LookUp { history, tag } => self.queue_look_up(history, tag),
            Command::WatchPresence { of, stop } => self.watch_presence(of, stop),
            Command::WatchChannel { conversation, stop } => self.watch_channel(conversation, stop),
            Command::Typing { conversation, stopped } => self.typing(conversation, stopped),
            Command::Read { conversation, seq } => self.mark_read(conversation, seq.0),
            Command::SetActivity(state) => self.set_activity(state),
            Command::Sync => self.sync.wanted = true,
            Command::FetchOlder { conversation, limit } => self.fetch_older(conversation, limit),
            Command::Close => self.close(),
        }
    }

    /// Sends whatever can be sent now.
    fn pump(&mut self) {
        if self.link != Link::Welcomed {
            return;
        }
        self.pump_checks();
        if self.checking.is_none() {
            self.pump_lanes();
            self.pump_questions();
            self.pump_notices();
            self.pump_sync();
            self.pump_pulls();
        }
        self.leave_when_done();
    }

    /// Changes the state, and writes it down with this turn's record.
    pub(crate) fn change(&mut self, change: Change) {
        self.state.apply(&change);
        self.persist.changes.push(change);
    }

    /// The id of the record this turn's changes go into.
    pub(crate) const fn current_record(&self) -> PersistId {
        PersistId(self.persist.last.saturating_add(1))
    }

    /// An event for when this turn's record is confirmed.
    pub(crate) fn tell(&mut self, event: Event) {
        self.persist.effects.push(Effect::Tell(event));
    }

    /// An event at once.
    pub(crate) fn tell_now(&mut self, event: Event) {
        self.outputs.push(Output::Event(event));
    }

    /// Makes this turn's record. Whether effects ran at once, so that there may be more to send.
    fn commit(&mut self) -> bool {
        self.write_holdings();
        let changes = std::mem::take(&mut self.persist.changes);
        let effects = std::mem::take(&mut self.persist.effects);
        if changes.is_empty() {
            if effects.is_empty() {
                return false;
            }
            match self.persist.parked.back_mut() {
                Some((_, parked)) => parked.extend(effects),
                None => self.run(effects),
            }
            return true;
        }
        let mut record = vec![record::VERSION];
        for change in &changes {
            record::encode(change, &mut record);
        }
        let id = self.current_record();
        self.persist.last = id.0;
        self.persist.parked.push_back((id, effects));
        self.outputs.push(Output::Persist { id, record });
        false
    }

    fn persisted(&mut self, id: PersistId) {
        let known = id.0 <= self.persist.last;
        if !known || id <= self.persist.confirmed {
            return;
        }
        self.persist.confirmed = id;
        while self.persist.parked.front().is_some_and(|(parked, _)| *parked <= id) {
            let Some((_, effects)) = self.persist.parked.pop_front() else { break };
            self.run(effects);
        }
        self.ready.append(&mut self.unconfirmed);
        self.greet();
    }

    fn run(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Tell(event) => {
                    self.timeline.release(arrivals::bytes(&event));
                    self.outputs.push(Output::Event(event));
                }
                Effect::Holds { conversation, up_to, tell } => {
                    self.holds(conversation, up_to, tell);
                }
                Effect::ReadMark(conversation) => self.notices.read_due(conversation),
                Effect::Confirmed(peer) => self.answer_confirmed(&peer),
            }
        }
    }

    /// Asks the server.
    pub(crate) fn ask(&mut self, asked: Asked, body: client_frame::Body) {
        let deadline = self.now.monotonic + self.config.request_timeout;
        let id = self.connection.note(asked, deadline);
        self.transmit(id, body);
    }

    /// Puts a frame into the buffer that leaves at the end of the turn; 0 is a notice.
    pub(crate) fn transmit(&mut self, id: u32, body: client_frame::Body) {
        encode::client(id, body, &mut self.outbox);
        self.connection.last_sent = self.now.monotonic;
    }

    /// Hands over what is in the buffer.
    pub(crate) fn flush(&mut self) {
        if !self.outbox.is_empty() {
            let bytes = std::mem::take(&mut self.outbox);
            self.outputs.push(Output::Transmit(bytes));
        }
    }
}

/// Short, and without token or ticket.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("link", &self.link)
            .field("number", &self.state.connection_number)
            .field("cursor", &self.state.cursor)
            .field("requests", &self.connection.requests.len())
            .field("lanes", &self.state.lanes)
            .field("unconfirmed", &self.persist.parked.len())
            .field("notices", &self.notices)
            .field("questions", &self.questions)
            .field("sync", &self.sync)
            .field("timeline", &self.timeline)
            .field("checking", &self.checking)
            .finish_non_exhaustive()
    }
}

const _: () = assert!(limits::QUEUED_MAX < limits::CONVERSATIONS_MAX);
