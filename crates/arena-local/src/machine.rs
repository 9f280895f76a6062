//! Whether this machine can run a workshop: every requirement with what was found and the command
//! that mends it. [`check_machine`] only looks; [`install_packages`] mends what packages can.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use arena_workshop::plan::Isolation;
use thiserror::Error;

use crate::nest::Limits;
use crate::paths::Paths;
use crate::sandbox::{Probe, ProbeStep, probe, subuid_fix};
use crate::tools::{Found, Origin, free_space, missing_build_packages, space_needed};

/// Memory of the platform itself: gateway, portal, databases.
const PLATFORM_BYTES: u64 = 1 << 30;
/// Memory of a person who works, with browser and terminal: measured 405 to 550 MB.
const PERSON_BYTES: u64 = 550 << 20;
/// Disk for tools (while the editor is built), engine and databases.
const DISK_BYTES: u64 = 4 << 30;
/// Disk for a seat: its copy of the sources, and what a person adds.
const SEAT_DISK_BYTES: u64 = 100 << 20;
/// Where apt keeps what mirrors have, and how long that is good enough.
const PACKAGE_LISTS: &str = "/var/lib/apt/lists";
const LISTS_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Inotify instances that a seat's editor and apps take.
const SEAT_INOTIFY: u64 = 12;

/// Something that a workshop needs of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Such as `bubblewrap`.
    pub name: String,
    /// Whether it is there.
    pub is_ok: bool,
    /// Whether a workshop runs without it, with less.
    pub is_optional: bool,
    /// What was found.
    pub detail: String,
    /// What mends it: a command, or a sentence.
    pub fix: Option<String>,
}

/// What is asked of the machine.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Our own executable, as seats will run it.
    pub executable: &'a Path,
    /// Where state and tools will be; made if missing.
    pub paths: &'a Paths,
    /// The gateway's port on loopback.
    pub port: u16,
    /// Seats of the event.
    pub seats: u32,
    /// Tools as they were found.
    pub tools: &'a [Found],
}

/// A machine as it was found.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Every requirement, in order.
    pub requirements: Vec<Requirement>,
    /// People who can work here at the same time, by memory.
    pub people: u64,
    /// The probe that the requirements come from, with the sandbox if there is one.
    pub probe: Probe,
}

impl Machine {
    /// Returns whether a workshop can run.
    pub fn is_ok(&self) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.is_ok || requirement.is_optional)
    }
}

/// Packages could not be installed.
#[derive(Debug, Error)]
pub enum PackagesError {
    /// Only root may.
    #[error("installing packages needs root; run: {0}")]
    NotRoot(String),
    /// The package manager refused.
    #[error("`{command}` failed:\n{output}")]
    Failed {
        /// What was run.
        command: String,
        /// The last that it printed.
        output: String,
    },
}

/// Looks at everything that a workshop needs of this machine. Blocks for less than a second.
pub fn check_machine(wanted: &Wanted<'_>) -> Machine {
    let probe = probe(wanted.executable, &wanted.paths.state, wanted.seats);
    let mut requirements: Vec<Requirement> = probe.steps.iter().map(from_step).collect();
    requirements.push(program(
        "git",
        "git",
        true,
        "seats start without a history of their own",
    ));
    requirements.extend(wanted.tools.iter().map(tool));
    let available = available_memory().unwrap_or(0);
    let people = available.saturating_sub(PLATFORM_BYTES) / PERSON_BYTES;
    requirements.push(memory(available, people, wanted.seats));
    requirements.push(disk(wanted));
    requirements.extend(tools_disk(wanted));
    requirements.push(port(wanted.port));
    requirements.push(inotify(wanted.seats));
    requirements.extend(limits(&probe));
    Machine {
        requirements,
        people,
        probe,
    }
}

