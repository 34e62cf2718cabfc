//! Bytes come back: small, large, after the end, beside a flood.

use crate::harness::{Echo, on_both, pattern, ping, serve};
use roost_event_loop::{Actions, BatchFlow, CloseCause, Event, Handler, Settings, SocketId};
use roost_protocol::time::Now;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn small_messages() {
    on_both(|kind| {
        serve(kind, &Settings::default(), Echo::default(), |server| {
            let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
            for round in 1..100 {
                for stream in &mut streams {
                    ping(stream, &pattern(round * 7));
                }
            }
        });
    });
}

#[test]
fn large_transfer() {
    on_both(|kind| {
        let settings = Settings { receive_buffer_bytes: 5000, ..Settings::default() };
        serve(kind, &settings, Echo::default(), |server| {
            let bytes = pattern(8 << 20);
            let mut stream = server.connect();
            let mut writer = stream.try_clone().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&bytes).unwrap());
                let mut answer = vec![0; bytes.len()];
                stream.read_exact(&mut answer).unwrap();
                assert!(answer == bytes);
            });
        });
    });
}

/// All is written and the direction ended before anything is read: short writes at the server.
#[test]
fn half_close_still_gets_everything() {
    on_both(|kind| {
        let served = serve(kind, &Settings::default(), Echo::default(), |server| {
            for length in [1, 1000, 65536, 1 << 20] {
                let bytes = pattern(length);
                let mut stream = server.connect();
                stream.write_all(&bytes).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                assert!(answer == bytes, "{length}");
            }
        });
        assert_eq!(served.causes, [CloseCause::Eof; 4]);
    });
}

#[test]
fn reset_is_told() {
    on_both(|kind| {
        let (tell, told) = std::sync::mpsc::channel();
        serve(kind, &Settings::default(), Causes { tell }, |server| {
            let stream = server.connect();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(stream);
            assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), CloseCause::Reset);
            drop(server.connect());
            assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), CloseCause::Eof);
        });
    });
}

struct Causes {
    tell: std::sync::mpsc::Sender<CloseCause>,
}

impl Handler for Causes {
    fn on_event(&mut self, _: Now, event: Event<'_>, _: &mut Actions) {
        if let Event::Closed { cause, .. } = event {
            self.tell.send(cause).unwrap();
        }
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        BatchFlow::Continue
    }
}

/// Drops what comes from those that send much; echoes the others.
struct Sink {
    turn: BTreeMap<SocketId, usize>,
    most: usize,
}

impl Handler for Sink {
    fn on_event(&mut self, _: Now, event: Event<'_>, actions: &mut Actions) {
        if let Event::Received { socket, bytes } = event {
            *self.turn.entry(socket).or_default() += bytes.len();
            if bytes.len() < 10 {
                actions.send(socket, bytes.to_vec());
            }
        }
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        let most = self.turn.values().max().copied().unwrap_or_default();
        self.most = self.most.max(most);
        self.turn.clear();
        BatchFlow::Continue
    }
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_flood_beside_a_quiet_socket() {
    on_both(|kind| {
        let settings = Settings {
            receive_buffer_bytes: 4096,
            receive_per_turn_bytes: 3 * 4096,
            ..Settings::default()
        };
        let sink = Sink { turn: BTreeMap::new(), most: 0 };
        let served = serve(kind, &settings, sink, |server| {
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut flood = server.connect();
                    while !done.load(Ordering::SeqCst) {
                        flood.write_all(&[0; 1 << 16]).unwrap();
                    }
                });
                // Also when something fails here: the flood would go on for ever.
                let _ends = SetAtEnd(&done);
                let mut quiet = server.connect();
                for _ in 0..300 {
                    ping(&mut quiet, b"quiet");
                }
            });
        });
        assert!(served.inner.most <= 3 * 4096, "{} bytes in one turn", served.inner.most);
    });
}
