//! What devices do: one module for each scenario.

pub mod anew;
mod calm;
pub mod catchup;
pub mod held;
pub mod idle;
pub mod load;
pub mod mix;
pub mod population;
mod retries;
pub mod rooms;
pub mod storm;
pub mod talk;
pub mod talkers;
