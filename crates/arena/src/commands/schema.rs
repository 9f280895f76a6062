//! `arena schema` and `arena completions`: what other programs read about us, and the reference pages
//! that people read.

mod page;

use clap::CommandFactory;

use crate::cli::{Arena, Completions, Schema, SchemaFormat, SchemaOf};
use crate::failure::Failure;

/// Prints a JSON schema for editors, or the same as a page.
pub(crate) fn schema(arguments: &Schema) -> Result<(), Failure> {
    let schema = match arguments.of {
        SchemaOf::Config => arena_workshop::config::schema(),
        SchemaOf::Exercise => arena_workshop::check::schema(),
    };
    match (arguments.format, arguments.of) {
        (SchemaFormat::Json, _) => super::print_json(&schema),
        (SchemaFormat::Markdown, SchemaOf::Config) => {
            super::print(&page::of("config.yaml", &schema))
        }
        (SchemaFormat::Markdown, SchemaOf::Exercise) => {
            let exercise = page::of("Exercises: arena/exercises/*.yaml", &schema);
            let matchers = page::part("Matchers", &arena_workshop::check::matcher_schema());
            super::print(&format!("{exercise}\n{matchers}"))
        }
    }
}

/// Prints a completion script for a shell.
pub(crate) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arena::command(), "arena", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
