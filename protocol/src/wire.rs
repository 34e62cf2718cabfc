//! The messages of `proto/roost.proto`, generated when this crate is built.

#[expect(
    missing_docs,
    reason = "generated; PROTOCOL.md and roost.proto describe every message and field"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/roost.v1.rs"));
}

pub use generated::*;
