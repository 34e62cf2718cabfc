//! More happens at once than a ring has places for completions (2,048): the kernel keeps the rest,
//! and none of it is lost.

use crate::harness::{Echo, localhost, on_both, ping, serve_where};
use roost_event_loop::{Actions, BatchFlow, CloseCause, Event, EventLoop, Handler, Settings};
use roost_protocol::time::Now;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// More than there are places, or as many as this process may have, at both ends.
fn crowd() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let descriptors = limit.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
    descriptors.saturating_sub(500).min(6_000) / 2
}

/// Connections that may wait while nobody accepts.
fn backlog() -> usize {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    most.trim().parse().unwrap()
}

/// What the handler tells.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Still,
    Opened,
    Reset,
}

/// Echoes; when woken it stands still until it is told to go on.
struct Standing {
    echo: Echo,
    tell: Sender<Told>,
    go_on: Receiver<()>,
}

impl Handler for Standing {
    fn on_event(&mut self, now: Now, event: Event<'_>, actions: &mut Actions) {
        match &event {
            // An error: the client is done, and this is the wake-up that ends the loop.
            Event::Woken if self.tell.send(Told::Still).is_ok() => {
                let _result = self.go_on.recv();
            }
            Event::Opened { .. } => drop(self.tell.send(Told::Opened)),
            Event::Closed { cause: CloseCause::Reset, .. } => drop(self.tell.send(Told::Reset)),
            _ => {}
        }
        self.echo.on_event(now, event, actions);
    }

    fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
        self.echo.on_batch_end(now, actions)
    }
}

#[test]
fn nothing_of_what_happens_at_once_is_lost() {
    on_both(|kind| {
        let ((tell, told), (release, go_on)) = (channel(), channel());
        let handler = Standing { echo: Echo::default(), tell, go_on };
        let listen = |event_loop: &mut EventLoop| event_loop.listen(localhost(), 65_535, false);
        let served = serve_where(kind, &Settings::default(), listen, handler, move |server| {
            let hears = |expected: Told| assert_eq!(told.recv_timeout(PATIENCE), Ok(expected));
            // Whatever is done while it stands still is there for it at once.
            let at_once = |act: &mut dyn FnMut()| {
                server.waker.wake();
                hears(Told::Still);
                act();
                release.send(()).unwrap();
            };
            let (count, backlog) = (crowd(), backlog());
            let mut streams: Vec<TcpStream> = Vec::new();
            while streams.len() < count {
                let more = (count - streams.len()).min(backlog);
                at_once(&mut || streams.extend((0..more).map(|_| server.connect())));
                (0..more).for_each(|_| hears(Told::Opened));
            }
            at_once(&mut || {
                for stream in &mut streams {
                    stream.write_all(b"all").unwrap();
                }
            });
            for stream in &mut streams {
                is_answered(stream);
            }
            // Half of them are reset, and the others speak.
            let mut leaving = streams.split_off(count / 2);
            let resets = leaving.len();
            at_once(&mut || {
                for stream in leaving.drain(..) {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
                streams.iter_mut().for_each(|stream| stream.write_all(b"all").unwrap());
            });
            for stream in &mut streams {
                is_answered(stream);
                ping(stream, b"and on");
            }
            (0..resets).for_each(|_| hears(Told::Reset));
        });
        assert!(served.causes.iter().filter(|cause| **cause == CloseCause::Reset).count() > 0);
    });
}

/// Expects back what was said while the loop stood still.
fn is_answered(stream: &mut TcpStream) {
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"all");
}
