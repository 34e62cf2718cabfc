//! The program as people use it, over saved machines, trees and this machine.
#![expect(clippy::unwrap_used, reason = "clippy only sees the functions that are tests themselves")]
#![expect(clippy::panic, reason = "the same")]
#![expect(clippy::print_stderr, reason = "what is skipped says so")]

mod apply;
mod cli;
mod machines;
mod real;
mod support;
