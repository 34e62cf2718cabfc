//! One subcommand, one file.

pub mod chat;
pub mod drain;
pub mod serve;
pub mod store;
pub mod token;
