//! The programs of the database engine's tree, as the tests run them: from `ARENA_ENGINE_TREE` or the tool cache.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::{env, fs};

/// Where the engine's tree is; a missing one fails the test with what to do.
pub(crate) fn tree() -> PathBuf {
    let from_environment = env::var_os("ARENA_ENGINE_TREE").map(PathBuf::from);
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let in_cache = cache.map(|cache| cache.join("arena/engine/current"));
    let places = [
        from_environment,
        in_cache,
        Some("/var/cache/arena/engine/current".into()),
    ];
    let found = places
        .into_iter()
        .flatten()
        .find(|tree| tree.join("arena-engine.json").exists());
    found.unwrap_or_else(|| {
        panic!("no database engine here; install it with: cargo run -- tools install engine")
    })
}

/// The tree where the server's user can read it: a tool cache may be closed to others, so root's tests
/// then use a copy, which stays for the next run.
fn readable_tree() -> PathBuf {
    static COPYING: Mutex<()> = Mutex::new(());
    let tree = fs::canonicalize(tree()).unwrap();
    let probe = tree.join("usr/lib/postgresql/18/bin.elf/postgres");
    let can_read = as_server(Command::new("setpriv").arg("--pdeathsig").arg("KILL"))
        .arg("test")
        .arg("-r")
        .arg(probe)
        .status()
        .unwrap()
        .success();
    if can_read {
        return tree;
    }
    let _one_at_a_time = COPYING.lock().unwrap();
    let copy = env::temp_dir().join(format!(
        "arena-test-engine-{}",
        tree.file_name().unwrap_or_default().to_string_lossy()
    ));
    if !copy.exists() {
        let new = copy.with_extension(format!("new-{}", std::process::id()));
        run(Command::new("cp")
            .arg("-a")
            .arg("--reflink=auto")
            .arg(&tree)
            .arg(&new));
        let _ = fs::rename(&new, &copy);
    }
    copy
}

fn as_server(command: &mut Command) -> &mut Command {
    if is_root() {
        command.args([
            "--reuid",
            "nobody",
            "--regid",
            "nogroup",
            "--clear-groups",
            "--inh-caps=-all",
        ]);
    }
    command
}

pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

/// A program of the tree, ended when this process dies: a killed server would leave memory behind. When the tests run as root it runs as `nobody`,
/// because PostgreSQL refuses root.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    as_server(&mut command);
    let tree = readable_tree();
    let home = tree.join("usr/lib/postgresql/18");
    let libraries = tree.join(format!("usr/lib/{}-linux-gnu", env::consts::ARCH));
    let loader = fs::read_dir(&libraries)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let mut loader = loader.filter(|path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("ld-linux-")
    });
    command.arg(loader.next().unwrap());
    command.arg("--library-path").arg(format!(
        "{}:{}",
        libraries.display(),
        home.join("lib").display()
    ));
    command
        .arg("--argv0")
        .arg(home.join("bin").join(name))
        .arg(home.join("bin.elf").join(name));
    command
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

pub(crate) fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

pub(crate) fn give_to_server(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    if is_root() {
        run(Command::new("chown")
            .arg("-R")
            .arg("nobody:nogroup")
            .arg(path));
    }
}
