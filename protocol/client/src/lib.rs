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

mod answer;
mod config;
mod error;
mod event;
mod interface;
pub mod limits;

mod backoff;
mod change_codec;
mod content;
mod lane;
mod prng;
mod question;
mod record;
mod snapshot;
mod state;
mod steps;
mod stretches;

mod answers;
mod arrivals;
mod asks;
mod conflict;
mod connection;
mod listed;
mod notices;
mod other_store;
mod outgoing;
mod pulls;
mod receive;
mod requests;
mod session;
mod sync;
mod timeline;
mod watches;

mod blocking;

pub use answer::Answer;
pub use backoff::Backoff;
pub use blocking::BlockingClient;
pub use config::{Config, Credential, Order};
pub use error::RestoreError;
pub use event::{DisconnectReason, Event, Form, RefusedAsk, Welcomed};
pub use interface::{Command, Input, Output, Peer, PersistId};
pub use session::Session;
pub use state::Restored;
