//! The PostgreSQL cluster for exercises: an own data directory, started from
//! the engine's tree or from an installation of this machine. It knows no
//! seats; `arena-database` makes those inside.
//!
//! Seats reach its unix socket through a forwarder that runs as the same user
//! of the operating system as the platform, so "who is on the other end of the
//! socket" proves nothing: everybody, the superuser too, gives a password.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arena_database::PostgresAdmin;
use thiserror::Error;

use crate::engine::{EngineTree, Invocation, OsUser};

/// The superuser's role; no seat has a name with an underscore.
const SUPERUSER: &str = "arena_admin";
/// Names the socket's file; nothing listens on TCP.
const PORT: u16 = 5432;
/// Connections of one seat's role (`arena-database` sets this limit, too).
const CONNECTIONS_PER_SEAT: u32 = 8;
/// Connections of the platform: provisioner and verifier, several at once.
const CONNECTIONS_OF_PLATFORM: u32 = 40;
/// Characters of a failed program's output that are shown.
const OUTPUT_SHOWN: usize = 2000;

/// Where PostgreSQL's programs come from.
#[derive(Debug, Clone)]
pub enum PostgresPrograms {
    /// The engine's tree, with pgvector.
    Tree(EngineTree),
    /// A `bin` folder of this machine, such as `/usr/lib/postgresql/17/bin`.
    Installed(PathBuf),
}

/// Why the cluster could not be prepared.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// A file or folder could not be read or written.
    #[error("cannot prepare PostgreSQL's folder {path}")]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {output}")]
    Program {
        /// The program.
        program: &'static str,
        /// The end of what it printed.
        output: String,
    },
    /// PostgreSQL refuses to run as root.
    #[error("PostgreSQL refuses to run as root; start as another user or name one to run it as")]
    Root,
    /// The data directory was made by another major version.
    #[error(
        "the databases in {path} were made by PostgreSQL {found}, but version {wanted} is installed; \
         use the version that made them, or remove the event's data with: arena down --purge"
    )]
    OtherVersion {
        /// The data directory.
        path: PathBuf,
        /// The major version that made it.
        found: String,
        /// The major version of the programs.
        wanted: String,
    },
}

