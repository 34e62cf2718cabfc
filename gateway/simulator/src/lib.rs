//! The third driver: a host with shards over a simulated disk, devices, a network between them and
//! one clock, all in one thread and all from one seed. It performs what shards want as the real
//! drivers do, breaks what can break, and holds the product to its promises.
//!
//! It sees only what any other crate sees.
#![forbid(unsafe_code)]

mod checkers;
mod device;
mod faults;
mod history;
mod host;
mod network;
mod plan;
mod prng;
mod probe;
mod run;
mod script;
mod shadow;
mod simulation;
mod token;
mod trace;
mod workload;

pub use host::Sabotage;
pub use plan::{Delay, FaultWeights, Plan};
pub use prng::Prng;
pub use run::{Outcome, run_seed};
pub use script::{Told, play};
pub use simulation::Simulation;
pub use trace::{Broken, Trace};