/// Returns the Debian packages that a machine lacks for seats, and for building the editor when
/// `builds_editor`.
pub fn missing_packages(builds_editor: bool) -> Vec<&'static str> {
    let programs = [
        ("bubblewrap", "bwrap"),
        ("uidmap", "newuidmap"),
        ("git", "git"),
    ];
    let missing = programs
        .iter()
        .filter(|(_, program)| !has_program(program))
        .map(|(package, _)| *package);
    let build = if builds_editor {
        missing_build_packages()
    } else {
        Vec::new()
    };
    missing.chain(build).collect()
}

/// Returns the command that installs packages.
pub fn install_command(packages: &[&str]) -> String {
    format!(
        "apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    )
}

/// Installs packages with the machine's package manager, whose lists are read first where they
/// are missing or a day old. Ask the person first. Blocks.
///
/// # Errors
/// Not root, or the package manager refuses; with the command to run by hand.
pub fn install_packages(packages: &[&str]) -> Result<(), PackagesError> {
    let command = install_command(packages);
    if !rustix::process::geteuid().is_root() {
        return Err(PackagesError::NotRoot(command));
    }
    let updated = if has_fresh_lists(Path::new(PACKAGE_LISTS)) {
        Ok(())
    } else {
        apt("apt-get update", &["update"])
    };
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    // One broken mirror among several need not stand in the way; if it does, it is the reason.
    apt(&command, &arguments).map_err(|error| updated.err().unwrap_or(error))
}

fn apt(command: &str, arguments: &[&str]) -> Result<(), PackagesError> {
    let failed = |output: String| PackagesError::Failed {
        command: command.to_owned(),
        output,
    };
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

/// Whether any package list is there and younger than a day. Images of containers come without;
/// old lists name versions that the mirror has no more.
fn has_fresh_lists(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut lists =
        entries.filter(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
    // Lists keep the mirror's time; the folder has the time of the last update.
    let updated = fs::metadata(folder).and_then(|found| found.modified());
    let is_young = updated
        .ok()
        .and_then(|time| time.elapsed().ok())
        .is_some_and(|age| age < LISTS_AGE_MAX);
    is_young && lists.next().is_some()
}

fn from_step(step: &ProbeStep) -> Requirement {
    Requirement {
        name: step.name.to_owned(),
        is_ok: step.is_ok,
        is_optional: step.is_optional,
        detail: step.detail.clone(),
        fix: step.fix.clone(),
    }
}

fn requirement(name: &str, found: Result<String, (String, String)>) -> Requirement {
    let name = name.to_owned();
    match found {
        Ok(detail) => Requirement {
            name,
            is_ok: true,
            is_optional: false,
            detail,
            fix: None,
        },
        Err((detail, fix)) => Requirement {
            name,
            is_ok: false,
            is_optional: false,
            detail,
            fix: Some(fix),
        },
    }
}

fn program(name: &str, package: &str, is_optional: bool, without: &str) -> Requirement {
    let found = if has_program(name) {
        Ok("installed".to_owned())
    } else {
        Err((format!("missing: {without}"), install_command(&[package])))
    };
    Requirement {
        is_optional,
        ..requirement(name, found)
    }
}

fn has_program(name: &str) -> bool {
    let folders = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    folders
        .iter()
        .any(|folder| Path::new(folder).join(name).exists())
}

fn tool(found: &Found) -> Requirement {
    let name = format!("{} {}", found.pin.name, found.pin.version);
    let at = |path: &Path| Ok(path.display().to_string());
    match &found.origin {
        Origin::Configured(path)
        | Origin::System(path)
        | Origin::Machine(path)
        | Origin::Cache(path) => requirement(&name, at(path)),
        Origin::Missing => {
            let packages = if found.pin.name == "code-server" {
                missing_build_packages()
            } else {
                Vec::new()
            };
            let found = if packages.is_empty() {
                Ok("will be fetched".to_owned())
            } else {
                Err((
                    format!("cannot be built without {}", packages.join(", ")),
                    install_command(&packages),
                ))
            };
            requirement(&name, found)
        }
    }
}

/// Memory that programs can still have, in bytes.
pub(crate) fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn memory(available: u64, people: u64, seats: u32) -> Requirement {
    let have = format!("{:.1} GB free", gigabytes(available));
    let found = if people == 0 {
        Err((
            format!("{have}, too little for one person"),
            "free some memory, or use a larger machine".to_owned(),
        ))
    } else if people < u64::from(seats) {
        let detail = format!(
            "{have}: about {people} people can work here at once, and there are {seats} seats"
        );
        Err((
            detail,
            "use a larger machine if all come; seats nobody works in need almost nothing"
                .to_owned(),
        ))
    } else {
        Ok(format!(
            "{have}: about {people} people can work here at once"
        ))
    };
    Requirement {
        is_optional: people > 0,
        ..requirement("memory", found)
    }
}

/// Gigabytes with a fraction, for people.
fn gigabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 20).unwrap_or(u32::MAX)) / 1024.0
}

