//! The turn over `io_uring`: look which rings have work, enter those, hand over what completed,
//! perform the actions; sleep on the front ring when no ring has work.
//!
//! A socket waits with a multishot poll and owns no buffer; when the poll fires, one receive that
//! does not block goes into a buffer of the loop. Rings defer their completions until this thread
//! enters them, and say in shared memory that they have some. One eventfd, registered in all rings
//! that hold sockets, ends the sleep.
#![expect(unsafe_code, reason = "the kernel is given pointers")]

mod accept;
mod borrow;
mod connects;
mod files;
mod op;
mod peers;
mod perform;
mod probe;
mod receive;
mod ring;
mod rings;
mod slots;

pub(crate) use borrow::borrow_fd;
pub(crate) use probe::probe;

use crate::actions::Actions;
use crate::clock;
use crate::event::{BatchFlow, CloseCause, Event, Handler, Limit, ListenerId, SocketId};
use crate::gate::Gate;
use crate::linger::Lingering;
use crate::listener::Listening;
use crate::sends::Sends;
use crate::settings::{Accepting, Settings};
use crate::wake::Waker;
use accept::Listeners;
use connects::Connects;
use files::Files;
use io_uring::{opcode, types};
use op::{Op, Tag};
use peers::Peers;
use receive::Arena;
use ring::{Completion, Ring};
use rings::Rings;
use roost_protocol::time::{Duration, Instant, Now};
use rustix::event::EventfdFlags;
pub use slots::SOCKET_BYTES;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsRawFd;

/// How often one ring is entered in a turn for receiving before the others have theirs.
const ENTERS_PER_TURN: u32 = 3;
/// How often all rings together are then entered only to hear which other sockets are ready, some
/// twenty each time: so who has something to say is known although many others end. Hearing of one
/// that was idle takes up to 3 microseconds, for nothing of it is in a cache.
const NOTING_ENTERS_PER_TURN: u32 = 64;

/// One thread's sockets on `io_uring`.
#[derive(Debug)]
pub(crate) struct Uring {
    /// Files and the eventfd; this thread sleeps on it. It holds no sockets.
    front: Ring,
    rings: Rings,
    waker: Waker,
    listeners: Listeners,
    gate: Gate,
    /// Which ring has its turn first, so that none is always behind the others.
    first_ring: usize,
    noting_left: u32,
    connects: Connects,
    peers: Peers,
    files: Files,
    sends: Sends,
    lingering: Lingering,
    arena: Arena,
    /// Why sockets that are being closed are closed, by slot.
    causes: BTreeMap<u32, CloseCause>,
    /// Sockets whose peer ended its direction; they close once nothing is outstanding.
    ended: Vec<SocketId>,
    /// What came of actions, told in the next turn.
    outcomes: VecDeque<Outcome>,
    batch: Vec<Completion>,
    /// Where the kernel puts the eventfd's counter.
    wake_count: Box<[u8; 8]>,
    wake_armed: bool,
    receives_per_turn: u8,
    tick: Duration,
    next_tick: Instant,
    /// When the handler wants a turn.
    wake_by: Option<Instant>,
}

/// An event that was caused by performing an action.
#[derive(Debug)]
enum Outcome {
    ConnectFailed { token: u64, error: io::Error },
    ListenerPaused { listener: ListenerId, reason: Limit },
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
}

