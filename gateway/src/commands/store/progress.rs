//! A bar on stderr while much is read, if somebody watches.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// Nobody waits long for less.
const BYTES_MIN: u64 = 64 << 20;

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// For so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        if bytes < BYTES_MIN || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new(bytes);
        let template = "{bar:40} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    /// So many more were read.
    pub(super) fn add(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    /// Takes it away: what follows is the answer.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
