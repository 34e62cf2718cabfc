//! One subcommand, one file.

pub mod chat;
pub mod drain;
mod lock_note;
pub mod serve;
pub mod store;
pub mod token;
