//! Seats on this machine: [`Seats::make`] gives one its files, [`Seats::start`] its sandbox and
//! agent, [`Seats::remove`] takes everything away. All under `S/seats/{seat}` and `R`; what a seat
//! can write is touched only inside its own namespaces (see [`crate::nest`]).
//!
//! A seat keeps its user id and its template's version for life: both are in its `seat.json`.

mod surroundings;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arena_supervisor::{Child, ChildSpec, LogFile, Ready, Restart, StopSignal, Supervisor};
use arena_workshop::SeatId;
use arena_workshop::plan::{SeatSettings, Ways};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::leftover::{WORK_ORDER, end_starters};
use crate::nest::{self, Bind, Fill, Home, INNER_EXECUTABLE, Limits, MARK, Run, Work, sweep};
use crate::sandbox::{Sandbox, SandboxError, Slot};
use surroundings::{agent_environment, completed};

pub(crate) use surroundings::{common_binds, inner_environment, try_out};

/// Home of everything in a seat; survives a restart.
pub const HOME: &str = "/home/workspace";
/// Where a seat's agent finds its settings.
pub const SETTINGS: &str = "/run/arena/settings.json";
/// Where a seat's own small files and sockets are.
pub use crate::nest::PRIVATE;
/// Where the Node tree is inside a seat (`bin/node`, `bin/npm`).
pub const NODE: &str = "/opt/arena/node";
/// Where the editor's tree is inside a seat (`bin/code-server`).
pub const EDITOR: &str = "/opt/arena/editor";
/// Where mongosh is inside a seat (`bin/mongosh`).
pub const MONGOSH: &str = "/opt/arena/mongosh";
/// Where the database engine's tree is inside a seat, for `psql` and its like.
pub const ENGINE: &str = "/opt/arena/engine";
/// Where the service sockets are inside a seat.
pub const SERVICES: &str = "/run/svc";
/// The seat's hosts file, among its sockets.
const HOSTS_FILE: &str = "hosts";
/// Programs inside a seat.
pub const PATH: &str = "/opt/arena/node/bin:/opt/arena/mongosh/bin:/opt/arena/engine/usr/lib/postgresql/18/bin:\
    /opt/arena/bin:/usr/local/bin:/usr/bin:/bin";

/// A seat's agent answers within milliseconds; a machine that starts a hundred takes longer.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What [`Seats`] keeps about a seat.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    slot: u32,
    template: String,
    has_overlay: bool,
    /// Made without isolation: its files belong to our own user.
    #[serde(default)]
    is_open: bool,
}

/// The seats of an event on this machine.
pub struct Seats {
    sandbox: Sandbox,
    state: PathBuf,
    runtime: PathBuf,
    /// Held while a user id is given out.
    slots: Mutex<()>,
}

/// Folders of the host that every seat sees, read-only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trees {
    /// Node, with `bin/node` and `bin/npm`.
    pub node: Option<PathBuf>,
    /// The editor.
    pub editor: Option<PathBuf>,
    /// mongosh, with `bin/mongosh`.
    pub mongosh: Option<PathBuf>,
    /// The database engine, for `psql`.
    pub engine: Option<PathBuf>,
}

/// What a start needs besides the seat itself.
pub struct SeatStart<'a> {
    /// What the agent shall know.
    pub settings: &'a SeatSettings,
    /// Arguments for our executable inside, such as `serve seat --settings` [`SETTINGS`].
    pub agent: &'a [String],
    /// Editor and Node.
    pub trees: &'a Trees,
    /// Servers of somebody else that it reaches; [`Seats::lead`] changes them later.
    pub ways: &'a Ways,
    /// Limits of the seat.
    pub limits: Limits,
}

