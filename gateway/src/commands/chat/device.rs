//! The loop: what happens goes into the session, what comes out is done.
//!
//! The order of things, and why a kill at any moment loses and repeats nothing:
//!
//! 1. Everything that happened in a turn goes into the session, and whatever it wants persisted is
//!    confirmed to it at once, **but nothing it asks for is done yet**. So the session tells us in
//!    the same turn which messages it now holds.
//! 2. One batch goes into the state file: the session's records together with the lines that tell
//!    of them. It is flushed. Before that nobody has seen anything of this turn; a crash takes back
//!    the turn as a whole, and the server tells it again.
//! 3. Bytes leave, lines are printed, and the state file hears that they are.
//! 4. What was printed is marked as read, which is another round of the same.
//!
//! (Confirming only after the flush would bring the lines after it: a kill between the two would
//! lose messages that the session says it holds.) A run that finds lines which are not marked as
//! printed prints them first. Between printing and the mark lie two adjacent system calls. When
//! stdout is a regular file, the next run looks there how far the killed one came; of a pipe or a
//! terminal nobody can tell, and a line or a few can come again, with the same `seq`.

use super::ChatError;
use super::ask::Asked;
use super::connection::{Connection, Step};
use super::credentials::Credentials;
use super::lines::Typed;
use super::pending::{Effect, Pending, compacted};
use super::printer::Printer;
use super::render::{Rendered, Renderer};
use super::state_entries::{Batch, Owner, Seen, Unprinted};
use super::state_file::StateFile;
use super::status::Status;
use super::tls::TlsError;
use super::wake::Wake;
use roost_client::{Command, DisconnectReason, Event, Input, Output, Peer, Session};
use roost_event_loop::now;
use roost_protocol::error::name;
use roost_protocol::ids::{ConversationId, Sequence, UserId};
use roost_protocol::time::{Duration, Instant};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::Receiver;

/// Reads of the socket in a turn.
const STEPS_PER_TURN: usize = 16;
/// New tokens refused in a row before we believe it.
const TOKENS_REFUSED_MAX: u32 = 2;

/// What a device is made of.
pub(super) struct Parts {
    pub(super) session: Session,
    pub(super) state: StateFile,
    pub(super) owner: Owner,
    pub(super) connection: Connection,
    pub(super) printer: Printer,
    pub(super) renderer: Renderer,
    pub(super) credentials: Credentials,
    pub(super) typed: Option<Receiver<Typed>>,
    pub(super) wake: Wake,
    pub(super) me: UserId,
    /// Whom lines are for.
    pub(super) to: Option<Peer>,
    /// Lines that begin with a slash are commands.
    pub(super) takes_commands: bool,
    /// What is printed is marked as read.
    pub(super) marks_read: bool,
    pub(super) server: String,
    /// Leave when nothing happened for so long.
    pub(super) idle: Option<Duration>,
    /// A person types: the end of input means to leave.
    pub(super) is_interactive: bool,
}

/// A running device.
pub(super) struct Device {
    pub(super) parts: Parts,
    pending: Pending,
    pub(super) status: Status,
    next_tag: u64,
    /// Questions on their way, by tag.
    pub(super) asked: BTreeMap<u64, Asked>,
    /// The one that lines wait for.
    pub(super) awaited: Option<u64>,
    /// Texts of ciphertexts on their way, by tag.
    pub(super) ciphers: BTreeMap<u64, (ConversationId, String)>,
    /// Groups whose members were asked for.
    pub(super) names_asked: BTreeSet<ConversationId>,
    /// The highest member for whose name the list was asked, by group.
    pub(super) strangers_asked: BTreeMap<ConversationId, u32>,
}

