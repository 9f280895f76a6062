//! `mongosh` for the seats' terminals: fetched like every package (nothing of its own runs while it
//! is installed), with a starter that connects to the seat's own database where nobody says
//! otherwise.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::install::{Meter, fetch, files, lock, open_up, step, steps};
use super::{Pin, ToolError, ToolProgress, ToolSettings};
use crate::sandbox::Sandbox;
use crate::seat::{HOME, MONGOSH, Trees, make_folder};
use crate::workroom::{Supplies, Workroom};

/// Which mongosh.
pub const MONGOSH_PIN: Pin = Pin {
    name: "mongosh",
    version: "2.12.0",
    size_bytes: 190 << 20,
};

const STARTER: &str = r#"#!/bin/sh
# Starts mongosh; where no server is named, on this seat's own database.
shell=$(dirname "$(readlink -f "$0")")/../node_modules/mongosh/bin/mongosh.js
for word in "$@"; do
    case $word in
        mongodb://* | mongodb+srv://* | --host* | --port* | --nodb | -h | --help | --version | --build-info)
            exec node "$shell" "$@" ;;
    esac
done
case ${1-} in
    '' | -* | *.js | *.mongodb | *.mjs | *.cjs)
        [ -n "${MONGODB_URI-}" ] && exec node "$shell" "$MONGODB_URI" "$@" ;;
esac
exec node "$shell" "$@"
"#;

/// Returns the tree of mongosh in the tool cache, if it is there.
pub fn find_mongosh(settings: &ToolSettings) -> Option<PathBuf> {
    let tree = settings
        .cache
        .join(format!("{}-{}", MONGOSH_PIN.name, MONGOSH_PIN.version));
    tree.join("bin/mongosh").exists().then_some(tree)
}

/// Returns the tree of mongosh, fetched first where it is missing. `node` is the tree that it runs
/// on; none for a Node under `/usr`. Blocks for a minute the first time.
///
/// # Errors
/// What could not be fetched or does not start, with what to do.
pub fn ensure_mongosh(
    settings: &ToolSettings,
    sandbox: &Sandbox,
    node: Option<PathBuf>,
    progress: &dyn Fn(ToolProgress),
) -> Result<PathBuf, ToolError> {
    if let Some(tree) = find_mongosh(settings) {
        return Ok(tree);
    }
    let _alone = lock(&settings.cache, progress)?;
    if let Some(tree) = find_mongosh(settings) {
        return Ok(tree);
    }
    let meter = Meter::new(settings, MONGOSH_PIN, progress)?;
    let tree = meter.folder.join("tree");
    make_folder(&tree, 0o755).map_err(files("make a folder in the tool cache"))?;
    let bin = node.as_ref().map(|tree| tree.join("bin"));
    // Its optional packages are native parts for Kerberos and client-side encryption.
    let packages = [
        "--omit=optional".to_owned(),
        format!("{}@{}", MONGOSH_PIN.name, MONGOSH_PIN.version),
    ];
    meter.watch("fetching mongosh", || {
        fetch(&tree, bin.as_deref(), &packages)
    })?;
    write_starter(&tree).map_err(files("write the starter of mongosh"))?;
    open_up(&tree).map_err(files("open mongosh to seats"))?;
    let proof = meter.folder.join("proof");
    make_folder(&proof, 0o755).map_err(files("make a folder in the tool cache"))?;
    let supplies = Supplies {
        trees: Trees {
            node,
            mongosh: Some(tree.clone()),
            ..Trees::default()
        },
        ..Supplies::default()
    };
    let room = Workroom {
        sandbox,
        home: &proof,
        lock: &meter.folder.join("room"),
        supplies: &supplies,
    };
    let program = format!("{MONGOSH}/bin/mongosh");
    let start = step("starting mongosh", &[&program, "--version"], HOME);
    meter.watch("verifying", || steps(&room, MONGOSH_PIN.name, vec![start]))?;
    meter.finish(&tree)
}

fn write_starter(tree: &Path) -> io::Result<()> {
    let starter = tree.join("bin/mongosh");
    fs::create_dir_all(tree.join("bin"))?;
    fs::write(&starter, STARTER)?;
    fs::set_permissions(starter, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs the starter with a `node` that prints its arguments.
    fn started(arguments: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        write_starter(folder.path()).unwrap();
        let node = folder.path().join("node");
        fs::write(&node, "#!/bin/sh\nshift\necho \"$*\"\n").unwrap();
        fs::set_permissions(&node, fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(folder.path().join("bin/mongosh"))
            .args(arguments)
            .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
            .env("MONGODB_URI", "mongodb://ada@127.0.0.1/ada")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn the_seats_own_database_is_meant_where_no_other_is_named() {
        let own = "mongodb://ada@127.0.0.1/ada";
        assert_eq!(started(&[]), own);
        assert_eq!(
            started(&["--quiet", "--eval", "1"]),
            format!("{own} --quiet --eval 1")
        );
        assert_eq!(started(&["script.js"]), format!("{own} script.js"));
        assert_eq!(
            started(&["--quiet", "mongodb://x/"]),
            "--quiet mongodb://x/"
        );
        assert_eq!(started(&["--nodb"]), "--nodb");
        assert_eq!(started(&["other"]), "other");
    }
}
