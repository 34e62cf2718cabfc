//! Coming before other threads of the same processor.

#![expect(unsafe_code, reason = "no crate of ours has a safe call for the scheduler's policy")]

/// Whenever the calling thread has something to do, threads without such a priority wait
/// (`SCHED_FIFO` with the lowest priority, sched(7)). Only for threads that soon sleep again.
/// Says whether it may: without `CAP_SYS_NICE` it takes an `RLIMIT_RTPRIO` of at least 1, and
/// nothing changes without either.
pub fn come_first() -> bool {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 names the calling thread, and the structure outlives the call, which only reads it.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}
