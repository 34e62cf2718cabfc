//! No wake-up is lost.

use crate::harness::{Echo, on_both, ping, serve};
use roost_event_loop::{Actions, BatchFlow, Event, EventLoop, Handler, Kind, Settings, Waker};
use roost_protocol::time::Now;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

const ROUNDS: u64 = 100_000;
/// How often a thread sleeps before a wake-up counts as lost, and for how long at most.
const PARKS_MAX: u32 = 600;
const PARK_MOST: Duration = Duration::from_millis(100);

/// No game takes so long.
const TICK_MS: u64 = 600_000;

/// Hits the ball when it is on its side, and wakes the other player. The next tick is far away, so
/// one lost wake-up ends the game.
struct Player {
    ball: Arc<AtomicU64>,
    side: u64,
    other: Waker,
    ticks: u32,
}

impl Player {
    fn hit(&self) {
        let ball = self.ball.load(Ordering::SeqCst);
        if ball % 2 == self.side && ball < ROUNDS {
            self.ball.store(ball + 1, Ordering::SeqCst);
            self.other.wake();
        }
    }
}

impl Handler for Player {
    fn on_event(&mut self, _: Now, event: Event<'_>, _: &mut Actions) {
        match event {
            Event::Woken => self.hit(),
            Event::Tick => {
                // The first comes at the beginning.
                self.ticks += 1;
                assert!(self.ticks == 1, "a wake-up was lost");
                self.hit();
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
        let done = self.ball.load(Ordering::SeqCst) >= ROUNDS;
        if done { BatchFlow::Stop } else { BatchFlow::Continue }
    }
}

fn play(kind: Kind) {
    let ball = Arc::new(AtomicU64::new(0));
    let settings = Settings { tick_ms: TICK_MS, ring_slots: 64, ..Settings::default() };
    let (tell_left, told_left) = channel::<Waker>();
    let (tell_right, told_right) = channel::<Waker>();
    std::thread::scope(|scope| {
        for (side, tell, told) in [(0, tell_left, told_right), (1, tell_right, told_left)] {
            let (ball, settings) = (Arc::clone(&ball), settings.clone());
            scope.spawn(move || {
                let mut event_loop = EventLoop::new(kind, &settings).unwrap();
                tell.send(event_loop.waker()).unwrap();
                let other = told.recv().unwrap();
                let mut player = Player { ball, side, other: other.clone(), ticks: 0 };
                event_loop.run(&mut player).unwrap();
                other.wake();
            });
        }
    });
    assert_eq!(ball.load(Ordering::SeqCst), ROUNDS);
}

#[test]
fn two_loops_wake_each_other() {
    on_both(play);
}

/// Wakes a loop that is busy with sockets; each wake waits for its `Woken`.
#[test]
fn wakes_under_load() {
    struct Counting {
        echo: Echo,
        woken: Arc<AtomicU64>,
        thread: std::thread::Thread,
    }
    impl Handler for Counting {
        fn on_event(&mut self, now: Now, event: Event<'_>, actions: &mut Actions) {
            if matches!(event, Event::Woken) {
                self.woken.fetch_add(1, Ordering::SeqCst);
                self.thread.unpark();
            }
            self.echo.on_event(now, event, actions);
        }

        fn on_batch_end(&mut self, now: Now, actions: &mut Actions) -> BatchFlow {
            self.echo.on_batch_end(now, actions)
        }
    }
    on_both(|kind| {
        let woken = Arc::new(AtomicU64::new(0));
        let thread = std::thread::current();
        let handler = Counting { echo: Echo::default(), woken: Arc::clone(&woken), thread };
        let settings = Settings { tick_ms: TICK_MS, ..Settings::default() };
        serve(kind, &settings, handler, |server| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut stream = server.connect();
                    for _ in 0..10_000 {
                        ping(&mut stream, b"load");
                    }
                });
                for round in 1..=10_000 {
                    server.waker.wake();
                    // It is unparked for each; a server that is gone must not keep it here.
                    for _ in 0..PARKS_MAX {
                        if woken.load(Ordering::SeqCst) >= round {
                            break;
                        }
                        std::thread::park_timeout(PARK_MOST);
                    }
                    assert!(woken.load(Ordering::SeqCst) >= round, "wake-up {round} was lost");
                }
            });
        });
    });
}

/// After many wake-ups a loop sleeps as before: the kernel may leave a ring saying that there is
/// something to do where nothing is.
#[test]
fn a_loop_that_was_woken_often_sleeps() {
    const WAKES: u32 = 100_000;
    /// A wake-up comes so many steps at most after the one before was heard of: while the loop is
    /// about to sleep, or sleeps.
    const STEPS_MAX: u32 = 512;
    const TICKS: u32 = 50;
    /// One for its tick, and one for an eventfd that was written twice.
    const TURNS_MAX: u32 = 2 * TICKS + 10;
    #[derive(Default)]
    struct Seen {
        woken: AtomicU64,
        hammered: AtomicBool,
    }
    struct Quiet {
        seen: Arc<Seen>,
        ticks: u32,
        turns: u32,
    }
    impl Handler for Quiet {
        fn on_event(&mut self, _: Now, event: Event<'_>, _: &mut Actions) {
            if matches!(event, Event::Woken) {
                self.seen.woken.fetch_add(1, Ordering::SeqCst);
            } else if self.seen.hammered.load(Ordering::SeqCst) {
                self.ticks += 1;
            }
        }

        fn on_batch_end(&mut self, _: Now, _: &mut Actions) -> BatchFlow {
            self.turns += u32::from(self.ticks > 0);
            if self.ticks < TICKS { BatchFlow::Continue } else { BatchFlow::Stop }
        }
    }
    on_both(|kind| {
        let settings = Settings { tick_ms: 1, ring_slots: 64, ..Settings::default() };
        let mut event_loop = EventLoop::new(kind, &settings).unwrap();
        let waker = event_loop.waker();
        let seen = Arc::new(Seen::default());
        let mut quiet = Quiet { seen: Arc::clone(&seen), ticks: 0, turns: 0 };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for round in 0..WAKES {
                    let before = seen.woken.load(Ordering::SeqCst);
                    waker.wake();
                    while seen.woken.load(Ordering::SeqCst) == before {
                        std::hint::spin_loop();
                    }
                    (0..round % STEPS_MAX).for_each(|_| std::hint::spin_loop());
                }
                seen.hammered.store(true, Ordering::SeqCst);
            });
            event_loop.run(&mut quiet).unwrap();
        });
        assert!(quiet.turns <= TURNS_MAX, "{} turns in {TICKS} ticks", quiet.turns);
    });
}
