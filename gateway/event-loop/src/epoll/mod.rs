//! The turn over mio. Everything is edge-triggered: a socket that reported readiness stays in our
//! own list until the kernel said "would block" or gave less than was asked for.

mod listeners;
mod perform;
mod socket;

use crate::actions::Actions;
use crate::clock;
use crate::event::{BatchFlow, CloseCause, Event, Handler, ListenerId, SocketId};
use crate::file_thread::FileThread;
use crate::gate::{Gate, Pass};
use crate::linger::Lingering;
use crate::listener::Listening;
use crate::sends::Sends;
use crate::settings::Settings;
use crate::wake::Waker;
use listeners::Listeners;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use roost_protocol::time::{Duration, Instant, Now};
use rustix::event::EventfdFlags;
use socket::Sockets;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// How many events one call to the kernel may bring.
const EVENTS_PER_TURN: usize = 1024;

/// The token of the waker's eventfd; sockets and listeners never look like it.
const WAKE_TOKEN: Token = Token(usize::MAX);

/// One thread's sockets on epoll.
#[derive(Debug)]
pub(crate) struct Epoll {
    poll: mio::Poll,
    waker: Waker,
    sockets: Sockets,
    listeners: Listeners,
    sends: Sends,
    lingering: Lingering,
    gate: Gate,
    /// Sockets that may have something to read.
    ready: VecDeque<SocketId>,
    /// Sockets whose peer ended its direction; they close once nothing is outstanding.
    ended: Vec<SocketId>,
    /// What came of actions, told in the next turn.
    outcomes: VecDeque<Outcome>,
    /// The tokens of sockets that connect, by slot.
    connecting: BTreeMap<u32, u64>,
    files: Option<FileThread>,
    receive_buffer: Vec<u8>,
    receives_per_turn: u8,
    tick: Duration,
    next_tick: Instant,
    /// When the handler wants a turn.
    wake_by: Option<Instant>,
}

/// An event that was caused by performing an action.
#[derive(Debug)]
enum Outcome {
    Connected { socket: SocketId, token: u64 },
    ConnectFailed { token: u64, error: io::Error },
    Sent { socket: SocketId, buffer: Vec<u8> },
    Closed { socket: SocketId, cause: CloseCause },
}

