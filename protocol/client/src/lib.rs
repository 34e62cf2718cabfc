//! The device's side of Roost: what an SDK, `roost chat`, the load generator and the simulator
//! share.
//!
//! [`Session`] is a value. It is fed with what happened ([`Input`]) and answers with what should
//! be done ([`Output`]); it opens no socket, writes no file and asks no clock, so the same inputs
//! give the same outputs, jitter included. What must outlive the app leaves as records
//! ([`Output::Persist`]) and comes back through [`Restored`]. [`BlockingClient`] is the small
//! driver for tools and tests.
//!
//! Architecture invariant: only `blocking.rs` knows sockets and time.
#![forbid(unsafe_code)]

mod config;
mod error;
mod event;
mod interface;
pub mod limits;

mod backoff;
mod change_codec;
mod lane;
mod prng;
mod record;
mod snapshot;
mod state;
mod steps;
mod stretches;

mod answers;
mod arrivals;
mod conflict;
mod connection;
mod notices;
mod other_store;
mod outgoing;
mod pulls;
mod receive;
mod requests;
mod session;
mod sync;
mod timeline;

mod blocking;

pub use blocking::BlockingClient;
pub use config::{Config, Credential, Order};
pub use error::RestoreError;
pub use event::{DisconnectReason, Event, Welcomed};
pub use interface::{Command, Input, Output, Peer, PersistId};
pub use session::Session;
pub use state::Restored;
