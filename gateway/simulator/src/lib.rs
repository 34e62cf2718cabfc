//! The third driver: a host with shards over a simulated disk, devices, a network between them and
//! one clock, all in one thread and all from one seed. It performs what shards want as the real
//! drivers do, breaks what can break, and holds the product to its promises.
//!
//! It sees only what any other crate sees.
#![forbid(unsafe_code)]

mod acts;
mod checkers;
mod device;
mod extension;
mod faults;
mod history;
mod host;
mod ledger;
mod mixed;
mod network;
mod people;
mod plan;
mod prng;
mod probe;
mod questions;
mod record;
mod register;
mod run;
mod screen;
mod script;
mod shadow;
mod simulation;
mod stopping;
mod token;
mod trace;
mod weights;
mod workload;

pub use host::Sabotage;
pub use plan::{Delay, FaultWeights, Plan};
pub use prng::Prng;
pub use run::{Outcome, World, run_seed, run_world};
pub use script::{Told, play};
pub use simulation::Simulation;
pub use trace::{Broken, Trace};
pub use weights::{Act, ActWeights};
