//! What devices do: one module for each scenario.

pub mod catchup;
pub mod fanout;
pub mod idle;
pub mod load;
pub mod pairs;
pub mod population;
mod retries;
