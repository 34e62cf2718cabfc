//! The Roost server: a pure core (`shard`) and what performs its wishes in the real world.

pub mod ids;
pub mod limits;
pub mod shard;
pub mod args;
pub mod config;
pub mod keys;
pub mod driver;
pub mod commands;
