//! rustls and this crate as each other's peers, in both roles.
#![expect(clippy::unwrap_used, reason = "clippy only sees the functions that are tests themselves")]

mod garbage;
mod handshakes;
mod openssl;
mod records;
mod world;
