//! Installs what the tests need on a fresh machine, and is quick when all of
//! it is there: system packages, Arena's own tools (Node, editor, database
//! engine) into the tool cache, and client libraries from npm.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::{root, step};

/// Debian packages by the program or file that proves them installed.
const PACKAGES: &[(&str, &str)] = &[
    ("bubblewrap", "/usr/bin/bwrap"),
    ("uidmap", "/usr/bin/newuidmap"),
    ("git", "/usr/bin/git"),
    ("openssl", "/usr/bin/openssl"),
    ("chromium", "/usr/bin/chromium"),
    ("chromium-driver", "/usr/bin/chromedriver"),
    ("libkrb5-dev", "/usr/include/krb5.h"),
    ("g++", "/usr/bin/g++"),
    ("make", "/usr/bin/make"),
    ("python3", "/usr/bin/python3"),
    ("python3-pip", "/usr/bin/pip3"),
    ("strace", "/usr/bin/strace"),
    ("openssl", "/usr/bin/openssl"),
];

/// Client libraries that tests drive the database front with, by npm name and version.
const CLIENTS: &[(&str, &str)] = &[
    ("mongodb", "6.22.0"),
    ("mongodb7", "npm:mongodb@7.9.0"),
    ("mongoose", "8.24.10"),
    ("mongosh", "2.12.0"),
    ("axe-core", "4.14.1"),
];
/// MongoDB's MCP server, in a folder of its own: beside two drivers it would take the wrong one for its own.
const MCP_SERVER: &str = "mongodb-mcp-server@3.0.4";
/// The Python driver.
const PYMONGO: &str = "4.20.1";
/// What it compresses with.
const PYTHON_ZSTD: &str = "backports.zstd==1.8.0";

/// Variables that tests find tools by.
pub(crate) type Environment = BTreeMap<&'static str, PathBuf>;

/// Installs everything with the executable that was built before. (Not built here: a build of the
/// one package has other features than a build of all tests, and each would undo the other's.)
///
/// # Errors
/// When a package cannot be installed; the installer's own output is shown.
pub(crate) fn run() -> anyhow::Result<Environment> {
    packages()?;
    let arena = arena();
    step(
        "arena tools install",
        Command::new(&arena).args(["tools", "install", "--yes"]),
    )?;
    let listing = Command::new(&arena)
        .args(["tools", "list", "--format", "json"])
        .output()
        .context("cannot run arena tools list")?;
    let mut tools = tool_paths(&listing.stdout)?;
    let mut tool = |name: &str| {
        tools
            .remove(name)
            .with_context(|| format!("arena tools list has no path of {name}"))
    };
    let python = python()?;
    Ok(Environment::from([
        ("ARENA_TEST_PYTHON_PACKAGES", python.join("packages")),
        ("ARENA_TEST_NODE", node_program(tool("node")?)?),
        ("ARENA_ENGINE_TREE", tool("engine")?),
        ("ARENA_TEST_NODE_MODULES", clients()?),
    ]))
}

/// Returns where the executable is that builds of tests make.
pub(crate) fn arena() -> PathBuf {
    target_dir().join("debug/arena")
}

/// Node's program: a machine's own Node is listed by its program, Arena's by its tree.
fn node_program(listed: PathBuf) -> anyhow::Result<PathBuf> {
    let program = if listed.is_dir() {
        listed.join("bin/node")
    } else {
        listed
    };
    if !program.is_file() {
        bail!(
            "arena tools list names {}, which is no program",
            program.display()
        );
    }
    Ok(program)
}

/// Reads `{"tools":[{"name":…,"path":…}]}`; a tool without a path is not installed.
fn tool_paths(json: &[u8]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let listing: serde_json::Value =
        serde_json::from_slice(json).context("arena tools list printed no JSON")?;
    let tools = listing["tools"]
        .as_array()
        .context("arena tools list names no tools")?;
    Ok(tools
        .iter()
        .filter_map(|tool| {
            Some((
                tool["name"].as_str()?.to_owned(),
                PathBuf::from(tool["path"].as_str()?),
            ))
        })
        .collect())
}

