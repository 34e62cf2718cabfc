//! Tests of this crate from outside.
#![expect(clippy::unwrap_used, reason = "clippy only sees the functions that are tests themselves")]
#![expect(clippy::panic, reason = "the same")]
#![expect(clippy::print_stderr, reason = "what is skipped says so, and what fails shows the log")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the frames it is about")]

mod certificates;
mod chat;
mod config;
mod crash;
mod crowds;
mod device;
mod front;
mod hostile;
mod leaks;
mod limits;
mod load;
mod mesh;
mod messaging;
mod power_cut;
mod roost;
mod store_tools;
mod support;
mod tidy;
mod tls;
mod tokens;
mod vanished;
