//! The promises, as checks: some hold at every moment, the others when the faults are over.

pub(crate) mod contract;
mod convergence;
mod durability;
mod once;
mod order;
mod ticks;
