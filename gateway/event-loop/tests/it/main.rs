//! Tests of this crate from outside.
