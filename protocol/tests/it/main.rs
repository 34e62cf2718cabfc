//! Tests of the wire as a whole.

mod bounds;
mod budget;
mod chunks;
mod encode;
mod hostile;
mod schema;
mod vectors;
