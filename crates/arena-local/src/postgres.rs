//! The PostgreSQL cluster for exercises: an own data directory, started from
//! the engine's tree or from an installation of this machine. It knows no
//! seats; `arena-database` makes those inside.
//!
//! Seats reach its unix socket through a forwarder that runs as the same user
//! of the operating system as the platform, so "who is on the other end of the
//! socket" proves nothing: everybody, the superuser too, gives a password.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use arena_database::{POSTGRES_CONNECTIONS, PostgresAdmin};

use crate::engine::server::{self, ServerPlace, files_at};
use crate::engine::{EngineTree, Invocation, OsUser, PrepareError};

/// The superuser's role; no seat has a name with an underscore.
const SUPERUSER: &str = "arena_admin";
/// Names the socket's file; nothing listens on TCP.
const PORT: u16 = 5432;
/// Connections of a seat that are not in yet: each takes a place while it gives its password.
const CONNECTIONS_ENTERING: u32 = 8;
/// Connections of the platform: provisioner and verifier, several at once.
const CONNECTIONS_OF_PLATFORM: u32 = 40;
/// Memory of one session, in bytes: one that wants more gets an error instead of the machine's last.
const SESSION_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// SQL text of one dump, in bytes.
const DUMP_BYTES_MAX: u64 = 512_000_000;
/// Processor time to read one dump.
const DUMP_SECONDS_MAX: u64 = 300;
/// PostgreSQL 17 brought a locale that is the same on every machine.
const VERSION_BUILTIN_LOCALE: u32 = 17;

/// Where PostgreSQL's programs come from.
#[derive(Debug, Clone)]
pub enum PostgresPrograms {
    /// The engine's tree, with pgvector.
    Tree(EngineTree),
    /// A `bin` folder of this machine, such as `/usr/lib/postgresql/17/bin`.
    Installed(PathBuf),
}

/// The cluster: programs, data directory, socket folder.
#[derive(Debug, Clone)]
pub struct PostgresCluster {
    programs: PostgresPrograms,
    place: ServerPlace,
    seats: u32,
}

impl PostgresPrograms {
    /// Finds the newest installation of this machine that can make a cluster.
    pub fn installed() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql")
            .ok()?
            .filter_map(Result::ok);
        let versions = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let mut versions: Vec<u32> = versions.collect();
        versions.sort_unstable();
        let folders = versions
            .into_iter()
            .rev()
            .map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
        let mut complete = folders.filter(|folder| {
            ["initdb", "postgres"]
                .iter()
                .all(|program| folder.join(program).exists())
        });
        complete.next().map(Self::Installed)
    }

    /// Turns a dump in one of `pg_dump`'s own formats into SQL text: structure and rows, without owners
    /// and rights. The program reads a file that an author brought, so it gets little memory and time.
    ///
    /// # Errors
    /// When there is no `pg_restore`, the file is no dump, or its text is too long.
    pub fn dump_as_sql(&self, dump: &Path) -> Result<Vec<u8>, PrepareError> {
        let restore = self.invocation("pg_restore").args([
            OsString::from("--no-owner"),
            "--no-privileges".into(),
            "--file=-".into(),
            dump.into(),
        ]);
        let failed = |output: String| PrepareError::Program {
            program: "pg_restore",
            output,
        };
        let mut command = std::process::Command::new("prlimit");
        command
            .arg(format!("--data={SESSION_BYTES_MAX}"))
            .arg(format!("--cpu={DUMP_SECONDS_MAX}"))
            .arg("--")
            .arg(restore.program)
            .args(restore.args)
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let mut text = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let read = stdout.take(DUMP_BYTES_MAX + 1).read_to_end(&mut text);
            read.map_err(|error| failed(error.to_string()))?;
        }
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > DUMP_BYTES_MAX {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(format!(
                "the dump holds more than {} MB of text",
                DUMP_BYTES_MAX / 1_000_000
            )));
        }
        let output = child
            .wait_with_output()
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(text);
        }
        Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }

    fn invocation(&self, program: &str) -> Invocation {
        match self {
            Self::Tree(tree) => tree.invocation(program),
            Self::Installed(folder) => Invocation {
                program: folder.join(program),
                args: Vec::new(),
            },
        }
    }
}

impl PostgresCluster {
    /// Describes a cluster whose data lives in `folder`, whose socket appears in `sockets` (a short
    /// path) and that serves so many seats. Nothing is touched yet.
    pub fn new(programs: PostgresPrograms, folder: &Path, sockets: &Path, seats: u32) -> Self {
        Self {
            programs,
            place: ServerPlace::new(folder, sockets),
            seats,
        }
    }

    /// Runs the server as another user of the operating system; only root can ask for this.
    #[must_use]
    pub fn run_as(mut self, user: OsUser) -> Self {
        self.place.run_as(user);
        self
    }

    /// Returns the socket; it exists once the server accepts connections.
    pub fn socket(&self) -> PathBuf {
        self.place.sockets().join(format!(".s.PGSQL.{PORT}"))
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.place.data()
    }

