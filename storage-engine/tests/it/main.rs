//! Tests of this crate from outside.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a helper of a test stops the test"
)]

mod broken_disk;
mod by_the_book;
mod cold;
mod faults;
mod format;
mod full_disk;
mod hostile;
mod inspect;
mod order;
mod real_disk;
mod recovery;
mod repair;
mod tables;
mod world;
