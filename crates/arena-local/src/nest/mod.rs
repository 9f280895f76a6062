//! The nest: what runs between the supervisor and a seat's program, inside the seat's own user
//! and mount namespaces. It is a hidden subcommand of our own executable, because only a process
//! in there may mount, and may make, own and delete files under the seat's user id.
//!
//! [`nest`] reads one [`Work`] as JSON (from the file named, or from standard input for `-`) and
//! does it. It knows paths and numbers, no plan and no seat. `run.rs` builds the sandbox and
//! becomes it; `files.rs` makes, copies and deletes trees; `inside.rs` is the small program that
//! installs a workshop's dependencies inside the sandbox.

mod files;
mod inside;
mod open;
mod run;
mod seccomp;

pub(crate) use run::hosts;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Arguments that make our executable a nest, before the path of its work.
pub const ARGUMENTS: [&str; 2] = ["serve", "nest"];

/// The user and group id of everything in a seat, as seen inside.
pub(crate) const SEAT_ID: u32 = 1000;

/// Where our executable lies inside a sandbox.
pub(crate) const INNER_EXECUTABLE: &str = "/opt/arena/bin/arena";

/// Where a sandbox's own small files and sockets are.
pub const PRIVATE: &str = "/run/arena";

/// A work order of at most this many bytes is read.
const WORK_BYTES_MAX: u64 = 4 << 20;

/// What a nest shall do.
#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Work {
    /// Build a sandbox and become the command in it.
    Run(Box<Run>),
    /// Give a tree to the seat's user.
    Own { folder: PathBuf },
    /// Take a tree back and let everybody read and write it: the lower layer of overlays.
    Seal { folder: PathBuf },
    /// Copy a template's files into a new folder that belongs to the seat.
    Fill(Fill),
    /// Delete a tree, never following links.
    Remove { folder: PathBuf },
    /// Print how many bytes a tree takes on the disk.
    Measure { folder: PathBuf },
    /// Inside a sandbox: run programs one after the other, with the way out on loopback.
    Steps(Steps),
}

/// A sandbox and the command in it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Run {
    /// Whether this namespace holds a second user for the seat.
    pub(crate) own_user: bool,
    /// For what is not separated: the folder that stands for [`PRIVATE`]. Then there is no sandbox,
    /// and every path inside becomes the path that it stands for.
    pub(crate) open: Option<PathBuf>,
    /// Locked as long as the sandbox lives.
    pub(crate) lock: PathBuf,
    /// What is found at `home_at`, writable.
    pub(crate) home: Home,
    /// Such as `/home/workspace`.
    pub(crate) home_at: String,
    /// Files and folders brought in read-only.
    pub(crate) read_only: Vec<Bind>,
    /// Small files of the seat itself, readable by it only.
    pub(crate) files: BTreeMap<String, String>,
    /// Where `/etc/hosts` is when somebody outside keeps it up to date; else it names this sandbox only.
    pub(crate) hosts_file: Option<String>,
    /// Host name inside.
    pub(crate) host_name: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Its working directory.
    pub(crate) directory: String,
    /// Limits of everything in the sandbox.
    pub(crate) limits: Limits,
}

/// Where a sandbox's writable files are.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Home {
    /// Changes over a template that is shared.
    Overlay {
        lower: PathBuf,
        upper: PathBuf,
        work: PathBuf,
    },
    /// A folder of its own.
    Folder(PathBuf),
}

/// Something of the host brought in.
#[derive(Serialize, Deserialize)]
pub(crate) struct Bind {
    /// Path on the host.
    pub(crate) from: PathBuf,
    /// Path inside.
    pub(crate) to: String,
}

/// Limits of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Private memory that one process can ask for.
    pub data_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Size of one file.
    pub file_bytes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Size of each of `/tmp`, `/run`, `/var` and `/dev/shm`.
    pub scratch_bytes: u64,
}

impl Default for Limits {
    /// Returns what a participant needs: editor, apps, a package installation.
    fn default() -> Limits {
        Limits {
            data_bytes: 3 << 29,
            processes: 1024,
            file_bytes: 1 << 30,
            open_files: 16_384,
            scratch_bytes: 256 << 20,
        }
    }
}

/// A copy of a template.
#[derive(Serialize, Deserialize)]
pub(crate) struct Fill {
    /// The template's tree.
    pub(crate) from: PathBuf,
    /// The new folder; must not exist.
    pub(crate) to: PathBuf,
    /// Whether the copy shall belong to the second user.
    pub(crate) own_user: bool,
    /// Whether `node_modules` folders are copied too (where there is no overlay).
    pub(crate) with_modules: bool,
}

/// Programs run one after the other inside a sandbox.
#[derive(Serialize, Deserialize)]
pub(crate) struct Steps {
    /// Address and port to forward to the outbound socket, if there is one.
    pub(crate) outbound: Option<String>,
    /// Everything together may take this long.
    pub(crate) limit_seconds: u64,
    /// The programs.
    pub(crate) steps: Vec<Step>,
}

/// One program.
#[derive(Serialize, Deserialize)]
pub(crate) struct Step {
    /// Said before it starts.
    pub(crate) title: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Added to the environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Working directory.
    pub(crate) directory: String,
    /// How often it may be tried.
    pub(crate) tries: u32,
}

/// A nest could not do its work.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct NestError {
    what: String,
    source: io::Error,
}

impl NestError {
    fn new(what: impl Into<String>) -> impl FnOnce(io::Error) -> NestError {
        let what = what.into();
        move |source| NestError { what, source }
    }

    fn at(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> NestError {
        let what = what.into();
        move |errno| NestError {
            what,
            source: errno.into(),
        }
    }
}

pub(crate) use open::{MARK, sweep};

/// Does the work in the file `work`, or in the first line of standard input when it is `-`. Returns
/// only when it is not a sandbox to become. Call it first thing in `main`, while there is one thread.
///
/// # Errors
/// Whatever the kernel refuses, with what was tried.
pub fn nest(work: &str) -> Result<(), NestError> {
    let mut text = Vec::new();
    let read = if work == "-" {
        // One line: whoever sent it keeps the pipe open.
        let input = io::stdin().lock().take(WORK_BYTES_MAX);
        BufReader::new(input).read_until(b'\n', &mut text)
    } else {
        File::open(work).and_then(|file| file.take(WORK_BYTES_MAX).read_to_end(&mut text))
    };
    read.map_err(NestError::new(format!("cannot read the work order {work}")))?;
    let work: Work = serde_json::from_slice(&text)
        .map_err(|error| NestError::new("cannot understand the work order")(error.into()))?;
    match work {
        Work::Run(run) if run.open.is_some() => match open::run(&run)? {},
        Work::Run(run) => match run::run(&run)? {},
        Work::Own { folder } => files::own(&folder, SEAT_ID),
        Work::Seal { folder } => files::seal(&folder),
        Work::Fill(fill) => files::fill(&fill),
        Work::Remove { folder } => files::remove(&folder),
        Work::Measure { folder } => {
            let bytes = files::measure(&folder)?;
            writeln!(io::stdout(), "{bytes}")
                .map_err(NestError::new("cannot say what was measured"))
        }
        Work::Steps(steps) => inside::steps(&steps),
    }
}