/// A seat could not be made, started or removed.
#[derive(Debug, Error)]
pub enum SeatError {
    /// Something on our side of the disk.
    #[error("cannot {what} for seat {seat}")]
    Files {
        /// The seat.
        seat: SeatId,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Something in the seat's namespaces.
    #[error("seat {seat}")]
    Sandbox {
        /// The seat.
        seat: SeatId,
        /// What and why not.
        source: SandboxError,
    },
    /// All spare user ids are taken.
    #[error("no user id is left for seat {0}")]
    NoSlot(SeatId),
    /// Its files are of the other kind.
    #[error("seat {seat} was made {made} isolation")]
    OtherIsolation {
        /// The seat.
        seat: SeatId,
        /// `with` or `without`.
        made: &'static str,
    },
    /// It was never made.
    #[error("seat {0} has not been made")]
    Missing(SeatId),
}

/// Returns whether the seats under an event's state folder were made without isolation.
pub fn are_open(state: &Path) -> bool {
    let entries = fs::read_dir(state.join("seats")).into_iter().flatten();
    let mut records = entries.flatten().filter_map(|entry| {
        serde_json::from_slice::<Record>(&fs::read(entry.path().join("seat.json")).ok()?).ok()
    });
    records.any(|record| record.is_open)
}

impl Seats {
    /// Returns the seats under an event's state folder `state`; sockets go to `runtime`.
    pub fn new(sandbox: Sandbox, state: &Path, runtime: &Path) -> Seats {
        Seats {
            sandbox,
            state: state.to_owned(),
            runtime: runtime.to_owned(),
            slots: Mutex::default(),
        }
    }

    /// Returns the sandbox they run in.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Returns the seats that have been made, or begun, by any plan.
    pub fn made(&self) -> BTreeSet<SeatId> {
        let Ok(entries) = fs::read_dir(self.state.join("seats")) else {
            return BTreeSet::new();
        };
        entries
            .flatten()
            .filter_map(|entry| SeatId::new(entry.file_name().to_str()?).ok())
            .collect()
    }

    /// Checks that every seat that was made is of this sandbox's kind: files made without isolation
    /// belong to nobody's own user, and the other way round.
    ///
    /// # Errors
    /// When one is not.
    pub fn check_isolation(&self) -> Result<(), SeatError> {
        let is_open = self.sandbox.is_open();
        let other = self.made().into_iter().find(|seat| {
            let record = self.record(seat);
            record.is_some_and(|record| record.is_open != is_open)
        });
        match other {
            None => Ok(()),
            Some(seat) => Err(SeatError::OtherIsolation {
                seat,
                made: if is_open { "with" } else { "without" },
            }),
        }
    }

    /// Returns the versions of the template that seats use.
    pub fn templates(&self) -> BTreeSet<String> {
        self.made()
            .iter()
            .filter_map(|seat| self.record(seat))
            .map(|record| record.template)
            .collect()
    }

    /// Returns where a seat's agent listens.
    pub fn socket(&self, seat: &SeatId) -> PathBuf {
        self.runtime.join("seats").join(format!("{seat}.sock"))
    }

    /// Returns the folder whose sockets a seat sees under [`SERVICES`]; it exists once the seat is made.
    pub fn services(&self, seat: &SeatId) -> PathBuf {
        self.runtime.join("svc").join(seat.as_str())
    }

