//! What must be on this machine before anything of ours: system packages.

use arena_local::engine::EngineTree;
use arena_local::machine::{install_command, install_packages, missing_packages};
use arena_local::tools::{self, Origin, ToolSettings};

use crate::cli::Separation;
use crate::failure::{Failure, Paint, paint};
use crate::host::{self, Host};
use crate::progress::Progress;

/// Packages that only separate seats from each other.
const SEPARATING: [&str; 2] = ["bubblewrap", "uidmap"];

/// Installs missing system packages with consent; as another user than root, names the command.
///
/// # Errors
/// When packages are missing and may not or cannot be installed.
pub(crate) fn prepare(yes: bool, with_editor: bool, separation: Separation) -> Result<(), Failure> {
    let mut packages = missing(with_editor)?;
    if separation == Separation::None {
        packages.retain(|package| !SEPARATING.contains(package));
    }
    if packages.is_empty() {
        return Ok(());
    }
    let command = install_command(&packages);
    if !host::is_root() {
        let error = anyhow::anyhow!("system packages are missing: {}", packages.join(", "));
        return Err(Failure::environment(error).hint(format!("run: sudo {command}")));
    }
    host::consent(
        &format!("System packages are missing. Run `{command}`?"),
        yes,
    )?;
    let line = Progress::new().begin("packages");
    line.update(&packages.join(", "));
    match install_packages(&packages) {
        Ok(()) => {
            line.done(&packages.join(", "));
            Ok(())
        }
        Err(error) => {
            line.failed(&packages.join(", "));
            Err(Failure::environment(error).hint(format!("run it by hand and look: {command}")))
        }
    }
}

/// The packages that this machine lacks. Those that build the editor count only when it is not there.
pub(crate) fn missing(with_editor: bool) -> Result<Vec<&'static str>, Failure> {
    let settings = ToolSettings {
        cache: Host::here()?.cache().to_owned(),
        ..ToolSettings::default()
    };
    let builds_editor = with_editor && tools::find(&settings)[1].origin == Origin::Missing;
    Ok(missing_packages(builds_editor))
}

/// Says whether the engine is there, as a line for `check`.
pub(crate) fn engine_line(host: &Host) -> String {
    match EngineTree::at(host.cache().join("engine/current")) {
        Ok(tree) => format!(
            "{} database engine: PostgreSQL {} with DocumentDB {}\n",
            paint("✓", Paint::Green),
            tree.postgres_version(),
            tree.documentdb_version()
        ),
        Err(_) => format!(
            "{} database engine: fetched by `up` (about 50 MB), or now: arena tools install engine\n",
            paint("…", Paint::Yellow)
        ),
    }
}
