//! Tests of this crate from outside: a session driven by hand with frames of the wire, and many
//! sessions against a small server that loses, delays and forgets.

mod hand;
mod history;
mod other_store;
mod random;
mod sending;
mod server;
mod session;
