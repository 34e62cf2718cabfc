//! A loop that talks to itself: outgoing connections, many rings, slots used again and again.

use crate::harness::{Checked, Echo, localhost, on_both, run_alone};
use roost_event_loop::{
    Accepting, Actions, BatchFlow, Event, EventLoop, Handler, Kind, Settings, SocketId,
};
use roost_protocol::time::Now;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

/// Connects to its own listener, says a number on each connection and expects it back.
struct Loopback {
    echo: Echo,
    remote: SocketAddr,
    /// Own address of the n-th connection.
    local: fn(u64) -> Option<SocketAddr>,
    wanted: u64,
    asked: u64,
    /// Connections that are being made or talk.
    under_way: u64,
    under_way_max: u64,
    answered: u64,
    /// Whether a connection ends after its answer, or stays until all were answered.
    churn: bool,
    /// Connections stay open together only up to here.
    clients: BTreeMap<SocketId, (u64, Vec<u8>)>,
    open: i64,
    open_max: i64,
}

impl Loopback {
    fn new(remote: SocketAddr, wanted: u64, churn: bool) -> Self {
        Self {
            echo: Echo::default(),
            remote,
            local: |_| None,
            wanted,
            asked: 0,
            under_way: 0,
            under_way_max: 64,
            answered: 0,
            churn,
            clients: BTreeMap::new(),
            open: 0,
            open_max: 0,
        }
    }
}

impl Handler for Loopback {
    fn on_event(&mut self, now: Now, event: Event<'_>, actions: &mut Actions) {
        match event {
            Event::Connected { socket, token } => {
                self.open += 1;
                self.clients.insert(socket, (token, Vec::new()));
                actions.send(socket, token.to_le_bytes().to_vec());
            }
            Event::ConnectFailed { token, error } => unreachable!("{token}: {error}"),
            Event::Received { socket, bytes } if self.clients.contains_key(&socket) => {
                let (token, answer) = self.clients.get_mut(&socket).unwrap();
                answer.extend_from_slice(bytes);
                if answer.len() == 8 {
                    assert_eq!(*answer, token.to_le_bytes());
                    self.answered += 1;
                    self.under_way -= 1;
                    if self.churn {
                        actions.abort(socket);
                    }
                }
            }
            Event::Sent { socket, .. } if self.clients.contains_key(&socket) => {}
            Event::Closed { socket, .. } => {
                self.open -= 1;
                if self.clients.remove(&socket).is_none() {
                    self.echo.on_event(now, event, actions);
                }
            }
            Event::Opened { .. } => self.open += 1,
            Event::ListenerPaused { reason, .. } => unreachable!("{reason}"),
            other => self.echo.on_event(now, other, actions),
        }
        self.open_max = self.open_max.max(self.open);
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        while self.asked < self.wanted && self.under_way < self.under_way_max {
            actions.connect(self.asked, (self.local)(self.asked), self.remote);
            self.asked += 1;
            self.under_way += 1;
        }
        if self.answered == self.wanted && !self.churn {
            for socket in self.clients.keys() {
                actions.abort(*socket);
            }
            self.churn = true;
        }
        let done = self.answered == self.wanted && self.open == 0;
        let flow = self.echo.on_batch_end(now, actions);
        if done { BatchFlow::Stop } else { flow }
    }
}

#[test]
fn thousands_of_connections_over_many_small_rings() {
    on_both(|kind| {
        let settings = Settings { ring_slots: 64, ..Settings::default() };
        let ran = run_alone(kind, &settings, |remote| Loopback::new(remote, 3000, false));
        assert_eq!(ran.inner.open_max, 6000);
        let highest = *ran.slots.last().unwrap();
        assert!(highest < 8000, "slots are dense, not up to {highest}");
    });
}

/// Ticks between two crowds: rings that nobody needed for fifty of them go, and before that those
/// who accept there move.
const REST_TICKS: u32 = 400;

/// A crowd, and after it a time in which nobody is there.
struct Crowd {
    crowd: Loopback,
    rest: u32,
}

impl Handler for Crowd {
    fn on_event(&mut self, now: Now, event: Event<'_>, actions: &mut Actions) {
        if matches!(event, Event::Tick) {
            self.rest = self.rest.saturating_sub(1);
        }
        self.crowd.on_event(now, event, actions);
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        if self.crowd.wanted > 0 {
            return self.crowd.on_batch_end(now, actions);
        }
        if self.rest == 0 { BatchFlow::Stop } else { BatchFlow::Continue }
    }
}

