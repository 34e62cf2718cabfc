//! `roost-bench`: measures a Roost server with many simulated devices, and checks while measuring
//! that nothing is lost, doubled or out of order.
//!
//! The way through: `args` says what is wanted, `run` starts or finds the `server`, signs `tokens`,
//! and drives a `swarm` of devices, which do what a `scenario` says and speak to a `target` (the
//! `wire` of Roost, or another broker's); a meter of `measure` counts. What was found is a
//! `result`, one schema for all; `report` and `html` show it, `compare` holds two against each
//! other. `tun` has devices without sockets. `store` needs no server: it measures the storage
//! engine alone, beside others.
pub mod agents;
pub mod args;
pub mod cold;
pub mod compare;
pub mod floor;
pub mod html;
pub mod latency;
pub mod machine;
pub mod marks;
pub mod measure;
pub mod peers;
pub mod preflight;
pub mod process;
pub mod report;
pub mod result;
pub mod run;
pub mod scenario;
pub mod server;
pub mod stop;
pub mod store;
pub mod swarm;
pub mod target;
pub mod tokens;
pub mod tun;
pub mod versus;
pub mod wire;
