//! How fast bare connections are made, and what the kernel keeps for them: both sides on the
//! repository's event loop, as a generator and a server are, with nothing said on them.

use super::{FloorFailure, Settings, loop_settings, per_second, side, slab_bytes_per_pair};
use crate::server::pin;
use crate::stop;
use roost_event_loop::{Actions, BatchFlow, Choice, Event, EventLoop, Handler, Kind, probe};
use roost_protocol::time::{Instant, Now};
use serde_json::{Value, json};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// Pairs that are made at least: fewer say nothing of a rate.
const PAIRS_MIN: u32 = 20_000;
/// The same on epoll, where each end takes a descriptor of this process.
const PAIRS_ON_EPOLL: u32 = 5_000;
/// Connects that are under way at a time.
const AT_ONCE: u32 = 512;
/// Connections from one address of this machine; a port serves one of them.
const FROM_ONE_ADDRESS: u32 = 5_000;
/// Most that the loop takes in one receive.
const RECEIVE_BYTES: usize = 4_096;
/// How long the last ones may take to be accepted.
const PATIENCE: Duration = Duration::from_secs(30);

/// One side connects, the other accepts; both hold.
pub(super) fn measure(settings: &Settings) -> Result<Value, FloorFailure> {
    let (kind, pairs) = match probe(Choice::Uring) {
        Ok(probed) => (probed.kind, settings.connections.max(PAIRS_MIN)),
        Err(_) => (Kind::Epoll, settings.connections.min(PAIRS_ON_EPOLL)),
    };
    let over = Arc::new(AtomicBool::new(false));
    let ((listens, listening), (held, holds)) = (channel(), channel());
    let (cpus, is_over) = (settings.server_cpus.clone(), Arc::clone(&over));
    // A ring belongs to the thread that makes it.
    let server = side("accepting", move || {
        // Where it runs changes the figure, not whether there is one.
        drop(pin(&cpus));
        serve(kind, &listens, Hold { left: pairs, held, over: is_over })
    })?;
    let took = match listening.recv() {
        Ok(address) => {
            let mut connecting = Connecting::new(address, pairs);
            let connected = connect(kind, &mut connecting, || holds.recv_timeout(PATIENCE).ok());
            connected.map(|end| end.since(connecting.began.unwrap_or_default()))
        }
        // It ended before it listened, and says why below.
        Err(_) => Ok(roost_protocol::time::Duration::default()),
    };
    over.store(true, Ordering::Relaxed);
    if let Ok(Err(error)) = server.join() {
        return Err(error.into());
    }
    Ok(json!({
        "pairs": pairs,
        "pairs_per_s": per_second(pairs.into(), Duration::from_nanos(took?.ns)),
        "kernel_bytes_per_pair": slab_bytes_per_pair(settings.connections),
    }))
}

fn serve(kind: Kind, listens: &Sender<SocketAddr>, mut hold: Hold) -> io::Result<()> {
    let mut serving = EventLoop::new(kind, &loop_settings(RECEIVE_BYTES))?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (_, address) = serving.listen(any, AT_ONCE * 2, false)?;
    if listens.send(address).is_err() {
        return Ok(());
    }
    serving.run(&mut hold)
}

/// Connects all, and keeps them until the other side holds them too; says when that was.
fn connect(
    kind: Kind,
    connecting: &mut Connecting,
    held: impl FnOnce() -> Option<Instant>,
) -> io::Result<Instant> {
    let mut event_loop = EventLoop::new(kind, &loop_settings(RECEIVE_BYTES))?;
    event_loop.run(connecting)?;
    match connecting.failure.take() {
        Some(failure) => Err(failure),
        None if connecting.connected < connecting.pairs => {
            Err(io::Error::new(io::ErrorKind::Interrupted, "ended by a signal"))
        }
        None => held().ok_or_else(|| io::Error::other("connections were not accepted in time")),
    }
}

/// Holds what comes.
struct Hold {
    left: u32,
    held: Sender<Instant>,
    over: Arc<AtomicBool>,
}

impl Handler for Hold {
    fn on_event(&mut self, _: Now, event: Event<'_>, _: &mut Actions) {
        if matches!(event, Event::Opened { .. }) {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                // Nobody hears it when the other side failed.
                let _result = self.held.send(roost_event_loop::now().monotonic);
            }
        }
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        let over = self.over.load(Ordering::Relaxed);
        if over { BatchFlow::Stop } else { BatchFlow::Continue }
    }
}

/// Connects, so many at a time.
struct Connecting {
    address: SocketAddr,
    pairs: u32,
    /// When the first was asked for.
    began: Option<Instant>,
    asked: u32,
    connected: u32,
    failure: Option<io::Error>,
}

impl Connecting {
    const fn new(address: SocketAddr, pairs: u32) -> Self {
        Self { address, pairs, began: None, asked: 0, connected: 0, failure: None }
    }
}

impl Handler for Connecting {
    fn on_event(&mut self, _: Now, event: Event<'_>, _: &mut Actions) {
        match event {
            Event::Connected { .. } => self.connected += 1,
            Event::ConnectFailed { error, .. } => self.failure = Some(error),
            Event::Closed { cause, .. } => {
                self.failure = Some(io::Error::other(cause.to_string()));
            }
            Event::Opened { .. }
            | Event::Received { .. }
            | Event::Sent { .. }
            | Event::FileDone { .. }
            | Event::Woken
            | Event::Tick
            | Event::ListenerPaused { .. } => {}
        }
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        self.began.get_or_insert(now.monotonic);
        while self.asked < self.pairs && self.asked - self.connected < AT_ONCE {
            let [_, _, third, fourth] = (1 + self.asked / FROM_ONE_ADDRESS).to_be_bytes();
            let local = SocketAddr::from((Ipv4Addr::new(127, 77, third, fourth), 0));
            actions.connect(self.asked.into(), Some(local), self.address);
            self.asked += 1;
        }
        let over = self.connected == self.pairs || self.failure.is_some() || stop::is_wanted();
        if over { BatchFlow::Stop } else { BatchFlow::Continue }
    }
}
