//! Knows which limit of kernel, process or cloud stops a number of connections first, raises it,
//! undoes it, and proves it. README.md is the guide.
//!
//! The core is pure: facts in, findings, plans and changes out. Readers and writers are at the
//! edge: `facts` reads, `change` writes and undoes, `probe`, `watch` and `doctor` look at what
//! runs.

#![forbid(unsafe_code)]

#[macro_use]
mod text;

mod args;
mod change;
mod check;
mod clock;
mod commands;
mod cost;
mod doctor;
mod emit;
mod error;
mod facts;
mod goal;
mod netlink;
mod plan;
mod probe;
mod report;
mod root;
mod settings;
mod watch;

pub use commands::main;
