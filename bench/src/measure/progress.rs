//! What a person sees while a run goes on: one line on standard error, about once a second.

use crate::result::Sample;
use std::io::{IsTerminal, Write, stderr};

/// The line.
#[derive(Debug)]
pub struct Progress {
    is_on: bool,
    is_terminal: bool,
    has_line: bool,
}

impl Progress {
    /// Shown on a terminal, or when it is wanted.
    #[must_use]
    pub fn new(wanted: bool) -> Self {
        let is_terminal = stderr().is_terminal();
        Self { is_on: wanted || is_terminal, is_terminal, has_line: false }
    }

    /// Shows a second. `left_s`: of the phase, if that is known.
    pub fn show(&mut self, phase: &str, sample: &Sample, errors: u64, left_s: Option<u64>) {
        if self.is_on {
            let text = line(phase, sample, errors, left_s);
            self.write(&text);
        }
    }

    fn write(&mut self, text: &str) {
        let ending = if self.is_terminal { "\x1b[K" } else { "\n" };
        let start = if self.is_terminal { "\r" } else { "" };
        // Whoever closed standard error does not want to see it.
        drop(write!(stderr(), "{start}{text}{ending}"));
        self.has_line = self.is_terminal;
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.has_line) {
            drop(write!(stderr(), "\r\x1b[K"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(phase: &str, sample: &Sample, errors: u64, left_s: Option<u64>) -> String {
    let rate = sample.delivered_per_s.max(sample.sent_per_s).round();
    let left = left_s.map_or_else(String::new, |left| format!("  {left} s left"));
    let latency = if sample.p99_us > 0 {
        format!("  p99 {}", milliseconds(sample.p99_us))
    } else {
        String::new()
    };
    format!(
        "{phase:<10} {:>8} connected  {rate:>9}/s{latency}  {errors} errors{left}",
        sample.connected
    )
}

/// A latency for people.
#[must_use]
pub fn milliseconds(us: u64) -> String {
    match us {
        0..=9_999 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        10_000..=999_999 => format!("{} ms", us / 1_000),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_goes_on() {
        let sample = Sample {
            connected: 2_000,
            delivered_per_s: 29_999.6,
            p99_us: 1_234,
            ..Sample::default()
        };
        let text = line("measuring", &sample, 0, Some(7));
        assert_eq!(
            text,
            "measuring      2000 connected      30000/s  p99 1.23 ms  0 errors  7 s left"
        );
        assert_eq!(milliseconds(12_345), "12 ms");
        assert_eq!(milliseconds(2_340_000), "2.3 s");
    }
}
