//! `roost-bench`: measures a Roost server with many simulated devices, and checks while measuring
//! that nothing is lost, doubled or out of order.
//!
//! The way through: `args` says what is wanted, `run` starts or finds the `server`, signs `tokens`,
//! and drives a `swarm` of devices, which speak the `wire` and do what a `scenario` says; `report`
//! writes what was found, with the `machine` it was found on. `store` needs no server: it measures
//! the storage engine alone, beside others.
#![forbid(unsafe_code)]

pub mod args;
pub mod latency;
pub mod machine;
pub mod process;
pub mod report;
pub mod run;
pub mod scenario;
pub mod server;
pub mod store;
pub mod swarm;
pub mod tokens;
pub mod wire;
