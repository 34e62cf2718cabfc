//! Tests of the wire as a whole.

mod budget;
mod chunks;
mod hostile;
mod schema;
mod vectors;
