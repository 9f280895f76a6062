//! `cargo xtask bench`: the figures, measured on this machine and printed as a table.

use crate::{cargo, setup, step};

/// Builds in release and runs the named bench (all of them by default).
///
/// # Errors
/// When the build or a bench fails.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    step("build arena", cargo().args(["build", "--package", "arena"]))?;
    let environment = setup::run()?;
    let mut bench = cargo();
    bench.args(["bench", "--workspace"]).envs(&environment);
    for name in arguments {
        bench.args(["--bench", name]);
    }
    step("cargo bench", &mut bench)
}