impl Device {
    /// `unprinted`: lines of a run that was killed before it printed them.
    pub(super) fn new(parts: Parts, unprinted: Option<Unprinted>) -> Self {
        let now = now();
        let status = Status::new(now.monotonic);
        let mut pending = Pending::default();
        if let Some(mut lines) = unprinted {
            let out = parts.printer.already_out(&lines).min(lines.text.len());
            lines.text.drain(..out);
            (lines.printed, lines.place) = (0, None);
            pending = Pending { lines, is_stored: true, ..pending };
        }
        // Tags differ from those of earlier runs; nobody counts on more.
        let next_tag = now.wall.ms << 20;
        Self {
            parts,
            pending,
            status,
            next_tag,
            asked: BTreeMap::new(),
            awaited: None,
            ciphers: BTreeMap::new(),
            names_asked: BTreeSet::new(),
            strangers_asked: BTreeMap::new(),
        }
    }

    /// A name for the next thing that will be answered.
    pub(super) const fn new_tag(&mut self) -> u64 {
        let tag = self.next_tag;
        self.next_tag = tag.saturating_add(1);
        tag
    }

    /// Runs until there is a reason to end.
    pub(super) fn run(&mut self) -> Result<(), ChatError> {
        self.settle()?;
        self.feed(Input::Start);
        loop {
            self.settle()?;
            if let Some(failure) = self.status.failure.take() {
                return Err(failure);
            }
            if self.is_over()? {
                break;
            }
            self.wait()?;
            self.notice_work();
            self.take_lines();
            self.take_steps();
            if self.parts.session.next_deadline().is_some_and(|at| at <= now().monotonic) {
                self.feed(Input::Tick);
            }
        }
        self.feed(Input::Command(Command::Close));
        self.settle()?;
        match self.status.lines_refused {
            0 => Ok(()),
            lines => Err(ChatError::NotSent { lines }),
        }
    }

    /// Tells the person something outside the session.
    pub(super) fn say(&mut self, text: &str) {
        let lines = Unprinted { text: text.as_bytes().to_vec(), ..Unprinted::default() };
        // Nobody is there to be told that nobody is there.
        let _printed: Result<(), ChatError> = self.parts.printer.print(&lines, |_| Ok(()));
    }

    // ---- into the session ----

    pub(super) fn feed_command(&mut self, command: Command) {
        self.feed(Input::Command(command));
    }

