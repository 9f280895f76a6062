//! Node and the editor: which versions, where they come from, and how they get into the tool
//! cache. [`find`] looks, [`ensure`] also fetches what is missing. Places are asked in this order:
//! a configured folder, the machine's own programs, the cache, a package registry.
//!
//! Packages are fetched without running anything of theirs; what has to be built is built in the
//! sandbox, without network (`install.rs`). The editor then loses two thirds of its size, all of
//! it things that no seat uses (`slim.rs`).

mod install;
mod shell;
mod slim;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use thiserror::Error;

use crate::sandbox::{Sandbox, SandboxError};
use crate::seat::{EDITOR, Trees};

pub use shell::{MONGOSH_PIN, ensure_mongosh, find_mongosh};

/// What is installed; the only place that names versions.
pub const PINS: [Pin; 2] = [
    Pin {
        name: "node",
        version: "24.21.0",
        size_bytes: 215 << 20,
    },
    Pin {
        name: "code-server",
        version: "4.139.1",
        size_bytes: 640 << 20,
    },
];

/// The package manager that goes with our Node.
const NPM: &str = "11.19.1";

/// Major versions of Node that the editor runs on.
const NODE_MAJORS: [u32; 2] = [22, 24];

/// Debian packages that building the editor needs, with a file that tells whether each is there.
const BUILD_PACKAGES: [(&str, &str); 4] = [
    ("g++", "/usr/bin/g++"),
    ("make", "/usr/bin/make"),
    ("python3", "/usr/bin/python3"),
    ("libkrb5-dev", "/usr/include/gssapi/gssapi.h"),
];

/// A tool's pinned version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Names it, and its folder in the cache.
    pub name: &'static str,
    /// Exactly this one.
    pub version: &'static str,
    /// Bytes on the disk while it is being installed, for showing how far it is.
    pub size_bytes: u64,
}

/// Where a tool was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The folder that the configuration names.
    Configured(PathBuf),
    /// Installed on this machine under `/usr`, which every seat sees.
    System(PathBuf),
    /// Installed on this machine elsewhere: the tree above its `bin`.
    Machine(PathBuf),
    /// In the tool cache.
    Cache(PathBuf),
    /// Nowhere: it would be fetched.
    Missing,
}

/// A tool and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub pin: Pin,
    /// Where.
    pub origin: Origin,
}

/// Tools that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// Trees that seats get; none for what is under `/usr` anyway.
    pub trees: Trees,
    /// Program inside a seat that starts the editor.
    pub editor: String,
}

/// Where to look, and how to fetch.
#[derive(Debug, Clone, Default)]
pub struct ToolSettings {
    /// The tool cache.
    pub cache: PathBuf,
    /// A Node tree to use instead (`bin/node` in it).
    pub node: Option<PathBuf>,
    /// A code-server tree to use instead (`bin/code-server` in it).
    pub editor: Option<PathBuf>,
    /// The machine's npm settings, such as `registry` ([`machine_npm`]).
    pub npm: BTreeMap<String, String>,
}

/// How far an installation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolProgress {
    /// Which tool.
    pub name: &'static str,
    /// What is being done.
    pub step: String,
    /// Bytes on the disk so far, about.
    pub bytes: u64,
    /// Bytes at the end, about.
    pub total_bytes: u64,
    /// Time since it began.
    pub elapsed: Duration,
}

impl ToolProgress {
    /// Returns about how long fetching will still take, once that can be told. Building and
    /// slimming do not grow the folder, so nothing can be told about them.
    pub fn left(&self) -> Option<Duration> {
        let left = self.total_bytes.checked_sub(self.bytes)?;
        let each = self
            .elapsed
            .as_secs()
            .checked_mul(left)?
            .checked_div(self.bytes)?;
        (self.elapsed.as_secs() >= 2 && self.step.starts_with("fetching"))
            .then(|| Duration::from_secs(each))
    }
}

