//! The real world: performs what shards want, decides nothing.

pub mod admin;
pub mod disk;
pub mod log;
pub mod mesh;
pub mod metrics;
pub mod turns;
pub mod worker;
