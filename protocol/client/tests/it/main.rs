//! Tests of this crate from outside: a session driven by hand with frames of the wire, and many
//! sessions against a small server that loses, delays and forgets.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    reason = "test helpers: a failure stops the test, numbers are small, most events do not matter"
)]

mod asks;
mod blocking;
mod hand;
mod history;
mod list;
mod other_store;
mod random;
mod sending;
mod server;
mod session;
mod speech;
mod watching;
mod writing;
