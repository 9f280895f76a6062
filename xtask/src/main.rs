//! Repository chores as ordinary code: `cargo xtask test`, `tidy`, `bench`.
//!
//! Each chore is a module with one public `run`. Nothing here is shipped.

mod bench;
mod database;
mod engine;
mod fuzz;
mod setup;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};

const HELP: &str = "\
Chores of this repository.

Usage: cargo xtask <chore>

  test [--long] [FILTER]   install what the tests need, then tidy, lint and run every test
                           --long runs 20,000 cases of each property, pymongo's own tests,
                           each fuzzer for five minutes and an event for twenty
  setup                    only install what the tests need
  tidy                     rules of the repository: arrows between crates, sizes, links
  engine [FOLDER]          make the archive of the database engine, with checksum and licences
  fuzz [NAME] [--seconds N]
                           let the fuzzers run, each for a minute unless told
  bench [NAME]             measure the figures and print them as a table
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test", rest @ ..] => test::run(rest),
        ["setup"] => test::build().and_then(|()| setup::run()).map(|_| ()),
        ["tidy"] => tidy::run(),
        ["engine", rest @ ..] => engine::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["--help" | "-h" | "help"] | [] => {
            eprint!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the repository's root folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository")
        .to_owned()
}

/// Runs a command to its end with its output shown, and says how long it took.
fn step(name: &str, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("── {name}");
    let started = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    eprintln!(
        "── {name}: {} in {:.1} s",
        if status.success() { "ok" } else { "failed" },
        started.elapsed().as_secs_f64()
    );
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

/// Runs `cargo` in the repository with the same toolchain that runs this chore.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
