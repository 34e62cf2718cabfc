//! Listeners: limits, pausing.

use crate::harness::{Echo, on_both, ping, serve};
use roost_event_loop::{Actions, BatchFlow, Event, Handler, Limit, ListenerId, Settings, SocketId};
use roost_protocol::time::Now;
use std::io::Write;
use std::sync::mpsc::{Sender, channel};
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
            std::io::Read::read_exact(&mut streams[2], &mut answer).unwrap();
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
    may_open: bool,
    listener: Option<ListenerId>,
    tell: Option<Sender<u32>>,
}

impl Handler for OneByOne {
    fn on_event(&mut self, _: Now, event: Event<'_>, actions: &mut Actions) {
        match event {
            Event::Opened { listener, .. } => {
                self.listener = Some(listener);
                self.opened += 1;
                actions.pause_listener(listener);
                self.tell.as_ref().unwrap().send(self.opened).unwrap();
            }
            Event::Woken => {
                if let Some(listener) = self.listener {
                    actions.resume_listener(listener);
                }
            }
            _ => {}
        }
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        self.may_open = false;
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
