//! Steps run in processes of their own: no engine finds the threads, the memory or the counters of
//! another one, and one can be killed.

use super::engine::Failure;
use super::step::Order;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

/// The child that runs, 0 if there is none.
static RUNNING: AtomicI32 = AtomicI32::new(0);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on a signal ends the running step and with it the measurement, in order: folders are
/// removed.
///
/// # Errors
/// The system's.
pub fn watch_signals() -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            if let Some(child) = Pid::from_raw(RUNNING.load(Ordering::SeqCst)) {
                // If it ended by itself in this moment, that is as good.
                let _ended_already = kill_process(child, Signal::KILL);
            }
        }
    })?;
    Ok(())
}

/// Runs a step and gives what it found.
///
/// # Errors
/// It failed, and has said why; or a signal came.
pub fn run<Found: DeserializeOwned>(order: &Order) -> Result<Found, Failure> {
    let mut child = start(order)?;
    let mut text = String::new();
    let read = child.stdout.take().expect("asked for").read_to_string(&mut text);
    end(order, &mut child, false)?;
    read?;
    Ok(serde_json::from_str(&text)?)
}

/// Runs a step that never ends by itself, reads the numbers that it says, and kills it at the
/// first one that reaches `enough`. Gives the last that it said.
///
/// # Errors
/// It ended before.
pub fn run_and_kill(order: &Order, enough: u64) -> Result<u64, Failure> {
    let mut child = start(order)?;
    let mut last = 0;
    let mut is_killed = false;
    for line in BufReader::new(child.stdout.take().expect("asked for")).lines() {
        // The last line may be cut off, which makes its number smaller.
        last = line?.parse().unwrap_or(0).max(last);
        if last >= enough && !is_killed {
            is_killed = true;
            child.kill()?;
        }
    }
    end(order, &mut child, true)?;
    if is_killed { Ok(last) } else { Err("the step ended by itself".into()) }
}

fn start(order: &Order) -> Result<Child, Failure> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["store", "step", &serde_json::to_string(order)?]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    RUNNING.store(i32::try_from(child.id())?, Ordering::SeqCst);
    if INTERRUPTED.load(Ordering::SeqCst) {
        let mut child = child;
        child.kill()?;
        child.wait()?;
        return Err("interrupted".into());
    }
    Ok(child)
}

fn end(order: &Order, child: &mut Child, is_killed: bool) -> Result<(), Failure> {
    let status = child.wait();
    RUNNING.store(0, Ordering::SeqCst);
    let status = status?;
    if INTERRUPTED.load(Ordering::SeqCst) {
        return Err("interrupted".into());
    }
    if status.success() || is_killed {
        return Ok(());
    }
    Err(format!("{}: the step {status}: {:?}", order.contestant.name(), order.task).into())
}

/// In a step: it ends when its parent does.
///
/// # Errors
/// The system's.
pub fn end_with_parent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}
