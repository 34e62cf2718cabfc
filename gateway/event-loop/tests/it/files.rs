//! Files: written, durable, read back; errors are told.

use crate::harness::{on_both, pattern, run_alone};
use roost_event_loop::{
    Actions, BatchFlow, Choice, Event, EventLoop, Handler, Kind, Settings, come_first, probe,
};
use roost_protocol::time::Now;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

const PIECES: u64 = 20;
const PIECE: usize = 100_000;

/// Writes all pieces at once, then reads each; the last read goes past the end.
struct Log {
    file: File,
    read_only: File,
    started: bool,
    written: u64,
    read: u64,
    others: u64,
}

impl Handler for Log {
    fn on_event(&mut self, _: Now, event: Event<'_>, actions: &mut Actions) {
        let Event::FileDone { token, result, buffer } = event else { return };
        let fd = self.file.as_raw_fd();
        match token {
            0..100 => {
                assert_eq!(result, Ok(u32::try_from(PIECE).unwrap()));
                assert_eq!(buffer.len(), PIECE);
                self.written += 1;
                if self.written == PIECES {
                    for piece in 0..PIECES {
                        let offset = piece * PIECE as u64;
                        actions.read_file(100 + piece, fd, offset, PIECE);
                    }
                    let end = PIECES * PIECE as u64;
                    actions.read_file(200, fd, end - 10, 100);
                    actions.read_file(201, fd, end, 100);
                    actions.sync_file(202, fd);
                    let fd = self.read_only.as_raw_fd();
                    actions.write_file(203, fd, 0, vec![1], true);
                    actions.write_file(204, fd, 0, vec![1], false);
                }
            }
            100..200 => {
                assert_eq!(result, Ok(u32::try_from(PIECE).unwrap()));
                assert!(buffer == piece(token - 100));
                self.read += 1;
            }
            other => {
                let expected = match other {
                    200 => (Ok(10), 10),
                    201 => (Ok(0), 0),
                    202 => (Ok(0), 0),
                    _ => (Err(9), 1),
                };
                assert_eq!((result, buffer.len()), expected, "{other}");
                self.others += 1;
            }
        }
    }

    fn on_batch_end(&mut self, _: Now, actions: &mut Actions) -> BatchFlow {
        if !std::mem::replace(&mut self.started, true) {
            for index in 0..PIECES {
                let offset = index * PIECE as u64;
                let fd = self.file.as_raw_fd();
                actions.write_file(index, fd, offset, piece(index), index % 2 == 0);
            }
        }
        if self.read == PIECES && self.others == 5 { BatchFlow::Stop } else { BatchFlow::Continue }
    }
}

fn piece(index: u64) -> Vec<u8> {
    let mut bytes = pattern(PIECE);
    bytes[..8].copy_from_slice(&index.to_le_bytes());
    bytes
}

fn write_and_read_back(settings: &Settings) {
    on_both(|kind| {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = File::options().read(true).write(true).open(path.path()).unwrap();
        let read_only = File::open(path.path()).unwrap();
        run_alone(kind, settings, |_| Log {
            file,
            read_only,
            started: false,
            written: 0,
            read: 0,
            others: 0,
        });
    });
}

#[test]
fn written_and_read_back() {
    write_and_read_back(&Settings::default());
}

#[test]
fn written_by_a_thread_that_comes_first_and_read_back() {
    write_and_read_back(&Settings { writes_come_first: true, ..Settings::default() });
}

/// What a writer thread has to do with: a loop with one, in a thread that owns it. Says so where
/// the system allows none.
fn with_a_writer(test: impl FnOnce(EventLoop)) {
    let settings = Settings { writes_come_first: true, tick_ms: 600_000, ..Settings::default() };
    match probe(Choice::Uring).map(|probed| EventLoop::new(probed.kind, &settings).unwrap()) {
        Ok(event_loop) if event_loop.writes_come_first() => test(event_loop),
        Ok(_) => eprintln!("SKIPPED: no leave for a real-time priority, so this is NOT TESTED"),
        Err(error) => eprintln!("SKIPPED, so this is NOT TESTED: {error}"),
    }
}

/// Writes one piece after the other, each when the last is done; or stops before the answer.
struct Chain {
    file: File,
    left: u64,
    under_way: bool,
    stops_at_once: bool,
    ticks: u32,
}

impl Chain {
    fn new(left: u64) -> Self {
        let file = tempfile::tempfile().unwrap();
        Self { file, left, under_way: false, stops_at_once: false, ticks: 0 }
    }
}

impl Handler for Chain {
    fn on_event(&mut self, _: Now, event: Event<'_>, _: &mut Actions) {
        match event {
            Event::FileDone { result, .. } => {
                assert_eq!(result, Ok(8));
                self.under_way = false;
                self.left -= 1;
            }
            Event::Tick => self.ticks += 1,
            _ => {}
        }
    }

    fn on_batch_end(&mut self, _: Now, actions: &mut Actions) -> BatchFlow {
        if self.left == 0 {
            return BatchFlow::Stop;
        }
        if !std::mem::replace(&mut self.under_way, true) {
            let bytes = self.left.to_le_bytes().to_vec();
            actions.write_file(self.left, self.file.as_raw_fd(), self.left * 8, bytes, true);
        }
        if self.stops_at_once { BatchFlow::Stop } else { BatchFlow::Continue }
    }
}

#[test]
fn an_answer_of_the_writer_ends_the_loops_sleep() {
    with_a_writer(|mut event_loop| {
        let mut chain = Chain::new(300);
        event_loop.run(&mut chain).unwrap();
        assert_eq!((chain.left, chain.ticks), (0, 1), "the first turn has a tick, the next is far");
    });
}

#[test]
fn an_answer_that_came_after_the_stop_is_told_when_the_loop_goes_on() {
    with_a_writer(|mut event_loop| {
        let mut chain = Chain { stops_at_once: true, ..Chain::new(1) };
        event_loop.run(&mut chain).unwrap();
        assert_eq!((chain.left, chain.under_way), (1, true));
        chain.stops_at_once = false;
        event_loop.run(&mut chain).unwrap();
        assert_eq!(chain.left, 0);
    });
}

#[test]
fn what_was_asked_of_the_writer_is_done_when_the_loop_is_gone() {
    with_a_writer(|mut event_loop| {
        let mut chain = Chain { stops_at_once: true, ..Chain::new(1) };
        event_loop.run(&mut chain).unwrap();
        drop(event_loop);
        let mut bytes = [0; 8];
        chain.file.read_exact_at(&mut bytes, 8).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 1);
    });
}

#[test]
fn writes_come_first_where_the_system_allows_it() {
    let thread = std::thread::Builder::new().name("first".to_owned());
    let allowed = thread.spawn(come_first).unwrap().join().unwrap();
    on_both(|kind| {
        for wanted in [true, false] {
            let settings = Settings { writes_come_first: wanted, ..Settings::default() };
            let event_loop = EventLoop::new(kind, &settings).unwrap();
            let expected = wanted && allowed && kind == Kind::Uring;
            assert_eq!(event_loop.writes_come_first(), expected, "{kind}, {wanted}");
        }
    });
}
