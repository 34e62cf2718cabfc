//! Several generators on several machines, started together by one of them.
//!
//! `roost-bench agent` waits for orders. The controller (any run with `--agents`) starts or finds
//! the server, signs tokens, gives every agent its share of devices and rate, waits until each has
//! connected and is ready, lets all begin at once, watches the server meanwhile, and makes one
//! result of theirs. Both sides speak lines of JSON over TCP. There is no authentication: an agent
//! listens where its operator says, and only connects devices to where an order says.

mod agent;
mod controller;
mod gate;
mod message;

pub use agent::serve;
pub use controller::{AgentError, can_share, round};
pub use gate::{is_open, open_by};
