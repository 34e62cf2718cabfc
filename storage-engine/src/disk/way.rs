//! How far a helper thread steps back for the threads that serve.

#![expect(unsafe_code, reason = "no crate of ours has a safe call for the scheduler's policy")]

/// What a helper thread takes of the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Only what nobody else wants; whoever wakes up has it at once (`SCHED_IDLE`, sched(7)).
    Wholly,
    /// A small share in any case: a thirtieth of what a thread that serves gets.
    Mostly,
    /// The share of any thread: for work that lags behind.
    Not,
}

/// Sets it for the calling thread, which on Linux is what these calls do. Without leave to change
/// it, it stays as it is.
pub(super) fn give_way(way: Way) {
    let policy = match way {
        Way::Wholly => libc::SCHED_IDLE,
        Way::Mostly | Way::Not => libc::SCHED_OTHER,
    };
    if way == Way::Mostly {
        let _unchanged = rustix::process::nice(15);
    }
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 names the calling thread, and the structure outlives the call, which only reads it.
    let _unchanged = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
}
