//! One subcommand, one file.

pub mod chat;
pub mod serve;
pub mod token;
