//! Any document as a pipeline: what passes the walk names no other database.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arena_mongo::fuzzing::pipeline(bytes));
