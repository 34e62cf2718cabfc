//! What devices do: one module for each scenario.

pub mod idle;
pub mod pairs;
