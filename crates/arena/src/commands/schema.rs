//! `arena schema` and `arena completions`: what other programs read about us.

use clap::CommandFactory;

use crate::cli::{Arena, Completions, Schema, SchemaOf};
use crate::failure::Failure;

/// Prints a JSON schema for editors.
pub(crate) fn schema(arguments: &Schema) -> Result<(), Failure> {
    let schema = match arguments.of {
        SchemaOf::Config => arena_workshop::config::schema(),
        SchemaOf::Exercise => arena_workshop::check::schema(),
    };
    super::print_json(&schema)
}

/// Prints a completion script for a shell.
pub(crate) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arena::command(), "arena", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
