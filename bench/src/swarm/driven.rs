//! A swarm and a scenario as the event loop drives them.

use super::{DeviceIndex, State, Swarm};
use crate::wire::{self, Incoming};
use roost_event_loop::{Actions, BatchFlow, CloseCause, Event, Handler, SocketId, Waker};
use roost_protocol::frame::{self, Cut};
use roost_protocol::time::{Instant, Now};

/// Longest frame that a server sends: a page of 128 KiB and some room.
const FRAME_MAX_BYTES: usize = 1 << 20;

/// What devices do once they are connected.
pub trait Scenario {
    /// A device says Hello.
    fn greeted(&mut self, _device: DeviceIndex, _now: Instant) {}

    /// A frame of the server came to a device.
    fn frame(&mut self, swarm: &mut Swarm, device: DeviceIndex, frame: Frame<'_>, now: Instant);

    /// All frames that came together to a device were told.
    fn frames_end(&mut self, swarm: &mut Swarm, device: DeviceIndex, now: Instant);

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
}

impl<S: Scenario> Driven<S> {
    /// Puts them together.
    #[must_use]
    pub const fn new(swarm: Swarm, scenario: S, waker: Waker) -> Self {
        Self { swarm, scenario, waker }
    }

    fn received(&mut self, socket: SocketId, bytes: &[u8]) {
        let now = roost_event_loop::now().monotonic;
        let Some(index) = self.swarm.device_of(socket) else { return };
        self.swarm.counts.receives += 1;
        if let Some(mut whole) = self.swarm.halves.remove(&index) {
            whole.extend_from_slice(bytes);
            self.cut(index, &whole, now);
        } else {
            self.cut(index, bytes, now);
        }
        self.scenario.frames_end(&mut self.swarm, index, now);
    }

    fn cut(&mut self, index: DeviceIndex, mut bytes: &[u8], now: Instant) {
        while !bytes.is_empty() {
            match frame::cut(bytes, FRAME_MAX_BYTES).expect("the server's frames are whole") {
                Cut::Heartbeat => {
                    self.swarm.counts.echoes += 1;
                    bytes = &bytes[1..];
                }
                Cut::Frame { content, consumed } => {
                    self.frame(index, content, now);
                    bytes = &bytes[consumed..];
                }
                Cut::Incomplete { .. } => {
                    self.swarm.halves.insert(index, bytes.to_vec());
                    return;
                }
            }
        }
    }

    fn frame(&mut self, index: DeviceIndex, content: &[u8], now: Instant) {
        let (request, says) = wire::read(content);
        let swarm = &mut self.swarm;
        let device = &mut swarm.devices[index as usize];
        match (device.state, says) {
            (State::Connecting, Incoming::Welcome { heartbeat_ms }) => {
                device.state = State::Ready;
                swarm.heartbeat_ms = heartbeat_ms;
                swarm.connecting -= 1;
                swarm.counts.welcomed += 1;
            }
            (State::Connecting, Incoming::Error { code }) => {
                swarm.refused(index, || format!("refused with error {code}"));
                return;
            }
            _ => {}
        }
        self.scenario.frame(swarm, index, Frame { request, says }, now);
    }
}

impl<S: Scenario> Handler for Driven<S> {
    fn on_event(&mut self, now: Now, event: Event<'_>, _actions: &mut Actions) {
        match event {
            Event::Connected { socket, token } => {
                let index = DeviceIndex::try_from(token).expect("tokens are device numbers");
                self.swarm.connected(socket, index);
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
        let flow = self.scenario.turn(&mut self.swarm, now);
        self.swarm.flush(actions);
        match flow {
            Flow::Wait => BatchFlow::Continue,
            Flow::Spin => {
                self.waker.wake();
                BatchFlow::Continue
            }
            Flow::Stop => BatchFlow::Stop,
        }
    }
}
