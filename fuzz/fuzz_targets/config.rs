//! Any `config.yaml`: values or problems that can be shown, never a panic.
#![no_main]

use arena_workshop::{Problems, SourceFile, config};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut problems = Problems::default();
    let parsed = config::parse(&SourceFile::new("config.yaml", bytes), &mut problems);
    assert_eq!(parsed.is_none(), problems.has_errors());
    problems.iter().for_each(|problem| drop(problem.to_string()));
});