    /// Gives a seat its files from the template `key` (a folder under `S/template`). A seat that
    /// has them keeps them. Blocks for a tenth of a second; call it from a blocking task.
    ///
    /// # Errors
    /// No user id left, or the disk refuses.
    pub fn make(&self, seat: &SeatId, key: &str) -> Result<(), SeatError> {
        let folder = self.folder(seat);
        let failed = |what| {
            move |source| SeatError::Files {
                seat: seat.clone(),
                what,
                source,
            }
        };
        make_folder(&folder, 0o700).map_err(failed("make its folder"))?;
        make_folder(&self.services(seat), 0o755).map_err(failed("make its socket folder"))?;
        make_folder(&self.runtime.join("seats"), 0o700)
            .map_err(failed("make the socket folder"))?;
        let record = self.reserve(seat, key)?;
        if folder.join("upper").exists() {
            return Ok(());
        }
        let slot = Slot(record.slot);
        let sandboxed = |source| SeatError::Sandbox {
            seat: seat.clone(),
            source,
        };
        // Each is a process in the seat's namespaces, which a seat that is new need not pay for.
        let begun = ["upper.new", "work"].map(|name| folder.join(name));
        for folder in begun.into_iter().filter(|folder| folder.exists()) {
            let work = Work::Remove { folder };
            self.sandbox
                .perform(slot, "cannot remove what was begun", &work)
                .map_err(sandboxed)?;
        }
        make_folder(&folder.join("work"), 0o700).map_err(failed("make its folder"))?;
        let fill = Fill {
            from: self.template(&record.template).join("home"),
            to: folder.join("upper.new"),
            own_user: self.sandbox.has_own_users(),
            with_modules: !record.has_overlay,
        };
        self.sandbox
            .perform(slot, "cannot copy the template", &Work::Fill(fill))
            .map_err(sandboxed)?;
        fs::rename(folder.join("upper.new"), folder.join("upper"))
            .map_err(failed("finish its files"))
    }

    /// Starts a seat that was made: binds its listener, hands it to the agent in the sandbox, and
    /// returns the child, ready when the agent answers.
    ///
    /// # Errors
    /// The seat was not made, or a socket cannot be bound.
    pub fn start(
        &self,
        supervisor: &Supervisor,
        seat: &SeatId,
        start: &SeatStart<'_>,
    ) -> Result<Child, SeatError> {
        let failed = |what| {
            move |source| SeatError::Files {
                seat: seat.clone(),
                what,
                source,
            }
        };
        let record = self
            .record(seat)
            .ok_or_else(|| SeatError::Missing(seat.clone()))?;
        make_folder(&self.services(seat), 0o755).map_err(failed("make its socket folder"))?;
        make_folder(&self.runtime.join("seats"), 0o700)
            .map_err(failed("make the socket folder"))?;
        self.lead(seat, start.ways)?;
        let listener = bind(&self.socket(seat)).map_err(failed("bind its socket"))?;
        let work = self.set_settings(seat, start)?;
        let (program, args) = self
            .sandbox
            .command(Slot(record.slot), &work.to_string_lossy());
        let socket = self.socket(seat);
        Ok(supervisor.start(ChildSpec {
            args,
            environment: BTreeMap::from([("PATH".into(), HOST_PATH.into())]),
            descriptors: vec![(Arc::new(listener), 3)],
            lifeline: true,
            stop_signal: if self.sandbox.is_open() {
                StopSignal::Terminate
            } else {
                StopSignal::Kill
            },
            ready: Ready::Custom(Arc::new(move || Box::pin(is_healthy(socket.clone())))),
            ready_within: READY_WITHIN,
            restart: Restart::default(),
            log: Some(LogFile::new(
                self.state.join("logs").join(format!("seat-{seat}.log")),
            )),
            together: Some("seats".to_owned()),
            ..ChildSpec::new(format!("seat-{seat}"), program)
        }))
    }

    /// Writes what a seat is told at its next start, which may be a restart; its ways stay as they
    /// are. Returns the file.
    ///
    /// # Errors
    /// The seat was not made, or the disk refuses.
    pub fn set_settings(&self, seat: &SeatId, start: &SeatStart<'_>) -> Result<PathBuf, SeatError> {
        let record = self
            .record(seat)
            .ok_or_else(|| SeatError::Missing(seat.clone()))?;
        let work = self.folder(seat).join(WORK_ORDER);
        let run = Work::Run(Box::new(self.run(seat, &record, start)));
        let text = serde_json::to_vec(&run).expect("only strings, numbers and lists");
        write_private(&work, &text).map_err(|source| SeatError::Files {
            seat: seat.clone(),
            what: "write its work order",
            source,
        })?;
        Ok(work)
    }

