//! Tests of the wire as a whole.

mod budget;
