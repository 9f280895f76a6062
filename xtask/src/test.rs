//! `cargo xtask test`: from a fresh clone to every test run.

use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::database::Database;
use crate::{bench, cargo, fuzz, root, setup, step, tidy};

/// For each fuzzer, when there is time.
const LONG_FUZZ: Duration = Duration::from_secs(300);

/// Runs set-up, tidy, lints and all tests.
///
/// # Errors
/// At the first step that fails; of the tests, all run first.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let long = arguments.contains(&"--long");
    let filters: Vec<&str> = arguments
        .iter()
        .copied()
        .filter(|argument| *argument != "--long")
        .collect();
    tidy::run()?;
    step(
        "cargo fmt --check",
        cargo().args(["fmt", "--all", "--check"]),
    )?;
    setup::packages()?;
    step(
        "cargo clippy",
        cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "--deny",
            "warnings",
        ]),
    )?;
    build()?;
    let environment = setup::run()?;
    tests(&environment, &filters, long)?;
    if long {
        fuzz::each(&fuzz::targets()?, LONG_FUZZ)?;
        bench::soak()?;
    }
    Ok(())
}

/// Builds all tests, and with them the executables that they run.
///
/// # Errors
/// When something does not compile.
pub(crate) fn build() -> anyhow::Result<()> {
    step(
        "build tests",
        cargo().args(["test", "--workspace", "--no-run", "--quiet"]),
    )
}

fn tests(environment: &setup::Environment, filters: &[&str], long: bool) -> anyhow::Result<()> {
    let database = Database::start(&setup::arena(), environment["ARENA_ENGINE_TREE"].as_ref())?;
    // Shells start what runs in the background with Ctrl-C ignored, and every child would inherit that.
    let mut command = Command::new("env");
    command
        .current_dir(root())
        .arg("--default-signal=INT,QUIT")
        .arg(cargo().get_program())
        .args(["test", "--workspace", "--no-fail-fast"])
        .envs(environment)
        .env("ARENA_TEST_MONGODB_URI", &database.uri);
    if long {
        // Where a case is a whole store or data set, a test takes the square root of it.
        command.env("PROPTEST_CASES", "20000");
        command.env("ARENA_TEST_PYMONGO", setup::pymongo_source()?);
    }
    command.arg("--").args(filters);
    eprintln!("── cargo test");
    let started = Instant::now();
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone().context("cannot share a pipe")?);
    command.stderr(writer);
    let mut child = command.spawn().context("cannot start cargo test")?;
    // The command holds the pipe's other ends, too.
    drop(command);
    let summary = follow(BufReader::new(reader))?;
    let status = child.wait().context("cannot wait for cargo test")?;
    drop(database);
    eprintln!("── cargo test: {:.1} s", started.elapsed().as_secs_f64());
    for line in summary {
        eprintln!("{line}");
    }
    if !status.success() {
        bail!("tests failed ({status})");
    }
    Ok(())
}

/// Shows what `cargo test` prints, and returns its results, each with what was run.
fn follow(output: impl BufRead) -> anyhow::Result<Vec<String>> {
    let (mut what, mut summary) = (String::new(), Vec::new());
    for line in output.split(b'\n') {
        let line = line.context("cannot read what cargo test prints")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        let word = line.trim_start();
        if let Some(program) = word.strip_prefix("Running ") {
            program.clone_into(&mut what);
        } else if word.starts_with("Doc-tests ") {
            word.clone_into(&mut what);
        } else if line.starts_with("test result:")
            || (line.starts_with("test ") && line.ends_with("FAILED"))
        {
            summary.push(format!("{line}  {what}"));
        }
    }
    Ok(summary)
}
