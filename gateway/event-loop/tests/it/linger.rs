//! The end of a connection whose peer is still talking: it hears the last words all the same, and
//! cannot talk for ever.

use crate::harness::{on_both, pattern, serve};
use roost_event_loop::{Actions, BatchFlow, CloseCause, Event, Handler, Settings};
use roost_protocol::time::Now;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// More than a narrow client's kernel holds, and less than our own holds for it.
const LAST_WORDS: usize = 300_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// At the first byte it says its last words and closes.
struct Leaver {
    words: usize,
    left: bool,
    tell: Sender<&'static str>,
}

impl Handler for Leaver {
    fn on_event(&mut self, _: Now, event: Event<'_>, actions: &mut Actions) {
        match event {
            Event::Received { socket, .. } if !self.left => {
                self.left = true;
                // A pause does not keep what lingers from being read.
                actions.pause(socket);
                if self.words > 0 {
                    actions.send(socket, pattern(self.words));
                }
                actions.close(socket);
            }
            Event::Sent { .. } => self.tell.send("sent").unwrap(),
            Event::Closed { cause, .. } => {
                assert_eq!(cause, CloseCause::Requested);
                self.tell.send("closed").unwrap();
            }
            _ => {}
        }
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        BatchFlow::Continue
    }
}

fn leaver(words: usize) -> (Leaver, Receiver<&'static str>) {
    let (tell, told) = channel();
    (Leaver { words, left: false, tell }, told)
}

/// A client whose kernel holds little for it.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

#[test]
fn last_words_reach_a_peer_that_is_still_talking() {
    on_both(|kind| {
        let (leaver, told) = leaver(LAST_WORDS);
        serve(kind, &Settings::default(), leaver, |server| {
            let mut stream = narrow(server.addr);
            stream.write_all(&pattern(200_000)).unwrap();
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "sent");
            stream.write_all(&pattern(50_000)).unwrap();
            let mut words = Vec::new();
            stream.read_to_end(&mut words).expect("an end, not a reset");
            assert!(words == pattern(LAST_WORDS));
            drop(stream);
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "closed");
        });
    });
}

#[test]
fn who_talks_on_and_on_is_closed_at_the_bound() {
    on_both(|kind| {
        let (leaver, told) = leaver(0);
        let bounds = Settings { linger_ms: 600_000, ..Settings::default() };
        serve(kind, &bounds, leaver, |server| {
            let mut stream = server.connect();
            let mut written = 0;
            let error = loop {
                match stream.write(&[7; 1 << 16]) {
                    Ok(count) => written += count,
                    Err(error) => break error,
                }
            };
            let kind = error.kind();
            assert!(kind == ErrorKind::ConnectionReset || kind == ErrorKind::BrokenPipe, "{error}");
            assert!(written >= bounds.linger_bytes_max, "{written} bytes are below the bound");
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "closed");
        });
    });
}

#[test]
fn who_stays_and_says_nothing_is_closed_in_time() {
    on_both(|kind| {
        let (leaver, told) = leaver(10);
        let bounds = Settings { linger_ms: 30, tick_ms: 10, ..Settings::default() };
        serve(kind, &bounds, leaver, |server| {
            let mut stream = server.connect();
            stream.write_all(b"bye").unwrap();
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "sent");
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "closed");
            let mut words = Vec::new();
            stream.read_to_end(&mut words).unwrap();
            assert_eq!(words, pattern(10));
        });
    });
}
