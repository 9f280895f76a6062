//! Any two messages of a login: nobody gets in.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arena_mongo::fuzzing::login(bytes));