impl Uring {
    pub(crate) fn new(settings: &Settings) -> io::Result<Self> {
        let waker = Waker::new(EventfdFlags::empty())?;
        let files = Files::new(settings, &waker);
        Ok(Self {
            front: Ring::new(0, None)?,
            rings: Rings::new(settings, waker.fd())?,
            waker,
            listeners: Listeners::default(),
            gate: Gate::new(settings),
            first_ring: 0,
            noting_left: 0,
            connects: Connects::default(),
            peers: Peers::default(),
            files,
            sends: Sends::default(),
            lingering: Lingering::new(settings),
            arena: Arena::new(settings.receive_buffer_bytes.max(1)),
            causes: BTreeMap::new(),
            ended: Vec::new(),
            outcomes: VecDeque::new(),
            batch: Vec::new(),
            wake_count: Box::default(),
            wake_armed: false,
            receives_per_turn: settings.receives_per_turn(),
            tick: Duration::from_ms(settings.tick_ms.max(1)),
            next_tick: Instant::default(),
            wake_by: None,
        })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(crate) const fn writes_come_first(&self) -> bool {
        self.files.has_writer()
    }

    pub(crate) const fn rings(&self) -> usize {
        self.rings.len()
    }

    pub(crate) fn adopt_listener(
        &mut self,
        socket: Listening,
        accepting: Accepting,
    ) -> io::Result<ListenerId> {
        self.listeners.add(socket, accepting)
    }

    pub(crate) fn run(&mut self, handler: &mut dyn Handler) -> io::Result<()> {
        let mut actions = Actions::default();
        self.arm_listeners()?;
        loop {
            self.sleep()?;
            let now = clock::now();
            let mut turn = Turn { now, handler, actions: &mut actions };
            self.tell_outcomes(&mut turn);
            self.tell_time(&mut turn)?;
            self.turn_front(&mut turn)?;
            self.open_gate(turn.actions.last_turn());
            let rings = self.rings.len();
            self.noting_left = NOTING_ENTERS_PER_TURN;
            self.first_ring = (self.first_ring + 1) % rings;
            for at in 0..rings {
                self.turn_ring((self.first_ring + at) % rings, &mut turn)?;
            }
            let flow = handler.on_batch_end(now, &mut actions);
            self.perform_all(&mut actions)?;
            self.close_ended()?;
            self.arm_listeners()?;
            actions.note_turn(now.monotonic);
            self.wake_by = match flow {
                BatchFlow::Continue => None,
                BatchFlow::WakeBy(by) => Some(by),
                BatchFlow::Stop => return self.submit_all(),
            };
        }
    }

    /// Sleeps until something happens or a tick is due; returns at once when there is work.
    fn sleep(&mut self) -> io::Result<()> {
        if self.has_work() {
            return Ok(());
        }
        let until = self.wake_by.map_or(self.next_tick, |by| by.min(self.next_tick));
        let rest = until.since(clock::now().monotonic);
        if rest == Duration::default() {
            return Ok(());
        }
        for ring in self.rings.iter_mut() {
            ring.ring.set_wakes(true);
        }
        // From here on whatever happens writes the eventfd. What happened before is seen by the
        // second look: the announcement contains a full fence.
        self.waker.fall_asleep();
        let outcome = self.sleep_announced(rest);
        self.waker.wake_up();
        for ring in self.rings.iter_mut() {
            ring.ring.set_wakes(false);
        }
        outcome
    }

    fn sleep_announced(&mut self, rest: Duration) -> io::Result<()> {
        for ring in self.rings.iter_mut() {
            // What was put off before the announcement writes nothing, and this flag does not tell.
            if ring.ring.is_doubtful() {
                ring.ring.enter_for_all()?;
            }
        }
        if self.has_work() { Ok(()) } else { self.sleep_on_front(rest) }
    }

    fn sleep_on_front(&mut self, rest: Duration) -> io::Result<()> {
        if !self.wake_armed {
            let to = self.wake_count.as_mut_ptr();
            let read = opcode::Read::new(types::Fd(self.waker.fd().as_raw_fd()), to, 8).build();
            let read = read.user_data(Tag::index(Op::Wake, 0).encode());
            // SAFETY: the counter's box lives as long as the ring; one read at a time uses it.
            unsafe { self.front.push(&read) }?;
            self.wake_armed = true;
        }
        self.front.sleep(rest)
    }

    fn has_work(&mut self) -> bool {
        self.waker.is_pending()
            || !self.outcomes.is_empty()
            || !self.ended.is_empty()
            || self.gate.has_work()
            || self.files.has_answers()
            || self.front.has_work()
            || self.rings.iter_mut().any(rings::SocketRing::has_work)
    }

    fn tell_outcomes(&mut self, turn: &mut Turn<'_>) {
        for outcome in std::mem::take(&mut self.outcomes) {
            turn.tell(match outcome {
                Outcome::ConnectFailed { token, error } => Event::ConnectFailed { token, error },
                Outcome::ListenerPaused { listener, reason } => {
                    Event::ListenerPaused { listener, reason }
                }
            });
        }
    }

    fn tell_time(&mut self, turn: &mut Turn<'_>) -> io::Result<()> {
        if self.waker.take_pending() {
            turn.tell(Event::Woken);
        }
        if turn.now.monotonic >= self.next_tick {
            self.next_tick = turn.now.monotonic + self.tick;
            self.listeners.retry();
            while let Some(socket) = self.lingering.next_overdue(turn.now.monotonic) {
                self.finish(socket, CloseCause::Requested)?;
            }
            self.give_back_rings()?;
            self.files.give_back();
            turn.tell(Event::Tick);
        }
        Ok(())
    }

    /// Lets go of rings at the end that nobody needs any more.
    fn give_back_rings(&mut self) -> io::Result<()> {
        let Some(enough) = self.rings.enough() else { return Ok(()) };
        if self.leave_rings(enough)? {
            self.rings.keep(enough);
        }
        Ok(())
    }

    fn turn_front(&mut self, turn: &mut Turn<'_>) -> io::Result<()> {
        while let Some(done) = self.files.take_answer() {
            turn.tell(done);
        }
        if !self.front.has_work() && !self.front.is_doubtful() {
            return Ok(());
        }
        self.front.enter()?;
        let mut batch = std::mem::take(&mut self.batch);
        self.front.take(&mut batch);
        for completion in batch.drain(..) {
            let tag = Tag::decode(completion.user_data);
            if tag.op == Op::Wake {
                self.wake_armed = false;
            } else if let Some(event) = self.files.complete(&mut self.front, tag, completion)? {
                turn.tell(event);
            }
        }
        self.batch = batch;
        Ok(())
    }

    fn turn_ring(&mut self, index: usize, turn: &mut Turn<'_>) -> io::Result<()> {
        self.bring_back_later(index);
        let mut doubtful = self.rings.at(index).ring.is_doubtful();
        for _ in 0..ENTERS_PER_TURN {
            self.submit_receives(index)?;
            if !std::mem::take(&mut doubtful) && !self.rings.at(index).ring.has_work() {
                return Ok(());
            }
            self.enter_ring(index, turn)?;
        }
        while self.noting_left > 0 && self.rings.at(index).ring.puts_off() {
            self.noting_left -= 1;
            self.enter_ring(index, turn)?;
        }
        Ok(())
    }

    /// Enters a ring once and hands over what completed.
    fn enter_ring(&mut self, index: usize, turn: &mut Turn<'_>) -> io::Result<()> {
        let ring = &mut self.rings.at(index).ring;
        ring.enter()?;
        let mut batch = std::mem::take(&mut self.batch);
        ring.take(&mut batch);
        for completion in batch.drain(..) {
            self.complete(index, completion, turn)?;
        }
        self.batch = batch;
        Ok(())
    }

    fn complete(
        &mut self,
        ring: usize,
        completion: Completion,
        turn: &mut Turn<'_>,
    ) -> io::Result<()> {
        let tag = Tag::decode(completion.user_data);
        match tag.op {
            Op::Poll => self.polled(tag.socket_id(), completion),
            Op::Receive => self.received(tag, completion.result, turn),
            Op::Send => self.sent(tag.socket_id(), completion.result, turn),
            Op::Shutdown => self.shut_down(tag.socket_id(), completion.result),
            Op::Close => {
                self.closed(tag.socket_id(), turn);
                Ok(())
            }
            Op::Accept => self.accepted(ring, ListenerId(tag.slot), completion, turn),
            Op::Peer => self.peer_told(tag.slot, completion.result, turn),
            Op::Socket => self.socket_made(ring, tag.slot, completion.result, turn),
            Op::Connect => self.connect_done(tag.slot, completion.result, turn),
            Op::Ignore | Op::FileWrite | Op::FileSync | Op::FileRead | Op::Wake => Ok(()),
        }
    }

    /// Closes what the peer ended, where nothing is outstanding.
    fn close_ended(&mut self) -> io::Result<()> {
        for socket in std::mem::take(&mut self.ended) {
            let Some(slot) = self.rings.slot(socket) else { continue };
            if !slot.send.is_some() {
                self.finish(socket, CloseCause::Eof)?;
            }
        }
        Ok(())
    }

    fn submit_all(&mut self) -> io::Result<()> {
        for ring in self.rings.iter_mut() {
            if ring.ring.has_work() {
                ring.ring.enter()?;
            }
        }
        self.front.enter()
    }
}

impl Uring {
    /// Cancels what points to our memory: sends, connects and accepts. Polls point to none, and
    /// there may be a million; receives never wait.
    fn cancel_pointers(&mut self) -> io::Result<()> {
        for (ring, socket) in self.rings.sending() {
            ring.cancel_each(Tag::socket(Op::Send, socket).encode())?;
        }
        for (index, socket) in self.connects.under_way() {
            let (ring, _) = self.rings.of(socket.slot);
            ring.ring.cancel_each(Tag::index(Op::Connect, index).encode())?;
        }
        for listener in self.listeners.ids() {
            for ring in self.rings.iter_mut() {
                ring.ring.cancel_each(Tag::index(Op::Accept, listener.0).encode())?;
            }
        }
        Ok(())
    }
}

impl Drop for Uring {
    /// The kernel must not use memory that is gone: file operations end, what points to memory is
    /// cancelled.
    fn drop(&mut self) {
        let cancelled = self.cancel_pointers().is_ok();
        if !cancelled {
            // Another thread dropped the loop. Buffers are given up rather than overwritten.
            Box::leak(Box::new((std::mem::take(&mut self.sends), self.arena.take_memory())));
            Box::leak(Box::new(std::mem::take(&mut self.connects)));
            Box::leak(Box::new(std::mem::take(&mut self.peers)));
        }
        let mut batch = Vec::new();
        let mut usable = true;
        while usable && !self.files.is_idle() {
            usable = self.front.sleep(Duration::from_seconds(1)).is_ok();
            self.front.take(&mut batch);
            for completion in batch.drain(..) {
                let tag = Tag::decode(completion.user_data);
                usable &= self.files.complete(&mut self.front, tag, completion).is_ok();
            }
        }
        if !usable {
            Box::leak(Box::new(std::mem::take(&mut self.files)));
        }
        if self.wake_armed && self.front.cancel_all().is_err() {
            Box::leak(std::mem::take(&mut self.wake_count));
        }
    }
}
