//! Runs a handler on a loop in a thread of its own, and checks the loop's contract on the way.

use roost_event_loop::{
    Actions, BatchFlow, Choice, CloseCause, Event, EventLoop, Handler, Kind, ListenerId, Settings,
    SocketId, Waker, probe,
};
use roost_protocol::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Runs a test on each backend this machine has.
pub(crate) fn on_both(test: impl Fn(Kind)) {
    test(Kind::Epoll);
    // In a thread of its own: what a ring leaves behind interrupts its thread's later reads.
    let probing = std::thread::Builder::new().name("probe".to_owned());
    match probing.spawn(|| probe(Choice::Uring)).unwrap().join().unwrap() {
        Ok(probed) => test(probed.kind),
        Err(error) => eprintln!("SKIPPED on io_uring, so this half is NOT TESTED: {error}"),
    }
}

pub(crate) fn localhost() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// What a test's client may do to the server.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) waker: Waker,
}

impl Server {
    /// A blocking client that gives up rather than hang.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }
}

/// Serves with `handler` while `client` runs, then returns the handler.
pub(crate) fn serve<H: Handler + Send>(
    kind: Kind,
    settings: &Settings,
    handler: H,
    client: impl FnOnce(&Server),
) -> Checked<H> {
    let listen = |event_loop: &mut EventLoop| event_loop.listen(localhost(), 1024, false);
    serve_where(kind, settings, listen, handler, client)
}

/// The same with a listener that is made as the test wants; of a Unix one the address is not told.
pub(crate) fn serve_where<H: Handler + Send>(
    kind: Kind,
    settings: &Settings,
    listen: impl FnOnce(&mut EventLoop) -> std::io::Result<(ListenerId, SocketAddr)> + Send,
    handler: H,
    client: impl FnOnce(&Server),
) -> Checked<H> {
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        let mut checked = Checked::new(handler, Arc::clone(&stop));
        let server = scope.spawn(move || {
            let mut event_loop = EventLoop::new(kind, settings).unwrap();
            let (_, addr) = listen(&mut event_loop).unwrap();
            tell.send(Server { addr, waker: event_loop.waker() }).unwrap();
            event_loop.run(&mut checked).unwrap();
            checked
        });
        let handle = told.recv().unwrap();
        let ends = StopAtEnd { stop, waker: handle.waker.clone() };
        client(&handle);
        drop(ends);
        server.join().unwrap()
    })
}

/// Stops a server also when its client fails, so that a test fails rather than hangs.
struct StopAtEnd {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

/// Runs a loop that needs no outside client, until its handler stops it.
pub(crate) fn run_alone<H: Handler>(
    kind: Kind,
    settings: &Settings,
    make: impl FnOnce(SocketAddr) -> H,
) -> Checked<H> {
    let mut event_loop = EventLoop::new(kind, settings).unwrap();
    let (_, addr) = event_loop.listen(localhost(), 4096, false).unwrap();
    let mut checked = Checked::new(make(addr), Arc::default());
    event_loop.run(&mut checked).unwrap();
    checked
}

/// A handler inside the contract: every event of a socket lies between its first and its last.
pub(crate) struct Checked<H> {
    pub(crate) inner: H,
    stop: Arc<AtomicBool>,
    live: BTreeMap<u32, u32>,
    seen: BTreeSet<SocketId>,
    pub(crate) causes: Vec<CloseCause>,
    pub(crate) slots: BTreeSet<u32>,
}

impl<H> Checked<H> {
    pub(crate) fn new(inner: H, stop: Arc<AtomicBool>) -> Self {
        let (live, seen) = (BTreeMap::new(), BTreeSet::new());
        Self { inner, stop, live, seen, causes: Vec::new(), slots: BTreeSet::new() }
    }

    fn check(&mut self, event: &Event<'_>) {
        match event {
            Event::Opened { socket, .. } | Event::Connected { socket, .. } => {
                assert!(self.seen.insert(*socket), "{socket:?} was used before");
                assert_eq!(self.live.insert(socket.slot, socket.generation), None);
                self.slots.insert(socket.slot);
            }
            Event::Received { socket, .. } | Event::Sent { socket, .. } => {
                assert_eq!(self.live.get(&socket.slot), Some(&socket.generation), "{event:?}");
            }
            Event::Closed { socket, cause } => {
                assert_eq!(self.live.remove(&socket.slot), Some(socket.generation), "{event:?}");
                self.causes.push(*cause);
            }
            Event::ConnectFailed { .. }
            | Event::FileDone { .. }
            | Event::Woken
            | Event::Tick
            | Event::ListenerPaused { .. } => {}
        }
    }
}

impl<H: Handler> Handler for Checked<H> {
    fn on_event(&mut self, now: Now, event: Event<'_>, actions: &mut Actions) {
        self.check(&event);
        self.inner.on_event(now, event, actions);
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        let flow = self.inner.on_batch_end(now, actions);
        if self.stop.load(Ordering::SeqCst) { BatchFlow::Stop } else { flow }
    }
}

/// Sends back what it gets, and never has two sends outstanding.
#[derive(Default)]
pub(crate) struct Echo {
    waiting: BTreeMap<SocketId, Vec<u8>>,
    sending: BTreeSet<SocketId>,
}

impl Handler for Echo {
    fn on_event(&mut self, _: Now, event: Event<'_>, _: &mut Actions) {
        match event {
            Event::Received { socket, bytes } => {
                self.waiting.entry(socket).or_default().extend_from_slice(bytes);
            }
            Event::Sent { socket, .. } => {
                self.sending.remove(&socket);
            }
            Event::Closed { socket, .. } => {
                self.sending.remove(&socket);
                self.waiting.remove(&socket);
            }
            _ => {}
        }
    }

    fn on_batch_end(&mut self, _: Now, actions: &mut Actions) -> BatchFlow {
        for (socket, buffer) in &mut self.waiting {
            if !buffer.is_empty() && self.sending.insert(*socket) {
                actions.send(*socket, std::mem::take(buffer));
            }
        }
        BatchFlow::Continue
    }
}

/// Bytes that show when they are in the wrong place.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at ^ (at >> 8) ^ (at >> 16)) & 0xff).unwrap()).collect()
}

/// Writes and expects the same bytes back.
pub(crate) fn ping(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, bytes);
}
