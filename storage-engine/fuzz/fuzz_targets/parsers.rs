//! Every parser of what is read from disk, each by itself, behind checksums that are right.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| roost_storage_engine::fuzzing::parsers(input));