/// What a crowd needed goes, and comes again with the next one; no id names two sockets. (The
/// harness looks at that.)
#[test]
fn crowds_come_and_go() {
    on_both(|kind| {
        let settings = Settings { ring_slots: 64, tick_ms: 2, ..Settings::default() };
        let mut event_loop = EventLoop::new(kind, &settings).unwrap();
        let (_, remote) = event_loop.listen(localhost(), 4096, false).unwrap();
        let nobody = || Loopback::new(remote, 0, false);
        let mut checked = Checked::new(Crowd { crowd: nobody(), rest: 0 }, Arc::default());
        for number in 1..=4 {
            checked.inner.crowd = Loopback::new(remote, 1500, false);
            event_loop.run(&mut checked).unwrap();
            assert_eq!(checked.inner.crowd.open_max, 3000);
            assert_eq!(checked.causes.len(), number * 3000);
            checked.inner = Crowd { crowd: nobody(), rest: REST_TICKS };
            event_loop.run(&mut checked).unwrap();
            let expected = if kind == Kind::Uring { 1 } else { 0 };
            assert_eq!(event_loop.rings(), expected, "rings are left of a crowd");
        }
        let highest = *checked.slots.last().unwrap();
        assert!((2_900..4_000).contains(&highest), "each needed many rings again: {highest}");
    });
}

#[test]
fn slots_are_reused_with_new_generations() {
    on_both(|kind| {
        for ring_slots in [64, 16384] {
            // Both ends are this loop's: it must accept and end as many in a turn as it connects.
            let settings = Settings { ring_slots, accepts_per_turn: 32, ..Settings::default() };
            let settings = Settings { gate_per_turn: 32, turn_us_per_newcomer: 0, ..settings };
            let ran = run_alone(kind, &settings, |remote| Loopback::new(remote, 20_000, true));
            assert_eq!(ran.causes.len(), 40_000);
            assert!(ran.slots.len() < 10_000, "{} slots", ran.slots.len());
        }
    });
}

/// The own address may be chosen, and its port left to the kernel.
#[test]
fn own_addresses() {
    on_both(|kind| {
        run_alone(kind, &Settings::default(), |remote| Loopback {
            local: |n| Some((Ipv4Addr::new(127, 0, 1, u8::try_from(n % 200).unwrap()), 0).into()),
            ..Loopback::new(remote, 1000, false)
        });
    });
}

/// More connections than a process may have descriptors. Takes some 400 MB of kernel memory:
/// `cargo test -p roost-event-loop --release -- --ignored beyond_the_descriptors`.
#[test]
#[ignore = "needs much kernel memory and some seconds; see the line above"]
fn beyond_the_descriptors() {
    const WANTED: u64 = 50_000;
    let ran = run_alone(Kind::Uring, &Settings::default(), |remote| Loopback {
        local: |n| {
            let host = u8::try_from(n / 10_000).unwrap();
            Some((Ipv4Addr::new(127, 0, 2, host), 0).into())
        },
        ..Loopback::new(remote, WANTED, false)
    });
    assert_eq!(ran.inner.open_max, 100_000);
}

#[derive(Default)]
struct Refused {
    remote: Option<SocketAddr>,
    asked: bool,
    errors: Vec<(u64, i32)>,
}

impl Handler for Refused {
    fn on_event(&mut self, _: Now, event: Event<'_>, _: &mut Actions) {
        match event {
            Event::ConnectFailed { token, error } => {
                self.errors.push((token, error.raw_os_error().unwrap()));
            }
            Event::Tick => {}
            other => unreachable!("{other:?}"),
        }
    }

    fn on_batch_end(&mut self, _: Now, actions: &mut Actions) -> BatchFlow {
        if !std::mem::replace(&mut self.asked, true) {
            let remote = self.remote.unwrap();
            // Nobody listens; an address that is not ours; the same again.
            actions.connect(1, None, remote);
            actions.connect(2, Some((Ipv4Addr::new(192, 0, 2, 1), 0).into()), remote);
            actions.connect(3, Some((Ipv4Addr::LOCALHOST, 0).into()), remote);
        }
        if self.errors.len() == 3 { BatchFlow::Stop } else { BatchFlow::Continue }
    }
}

#[test]
fn refused() {
    on_both(|kind| {
        // A port that is bound, so nobody else takes it, but does not listen any more.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let remote = socket.local_addr().unwrap().as_socket();
        let mut ran =
            run_alone(kind, &Settings::default(), |_| Refused { remote, ..Refused::default() });
        ran.inner.errors.sort_unstable();
        let refused = 111;
        let not_available = 99;
        assert_eq!(ran.inner.errors, [(1, refused), (2, not_available), (3, refused)]);
    });
}

/// A listener that somebody else made.
#[test]
fn adopted_listener() {
    on_both(|kind| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut event_loop = EventLoop::new(kind, &Settings::default()).unwrap();
        let remote = listener.local_addr().unwrap();
        event_loop.adopt_listener(listener.into(), Accepting::default()).unwrap();
        let mut handler = Loopback::new(remote, 10, true);
        event_loop.run(&mut handler).unwrap();
        assert_eq!(handler.answered, 10);
    });
}
