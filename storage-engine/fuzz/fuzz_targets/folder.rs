//! A folder with any damage: opened, read, merged, looked at, repaired.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::folder(input));