/// Installs what Debian has.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn packages() -> anyhow::Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, proof)| !Path::new(proof).exists())
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!(
        "apt-get install --yes --no-install-recommends {}",
        missing.join(" ")
    );
    if !is_root() {
        bail!("system packages are missing; run: sudo {line}");
    }
    step(
        "apt-get update",
        Command::new("apt-get").args(["update", "--quiet"]),
    )?;
    step(
        &line,
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(&missing),
    )
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")))
}

/// The user's own cache folder, else `target/`.
fn user_cache() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(target_dir)
}

pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Installs the client libraries (none needs its optional native parts) once a user, so that a fresh clone
/// does not fetch them again, and returns their `node_modules`.
fn clients() -> anyhow::Result<PathBuf> {
    let folder = user_cache().join("arena-test-clients");
    let clients: Vec<String> = CLIENTS
        .iter()
        .map(|(name, version)| format!("{name}@{version}"))
        .collect();
    let wanted = format!("{}\n{MCP_SERVER}\n", clients.join("\n"));
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder.join("node_modules"));
    }
    npm_install(&folder, &clients)?;
    npm_install(&folder.join("tools"), &[MCP_SERVER.to_owned()])?;
    fs::write(&stamp, &wanted).context("cannot write the stamp of the client libraries")?;
    Ok(folder.join("node_modules"))
}

fn npm_install(folder: &Path, packages: &[String]) -> anyhow::Result<()> {
    fs::create_dir_all(folder).context("cannot make the folder of the client libraries")?;
    step(
        "npm install (client libraries)",
        Command::new("npm")
            .args(["install", "--ignore-scripts", "--no-audit", "--no-fund"])
            // The shell wants one driver beside it, the tests want two.
            .arg("--legacy-peer-deps")
            // A registry that does not answer fails in minutes, not in a quarter of an hour.
            .args(["--fetch-timeout=60000", "--fetch-retries=3"])
            .arg("--prefix")
            .arg(folder)
            .args(packages),
    )
}

/// Installs pymongo once a user, as the client libraries; returns its folder.
fn python() -> anyhow::Result<PathBuf> {
    let folder = user_cache().join("arena-test-python");
    let pymongo = format!("pymongo=={PYMONGO}");
    let wanted = format!("{pymongo} {PYTHON_ZSTD}");
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).context("cannot make the folder of the Python packages")?;
    step(
        "pip install pymongo",
        Command::new("python3")
            .current_dir(&folder)
            .args(["-m", "pip", "--quiet", "install", "--upgrade"])
            .args(["--target", "packages", &pymongo, PYTHON_ZSTD])
            .args(["pytest", "pytest-asyncio"]),
    )?;
    fs::write(&stamp, &wanted).context("cannot write the stamp of the Python packages")?;
    Ok(folder)
}

/// Downloads pymongo's source once a user, for the driver tests that it carries; returns its folder.
///
/// # Errors
/// When it cannot be downloaded or unpacked.
pub(crate) fn pymongo_source() -> anyhow::Result<PathBuf> {
    let folder = user_cache().join("arena-test-python");
    let name = format!("pymongo-{PYMONGO}");
    if folder.join(&name).join("test").is_dir() {
        return Ok(folder.join(name));
    }
    step(
        "pip download pymongo (source)",
        Command::new("python3")
            .current_dir(&folder)
            .env("NO_EXT", "1")
            .args(["-m", "pip", "--quiet", "download", "--no-deps"])
            .args(["--no-binary", ":all:", &format!("pymongo=={PYMONGO}")]),
    )?;
    step(
        "unpack pymongo",
        Command::new("tar")
            .current_dir(&folder)
            .args(["-xzf", &format!("{name}.tar.gz")]),
    )?;
    Ok(folder.join(name))
}
