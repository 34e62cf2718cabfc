//! Tests of this crate from outside.

mod smoke;
mod stories;
