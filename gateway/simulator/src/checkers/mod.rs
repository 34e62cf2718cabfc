//! The promises, as checks: some hold at every moment, the others when the faults are over.

mod answers;
mod blocks;
pub(crate) mod contract;
mod convergence;
mod durability;
mod lists;
mod membership;
mod once;
mod order;
mod presence;
mod ticks;
