//! Echoes on the repository's event loop, a thread for each side: what is the most that any broker
//! on this loop could do.

use super::{FloorFailure, Settings, loop_settings, per_second, side};
use crate::latency::{Latency, histogram};
use crate::report::arithmetic::round;
use crate::server::pin;
use crate::stop;
use hdrhistogram::Histogram;
use roost_event_loop::{Actions, BatchFlow, Event, EventLoop, Handler, Kind, SocketId};
use roost_protocol::time::{Instant, Now};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

/// What each connection has on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    messages: u64,
    bytes: usize,
}

/// A small message, there and back, then the next.
pub(super) const ONE: Shape = Shape { messages: 1, bytes: 64 };
/// As `pairs` with a window of 8 writes: all at once, and again when all are back.
pub(super) const BATCH: Shape = Shape { messages: 8, bytes: 800 };

/// Most that the loop takes in one receive.
const RECEIVE_BYTES: usize = 16 << 10;
/// Backlog of the listener: all connect at once.
const BACKLOG: u32 = 4_096;
/// Buffers kept for reuse.
const SPARE_MAX: usize = 4_096;

pub(super) fn measure(
    settings: &Settings,
    kind: Kind,
    shape: Shape,
) -> Result<Value, FloorFailure> {
    let over = Arc::new(AtomicBool::new(false));
    let (server_cpus, is_over) = (settings.server_cpus.clone(), Arc::clone(&over));
    let (listens, address) = sync_channel(1);
    // A ring belongs to the thread that makes it.
    let server = side("echo", move || serve(kind, &server_cpus, is_over, &listens))?;
    let asked = match address.recv() {
        Ok(address) => ask(settings, kind, shape, address),
        // It ended before it listened, and says why below.
        Err(_) => Ok(Value::Null),
    };
    over.store(true, Ordering::Relaxed);
    if let Ok(Err(error)) = server.join() {
        return Err(error.into());
    }
    asked
}

fn serve(
    kind: Kind,
    cpus: &[usize],
    over: Arc<AtomicBool>,
    listens: &SyncSender<SocketAddr>,
) -> io::Result<()> {
    // Where it runs changes the figure, not whether there is one.
    drop(pin(cpus));
    let mut serving = EventLoop::new(kind, &loop_settings(RECEIVE_BYTES))?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (_, address) = serving.listen(any, BACKLOG, false)?;
    if listens.send(address).is_err() {
        return Ok(());
    }
    serving.run(&mut Echo::until(move || over.load(Ordering::Relaxed)))
}

fn ask(
    settings: &Settings,
    kind: Kind,
    shape: Shape,
    address: SocketAddr,
) -> Result<Value, FloorFailure> {
    let mut event_loop = EventLoop::new(kind, &loop_settings(RECEIVE_BYTES))?;
    let mut asking = Ask {
        shape,
        address,
        connections: settings.connections,
        length_ns: u64::try_from(settings.length.as_nanos()).unwrap_or(u64::MAX),
        open: BTreeMap::new(),
        spare: Vec::new(),
        begun: None,
        bursts: 0,
        times: histogram(),
        failure: None,
        is_started: false,
        took_ns: 0,
    };
    event_loop.run(&mut asking)?;
    if let Some(failure) = asking.failure {
        return Err(failure.into());
    }
    let took = std::time::Duration::from_nanos(asking.took_ns);
    let messages = per_second(asking.bursts * shape.messages, took);
    Ok(json!({
        "connections": settings.connections,
        "messages_per_s": messages,
        "bursts_per_s": round(per_second(asking.bursts, took)),
        "burst_us": Latency::of(&asking.times),
    }))
}

/// Sends back what comes.
pub(crate) struct Echo<F> {
    is_over: F,
    spare: Vec<Vec<u8>>,
}

impl<F: Fn() -> bool> Echo<F> {
    /// Until it is over, which is looked at in every turn.
    pub(crate) const fn until(is_over: F) -> Self {
        Self { is_over, spare: Vec::new() }
    }
}

impl<F: Fn() -> bool> Handler for Echo<F> {
    fn on_event(&mut self, _: Now, event: Event<'_>, actions: &mut Actions) {
        match event {
            Event::Received { socket, bytes } => {
                let mut buffer = self.spare.pop().unwrap_or_default();
                buffer.extend_from_slice(bytes);
                actions.send(socket, buffer);
            }
            Event::Sent { buffer, .. } => keep(&mut self.spare, buffer),
            Event::Opened { .. }
            | Event::Connected { .. }
            | Event::ConnectFailed { .. }
            | Event::Closed { .. }
            | Event::FileDone { .. }
            | Event::Woken
            | Event::Tick
            | Event::ListenerPaused { .. } => {}
        }
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        if (self.is_over)() { BatchFlow::Stop } else { BatchFlow::Continue }
    }
}

fn keep(spare: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    buffer.clear();
    if spare.len() < SPARE_MAX {
        spare.push(buffer);
    }
}

/// A burst that is under way.
#[derive(Debug, Clone, Copy)]
struct Burst {
    missing: usize,
    sent: Instant,
}

/// Writes, waits for all of it, and writes again.
struct Ask {
    shape: Shape,
    address: SocketAddr,
    connections: u32,
    length_ns: u64,
    open: BTreeMap<u32, Burst>,
    spare: Vec<Vec<u8>>,
    /// When all were connected.
    begun: Option<Instant>,
    bursts: u64,
    times: Histogram<u64>,
    failure: Option<io::Error>,
    is_started: bool,
    took_ns: u64,
}

impl Ask {
    fn burst(&mut self, socket: SocketId, actions: &mut Actions) {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.resize(self.shape.bytes, b'x');
        let sent = roost_event_loop::now().monotonic;
        self.open.insert(socket.slot, Burst { missing: self.shape.bytes, sent });
        actions.send(socket, buffer);
    }

    fn came(&mut self, socket: SocketId, count: usize, actions: &mut Actions) {
        let Some(burst) = self.open.get_mut(&socket.slot) else { return };
        burst.missing = burst.missing.saturating_sub(count);
        if burst.missing > 0 {
            return;
        }
        let sent = burst.sent;
        if self.begun.is_some_and(|begun| sent >= begun) {
            let took = roost_event_loop::now().monotonic.since(sent);
            self.bursts += 1;
            self.times.saturating_record(took.ns / 1_000);
        }
        self.burst(socket, actions);
    }
}

impl Handler for Ask {
    fn on_event(&mut self, now: Now, event: Event<'_>, actions: &mut Actions) {
        match event {
            Event::Connected { socket, .. } => {
                self.burst(socket, actions);
                if self.open.len() == self.connections as usize {
                    self.begun = Some(now.monotonic);
                }
            }
            Event::ConnectFailed { error, .. } => self.failure = Some(error),
            Event::Received { socket, bytes } => self.came(socket, bytes.len(), actions),
            Event::Sent { buffer, .. } => keep(&mut self.spare, buffer),
            Event::Closed { cause, .. } => {
                self.failure = Some(io::Error::other(cause.to_string()));
            }
            Event::Opened { .. }
            | Event::FileDone { .. }
            | Event::Woken
            | Event::Tick
            | Event::ListenerPaused { .. } => {}
        }
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        if !std::mem::replace(&mut self.is_started, true) {
            for token in 0..self.connections {
                actions.connect(token.into(), None, self.address);
            }
        }
        self.took_ns = self.begun.map_or(0, |begun| now.monotonic.since(begun).ns);
        let over = self.took_ns >= self.length_ns || self.failure.is_some() || stop::is_wanted();
        if over { BatchFlow::Stop } else { BatchFlow::Continue }
    }
}
