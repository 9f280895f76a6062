//! `cargo xtask engine`: the versioned archive of the database engine, for
//! releases and for machines without Debian's packages or a network.

use std::process::Command;

use crate::setup::{arena, target_dir};
use crate::{cargo, step};

/// Makes the archive in the named folder, else in `target/engine`.
///
/// # Errors
/// When the packages cannot be had, or one of them has no licence text.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let folder = arguments
        .first()
        .map_or_else(|| target_dir().join("engine"), Into::into);
    step("build arena", cargo().args(["build", "--package", "arena"]))?;
    step(
        "arena tools archive",
        Command::new(arena()).args(["tools", "archive"]).arg(folder),
    )
}
