//! `cargo xtask bench`: the figures, measured on this machine and printed as a table.

use crate::database::Database;
use crate::{cargo, setup, step};

/// Builds in release and runs the named bench (all of them by default), beside a built-in database of the
/// release build for those that need one.
///
/// # Errors
/// When the build or a bench fails.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    step("build arena", cargo().args(["build", "--package", "arena"]))?;
    let environment = setup::run()?;
    step(
        "build arena (release)",
        cargo().args(["build", "--release", "--package", "arena"]),
    )?;
    let arena = setup::target_dir().join("release/arena");
    let database = Database::start(&arena, environment["ARENA_ENGINE_TREE"].as_ref())?;
    let mut bench = cargo();
    bench
        .args(["bench", "--workspace"])
        .envs(&environment)
        .env("ARENA_TEST_MONGODB_URI", &database.uri);
    // All benches are named, too: otherwise unit tests would be built for nothing.
    let names = if arguments.is_empty() {
        &["*"]
    } else {
        arguments
    };
    for name in names {
        bench.args(["--bench", name]);
    }
    step("cargo bench", &mut bench)
}

/// Lets people of an event save, restore and look for twenty minutes, in a release build.
///
/// # Errors
/// When the build fails, an outcome does not come, or something of the platform has grown.
pub(crate) fn soak() -> anyhow::Result<()> {
    step(
        "soak",
        cargo().args([
            "bench",
            "--package",
            "arena",
            "--bench",
            "figures",
            "--",
            "soak",
        ]),
    )
}
