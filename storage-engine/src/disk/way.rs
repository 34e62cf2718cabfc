//! How far a helper thread steps back for the threads that serve.

#![expect(unsafe_code, reason = "no crate of ours has a safe call for the scheduler's policy")]

use std::sync::OnceLock;
use std::thread::Builder;

/// What a helper thread takes of the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Only what nobody else wants; whoever wakes up has it at once (`SCHED_IDLE`, sched(7)).
    Wholly,
    /// The share of any thread, for work that lags behind.
    Fairly,
}

/// A thread with this nice value gets a thirtieth of what one that serves gets
/// (`sched_prio_to_weight` of the kernel).
const MOSTLY_NICE: i32 = 15;

/// A thread that works in the background, and may lag behind.
#[derive(Debug)]
pub(super) struct Background {
    /// Whoever lives on idle time can come back from there.
    returns: bool,
}

impl Background {
    /// Makes the calling thread one. Without leave to come back from it (`RLIMIT_NICE`,
    /// `CAP_SYS_NICE`) it never lives on idle time: on a machine that has none it would never be
    /// done.
    pub(super) fn begin() -> Self {
        static RETURNS: OnceLock<bool> = OnceLock::new();
        let tried = || {
            let thread = Builder::new().name("try-idle".to_owned()).spawn(there_and_back);
            thread.is_ok_and(|thread| thread.join().unwrap_or(false))
        };
        let background = Self { returns: *RETURNS.get_or_init(tried) };
        background.give_way(Way::Wholly);
        background
    }

    /// How far it steps back from now on.
    pub(super) fn give_way(&self, way: Way) {
        if self.returns {
            let _unchanged = give_way(way);
        }
    }
}

/// Whether the calling thread, which does nothing else, may leave `SCHED_IDLE` again.
fn there_and_back() -> bool {
    give_way(Way::Wholly) && give_way(Way::Fairly)
}

/// Brings the calling thread back from idle time, if whoever made it lives there.
pub(super) fn come_back() {
    let _unchanged = give_way(Way::Fairly);
}

/// Makes the calling thread one that takes a small share for ever.
pub(super) fn step_back() {
    let _unchanged = rustix::process::nice(MOSTLY_NICE);
}

/// Sets it for the calling thread, which on Linux is what the call does. Without leave to change
/// it, it stays as it is; the answer says so.
fn give_way(way: Way) -> bool {
    let policy = match way {
        Way::Wholly => libc::SCHED_IDLE,
        Way::Fairly => libc::SCHED_OTHER,
    };
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 names the calling thread, and the structure outlives the call, which only reads it.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_goes_where_they_cannot_return_from() {
        let thread = Builder::new().name("background".to_owned()).spawn(|| {
            let background = Background::begin();
            // SAFETY: 0 names the calling thread.
            let policy = || unsafe { libc::sched_getscheduler(0) };
            let first = policy();
            background.give_way(Way::Fairly);
            (background.returns, first, policy())
        });
        let (returns, first, second) = thread.unwrap().join().unwrap();
        assert_eq!(first, if returns { libc::SCHED_IDLE } else { libc::SCHED_OTHER });
        assert_eq!(second, libc::SCHED_OTHER);
    }
}
