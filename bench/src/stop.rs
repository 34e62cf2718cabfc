//! A run that is told to end ends in order: what there is, is written.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static WANTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on Ctrl-C and SIGTERM are only noted.
///
/// # Errors
/// The system does not take the handlers.
pub fn watch() -> io::Result<()> {
    let wanted = Arc::clone(WANTED.get_or_init(Arc::default));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&wanted))?;
    }
    Ok(())
}

/// Whether somebody wants the run to end.
#[must_use]
pub fn is_wanted() -> bool {
    WANTED.get().is_some_and(|wanted| wanted.load(Ordering::Relaxed))
}
