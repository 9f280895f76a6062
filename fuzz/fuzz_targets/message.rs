#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arena_mongo::fuzzing::message(bytes));
