//! Listeners: limits, pausing.

use crate::harness::{Echo, localhost, on_both, ping, serve, serve_where};
use roost_event_loop::{
    Accepting, Actions, BatchFlow, Event, EventLoop, Handler, Limit, ListenerId, Settings, SocketId,
};
use roost_protocol::time::Now;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

#[derive(Default)]
struct Limited {
    echo: Echo,
    tell: Option<Sender<Limit>>,
    opened: Vec<SocketId>,
    listener: Option<ListenerId>,
    paused: bool,
}

impl Handler for Limited {
    fn on_event(&mut self, now: Now, event: Event<'_>, actions: &mut Actions) {
        match &event {
            Event::Opened { socket, listener, .. } => {
                assert!(!self.paused);
                self.opened.push(*socket);
                self.listener = Some(*listener);
            }
            Event::ListenerPaused { reason, .. } => {
                if let Some(tell) = &self.tell {
                    tell.send(*reason).unwrap();
                }
            }
            Event::Woken => {
                if let Some(listener) = self.listener {
                    actions.resume_listener(listener);
                    self.paused = false;
                }
            }
            _ => {}
        }
        self.echo.on_event(now, event, actions);
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        self.echo.on_batch_end(now, actions)
    }
}

#[test]
fn a_full_table_waits_and_goes_on() {
    on_both(|kind| {
        let (tell, told) = channel();
        let settings = Settings { sockets_max: 5, ring_slots: 2, ..Settings::default() };
        let handler = Limited { tell: Some(tell), ..Limited::default() };
        serve(kind, &settings, handler, |server| {
            let mut streams: Vec<_> = (0..8).map(|_| server.connect()).collect();
            let reason = told.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(reason, Limit::Sockets { max: 5 });
            assert!(reason.to_string().contains("raise its sockets_max"));
            // The kernel's queue keeps the order, so the first five are served.
            for stream in &mut streams[..5] {
                ping(stream, b"served");
            }
            streams[5].write_all(b"waits").unwrap();
            drop(streams.drain(..3));
            let mut answer = [0; 5];
            streams[2].read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"waits");
            for stream in &mut streams {
                ping(stream, b"all of us");
            }
        });
    });
}

/// Pauses its listener after each connection.
#[derive(Default)]
struct OneByOne {
    opened: u32,
    /// Of those, since the listener was last told to go on; and the most there ever were.
    since: u32,
    since_max: u32,
    listener: Option<ListenerId>,
    tell: Option<Sender<u32>>,
}

impl Handler for OneByOne {
    fn on_event(&mut self, _: Now, event: Event<'_>, actions: &mut Actions) {
        match event {
            Event::Opened { listener, .. } => {
                self.listener = Some(listener);
                self.opened += 1;
                self.since += 1;
                self.since_max = self.since_max.max(self.since);
                actions.pause_listener(listener);
                self.tell.as_ref().unwrap().send(self.opened).unwrap();
            }
            Event::Woken => {
                self.since = 0;
                if let Some(listener) = self.listener {
                    actions.resume_listener(listener);
                }
            }
            _ => {}
        }
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        BatchFlow::Continue
    }
}

#[test]
fn a_paused_listener_takes_nobody_and_goes_on() {
    on_both(|kind| {
        let (tell, told) = channel();
        let handler = OneByOne { tell: Some(tell), ..OneByOne::default() };
        let served = serve(kind, &Settings::default(), handler, |server| {
            for round in 1..=20 {
                let _stream = server.connect();
                server.waker.wake();
                assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), round);
            }
        });
        assert_eq!(served.inner.opened, 20);
    });
}

/// Echoes, and keeps who connected.
#[derive(Default)]
struct Named {
    echo: Echo,
    peers: Vec<Option<SocketAddr>>,
}

impl Handler for Named {
    fn on_event(&mut self, now: Now, event: Event<'_>, actions: &mut Actions) {
        if let Event::Opened { peer, .. } = &event {
            self.peers.push(*peer);
        }
        self.echo.on_event(now, event, actions);
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        self.echo.on_batch_end(now, actions)
    }
}

const TELLS_PEERS: Accepting = Accepting { tells_peers: true };
const TELLS_NOBODY: Accepting = Accepting { tells_peers: false };

#[test]
fn whoever_connects_is_told() {
    let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    on_both(|kind| {
        for (bind, through) in [(localhost(), "127.0.0.1"), (any_v6, "127.0.0.1"), (any_v6, "::1")]
        {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let listen = move |event_loop: &mut EventLoop| {
                Ok((event_loop.adopt_listener(listener.into(), TELLS_PEERS)?, localhost()))
            };
            let (handler, mut own) = (Named::default(), BTreeSet::new());
            let served = serve_where(kind, &Settings::default(), listen, handler, |_| {
                let mut streams: Vec<_> =
                    (0..50).map(|_| TcpStream::connect((through, port)).unwrap()).collect();
                for stream in &mut streams {
                    ping(stream, b"who am I");
                    own.insert(stream.local_addr().unwrap());
                }
            });
            let canonical = |peer: SocketAddr| (peer.ip().to_canonical(), peer.port()).into();
            let told: BTreeSet<SocketAddr> =
                served.inner.peers.iter().map(|peer| canonical(peer.unwrap())).collect();
            assert_eq!(told, own);
        }
    });
}

