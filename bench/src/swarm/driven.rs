//! A swarm and a scenario as the event loop drives them.

use super::{DeviceIndex, Swarm};
use crate::stop;
use crate::wire::{self, Incoming};
use roost_event_loop::{Actions, BatchFlow, CloseCause, Event, Handler, SocketId, Waker};
use roost_protocol::frame::{self, Cut, FrameError};
use roost_protocol::time::{Instant, Now};

/// Longest frame that a server sends: a page of 128 KiB and some room.
pub const FRAME_MAX_BYTES: usize = 1 << 20;

/// What devices do once they are connected. One that speaks the protocol of Roost is told frames;
/// one that speaks something else takes [`Scenario::open`] and [`Scenario::received`] itself.
pub trait Scenario {
    /// A device's connection stands: its first words.
    fn open(&mut self, swarm: &mut Swarm, device: DeviceIndex) {
        swarm.hello(device);
    }

    /// Bytes came to a device. Says how many were used up; the others stand again before the next.
    fn received(
        &mut self,
        swarm: &mut Swarm,
        device: DeviceIndex,
        bytes: &[u8],
        now: Instant,
    ) -> usize {
        cut(self, swarm, device, bytes, now)
    }

    /// A device's connection stands; with TLS its handshake begins.
    fn greeted(&mut self, _device: DeviceIndex, _now: Instant) {}

    /// A frame of the server came to a device.
    fn frame(&mut self, swarm: &mut Swarm, device: DeviceIndex, frame: Frame<'_>, now: Instant);

    /// A welcomed device lost its connection.
    fn closed(&mut self, swarm: &mut Swarm, device: DeviceIndex, cause: CloseCause);

    /// Once a turn, before what devices wrote is sent.
    fn turn(&mut self, swarm: &mut Swarm, now: Instant) -> Flow;
}

/// A frame of the server.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The request it answers, or 0.
    pub request: u64,
    /// What it says.
    pub says: Incoming<'a>,
}

/// What a scenario wants of the loop after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Sleep until something happens.
    Wait,
    /// The same, but no longer than until then.
    Until(Instant),
    /// Take the next turn at once: something is due within less than a tick.
    Spin,
    /// The run is over.
    Stop,
}

/// A swarm and its scenario as the loop drives them.
#[derive(Debug)]
pub struct Driven<S> {
    /// The devices.
    pub swarm: Swarm,
    /// What they do.
    pub scenario: S,
    waker: Waker,
    /// Of a device that seals: what was opened last.
    plain: Vec<u8>,
}

impl<S: Scenario> Driven<S> {
    /// Puts them together.
    #[must_use]
    pub const fn new(swarm: Swarm, scenario: S, waker: Waker) -> Self {
        Self { swarm, scenario, waker, plain: Vec::new() }
    }

    fn received(&mut self, socket: SocketId, bytes: &[u8]) {
        let now = roost_event_loop::now().monotonic;
        let Some(index) = self.swarm.device_of(socket) else { return };
        self.swarm.counts.receives += 1;
        if !self.swarm.is_sealed() {
            return self.take_all(index, bytes, now);
        }
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        if self.swarm.unseal(socket, index, bytes, &mut plain) {
            self.scenario.open(&mut self.swarm, index);
        }
        if !plain.is_empty() {
            self.take_all(index, &plain, now);
        }
        self.plain = plain;
    }

    fn take_all(&mut self, index: DeviceIndex, bytes: &[u8], now: Instant) {
        if let Some(mut whole) = self.swarm.halves.remove(&index) {
            whole.extend_from_slice(bytes);
            self.take(index, &whole, now);
        } else {
            self.take(index, bytes, now);
        }
    }

    fn take(&mut self, index: DeviceIndex, bytes: &[u8], now: Instant) {
        let used = self.scenario.received(&mut self.swarm, index, bytes, now);
        if let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            self.swarm.halves.insert(index, rest.to_vec());
        }
    }
}

/// What is cut out of what a server sent.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// A heartbeat came back.
    Heartbeat,
    /// The content of a frame.
    Frame(&'a [u8]),
    /// No frame, and so nothing behind it either: why.
    Broken(FrameError),
}

