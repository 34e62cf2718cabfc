//! The thread of those who stay during a storm.

use super::RunError;
use super::round::drive;
use crate::measure::progress::Progress;
use crate::measure::{Meter, Observed};
use crate::scenario::storm;
use crate::scenario::talkers::{Findings, Signals, Stand, Talkers, Wish};
use crate::swarm::Plan;
use roost_event_loop::{come_first, now};
use std::io::Error;
use std::thread::{self, JoinHandle};

/// Those who stay. They end with this.
#[derive(Debug)]
pub(super) struct Staying {
    signals: Signals,
    thread: Option<JoinHandle<Result<Findings, RunError>>>,
}

impl Staying {
    /// Lets them connect.
    ///
    /// # Errors
    /// No thread was to be had.
    pub(super) fn begin(
        storm: &Plan,
        (users, tokens): (Vec<String>, Vec<String>),
        per_second: u32,
    ) -> Result<Self, RunError> {
        let devices = u32::try_from(users.len()).unwrap_or(u32::MAX);
        let plan = Plan { devices, tokens, ..storm.clone() };
        let signals = Signals::default();
        let theirs = signals.clone();
        let work = move || {
            let over = OverAtEnd(theirs);
            stay(plan, users, per_second, over.0.clone())
        };
        let builder = thread::Builder::new().name("talkers".to_owned());
        let thread = builder.spawn(work).map_err(RunError::Loop)?;
        Ok(Self { signals, thread: Some(thread) })
    }

    /// What a storm tells them, and sees of them.
    pub(super) fn signals(&self) -> Signals {
        self.signals.clone()
    }

    /// Waits until they are through.
    ///
    /// # Errors
    /// Their loop failed.
    pub(super) fn end(mut self) -> Result<Findings, RunError> {
        self.signals.want(Wish::End);
        let joined = self.thread.take().map(JoinHandle::join);
        let ended = || Err(RunError::Loop(Error::other("the thread of those who stay panicked")));
        joined.map_or_else(|| Ok(Findings::default()), |found| found.unwrap_or_else(|_| ended()))
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        self.signals.want(Wish::End);
        if let Some(thread) = self.thread.take() {
            let _whatever = thread.join();
        }
    }
}

/// Nobody waits for a thread that is gone, however it went.
struct OverAtEnd(Signals);

impl Drop for OverAtEnd {
    fn drop(&mut self) {
        self.0.stands(Stand::Over);
    }
}

fn stay(
    plan: Plan,
    users: Vec<String>,
    per_second: u32,
    signals: Signals,
) -> Result<Findings, RunError> {
    // Whenever this thread has something to do, the storm's waits: both are on one processor.
    let comes_first = come_first();
    // Progress is the storm's to show.
    let progress = Progress::new(false);
    let observed = Observed::default();
    let meter = Meter::new(observed, &storm::STAGES, storm::BACK, true, progress);
    let driven = drive(plan, Talkers::new(users, per_second, signals, meter))?;
    let found = driven.scenario.into_findings(now().monotonic);
    Ok(Findings { comes_first, ..found })
}
