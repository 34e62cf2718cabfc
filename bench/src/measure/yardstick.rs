//! How fast the server's processors are while it is measured. Neighbours on the same machine, or
//! the other half of a core, make a virtual processor a half slower for seconds; the same small
//! work done over and over beside the server shows it. Its time is the processor time of its own
//! thread, so what the server does meanwhile is not in it.

use roost_protocol::time::Duration;
use rustix::process::Pid;
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Between two pieces of work: together they take about 2 % of a processor.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(8);
/// Places of the walk, each in a cache line of its own: 2 MiB, more than is near.
const PLACES: u32 = 1 << 15;
const WORDS_PER_LINE: usize = 16;
/// A piece of work: calls of the kernel, and steps of a walk through memory. A message is both.
const CALLS: u32 = 200;
const STEPS: u32 = 600;
/// An odd number: so every place is visited before the first one comes again.
const STRIDE: u32 = 12_345;

/// Work that goes on. It ends with this.
#[derive(Debug)]
pub struct Yardstick {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<f64>>>,
}

impl Yardstick {
    /// Begins to work where a process may run.
    #[must_use]
    pub fn begin(pid: u32) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let work = move || {
            let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
            let set = sched_getaffinity(Some(pid)).ok()?;
            sched_setaffinity(None, &set).ok()?;
            measure(&told)
        };
        let thread = thread::Builder::new().name("yardstick".to_owned()).spawn(work).ok();
        Self { ends, thread }
    }

    /// Ends it. Gives the microseconds of a piece of work on average; none: it could not work.
    #[must_use]
    pub fn end(mut self) -> Option<f64> {
        self.ends.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        thread.thread().unpark();
        thread.join().ok().flatten()
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn measure(ends: &AtomicBool) -> Option<f64> {
    let ring = ring();
    let (mut at, mut spent, mut pieces) = (0, Duration::default(), 0_u32);
    // The first piece finds nothing in the caches.
    piece(&ring, &mut at);
    loop {
        let before = own_time();
        piece(&ring, &mut at);
        spent = Duration { ns: spent.ns + own_time().ns.saturating_sub(before.ns) };
        pieces += 1;
        if ends.load(Ordering::Relaxed) {
            break;
        }
        thread::park_timeout(PAUSE);
    }
    let ns = u32::try_from(spent.ns / u64::from(pieces)).ok()?;
    Some(f64::from(ns) / 1e3)
}

/// Places that each name the next one.
fn ring() -> Vec<u32> {
    let mut ring = vec![0; PLACES as usize * WORDS_PER_LINE];
    for place in 0..PLACES {
        ring[place as usize * WORDS_PER_LINE] = (place + STRIDE) % PLACES;
    }
    ring
}

fn piece(ring: &[u32], at: &mut u32) {
    for _ in 0..CALLS {
        std::hint::black_box(clock_gettime(ClockId::ProcessCPUTime));
    }
    for _ in 0..STEPS {
        *at = std::hint::black_box(ring[*at as usize * WORDS_PER_LINE]);
    }
}

/// Processor time of this thread.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    Duration { ns: part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_visits_every_place_before_it_repeats() {
        let ring = ring();
        let (mut at, mut steps) = (0, 0_u32);
        loop {
            at = ring[at as usize * WORDS_PER_LINE];
            steps += 1;
            if at == 0 {
                break;
            }
        }
        assert_eq!(steps, PLACES);
    }

    #[test]
    fn it_works_until_it_is_told_to_end() {
        let yardstick = Yardstick::begin(std::process::id());
        let us = yardstick.end().unwrap();
        assert!(us > 0.0, "{us}");
        assert_eq!(Yardstick::begin(u32::MAX).end(), None, "there is no such process");
    }
}