/// A tool could not be had.
#[derive(Debug, Error)]
pub enum ToolError {
    /// What was configured is not one.
    #[error("{path} is not a {name} tree: {reason}")]
    Configured {
        /// Which tool.
        name: &'static str,
        /// What was configured.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Building needs these first.
    #[error("{name} cannot be built without: {}; install them: {command}", packages.join(", "))]
    Packages {
        /// Which tool.
        name: &'static str,
        /// Debian packages.
        packages: Vec<&'static str>,
        /// What to run.
        command: String,
    },
    /// Nothing on this machine can fetch packages.
    #[error("{name} must be fetched, and there is no npm on this machine: apt-get install -y npm")]
    NoNpm {
        /// Which tool.
        name: &'static str,
    },
    /// A program failed.
    #[error("cannot {what}:\n{output}")]
    Program {
        /// What was being done.
        what: String,
        /// The last that it printed.
        output: String,
    },
    /// Somebody else installs now.
    #[error("another Arena has been installing tools in {0} for half an hour")]
    Busy(String),
    /// The disk is too small, seen before anything was fetched.
    #[error("the tools need {} MB in {folder}, which has {} MB free", needed >> 20, free >> 20)]
    Space {
        /// The tool cache.
        folder: String,
        /// Bytes that the missing tools take while they are installed.
        needed: u64,
        /// Bytes free there.
        free: u64,
    },
    /// The disk refuses.
    #[error("cannot {what}")]
    Files {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// Our own part of the sandbox.
    #[error("cannot build {name}")]
    Sandbox {
        /// Which tool.
        name: &'static str,
        /// Why not.
        source: SandboxError,
    },
}

impl ToolError {
    /// Returns what to do about it, where that can be told.
    pub fn hint(&self) -> Option<&'static str> {
        let says = |words: &[&str]| {
            matches!(self, ToolError::Program { output, .. }
                if words.iter().any(|word| output.contains(word)))
        };
        let is_full = match self {
            ToolError::Space { .. } => true,
            ToolError::Files { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => says(&["ENOSPC", "No space left on device"]),
        };
        if is_full {
            return Some(
                "free some space there, or set XDG_CACHE_HOME to a folder on a larger disk",
            );
        }
        if matches!(self, ToolError::Busy(_)) {
            return Some("is it stuck? `ps` shows it; end it, and try again");
        }
        says(&[
            "EAI_AGAIN",
            "ENOTFOUND",
            "ENETUNREACH",
            "ECONNREFUSED",
            "ETIMEDOUT",
            "EHOSTUNREACH",
        ])
        .then_some(
            "is the package registry reachable from this machine? `npm ping` tells, \
             `npm config get registry` names it",
        )
    }
}

/// Returns the bytes that the missing tools take in the cache while they are installed.
pub fn space_needed(found: &[Found]) -> u64 {
    found
        .iter()
        .filter(|tool| tool.origin == Origin::Missing)
        .map(|tool| tool.pin.size_bytes)
        .sum()
}

/// Returns the bytes free for a folder that may not be there yet.
pub(crate) fn free_space(folder: &Path) -> u64 {
    let found = folder
        .ancestors()
        .find_map(|folder| rustix::fs::statvfs(folder).ok());
    found.map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

/// Returns where each tool is, fetching nothing.
pub fn find(settings: &ToolSettings) -> [Found; 2] {
    let [node, editor] = PINS;
    [
        Found {
            pin: node,
            origin: find_one(
                &node,
                settings.node.as_deref(),
                &settings.cache,
                "node",
                is_usable_node,
            ),
        },
        Found {
            pin: editor,
            origin: find_one(
                &editor,
                settings.editor.as_deref(),
                &settings.cache,
                "code-server",
                is_usable_editor,
            ),
        },
    ]
}

/// Returns the tools, fetched and built first where they are missing. Offline this works when the
/// cache is full. Blocks for minutes the first time.
///
/// # Errors
/// What is missing, refused or failed, with what to do.
pub fn ensure(
    settings: &ToolSettings,
    sandbox: &Sandbox,
    progress: &dyn Fn(ToolProgress),
) -> Result<Tools, ToolError> {
    let mut found = find(settings);
    if found.iter().any(|tool| tool.origin == Origin::Missing) {
        let _alone = install::lock(&settings.cache, progress)?;
        // Whoever held the lock may have installed it.
        found = find(settings);
        let (needed, free) = (space_needed(&found), free_space(&settings.cache));
        if free < needed {
            let folder = settings.cache.display().to_string();
            return Err(ToolError::Space {
                folder,
                needed,
                free,
            });
        }
        if found[0].origin == Origin::Missing {
            found[0].origin = Origin::Cache(install::node(settings, progress)?);
        }
        if found[1].origin == Origin::Missing {
            let node = tree(&found[0].origin);
            found[1].origin = Origin::Cache(install::editor(settings, sandbox, node, progress)?);
        }
    }
    if let Some(path) = &settings.node {
        check_configured("node", path, "bin/node", is_usable_node)?;
    }
    if let Some(path) = &settings.editor {
        check_configured("code-server", path, "bin/code-server", is_usable_editor)?;
    }
    let editor = match &found[1].origin {
        Origin::System(program) => program.display().to_string(),
        _ => format!("{EDITOR}/bin/code-server"),
    };
    let [node, code] = &found;
    Ok(Tools {
        trees: Trees {
            node: tree(&node.origin),
            editor: tree(&code.origin),
            ..Trees::default()
        },
        editor,
    })
}

/// Returns the settings of the machine's npm that a package client in a sandbox needs as well.
/// Blocks for half a second.
pub fn machine_npm() -> BTreeMap<String, String> {
    let ask = |key: &str| {
        let value = output(
            Command::new("npm")
                .args(["config", "get", key])
                .current_dir("/"),
        )
        .ok()?;
        let value = value.lines().last()?.trim().to_owned();
        (!matches!(value.as_str(), "" | "null" | "undefined")).then_some(value)
    };
    let (registry, cafile) = std::thread::scope(|scope| {
        let registry = scope.spawn(|| ask("registry"));
        let cafile = ask("cafile");
        (registry.join().ok().flatten(), cafile)
    });
    let registry = registry.map(|value| ("registry".to_owned(), value));
    // Only what lies where a sandbox sees it.
    let cafile = cafile.filter(|path| path.starts_with("/etc/ssl/") || path.starts_with("/usr/"));
    registry
        .into_iter()
        .chain(cafile.map(|value| ("cafile".to_owned(), value)))
        .collect()
}

/// Returns the Debian packages that building the editor needs and this machine lacks.
pub fn missing_build_packages() -> Vec<&'static str> {
    BUILD_PACKAGES
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect()
}

fn find_one(
    pin: &Pin,
    configured: Option<&Path>,
    cache: &Path,
    program: &str,
    is_usable: fn(&Path) -> Result<(), String>,
) -> Origin {
    if let Some(tree) = configured {
        return Origin::Configured(tree.to_owned());
    }
    if let Some(path) = on_path(program).filter(|path| is_usable(path).is_ok()) {
        let path = path.canonicalize().unwrap_or(path);
        if path.starts_with("/usr") {
            return Origin::System(path);
        }
        if let Some(tree) = path
            .parent()
            .and_then(Path::parent)
            .filter(|_| path.parent().is_some_and(|bin| bin.ends_with("bin")))
        {
            return Origin::Machine(tree.to_owned());
        }
    }
    let tree = cache.join(format!("{}-{}", pin.name, pin.version));
    if tree.join("bin").join(program).exists() {
        Origin::Cache(tree)
    } else {
        Origin::Missing
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

fn is_usable_node(program: &Path) -> Result<(), String> {
    let version = output(Command::new(program).arg("--version"))?;
    let major = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    if major.is_some_and(|major| NODE_MAJORS.contains(&major)) {
        return Ok(());
    }
    Err(format!("it is Node {version}; Node 22 or 24 is needed"))
}

fn is_usable_editor(program: &Path) -> Result<(), String> {
    let [_, pin] = PINS;
    let version = output(Command::new(program).arg("--version"))?;
    let wanted = pin
        .version
        .rsplit_once('.')
        .map_or(pin.version, |(minor, _)| minor);
    if version.lines().any(|line| line.starts_with(wanted)) {
        return Ok(());
    }
    Err(format!(
        "it is version {}; {wanted} is needed",
        version.split_whitespace().next().unwrap_or("unknown")
    ))
}

fn check_configured(
    name: &'static str,
    tree: &Path,
    program: &str,
    is_usable: fn(&Path) -> Result<(), String>,
) -> Result<(), ToolError> {
    let reason = |reason| ToolError::Configured {
        name,
        path: tree.display().to_string(),
        reason,
    };
    let program = tree.join(program);
    if !program.exists() {
        return Err(reason(format!("there is no {}", program.display())));
    }
    is_usable(&program).map_err(reason)
}

fn tree(origin: &Origin) -> Option<PathBuf> {
    match origin {
        Origin::Configured(tree) | Origin::Machine(tree) | Origin::Cache(tree) => {
            Some(tree.clone())
        }
        Origin::System(_) | Origin::Missing => None,
    }
}

/// Runs a program and returns its standard output, or the last that it said.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let all = format!(
        "{}\n{}\n{}",
        text(&output.stdout),
        text(&output.stderr),
        output.status
    );
    // Package clients repeat themselves, a line for each file.
    let mut seen = BTreeSet::new();
    let lines: Vec<&str> = all
        .lines()
        .filter(|line| !line.is_empty() && seen.insert(*line))
        .collect();
    Err(lines[lines.len().saturating_sub(30)..].join("\n"))
}