/// Asking takes a moment; who leaves meanwhile is not missed and leaves nothing.
#[test]
fn whoever_leaves_before_being_asked_does_no_harm() {
    on_both(|kind| {
        let listener = TcpListener::bind(localhost()).unwrap();
        let addr = listener.local_addr().unwrap();
        let listen = move |event_loop: &mut EventLoop| {
            Ok((event_loop.adopt_listener(listener.into(), TELLS_PEERS)?, addr))
        };
        let settings = Settings { sockets_max: 8, ring_slots: 4, ..Settings::default() };
        serve_where(kind, &settings, listen, Named::default(), |server| {
            for _ in 0..200 {
                let stream = server.connect();
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            // All places are free again, or it would not be served.
            let mut streams: Vec<_> = (0..8).map(|_| server.connect()).collect();
            for stream in &mut streams {
                ping(stream, b"there is room");
            }
        });
    });
}

#[test]
fn a_unix_socket_is_served_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    on_both(|kind| {
        let path = folder.path().join(kind.to_string());
        let listener = UnixListener::bind(&path).unwrap();
        let listen = move |event_loop: &mut EventLoop| {
            Ok((event_loop.adopt_listener(listener.into(), TELLS_NOBODY)?, localhost()))
        };
        let served = serve_where(kind, &Settings::default(), listen, Named::default(), |_| {
            let mut streams: Vec<_> =
                (0..40).map(|_| UnixStream::connect(&path).unwrap()).collect();
            for stream in &mut streams {
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                stream.write_all(b"local").unwrap();
                let mut answer = [0; 5];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"local");
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
            }
        });
        assert_eq!(served.inner.peers, [None; 40]);
    });
}

/// Two loops with one socket: each gets some, nobody waits for ever.
#[test]
fn loops_share_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    on_both(|kind| {
        let path = folder.path().join(format!("shared-{kind}"));
        let listener = UnixListener::bind(&path).unwrap();
        let other = listener.try_clone().unwrap();
        let adopt = |listener: UnixListener| {
            move |event_loop: &mut EventLoop| {
                Ok((event_loop.adopt_listener(listener.into(), TELLS_NOBODY)?, localhost()))
            }
        };
        let settings = Settings::default();
        let mut second = 0;
        let first = serve_where(kind, &settings, adopt(listener), Named::default(), |_| {
            let served = serve_where(kind, &settings, adopt(other), Named::default(), |_| {
                let mut streams = Vec::new();
                for _ in 0..200 {
                    let mut stream = UnixStream::connect(&path).unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                    stream.write_all(b"!").unwrap();
                    stream.read_exact(&mut [0]).unwrap();
                    streams.push(stream);
                }
            });
            second = served.inner.peers.len();
        });
        assert_eq!(first.inner.peers.len() + second, 200);
        if kind == roost_event_loop::Kind::Uring {
            // They take turns there; under epoll whoever is awake takes it.
            assert!(second > 20 && second < 180, "{second} of 200");
        }
    });
}

#[test]
fn a_listener_stops_at_once_when_it_is_paused() {
    on_both(|kind| {
        let (tell, told) = channel();
        let handler = OneByOne { tell: Some(tell), ..OneByOne::default() };
        let listener = TcpListener::bind(localhost()).unwrap();
        let addr = listener.local_addr().unwrap();
        let listen = move |event_loop: &mut EventLoop| {
            Ok((event_loop.adopt_listener(listener.into(), TELLS_NOBODY)?, addr))
        };
        let served = serve_where(kind, &Settings::default(), listen, handler, |server| {
            let streams: Vec<_> = (0..100).map(|_| server.connect()).collect();
            let mut opened = 0;
            while opened < 100 {
                server.waker.wake();
                // When nobody comes any more it is told to go on; sooner does no harm.
                while let Ok(count) = told.recv_timeout(Duration::from_millis(20)) {
                    opened = count;
                }
            }
            drop(streams);
        });
        if kind == roost_event_loop::Kind::Uring {
            // Those that were armed, and those that were armed anew before it was paused.
            assert!(served.inner.since_max <= 16, "{} at once", served.inner.since_max);
        }
    });
}

/// Sends much to the first that comes, and stands still when woken until it is told to go on.
struct Held {
    tell: Sender<()>,
    go_on: Receiver<()>,
    opened: u32,
}

impl Handler for Held {
    fn on_event(&mut self, _: Now, event: Event<'_>, actions: &mut Actions) {
        match event {
            Event::Opened { socket, .. } => {
                self.opened += 1;
                if self.opened % 2 == 1 {
                    actions.send(socket, vec![7; 16 << 20]);
                }
                self.tell.send(()).unwrap();
            }
            // An error: the client is done, and this is the wake-up that ends the loop.
            Event::Woken if self.tell.send(()).is_ok() => {
                let _result = self.go_on.recv();
            }
            _ => {}
        }
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        BatchFlow::Continue
    }
}

/// One socket fails while it sends, and another connects, both before the loop looks again: the end
/// of the first is told before its slot is used again. (The harness looks at that.)
#[test]
fn a_slot_is_not_used_again_before_its_end_was_told() {
    on_both(|kind| {
        let ((tell, told), (release, go_on)) = (channel(), channel());
        let handler = Held { tell, go_on, opened: 0 };
        let settings = Settings { sockets_max: 2, ..Settings::default() };
        serve(kind, &settings, handler, move |server| {
            let next = || told.recv_timeout(Duration::from_secs(60)).unwrap();
            for _ in 0..10 {
                let first = server.connect();
                next();
                server.waker.wake();
                next();
                socket2::SockRef::from(&first).set_linger(Some(Duration::ZERO)).unwrap();
                drop(first);
                let second = server.connect();
                release.send(()).unwrap();
                next();
                drop(second);
            }
        });
    });
}