    /// Tells a seat, running or not, which servers of somebody else it reaches under which names.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn lead(&self, seat: &SeatId, ways: &Ways) -> Result<(), SeatError> {
        let folder = self.services(seat);
        let failed = |source| SeatError::Files {
            seat: seat.clone(),
            what: "name servers",
            source,
        };
        let names = nest::hosts(seat.as_str(), &ways.names);
        let text = serde_json::to_vec(ways).expect("only strings, numbers and lists");
        // First the ways, then the names that lead there.
        write_readable(&folder.join(Ways::FILE), &text).map_err(failed)?;
        write_readable(&folder.join(HOSTS_FILE), names.as_bytes()).map_err(failed)
    }

    /// Deletes everything of a seat that has been stopped. Never follows a link. Blocks.
    ///
    /// # Errors
    /// The disk refuses; call it again.
    pub fn remove(&self, seat: &SeatId) -> Result<(), SeatError> {
        let folder = self.folder(seat);
        self.sweep(seat);
        let slot = self
            .record(seat)
            .map_or(Slot::PLATFORM, |record| Slot(record.slot));
        for name in ["upper", "upper.new", "work"] {
            let work = Work::Remove {
                folder: folder.join(name),
            };
            let removed = self.sandbox.perform(slot, "cannot delete its files", &work);
            removed.map_err(|source| SeatError::Sandbox {
                seat: seat.clone(),
                source,
            })?;
        }
        let failed = |what| {
            move |source| SeatError::Files {
                seat: seat.clone(),
                what,
                source,
            }
        };
        absent_is_fine(fs::remove_dir_all(&folder)).map_err(failed("delete its folder"))?;
        absent_is_fine(fs::remove_file(self.socket(seat))).map_err(failed("delete its socket"))?;
        absent_is_fine(fs::remove_dir_all(self.services(seat)))
            .map_err(failed("delete its socket folder"))
    }

    /// Ends what a platform that was killed left of starts that it had just begun. Call it before
    /// anything is started. Blocks.
    pub fn end_starters(&self) {
        end_starters(&self.state.join("seats"));
    }

    /// Ends what programs of a stopped seat left running. In a sandbox nothing can be left.
    pub fn sweep(&self, seat: &SeatId) {
        if self.sandbox.is_open() {
            sweep(&self.folder(seat).join("lock"));
        }
    }

    /// Measures what a seat's files take on the disk. Blocks; walks all of them.
    pub(crate) fn size(&self, seat: &SeatId) -> Result<u64, SeatError> {
        let record = self
            .record(seat)
            .ok_or_else(|| SeatError::Missing(seat.clone()))?;
        let work = Work::Measure {
            folder: self.folder(seat).join("upper"),
        };
        let size = Cell::new(None);
        let measured = self.sandbox.perform_aloud(
            Slot(record.slot),
            "cannot measure its files",
            &work,
            &|line| size.set(line.parse().ok()),
        );
        measured.map_err(|source| SeatError::Sandbox {
            seat: seat.clone(),
            source,
        })?;
        size.get().ok_or_else(|| SeatError::Missing(seat.clone()))
    }

    /// The event's state folder.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// What stands for [`PRIVATE`] where there is no sandbox; a short path, for sockets.
    fn private(&self, seat: &SeatId) -> PathBuf {
        self.runtime.join("open").join(seat.as_str())
    }

    fn folder(&self, seat: &SeatId) -> PathBuf {
        self.state.join("seats").join(seat.as_str())
    }

    fn template(&self, key: &str) -> PathBuf {
        self.state.join("template").join(key)
    }