/// The cluster: programs, data directory, socket folder.
#[derive(Debug, Clone)]
pub struct PostgresCluster {
    programs: PostgresPrograms,
    folder: PathBuf,
    sockets: PathBuf,
    seats: u32,
    run_as: Option<OsUser>,
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
            folder: folder.to_owned(),
            sockets: sockets.to_owned(),
            seats,
            run_as: None,
        }
    }

    /// Runs the server as another user of the operating system; only root can ask for this.
    #[must_use]
    pub fn run_as(mut self, user: OsUser) -> Self {
        self.run_as = Some(user);
        self
    }

    /// Returns the socket; it exists once the server accepts connections.
    pub fn socket(&self) -> PathBuf {
        self.sockets.join(format!(".s.PGSQL.{PORT}"))
    }

    /// Returns how to start the server as a direct child. Stop it with SIGINT; one that is not
    /// waited for after a kill blocks its own lock file.
    pub fn invocation(&self) -> Invocation {
        let postgres = self.programs.invocation("postgres");
        self.wrapped(postgres.args([OsString::from("-D"), self.data().into()]))
    }

    /// Returns how the platform logs in. Holds a secret.
    ///
    /// # Errors
    /// When the cluster is not prepared.
    pub fn admin(&self) -> io::Result<PostgresAdmin> {
        Ok(PostgresAdmin {
            host: self.sockets.display().to_string(),
            port: PORT,
            user: SUPERUSER.to_owned(),
            password: Some(fs::read_to_string(self.password_file())?.trim().to_owned()),
            database: "postgres".to_owned(),
        })
    }

    /// Ends a server left from before, makes the data directory if there is none, and writes its settings. Repeatable; blocks for
    /// a second or two the first time.
    ///
    /// # Errors
    /// When this runs as root without another user to run as, when a folder cannot be written,
    /// when PostgreSQL's programs fail, or when another major version made the data.
    pub fn prepare(&self) -> Result<(), ClusterError> {
        if rustix::process::geteuid().is_root() && self.run_as.is_none() {
            return Err(ClusterError::Root);
        }
        self.private_folder(&self.folder)?;
        self.private_folder(&self.sockets)?;
        crate::leftover::end_server(&self.data());
        if self.data().join("PG_VERSION").exists() {
            self.check_version()?;
        } else {
            self.initialise()?;
        }
        self.write_settings(&self.data())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn password_file(&self) -> PathBuf {
        self.folder.join("superuser.password")
    }

    fn check_version(&self) -> Result<(), ClusterError> {
        let path = self.data().join("PG_VERSION");
        let found = fs::read_to_string(&path)
            .map_err(files_at(&path))?
            .trim()
            .to_owned();
        // `postgres (PostgreSQL) 18.1 (Debian …)`
        let printed = self.run(
            "postgres --version",
            self.programs.invocation("postgres").args(["--version"]),
        )?;
        let version = printed
            .split_whitespace()
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        let wanted = version
            .and_then(|version| version.split(['.', 'b', 'r', 'd']).next())
            .unwrap_or_default()
            .to_owned();
        if found == wanted {
            Ok(())
        } else {
            Err(ClusterError::OtherVersion {
                path: self.data(),
                found,
                wanted,
            })
        }
    }

    /// Makes the data directory beside its place and moves it there when it is complete.
    fn initialise(&self) -> Result<(), ClusterError> {
        let work = self.folder.join("data.new");
        if work.exists() {
            fs::remove_dir_all(&work).map_err(files_at(&work))?;
        }
        self.write_password()?;
        let mut initdb = self.programs.invocation("initdb").args([
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--wal-segsize=4",
            "--username",
            SUPERUSER,
        ]);
        if self.has_builtin_locale() {
            initdb = initdb.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
        }
        let initdb = initdb.args([
            OsString::from("--pwfile"),
            self.password_file().into(),
            "-D".into(),
            work.clone().into(),
        ]);
        self.run("initdb", initdb)?;
        let configuration = work.join("postgresql.conf");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&configuration)
            .map_err(files_at(&configuration))?;
        file.write_all(b"\ninclude 'arena.conf'\n")
            .map_err(files_at(&configuration))?;
        file.sync_all().map_err(files_at(&configuration))?;
        self.write_settings(&work)?;
        fs::rename(&work, self.data()).map_err(files_at(&work))
    }

    /// PostgreSQL 17 brought a locale that is the same on every machine.
    fn has_builtin_locale(&self) -> bool {
        match &self.programs {
            PostgresPrograms::Tree(_) => true,
            PostgresPrograms::Installed(folder) => {
                let version = folder
                    .parent()
                    .and_then(Path::file_name)
                    .and_then(|name| name.to_str());
                version
                    .and_then(|name| name.parse::<u32>().ok())
                    .is_some_and(|version| version >= 17)
            }
        }
    }

    fn write_password(&self) -> Result<(), ClusterError> {
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
        self.give(&path)
    }

    fn write_settings(&self, data: &Path) -> Result<(), ClusterError> {
        let access =
            format!("local all {SUPERUSER} scram-sha-256\nlocal sameuser all scram-sha-256\n");
        for (name, text) in [
            ("arena.conf", self.settings()),
            ("pg_hba.conf", access),
            ("pg_ident.conf", String::new()),
        ] {
            let path = data.join(name);
            fs::write(&path, text).map_err(files_at(&path))?;
            self.give(&path)?;
        }
        Ok(())
    }

    fn settings(&self) -> String {
        let sockets = self.sockets.display().to_string().replace('\'', "''");
        let connections = self.seats * CONNECTIONS_PER_SEAT + CONNECTIONS_OF_PLATFORM;
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
"
        )
    }

    fn private_folder(&self, folder: &Path) -> Result<(), ClusterError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
            .map_err(files_at(folder))?;
        self.give(folder)
    }

    /// Gives a file to the server's user.
    fn give(&self, path: &Path) -> Result<(), ClusterError> {
        let Some(OsUser(user)) = &self.run_as else {
            return Ok(());
        };
        let chown = Invocation {
            program: "chown".into(),
            args: vec!["--".into(), format!("{user}:").into(), path.into()],
        };
        output_of("chown", &chown).map(drop)
    }

    /// Runs a program as the server's user and returns what it printed.
    fn run(&self, name: &'static str, invocation: Invocation) -> Result<String, ClusterError> {
        output_of(name, &self.wrapped(invocation))
    }

    fn wrapped(&self, invocation: Invocation) -> Invocation {
        let Some(OsUser(user)) = &self.run_as else {
            return invocation;
        };
        // setpriv becomes the program, so the server stays a direct child; a change of user clears
        // the signal that a child gets when its parent dies, so it is set again.
        let mut args: Vec<OsString> = vec![
            "--reuid".into(),
            user.into(),
            "--regid".into(),
            group_of(user).into(),
        ];
        args.extend(
            [
                "--clear-groups",
                "--inh-caps=-all",
                "--pdeathsig",
                "INT",
                "--",
            ]
            .map(OsString::from),
        );
        args.push(invocation.program.into());
        args.extend(invocation.args);
        Invocation {
            program: "setpriv".into(),
            args,
        }
    }
}

fn files_at(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Files { path, source }
}

/// Returns the name of a user's own group.
fn group_of(user: &str) -> String {
    let printed = Command::new("id")
        .args(["-gn", "--", user])
        .stderr(Stdio::null())
        .output();
    let name = printed
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    if name.is_empty() {
        user.to_owned()
    } else {
        name
    }
}

fn output_of(name: &'static str, invocation: &Invocation) -> Result<String, ClusterError> {
    let failed = |output: String| ClusterError::Program {
        program: name,
        output,
    };
    let output = invocation
        .command()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let skipped = text.chars().count().saturating_sub(OUTPUT_SHOWN);
    Err(failed(
        text.chars()
            .skip(skipped)
            .collect::<String>()
            .trim()
            .to_owned(),
    ))
}
