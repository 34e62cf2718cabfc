//! The wire protocol of Roost: what travels between a device and the gateway, and the names of
//! things on both sides. PROTOCOL.md beside this crate is the normative text.
//!
//! Architecture invariant: nothing here does IO, keeps state between calls, or asks for the time.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::string_slice, clippy::arithmetic_side_effects)]

mod elements;
pub mod encode;
pub mod error;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod preface;
pub mod request;
pub mod time;
pub mod varint;
pub mod wire;