    fn feed(&mut self, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.parts.session.handle(now(), input, &mut outputs);
        let mut queue = VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            match output {
                Output::Persist { id, record } => {
                    self.pending.batch.session(&record);
                    let mut outputs = Vec::new();
                    self.parts.session.handle(now(), Input::Persisted(id), &mut outputs);
                    queue.extend(outputs);
                }
                Output::Event(event) => self.event(&event),
                Output::Connect => self.pending.effects.push(Effect::Connect),
                Output::Transmit(bytes) => self.pending.effects.push(Effect::Transmit(bytes)),
                Output::Disconnect => {
                    self.status.abandoned = true;
                    self.pending.effects.push(Effect::Disconnect);
                }
                Output::NeedToken => self.pending.effects.push(Effect::NeedToken),
            }
        }
    }

    fn event(&mut self, event: &Event) {
        let unread = self.look_at_entry(event);
        let rendered = self.parts.renderer.event(event, unread);
        if rendered.is_stored {
            self.status.active(now().monotonic);
        }
        self.print(rendered);
        self.meet();
        match event {
            Event::Connected(welcomed) => {
                self.status.connected(now().monotonic);
                self.parts.renderer.device = welcomed.device;
                if welcomed.user != self.parts.me.as_str() {
                    let token = welcomed.user.clone();
                    self.status.failure = Some(ChatError::OtherUser { token });
                }
            }
            Event::Disconnected { reason, .. } => {
                self.status.disconnected(now().monotonic);
                if let DisconnectReason::Refused { code, text } = reason {
                    self.status.last_refusal = Some((name(*code), text.clone()));
                }
            }
            Event::Accepted { tag, .. } => drop(self.ciphers.remove(tag)),
            Event::Refused { tag, .. } => {
                self.ciphers.remove(tag);
                self.status.lines_refused = self.status.lines_refused.saturating_add(1);
            }
            Event::Answer { tag, answer } => self.answered(*tag, answer),
            Event::EncryptAgain { tag, client_message_id, .. } => {
                self.encrypt_again(*tag, *client_message_id);
            }
            Event::Fatal { code, text } => {
                let (code, text) = (name(*code), text.clone());
                self.status.failure = Some(ChatError::Refused { code, text });
            }
            Event::Message { .. }
            | Event::Record { .. }
            | Event::Delivered { .. }
            | Event::Read { .. }
            | Event::EntryChanged(_)
            | Event::Typing { .. }
            | Event::Presence(_)
            | Event::DevicesChanged { .. }
            | Event::Older { .. }
            | Event::Dropped { .. }
            | Event::CaughtUp => {}
        }
    }

    /// Learns who the other one is, and whether the person writes there; gives what is unread.
    fn look_at_entry(&mut self, event: &Event) -> u64 {
        let Some(id) = place_of(event) else { return 0 };
        let parts = &mut self.parts;
        if let Some(entry) = parts.session.entry_of(id) {
            parts.renderer.names.learn_peer(id, &entry.peer);
        }
        parts.renderer.current = match &parts.to {
            Some(Peer::Conversation(id)) => Some(*id),
            Some(Peer::User(user)) => parts.session.conversation_with(user),
            None => None,
        };
        parts.session.unread(id)
    }

    pub(super) fn print(&mut self, rendered: Rendered) {
        self.pending.lines.text.extend_from_slice(rendered.text.as_bytes());
        self.pending.lines.seen.extend(rendered.seen);
        self.pending.is_stored |= rendered.is_stored;
    }

    fn take_steps(&mut self) {
        self.status.more = false;
        for _ in 0..STEPS_PER_TURN {
            if self.status.abandoned {
                return;
            }
            match self.parts.connection.advance(now().monotonic) {
                Step::Nothing => return,
                Step::Connected => self.feed(Input::Connected),
                Step::Failed(error) => {
                    self.status.last_failure = Some(error);
                    self.feed(Input::ConnectFailed);
                }
                Step::Untrusted(error) => {
                    let server = self.parts.server.clone();
                    let error = ChatError::Tls(TlsError::Untrusted { server, error });
                    self.status.failure = Some(error);
                    self.feed(Input::ConnectFailed);
                }
                Step::Received(bytes) => self.feed(Input::Received(&bytes)),
                Step::Lost => self.feed(Input::Disconnected),
            }
        }
        self.status.more = true;
    }

    // ---- out of it ----

    /// Persists, then does, until nothing is left to do.
    fn settle(&mut self) -> Result<(), ChatError> {
        while !self.pending.is_empty() {
            for learned in self.parts.renderer.names.take_learned() {
                self.pending.batch.name(&learned);
            }
            let Pending { mut batch, mut lines, is_stored, effects } =
                std::mem::take(&mut self.pending);
            let is_stored = is_stored && !lines.text.is_empty();
            if is_stored {
                lines.place = self.parts.printer.place();
                batch.lines(&lines);
            }
            if !batch.is_empty() {
                self.parts.state.append(&batch)?;
                self.parts.state.flush()?;
            }
            for effect in effects {
                self.perform(effect)?;
            }
            let state = &mut self.parts.state;
            self.parts.printer.print(&lines, |printed| {
                if !is_stored {
                    return Ok(());
                }
                let mut mark = Batch::default();
                mark.printed(printed);
                state.append(&mark).map_err(ChatError::State)
            })?;
            if self.parts.marks_read {
                self.mark_read(&lines.seen);
            }
        }
        if self.parts.state.is_bloated(false) {
            self.compact()?;
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<(), ChatError> {
        let names = self.parts.renderer.names.all();
        let snapshot = compacted(&self.parts.owner, &self.parts.session, names);
        Ok(self.parts.state.compact(&snapshot)?)
    }

    fn perform(&mut self, effect: Effect) -> Result<(), ChatError> {
        match effect {
            Effect::Connect => {
                if let Err(error) = self.parts.connection.connect() {
                    self.status.last_failure = Some(error);
                    self.feed(Input::ConnectFailed);
                }
            }
            Effect::Transmit(bytes) => {
                self.parts.connection.send(&bytes);
                self.status.more = true;
            }
            Effect::Disconnect => {
                self.parts.connection.close();
                self.status.abandoned = false;
            }
            Effect::NeedToken => self.give_token()?,
        }
        Ok(())
    }

    /// The person has seen these: tells the server how far, once a conversation.
    fn mark_read(&mut self, seen: &[Seen]) {
        let mut newest: BTreeMap<ConversationId, Sequence> = BTreeMap::new();
        for Seen { conversation, seq } in seen {
            let newest = newest.entry(*conversation).or_default();
            *newest = (*newest).max(*seq);
        }
        for (conversation, seq) in newest {
            self.feed(Input::Command(Command::Read { conversation, seq }));
        }
    }

    fn give_token(&mut self) -> Result<(), ChatError> {
        // While connected the token is only about to expire, and another may do.
        if !self.status.is_connected() {
            self.status.tokens_refused = self.status.tokens_refused.saturating_add(1);
        }
        let renewed = self.parts.credentials.renew()?;
        match renewed {
            Some(token) if self.status.tokens_refused <= TOKENS_REFUSED_MAX => {
                self.feed(Input::Token(token));
            }
            None if self.status.is_connected() => {}
            Some(_) | None => {
                let (code, text) = self.status.last_refusal.take().unwrap_or_else(|| {
                    ("token_expired".to_owned(), "the server asks for a new token".to_owned())
                });
                self.status.failure = Some(ChatError::Refused { code, text });
            }
        }
        Ok(())
    }

    // ---- time ----

    /// A chat that waits for the server is not idle, however long that takes: it becomes so when
    /// the answer is here, and what there is to be told may come right behind that.
    fn notice_work(&mut self) {
        let is_at_work = self.unanswered() > 0 || !self.parts.session.is_idle();
        if is_at_work && self.status.is_connected() {
            self.status.active(now().monotonic);
        }
    }

    fn is_over(&self) -> Result<bool, ChatError> {
        if self.status.is_over(self.unanswered()) {
            return Ok(true);
        }
        if self.leaves_at().is_none_or(|due| due > now().monotonic) {
            return Ok(false);
        }
        if self.status.was_connected() {
            return Ok(true);
        }
        let server = self.parts.server.clone();
        let reason = self.status.last_failure.as_ref().map(ToString::to_string);
        Err(ChatError::Unreachable { server, reason: reason.unwrap_or_default() })
    }

    /// When it is time to leave, if nothing happens until then.
    fn leaves_at(&self) -> Option<Instant> {
        let session = &self.parts.session;
        self.status.leaves_at(self.parts.idle?, self.unanswered(), session.is_idle())
    }

    /// Lines without an answer.
    fn unanswered(&self) -> usize {
        let session = &self.parts.session;
        session.unanswered().saturating_add(session.unanswered_asks())
    }

    /// Waits for the socket, a line, or time to pass.
    fn wait(&self) -> Result<(), ChatError> {
        let now = now().monotonic;
        let due = [
            self.parts.session.next_deadline(),
            self.parts.connection.deadline(),
            self.leaves_at(),
            self.status.more.then_some(now),
        ];
        let wait = due.into_iter().flatten().min().map(|due| timespec(due.since(now)));
        let wake = self.parts.wake.fd();
        let mut fds = vec![PollFd::new(&wake, PollFlags::IN)];
        fds.extend(self.parts.connection.poll_fd());
        match poll(&mut fds, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ChatError::System(error.into())),
        }
        drop(fds);
        self.parts.wake.clear();
        Ok(())
    }
}

/// Where something happened.
fn place_of(event: &Event) -> Option<ConversationId> {
    if let Event::EntryChanged(entry) = event {
        return ConversationId::from_slice(&entry.conversation);
    }
    if let Event::Message { conversation, .. }
    | Event::Record { conversation, .. }
    | Event::Accepted { conversation, .. }
    | Event::Typing { conversation, .. } = event
    {
        return Some(*conversation);
    }
    None
}

fn timespec(wait: Duration) -> Timespec {
    let since = std::time::Duration::from_nanos(wait.ns);
    Timespec::try_from(since).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}
