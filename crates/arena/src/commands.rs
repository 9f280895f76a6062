//! What each command does. A command returns nothing or a [`Failure`]; data
//! goes to standard output, everything said to people to standard error.

mod check;
mod data;
mod databases;
mod down;
mod inputs;
mod list;
mod logs;
mod machine;
mod orders;
mod plan;
mod repository;
mod restore;
mod rotate;
mod schema;
mod serve;
mod status;
mod tools;
mod up;

use std::io::Write;

use anyhow::Context;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::cli::{Arena, Command, Role};
use crate::failure::Failure;

/// Carries out what was typed.
pub(crate) fn run(arguments: &Arena) -> Result<(), Failure> {
    // The nest and the agent are measured in milliseconds and megabytes: nothing before them.
    if let Command::Serve(serve) = &arguments.command {
        return match &serve.role {
            Role::Nest { work } => serve::nest(work),
            Role::Seat {
                settings,
                run,
                services,
            } => serve::seat(settings, run.clone().zip(services.clone())),
            Role::AppTerminal { app } => serve::app_terminal(app),
            Role::Content { url, branch, into } => repository::serve(url, branch.clone(), into),
            Role::Mongo {
                tree,
                state,
                listen,
                tls_certificate_key_file,
            } => serve::mongo::serve(tree, state, *listen, tls_certificate_key_file.as_deref()),
        };
    }
    start_log(arguments.verbose);
    match &arguments.command {
        Command::Check(arguments) => check::run(arguments),
        Command::Plan(arguments) => plan::run(arguments),
        Command::Up(arguments) => up::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Logs(arguments) => logs::run(arguments),
        Command::Open(which) => status::open(which),
        Command::Down(arguments) => down::run(arguments),
        Command::Restore(arguments) => restore::run(arguments),
        Command::Rotate(arguments) => rotate::run(arguments),
        Command::Data(arguments) => data::run(&arguments.command),
        Command::Tools(arguments) => tools::run(arguments),
        Command::Schema(arguments) => schema::schema(arguments),
        Command::Completions(arguments) => schema::completions(arguments),
        Command::Serve(_) => unreachable!("roles are handled above"),
    }
}

/// Logs to standard error: warnings, more with `-v`, or what `ARENA_LOG` says.
fn start_log(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => {
            "warn,arena=info,arena_local=info,arena_gateway=info,arena_portal=info,arena_mongo=info,arena_store=info,arena_grader=info"
        }
        2 => {
            "info,arena=debug,arena_local=debug,arena_gateway=debug,arena_portal=debug,arena_mongo=debug,arena_store=debug,arena_grader=debug"
        }
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("ARENA_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(crate::failure::colours())
        .init();
}

/// Prints a value as JSON on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    print(&format!("{text}\n"))
}

/// Prints to standard output; a reader that left early is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_while_read(text).map(|_| ())
}

/// Prints to standard output, and returns whether anybody still reads it: what prints for ever
/// ends when nobody does.
pub(crate) fn print_while_read(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::environment(error)),
    }
}
