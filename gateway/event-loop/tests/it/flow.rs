//! Peers that do not read, and handlers that do not want to.

use crate::harness::{Echo, on_both, pattern, ping, serve};
use roost_event_loop::{Actions, BatchFlow, CloseCause, Event, Handler, Settings, SocketId};
use roost_protocol::time::Now;
use std::io::{Read, Write};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// More than the kernel takes for a peer that does not read.
const LONG: usize = 16 << 20;

/// Sends a lot at once; closes when woken, first in order, then at once.
struct Talker {
    socket: Option<SocketId>,
    wakes: u32,
    /// Whether it does so.
    closes: bool,
    tell: Sender<&'static str>,
}

impl Handler for Talker {
    fn on_event(&mut self, _: Now, event: Event<'_>, actions: &mut Actions) {
        match event {
            Event::Opened { socket, .. } => {
                self.socket = Some(socket);
                actions.send(socket, pattern(LONG));
                self.tell.send("opened").unwrap();
            }
            Event::Sent { buffer, .. } => {
                assert_eq!(buffer.len(), LONG);
                self.tell.send("sent").unwrap();
            }
            Event::Closed { cause, .. } => {
                assert_eq!(cause, CloseCause::Requested);
                self.tell.send("closed").unwrap();
            }
            Event::Woken if self.closes => {
                self.wakes += 1;
                let socket = self.socket.unwrap();
                if self.wakes == 1 { actions.close(socket) } else { actions.abort(socket) }
            }
            _ => {}
        }
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        if self.wakes == 1 {
            self.tell.send("closing").unwrap();
            self.wakes += 1;
        }
        BatchFlow::Continue
    }
}

fn talker() -> (Talker, std::sync::mpsc::Receiver<&'static str>) {
    let (tell, told) = channel();
    (Talker { socket: None, wakes: 0, closes: true, tell }, told)
}

#[test]
fn an_orderly_close_waits_for_the_send() {
    on_both(|kind| {
        let (talker, told) = talker();
        serve(kind, &Settings::default(), talker, |server| {
            let mut stream = server.connect();
            let next = || told.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(next(), "opened");
            server.waker.wake();
            assert_eq!(next(), "closing");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer == pattern(LONG));
            drop(stream);
            assert_eq!([next(), next()], ["sent", "closed"]);
        });
    });
}

#[test]
fn a_slow_reader_is_aborted() {
    on_both(|kind| {
        let (talker, told) = talker();
        serve(kind, &Settings::default(), talker, |server| {
            let mut stream = server.connect();
            let next = || told.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(next(), "opened");
            server.waker.wake();
            assert_eq!(next(), "closing");
            server.waker.wake();
            assert_eq!(next(), "closed");
            assert!(stream.read_to_end(&mut Vec::new()).is_err(), "a reset");
        });
    });
}

/// What is under way when a loop is dropped ends with it: no memory is used afterwards.
#[test]
fn a_loop_may_end_in_the_middle() {
    on_both(|kind| {
        for _ in 0..3 {
            let (mut talker, told) = talker();
            talker.closes = false;
            let mut stream = None;
            serve(kind, &Settings::default(), talker, |server| {
                stream = Some(server.connect());
                assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), "opened");
            });
            let mut answer = Vec::new();
            let ended = stream.unwrap().read_to_end(&mut answer);
            assert!(ended.is_err() || answer.len() < LONG);
            assert!(answer == pattern(LONG)[..answer.len()]);
        }
    });
}

/// Echoes, but each socket is paused from its beginning until the next wake.
#[derive(Default)]
struct Hesitant {
    echo: Echo,
    paused: Vec<SocketId>,
    tell: Option<Sender<SocketId>>,
}

impl Handler for Hesitant {
    fn on_event(&mut self, now: Now, event: Event<'_>, actions: &mut Actions) {
        match event {
            Event::Opened { socket, .. } => {
                actions.pause(socket);
                self.paused.push(socket);
            }
            Event::Received { socket, .. } => assert!(!self.paused.contains(&socket)),
            Event::Woken => {
                for socket in self.paused.drain(..) {
                    actions.resume(socket);
                }
            }
            _ => {}
        }
        self.echo.on_event(now, event, actions);
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        if let (Some(tell), Some(socket)) = (&self.tell, self.paused.last()) {
            tell.send(*socket).unwrap();
        }
        self.echo.on_batch_end(now, actions)
    }
}

#[test]
fn resume_finds_what_waited() {
    on_both(|kind| {
        let (tell, told) = channel();
        let handler = Hesitant { tell: Some(tell), ..Hesitant::default() };
        serve(kind, &Settings::default(), handler, |server| {
            for round in 0..50 {
                let mut stream = server.connect();
                // Twice the same: the pause was performed by the end of the first batch.
                let first = told.recv_timeout(Duration::from_secs(60)).unwrap();
                while told.recv_timeout(Duration::from_secs(60)).unwrap() != first {}
                stream.write_all(&pattern(100)).unwrap();
                if round % 2 == 0 {
                    // One more turn with the data already there.
                    while told.try_recv().is_ok() {}
                    told.recv_timeout(Duration::from_secs(60)).unwrap();
                }
                server.waker.wake();
                let mut answer = [0; 100];
                stream.read_exact(&mut answer).unwrap();
                ping(&mut stream, b"and on");
                while told.try_recv().is_ok() {}
            }
        });
    });
}