fn disk(wanted: &Wanted<'_>) -> Requirement {
    let needed = DISK_BYTES + SEAT_DISK_BYTES * u64::from(wanted.seats);
    let free = free_space(&wanted.paths.state);
    let folder = wanted.paths.state.display();
    let text = format!(
        "{:.1} GB free for {folder}, {:.1} wanted",
        gigabytes(free),
        gigabytes(needed)
    );
    let found = if free >= needed {
        Ok(text)
    } else {
        Err((
            text,
            "free some space, or set XDG_STATE_HOME to a larger disk".to_owned(),
        ))
    };
    Requirement {
        is_optional: free >= DISK_BYTES / 2,
        ..requirement("disk", found)
    }
}

/// Space for the tools that are not there yet; nothing to say when all are.
fn tools_disk(wanted: &Wanted<'_>) -> Option<Requirement> {
    let needed = space_needed(wanted.tools);
    let free = free_space(&wanted.paths.cache);
    let text = format!(
        "{:.1} GB free for {}, {:.1} wanted",
        gigabytes(free),
        wanted.paths.cache.display(),
        gigabytes(needed)
    );
    let found = if free >= needed {
        Ok(text)
    } else {
        Err((
            text,
            "free some space, or set XDG_CACHE_HOME to a larger disk".to_owned(),
        ))
    };
    (needed > 0).then(|| requirement("disk for tools", found))
}

fn port(port: u16) -> Requirement {
    let name = format!("port {port}");
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => requirement(&name, Ok("free".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let free =
                TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
            let other = free.map_or(8081, |address| address.port());
            requirement(
                &name,
                Err((
                    "another program listens there".to_owned(),
                    format!("use another one: --port {other}"),
                )),
            )
        }
        Err(error) => requirement(
            &name,
            Err((
                error.to_string(),
                "use a port above 1023: --port 8080".to_owned(),
            )),
        ),
    }
}

/// Which limits of a seat are real on this machine, where seats can be separated at all.
fn limits(probe: &Probe) -> Option<Requirement> {
    let sandbox = probe.sandbox.as_ref()?;
    let processes = Limits::default().processes;
    let found = if sandbox.isolation() == Isolation::OwnUser {
        Ok(format!(
            "{processes} processes, pipes and descriptors of its own; memory and disk are watched"
        ))
    } else {
        Err((
            format!(
                "{processes} processes of its own; memory and disk are watched; pipes and descriptors are shared by all seats"
            ),
            subuid_fix(),
        ))
    };
    Some(Requirement {
        is_optional: true,
        ..requirement("limits of a seat", found)
    })
}

/// Watchers are counted for whoever made the namespaces, which is our own user for every seat: the
/// machine's limit is shared, whatever user ids the seats have.
fn inotify(seats: u32) -> Requirement {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances");
    let limit: u64 = limit
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let needed = SEAT_INOTIFY * u64::from(seats.max(1));
    let found = if limit >= needed {
        Ok(format!("{limit}, {needed} needed"))
    } else {
        Err((
            format!("{limit} for all seats, {needed} needed"),
            format!(
                "sudo sysctl -w fs.inotify.max_user_instances={}",
                needed.next_power_of_two()
            ),
        ))
    };
    Requirement {
        is_optional: true,
        ..requirement("file watchers", found)
    }
}