    /// Returns how to start the server as a direct child. Stop it with SIGINT; one that is not
    /// waited for after a kill blocks its own lock file.
    pub fn invocation(&self) -> Invocation {
        let postgres = self.programs.invocation("postgres");
        let postgres = postgres.args([OsString::from("-D"), self.place.data().into()]);
        // prlimit becomes the program; every session inherits the bound.
        let mut args = vec![format!("--data={SESSION_BYTES_MAX}").into(), "--".into()];
        args.push(postgres.program.into());
        args.extend(postgres.args);
        self.place.wrapped(Invocation {
            program: "prlimit".into(),
            args,
        })
    }

    /// Returns how the platform logs in. Holds a secret.
    ///
    /// # Errors
    /// When the cluster is not prepared.
    pub fn admin(&self) -> io::Result<PostgresAdmin> {
        Ok(PostgresAdmin {
            host: self.place.sockets().display().to_string(),
            port: PORT,
            user: SUPERUSER.to_owned(),
            password: Some(fs::read_to_string(self.password_file())?.trim().to_owned()),
            database: "postgres".to_owned(),
            ..PostgresAdmin::default()
        })
    }

    /// Ends a server left from before, makes the data directory if there is none, and writes its settings. Repeatable; blocks for
    /// a second or two the first time.
    ///
    /// # Errors
    /// When this runs as root without another user to run as, when a folder cannot be written,
    /// when PostgreSQL's programs fail, or when another major version made the data.
    pub fn prepare(&self) -> Result<(), PrepareError> {
        let has_data = self.place.open()?;
        let version = self.version()?;
        if has_data {
            self.place.check_major(&version)?;
        } else {
            self.initialise(&version)?;
        }
        self.write_settings(&self.place.data(), &version)
    }

    fn password_file(&self) -> PathBuf {
        self.place.folder().join("superuser.password")
    }

    /// Asks the programs: `postgres (PostgreSQL) 18.1 (Debian …)`.
    fn version(&self) -> Result<String, PrepareError> {
        let asked = self.programs.invocation("postgres").args(["--version"]);
        let printed = self.place.run("postgres --version", asked, "")?.stdout;
        let version = printed
            .split_whitespace()
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        Ok(version.unwrap_or_default().to_owned())
    }

    /// Makes the data directory beside its place and moves it there when it is complete.
    fn initialise(&self, version: &str) -> Result<(), PrepareError> {
        let work = self.place.clear_unfinished()?;
        self.write_password()?;
        let mut initdb = self.programs.invocation("initdb").args([
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--wal-segsize=4",
            "--username",
            SUPERUSER,
        ]);
        if number(version) >= VERSION_BUILTIN_LOCALE {
            initdb = initdb.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
        }
        let initdb = initdb.args([
            OsString::from("--pwfile"),
            self.password_file().into(),
            "-D".into(),
            work.clone().into(),
        ]);
        self.place.run("initdb", initdb, "")?;
        self.place.include_settings(&work)?;
        self.write_settings(&work, version)?;
        self.place.finish()
    }

    fn write_password(&self) -> Result<(), PrepareError> {
        let path = self.password_file();
        let mut bytes = [0_u8; 24];
        getrandom::fill(&mut bytes).map_err(|error| files_at(&path)(io::Error::other(error)))?;
        let password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        let written = open.and_then(|mut file| {
            file.write_all(password.as_bytes())?;
            file.sync_all()
        });
        written.map_err(files_at(&path))?;
        self.place.give(&path)
    }

    fn write_settings(&self, data: &Path, version: &str) -> Result<(), PrepareError> {
        let access =
            format!("local all {SUPERUSER} scram-sha-256\nlocal sameuser all scram-sha-256\n");
        let files = [
            ("arena.conf", self.settings(version)),
            ("pg_hba.conf", access),
            ("pg_ident.conf", String::new()),
        ];
        self.place.write(data, &files)
    }

    fn settings(&self, version: &str) -> String {
        let sockets = self
            .place
            .sockets()
            .display()
            .to_string()
            .replace('\'', "''");
        let connections =
            self.seats * (POSTGRES_CONNECTIONS + CONNECTIONS_ENTERING) + CONNECTIONS_OF_PLATFORM;
        // A session that listens and never ends its transaction keeps all messages: 32 MB of them.
        let messages = if number(version) >= 17 {
            "max_notify_queue_pages = 4096\n"
        } else {
            ""
        };
        format!(
            "# Written by Arena at every start; changes are lost.
listen_addresses = ''
port = {PORT}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
password_encryption = scram-sha-256
max_connections = {connections}
superuser_reserved_connections = {CONNECTIONS_OF_PLATFORM}
max_locks_per_transaction = 128
shared_buffers = 64MB
max_wal_size = 256MB
min_wal_size = 32MB
wal_level = minimal
max_wal_senders = 0
jit = off
timezone = 'GMT'
log_timezone = 'GMT'
log_min_error_statement = panic # statements are participants' own business
client_connection_check_interval = 10s
authentication_timeout = 10s
autovacuum_naptime = 10s # a seat over its quota gets its writes back when its deleted rows are gone
max_prepared_transactions = 0
max_worker_processes = 0 # one query takes one processor, whatever its seat sets
max_logical_replication_workers = 0
max_files_per_process = 500
{messages}"
        )
    }
}

fn number(version: &str) -> u32 {
    server::major(version).parse().unwrap_or_default()
}
