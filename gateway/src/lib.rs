//! The Roost server: a pure core (`shard`) and what performs its wishes in the real world.

pub mod args;
pub mod budget;
pub mod commands;
pub mod config;
pub mod driver;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod prefix;
pub mod shard;
pub mod ticket_keys;
