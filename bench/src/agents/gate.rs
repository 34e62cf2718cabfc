//! Where a scenario waits for the others, when it is one of several.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
struct Closed {
    ready: Option<Sender<()>>,
    open: Arc<AtomicBool>,
}

static GATE: Mutex<Option<Closed>> = Mutex::new(None);

/// Until `open` is set, scenarios wait; the first that does is told to `ready`.
pub fn open_by(ready: Sender<()>, open: Arc<AtomicBool>) {
    let mut gate = GATE.lock().unwrap_or_else(PoisonError::into_inner);
    *gate = Some(Closed { ready: Some(ready), open });
}

/// Whether a scenario that is ready may begin. Without others it always may.
#[must_use]
pub fn is_open() -> bool {
    let mut gate = GATE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(closed) = gate.as_mut() else { return true };
    if let Some(ready) = closed.ready.take() {
        // Whoever does not listen any more has ended the run: nothing is left to tell.
        ready.send(()).unwrap_or_default();
    }
    let is_open = closed.open.load(Ordering::Acquire);
    if is_open {
        *gate = None;
    }
    is_open
}
