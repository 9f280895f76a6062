//! Any bytes as a message: accepted and readable to the end, or an error.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arena_mongo::fuzzing::message(bytes));
