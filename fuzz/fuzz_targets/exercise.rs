//! Any exercise file in an otherwise good workshop: exercises or problems, never a panic.
#![no_main]

use arena_workshop::{SourceFile, Sources, Workshop};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let name = "arena/exercises/crud-1.yaml".to_owned();
    let config = "customer: {name: acme}\nscenario: {}\n";
    let sources = Sources {
        config: Some(SourceFile::new("config.yaml", config)),
        exercises: [(name.clone(), SourceFile::new(name.clone(), bytes))].into(),
        files: [name].into(),
        ..Sources::default()
    };
    let _ = Workshop::parse(&sources);
});