    fn record(&self, seat: &SeatId) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.folder(seat).join("seat.json")).ok()?).ok()
    }

    /// Returns the seat's record, writing one with the lowest free user id if there is none.
    fn reserve(&self, seat: &SeatId, key: &str) -> Result<Record, SeatError> {
        let _one_at_a_time = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = self.record(seat) {
            return Ok(record);
        }
        let taken: BTreeSet<u32> = self
            .made()
            .iter()
            .filter_map(|seat| self.record(seat))
            .map(|r| r.slot)
            .collect();
        let slot = (1..=u32::MAX)
            .find(|slot| !taken.contains(slot))
            .expect("seats are fewer than numbers");
        if !self.sandbox.has_slot(Slot(slot)) {
            return Err(SeatError::NoSlot(seat.clone()));
        }
        let record = Record {
            slot,
            template: key.to_owned(),
            has_overlay: self.sandbox.has_overlay(),
            is_open: self.sandbox.is_open(),
        };
        let text = serde_json::to_vec(&record).expect("only strings and numbers");
        write_private(&self.folder(seat).join("seat.json"), &text).map_err(|source| {
            SeatError::Files {
                seat: seat.clone(),
                what: "write its record",
                source,
            }
        })?;
        Ok(record)
    }

    fn run(&self, seat: &SeatId, record: &Record, start: &SeatStart<'_>) -> Run {
        let folder = self.folder(seat);
        let home = if record.has_overlay {
            let lower = self.template(&record.template).join("home");
            Home::Overlay {
                lower,
                upper: folder.join("upper"),
                work: folder.join("work"),
            }
        } else {
            Home::Folder(folder.join("upper"))
        };
        let mut read_only = common_binds(&self.sandbox, start.trees);
        read_only.push(Bind {
            from: self.services(seat),
            to: SERVICES.to_owned(),
        });
        let mut settings = completed(start.settings);
        if self.sandbox.is_open() {
            // The agent starts everything with this environment and nothing else.
            let lock = folder.join("lock").display().to_string();
            settings.environment.insert(MARK.to_owned(), lock);
        }
        let settings = serde_json::to_string(&settings).expect("only strings, numbers and lists");
        Run {
            own_user: self.sandbox.has_own_users(),
            open: self.sandbox.is_open().then(|| self.private(seat)),
            lock: folder.join("lock"),
            home,
            home_at: HOME.to_owned(),
            read_only,
            files: BTreeMap::from([(SETTINGS.to_owned(), settings)]),
            hosts_file: Some(format!("{SERVICES}/{HOSTS_FILE}")),
            host_name: seat.to_string(),
            command: std::iter::once(INNER_EXECUTABLE.to_owned())
                .chain(start.agent.iter().cloned())
                .collect(),
            environment: agent_environment(),
            directory: HOME.to_owned(),
            limits: start.limits,
        }
    }
}

/// Programs that start a sandbox.
const HOST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Binds the listener under a temporary name first, so that a socket that can be connected to is
/// always one that somebody listens on.
fn bind(path: &Path) -> io::Result<OwnedFd> {
    let new = path.with_extension("new");
    absent_is_fine(fs::remove_file(&new))?;
    let listener = UnixListener::bind(&new)?;
    listener.set_nonblocking(true)?;
    fs::rename(&new, path)?;
    Ok(listener.into())
}

/// Asks a seat's agent whether it is there. Its answer is a stranger's: only the first bytes count.
async fn is_healthy(socket: PathBuf) -> bool {
    let ask = async {
        let mut stream = UnixStream::connect(&socket).await?;
        let request = b"GET /health HTTP/1.1\r\nhost: agent.invalid\r\nx-arena-surface: agent\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await?;
        io::Result::Ok(start == *b"HTTP/1.1 200")
    };
    ask.await.unwrap_or(false)
}

/// Makes a folder (and those above it, private) with a mode, whatever the umask.
pub(crate) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Writes a file that seats read too, all of it or nothing.
fn write_readable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    absent_is_fine(fs::remove_file(&new))?;
    fs::write(&new, bytes)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}

/// Writes a file that only we can read, all of it or nothing.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    absent_is_fine(fs::remove_file(&new))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

pub(crate) fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