impl Epoll {
    pub(crate) fn new(settings: &Settings) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = Waker::new(EventfdFlags::NONBLOCK)?;
        let fd = waker.fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), WAKE_TOKEN, Interest::READABLE)?;
        Ok(Self {
            poll,
            waker,
            sockets: Sockets::new(settings.sockets_max),
            listeners: Listeners::default(),
            sends: Sends::default(),
            lingering: Lingering::new(settings),
            gate: Gate::new(settings),
            ready: VecDeque::new(),
            ended: Vec::new(),
            outcomes: VecDeque::new(),
            connecting: BTreeMap::new(),
            files: None,
            receive_buffer: vec![0; settings.receive_buffer_bytes.max(1)],
            receives_per_turn: settings.receives_per_turn(),
            tick: Duration::from_ms(settings.tick_ms.max(1)),
            next_tick: Instant::default(),
            wake_by: None,
        })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(crate) fn adopt_listener(&mut self, socket: Listening) -> io::Result<ListenerId> {
        self.listeners.add(self.poll.registry(), socket)
    }

    pub(crate) fn run(&mut self, handler: &mut dyn Handler) -> io::Result<()> {
        let mut events = mio::Events::with_capacity(EVENTS_PER_TURN);
        let mut actions = Actions::default();
        loop {
            self.wait(&mut events)?;
            let now = clock::now();
            let mut turn = Turn { now, handler, actions: &mut actions };
            self.tell_outcomes(&mut turn);
            self.tell_time(&mut turn);
            self.tell_files(&mut turn);
            self.open_gate(turn.actions.last_turn());
            for event in &events {
                self.note_readiness(event);
            }
            // Sockets that ended just now are told of before their slots are used again.
            self.tell_outcomes(&mut turn);
            self.accept_all(&mut turn);
            self.receive_all(&mut turn);
            let flow = handler.on_batch_end(now, &mut actions);
            self.perform_all(&mut actions);
            self.close_ended();
            actions.note_turn(now.monotonic);
            self.wake_by = match flow {
                BatchFlow::Continue => None,
                BatchFlow::WakeBy(by) => Some(by),
                BatchFlow::Stop => return Ok(()),
            };
        }
    }

    /// Asks the kernel what is ready, and sleeps until something is or a tick is due.
    fn wait(&mut self, events: &mut mio::Events) -> io::Result<()> {
        let now = clock::now().monotonic;
        let until = self.wake_by.map_or(self.next_tick, |by| by.min(self.next_tick));
        let mut rest = until.since(now);
        if self.has_work() {
            rest = Duration::default();
        }
        if rest > Duration::default() {
            self.waker.fall_asleep();
            if self.waker.is_pending() || self.has_work() {
                rest = Duration::default();
            }
        }
        let timeout = std::time::Duration::from_nanos(rest.ns);
        let outcome = self.poll.poll(events, Some(timeout));
        self.waker.wake_up();
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    fn has_work(&mut self) -> bool {
        !self.outcomes.is_empty()
            || !self.ready.is_empty()
            || !self.ended.is_empty()
            || self.gate.has_work()
            || self.listeners.has_work(self.sockets.is_full())
            || self.files.as_mut().is_some_and(FileThread::has_answers)
    }

    fn tell_outcomes(&mut self, turn: &mut Turn<'_>) {
        for outcome in std::mem::take(&mut self.outcomes) {
            if let Outcome::Sent { socket, .. } = &outcome
                && self.sockets.get_mut(*socket).is_some_and(|slot| slot.ended)
            {
                self.ended.push(*socket);
            }
            turn.tell(match outcome {
                Outcome::Connected { socket, token } => Event::Connected { socket, token },
                Outcome::ConnectFailed { token, error } => Event::ConnectFailed { token, error },
                Outcome::Sent { socket, buffer } => Event::Sent { socket, buffer },
                Outcome::Closed { socket, cause } => Event::Closed { socket, cause },
            });
        }
    }

    fn tell_time(&mut self, turn: &mut Turn<'_>) {
        if self.waker.take_pending() {
            turn.tell(Event::Woken);
        }
        if turn.now.monotonic >= self.next_tick {
            self.next_tick = turn.now.monotonic + self.tick;
            self.listeners.retry();
            self.close_overdue(turn.now.monotonic);
            turn.tell(Event::Tick);
        }
    }

    fn tell_files(&mut self, turn: &mut Turn<'_>) {
        let Some(files) = &mut self.files else { return };
        while let Some(done) = files.take_answer() {
            turn.tell(done);
        }
    }

    fn note_readiness(&mut self, event: &mio::event::Event) {
        let token = event.token();
        if token == WAKE_TOKEN {
            // The counter is emptied; what it means is in the waker's flags.
            if let Err(error) = rustix::io::read(self.waker.fd(), &mut [0; 8]) {
                tracing::debug!(%error, "an eventfd was not read");
            }
            return;
        }
        if let Some(listener) = Listeners::from_token(token) {
            self.listeners.note_ready(listener);
            return;
        }
        let socket = Sockets::from_token(token);
        let Some(slot) = self.sockets.get_mut(socket) else { return };
        if slot.connecting {
            self.finish_connect(socket);
            return;
        }
        if event.is_read_closed() || event.is_error() {
            slot.hung_up = true;
        }
        let failed_while_paused = event.is_error() && slot.paused;
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            slot.stands = self.gate.arrive(socket, slot.stands, slot.hung_up);
            if slot.stands == Pass::Past {
                self.want_receive(socket);
            }
        }
        if event.is_writable() {
            self.go_on_sending(socket);
        }
        if failed_while_paused {
            self.close_failed(socket);
        }
    }

    /// A turn begins: those at the gate have their share of it.
    fn open_gate(&mut self, last_turn: Duration) {
        self.gate.begin_turn(last_turn);
        while let Some(socket) = self.gate.next(|socket| {
            self.sockets.get_mut(socket).map(|slot| slot.stands = Pass::Past).is_some()
        }) {
            self.want_receive(socket);
        }
    }

    /// Remembers that a socket may have something to read. A paused one remembers it itself.
    fn want_receive(&mut self, socket: SocketId) {
        let Some(slot) = self.sockets.get_mut(socket) else { return };
        if slot.paused {
            slot.missed = true;
        } else if !slot.queued && !slot.ended && (!slot.closing || slot.lingering) {
            slot.queued = true;
            self.ready.push_back(socket);
        }
    }

    fn accept_all(&mut self, turn: &mut Turn<'_>) {
        // While newcomers wait at the gate, further ones wait in the kernel.
        while !self.gate.is_crowded()
            && let Some(listener) = self.listeners.next_ready()
        {
            let most = self.gate.accepts();
            self.listeners.accept(listener, most, self.poll.registry(), &mut self.sockets, turn);
        }
    }

    /// One round over all sockets that may have something: each takes at most its share.
    fn receive_all(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..self.ready.len() {
            let Some(socket) = self.ready.pop_front() else { return };
            self.receive(socket, turn);
        }
    }

    /// Closes what has lingered for long enough.
    fn close_overdue(&mut self, now: Instant) {
        while let Some(socket) = self.lingering.next_overdue(now) {
            self.finish(socket, CloseCause::Requested);
        }
    }

    /// Closes what the peer ended, where nothing is outstanding.
    fn close_ended(&mut self) {
        for socket in std::mem::take(&mut self.ended) {
            let sending = self.sockets.get_mut(socket).map(|slot| slot.send.is_some());
            if sending == Some(false) {
                self.finish(socket, CloseCause::Eof);
            }
        }
    }
}

/// What all of a turn shares.
struct Turn<'a> {
    now: Now,
    handler: &'a mut dyn Handler,
    actions: &'a mut Actions,
}

impl Turn<'_> {
    fn tell(&mut self, event: Event<'_>) {
        self.handler.on_event(self.now, event, self.actions);
    }

    fn tell_opened(&mut self, socket: SocketId, listener: ListenerId, peer: Option<SocketAddr>) {
        self.tell(Event::Opened { socket, listener, peer });
    }
}
