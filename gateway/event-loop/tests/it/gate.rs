//! Those that come and those that go do not hold up whoever is there.

use crate::harness::{on_both, serve};
use roost_event_loop::{Actions, BatchFlow, Event, Handler, Settings};
use roost_protocol::time::Now;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Opened,
    FirstWords,
    Talk,
    End,
    Turn,
}

/// Tells what it hears, and stands still when woken until it is told to go on.
struct Watching {
    tell: Sender<Heard>,
    stands: Sender<()>,
    go_on: Receiver<()>,
}

impl Handler for Watching {
    fn on_event(&mut self, _: Now, event: Event<'_>, _: &mut Actions) {
        let heard = match event {
            Event::Opened { .. } => Heard::Opened,
            Event::Received { bytes, .. } if *bytes == *b"talk" => Heard::Talk,
            Event::Received { .. } => Heard::FirstWords,
            Event::Closed { .. } => Heard::End,
            // An error: the client is done, and this is the wake-up that ends the loop.
            Event::Woken if self.stands.send(()).is_ok() => {
                let _result = self.go_on.recv();
                return;
            }
            _ => return,
        };
        let _result = self.tell.send(heard);
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        let _result = self.tell.send(Heard::Turn);
        BatchFlow::Continue
    }
}

#[test]
fn who_is_there_is_heard_before_those_that_come_and_go() {
    on_both(|kind| {
        let ((tell, told), (stands, stood), (release, go_on)) = (channel(), channel(), channel());
        let settings = Settings { gate_per_turn: 1, ..Settings::default() };
        let handler = Watching { tell, stands, go_on };
        serve(kind, &settings, handler, move |server| {
            let next = || told.recv_timeout(Duration::from_secs(60)).unwrap();
            let mut talker = server.connect();
            talker.write_all(b"hello").unwrap();
            let mut leaving: Vec<_> = (0..50).map(|_| server.connect()).collect();
            leaving.iter_mut().for_each(|stream| stream.write_all(b"hello").unwrap());
            let mut coming: Vec<_> = (0..50).map(|_| server.connect()).collect();
            let (mut opened, mut first_words) = (0, 0);
            while (opened, first_words) != (101, 51) {
                let heard = next();
                opened += u32::from(heard == Heard::Opened);
                first_words += u32::from(heard == Heard::FirstWords);
            }
            server.waker.wake();
            stood.recv_timeout(Duration::from_secs(60)).unwrap();
            while told.try_recv().is_ok() {}
            drop(leaving);
            coming.iter_mut().for_each(|stream| stream.write_all(b"hello").unwrap());
            talker.write_all(b"talk").unwrap();
            release.send(()).unwrap();

            let (mut ended, mut welcome, mut in_turn, mut talked) = (0, 0, 0, false);
            while (ended, welcome, talked) != (50, 50, true) {
                match next() {
                    Heard::Turn => in_turn = 0,
                    Heard::Talk => {
                        talked = true;
                        assert!(ended + welcome <= 6, "{ended} ends, {welcome} first words");
                    }
                    heard => {
                        ended += u32::from(heard == Heard::End);
                        welcome += u32::from(heard == Heard::FirstWords);
                        in_turn += 1;
                        assert!(in_turn <= 6, "{in_turn} in one turn");
                    }
                }
            }
            drop(coming);
        });
    });
}

#[test]
fn a_turn_takes_no_more_connections_than_it_may() {
    on_both(|kind| {
        let ((tell, told), (stands, stood), (release, go_on)) = (channel(), channel(), channel());
        let settings = Settings { accepts_per_turn: 4, ..Settings::default() };
        let handler = Watching { tell, stands, go_on };
        serve(kind, &settings, handler, move |server| {
            server.waker.wake();
            stood.recv_timeout(Duration::from_secs(60)).unwrap();
            let streams: Vec<_> = (0..40).map(|_| server.connect()).collect();
            release.send(()).unwrap();
            let (mut all, mut in_turn) = (0, 0);
            while all < 40 {
                match told.recv_timeout(Duration::from_secs(60)).unwrap() {
                    Heard::Opened => {
                        (all, in_turn) = (all + 1, in_turn + 1);
                        assert!(in_turn <= 4, "{in_turn} in one turn");
                    }
                    Heard::Turn => in_turn = 0,
                    Heard::FirstWords | Heard::Talk | Heard::End => {}
                }
            }
            drop(streams);
        });
    });
}
