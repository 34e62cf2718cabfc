//! One subcommand, one file.

pub mod serve;
pub mod token;
