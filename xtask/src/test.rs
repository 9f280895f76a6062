//! `cargo xtask test`: from a fresh clone to every test run.

use crate::{cargo, setup, step, tidy};

/// Runs set-up, tidy, lints and all tests.
///
/// # Errors
/// At the first step that fails.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let long = arguments.contains(&"--long");
    let filters = arguments.iter().filter(|argument| **argument != "--long");
    tidy::run()?;
    step(
        "cargo fmt --check",
        cargo().args(["fmt", "--all", "--check"]),
    )?;
    let environment = setup::run()?;
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
    let mut tests = cargo();
    tests
        .args(["test", "--workspace", "--no-fail-fast"])
        .envs(&environment);
    if long {
        tests
            .env("ARENA_TEST_LONG", "1")
            .env("PROPTEST_CASES", "20000");
    }
    tests.args(["--"]).args(filters);
    step("cargo test", &mut tests)
}
