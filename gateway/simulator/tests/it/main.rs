//! Tests of this crate from outside.

mod behind_the_cut;
mod smoke;
mod stories;