/// Hands over all whole frames. Says how many bytes they took: all when one is broken.
pub(crate) fn cut_all<'a>(bytes: &'a [u8], mut take: impl FnMut(Piece<'a>)) -> usize {
    let mut used = 0;
    while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
        match frame::cut(rest, FRAME_MAX_BYTES) {
            Ok(Cut::Heartbeat) => {
                take(Piece::Heartbeat);
                used += 1;
            }
            Ok(Cut::Frame { content, consumed }) => {
                take(Piece::Frame(content));
                used += consumed;
            }
            Ok(Cut::Incomplete { .. }) => break,
            Err(error) => {
                take(Piece::Broken(error));
                return bytes.len();
            }
        }
    }
    used
}

/// Tells the scenario all whole frames of Roost. Says how many bytes they took.
pub(crate) fn cut<S: Scenario + ?Sized>(
    scenario: &mut S,
    swarm: &mut Swarm,
    index: DeviceIndex,
    bytes: &[u8],
    now: Instant,
) -> usize {
    cut_all(bytes, |piece| match piece {
        Piece::Heartbeat => swarm.counts.echoes += 1,
        Piece::Frame(content) => tell(scenario, swarm, index, content, now),
        Piece::Broken(error) => {
            swarm.refused(index, || format!("what came is no frame of Roost: {error:?}"));
        }
    })
}

fn tell<S: Scenario + ?Sized>(
    scenario: &mut S,
    swarm: &mut Swarm,
    index: DeviceIndex,
    content: &[u8],
    now: Instant,
) {
    let (request, says) = wire::read(content);
    if !swarm.is_ready(index) {
        match says {
            Incoming::Welcome { heartbeat_ms, ticket } => {
                swarm.heartbeat_every(heartbeat_ms);
                swarm.welcomed_with(index, ticket);
            }
            Incoming::Error { code, .. } => {
                swarm.refused(index, || format!("refused with error {code}"));
                return;
            }
            Incoming::SendReply { .. }
            | Incoming::Message(_)
            | Incoming::Receipts(_)
            | Incoming::History(_)
            | Incoming::Sync(_)
            | Incoming::GroupCreated { .. }
            | Incoming::Behind
            | Incoming::Other => {}
        }
    }
    scenario.frame(swarm, index, Frame { request, says }, now);
}

impl<S: Scenario> Handler for Driven<S> {
    fn on_event(&mut self, now: Now, event: Event<'_>, _actions: &mut Actions) {
        match event {
            Event::Connected { socket, token } => {
                let index = DeviceIndex::try_from(token).expect("tokens are device numbers");
                if self.swarm.connected(socket, index) {
                    self.scenario.open(&mut self.swarm, index);
                }
                self.scenario.greeted(index, now.monotonic);
            }
            Event::ConnectFailed { token, error } => {
                let index = DeviceIndex::try_from(token).expect("tokens are device numbers");
                self.swarm.refused(index, || error.to_string());
            }
            Event::Received { socket, bytes } => self.received(socket, bytes),
            Event::Sent { socket, buffer } => self.swarm.sent(socket, buffer),
            Event::Closed { socket, cause } => {
                if let Some(index) = self.swarm.closed(socket, cause) {
                    self.scenario.closed(&mut self.swarm, index, cause);
                }
            }
            Event::Opened { .. }
            | Event::FileDone { .. }
            | Event::Woken
            | Event::Tick
            | Event::ListenerPaused { .. } => {}
        }
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        let now = now.monotonic;
        self.swarm.connect(now, actions);
        self.swarm.heartbeats(now);
        let mut flow = self.scenario.turn(&mut self.swarm, now);
        if stop::is_wanted() {
            flow = Flow::Stop;
        }
        self.swarm.flush(actions);
        match flow {
            Flow::Wait => BatchFlow::Continue,
            Flow::Until(due) => BatchFlow::WakeBy(due),
            Flow::Spin => {
                self.waker.wake();
                BatchFlow::Continue
            }
            Flow::Stop => BatchFlow::Stop,
        }
    }
}
