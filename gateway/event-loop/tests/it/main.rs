//! Tests of this crate from outside: the same on both backends.
#![expect(clippy::unwrap_used, reason = "clippy only sees the functions that are tests themselves")]
#![expect(clippy::print_stderr, reason = "a half that is skipped says so")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at the events it is about")]

mod accept;
mod connect;
mod echo;
mod files;
mod flow;
mod gate;
mod harness;
mod linger;
mod overflow;
mod wake;
