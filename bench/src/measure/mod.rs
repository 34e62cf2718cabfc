//! How a scenario measures: one meter for all of them, so that a name means the same everywhere.

pub mod admin;
pub mod look;
pub mod meter;
pub mod progress;
pub mod syscalls;
pub mod yardstick;

pub use look::{Look, Observed};
pub use meter::{Meter, Metered};
