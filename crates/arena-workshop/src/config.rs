//! `config.yaml`: the structs mirror the file and nothing else.

/// The whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {}
