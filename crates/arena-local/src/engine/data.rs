//! The data directory of the built-in database and how its server starts. A
//! prepared directory (extensions, the front's role) is made once as a template
//! and copied, because copying takes a thirtieth of making. The server listens on
//! one unix socket that only this user may open, and trusts the operating
//! system's word for who connects.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::tree::{EngineTree, Invocation};

/// The PostgreSQL role of the front: DocumentDB's rights, no superuser.
pub const FRONT_ROLE: &str = "arena_front";

/// The cluster's superuser; only maintenance by hand uses it.
const OWNER_ROLE: &str = "arena";
const MADE_BY: &str = "arena-made-by.json";

const TEMPLATE_SQL: &str = "\
CREATE EXTENSION documentdb CASCADE;
CREATE ROLE arena_front LOGIN;
GRANT documentdb_admin_role TO arena_front;
CREATE SCHEMA arena_front AUTHORIZATION arena_front;
SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname LIKE 'documentdb_index_build_task_%';
";

/// A user of the operating system, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsUser(pub String);

/// Which versions made a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MadeBy {
    postgres: String,
    documentdb: String,
}

/// Why the data directory could not be prepared.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// A file or folder could not be read or written.
    #[error("cannot prepare the database engine's folder {path}")]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A program of the tree failed.
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
    /// The data directory was made by versions that this tree cannot continue.
    #[error(
        "the database in {path} was made by PostgreSQL {found_postgres} with DocumentDB {found_documentdb}, \
         but the installed engine is {postgres} with {documentdb}; \
         use the engine that made it, or remove the event's data with: arena down --purge"
    )]
    OtherVersion {
        /// The data directory.
        path: PathBuf,
        /// PostgreSQL's version that made it.
        found_postgres: String,
        /// DocumentDB's version that made it.
        found_documentdb: String,
        /// PostgreSQL's version in the tree.
        postgres: String,
        /// DocumentDB's version in the tree.
        documentdb: String,
    },
}

/// The built-in database's server: a tree, a data directory and a socket folder.
#[derive(Debug, Clone)]
pub struct Engine {
    tree: EngineTree,
    template: PathBuf,
    folder: PathBuf,
    sockets: PathBuf,
    run_as: Option<OsUser>,
}

impl Engine {
    /// Describes an engine whose template data directory is kept below `cache` (per version), whose data lives
    /// in `folder` and whose socket appears in `sockets` (a short path). Nothing is touched yet.
    pub fn new(tree: EngineTree, cache: &Path, folder: &Path, sockets: &Path) -> Self {
        let template = cache.join("engine").join(format!("template-{}", tree.id()));
        Self {
            tree,
            template,
            folder: folder.to_path_buf(),
            sockets: sockets.to_path_buf(),
            run_as: None,
        }
    }

    /// Runs the server as another user of the operating system; only root can ask for this.
    #[must_use]
    pub fn run_as(mut self, user: OsUser) -> Self {
        // The template belongs to the user who made it and nobody else may read it.
        self.template
            .set_file_name(format!("template-{}-{}", self.tree.id(), user.0));
        self.run_as = Some(user);
        self
    }

    /// Returns the folder where the socket appears: the host in a PostgreSQL connection string.
    pub fn socket_dir(&self) -> &Path {
        &self.sockets
    }

    /// Returns the socket itself; it exists once the server accepts connections.
    pub fn socket(&self) -> PathBuf {
        self.sockets.join(".s.PGSQL.5432")
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns how to start the server as a direct child. Stop it with SIGINT.
    pub fn invocation(&self) -> Invocation {
        self.wrapped(
            self.tree
                .invocation("postgres")
                .args([OsString::from("-D"), self.data_dir().into()]),
        )
    }

    /// Returns a `psql` as the cluster's owner, for maintenance and tests.
    pub fn psql(&self) -> Command {
        let mut command = self.tree.command("psql");
        command.args([
            "--no-psqlrc",
            "--quiet",
            "--username",
            OWNER_ROLE,
            "--dbname",
            "postgres",
            "--host",
        ]);
        command.arg(&self.sockets);
        command
    }

    /// Ends a server left from before, makes the data directory if there is none, and writes its
    /// settings. Repeatable; blocks for up to a few seconds the first time.
    ///
    /// # Errors
    /// When this runs as root without another user to run as, when a folder cannot be written, when the
    /// tree's programs fail, or when the data was made by other versions.
    pub fn prepare(&self) -> Result<(), PrepareError> {
        let me = this_user()?;
        if me == "root" && self.run_as.is_none() {
            return Err(PrepareError::Root);
        }
        for folder in [&self.folder, &self.sockets] {
            self.private_folder(folder)?;
        }
        crate::leftover::end_server(&self.data_dir());
        if self.data_dir().join("PG_VERSION").exists() {
            self.check_version()?;
        } else {
            self.make_template()?;
            self.copy_template()?;
        }
        self.write_settings(&self.data_dir(), &me)
    }

    fn check_version(&self) -> Result<(), PrepareError> {
        let path = self.data_dir().join(MADE_BY);
        let files = |source| PrepareError::Files {
            path: path.clone(),
            source,
        };
        let bytes = fs::read(&path).map_err(files)?;
        let found: MadeBy = serde_json::from_slice(&bytes)
            .map_err(io::Error::other)
            .map_err(files)?;
        let ours = self.made_by();
        let major = |version: &str| version.split('.').next().unwrap_or_default().to_owned();
        if major(&found.postgres) == major(&ours.postgres) && found.documentdb == ours.documentdb {
            return Ok(());
        }
        Err(PrepareError::OtherVersion {
            path: self.data_dir(),
            found_postgres: found.postgres,
            found_documentdb: found.documentdb,
            postgres: ours.postgres,
            documentdb: ours.documentdb,
        })
    }

    fn made_by(&self) -> MadeBy {
        MadeBy {
            postgres: self.tree.postgres_version().to_owned(),
            documentdb: self.tree.documentdb_version().to_owned(),
        }
    }

    /// Makes the template once; of two processes that try at once, one wins and both find it there.
    fn make_template(&self) -> Result<(), PrepareError> {
        if self.template.exists() {
            return Ok(());
        }
        let parent = self.template.parent().unwrap_or(&self.template);
        fs::create_dir_all(parent).map_err(files_at(parent))?;
        let work = self
            .template
            .with_extension(format!("new-{}", std::process::id()));
        remove_if_there(&work)?;
        self.private_folder(&work)?;
        let made = self.fill_template(&work.join("data"));
        if made.is_ok() && fs::rename(&work, &self.template).is_ok() {
            return Ok(());
        }
        remove_if_there(&work)?;
        made
    }

    fn fill_template(&self, data: &Path) -> Result<(), PrepareError> {
        let initdb = self.tree.invocation("initdb").args([
            "--auth=peer",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--wal-segsize=4",
            "--no-sync",
            "--username",
            OWNER_ROLE,
            "-D",
        ]);
        self.run("initdb", initdb.args([data]), "")?;
        let include = |mut text: String| {
            text.push_str("\ninclude 'arena.conf'\n");
            text
        };
        let configuration = data.join("postgresql.conf");
        let text = fs::read_to_string(&configuration).map_err(files_at(&configuration))?;
        fs::write(&configuration, include(text)).map_err(files_at(&configuration))?;
        self.write_settings(data, "")?;
        let made_by = serde_json::to_vec(&self.made_by()).map_err(io::Error::other);
        let path = data.join(MADE_BY);
        made_by
            .and_then(|json| fs::write(&path, json))
            .map_err(files_at(&path))?;
        // The single-user server needs no socket, no waiting and no stopping.
        let single = self.tree.invocation("postgres").args([
            OsString::from("--single"),
            "-D".into(),
            data.into(),
            "postgres".into(),
        ]);
        let output = self.run("postgres --single", single, TEMPLATE_SQL)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        match text
            .lines()
            .find(|line| line.contains("ERROR:") || line.contains("FATAL:"))
        {
            Some(line) => Err(PrepareError::Program {
                program: "postgres --single",
                output: line.to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn copy_template(&self) -> Result<(), PrepareError> {
        let work = self.folder.join("data.new");
        remove_if_there(&work)?;
        let args = [
            OsString::from("-a"),
            self.template.join("data").into(),
            work.clone().into(),
        ];
        self.run(
            "cp",
            Invocation {
                program: "cp".into(),
                args: args.into(),
            },
            "",
        )?;
        let sync = self.tree.invocation("initdb").args([
            OsString::from("--sync-only"),
            "-D".into(),
            work.clone().into(),
        ]);
        self.run("initdb --sync-only", sync, "")?;
        fs::rename(&work, self.data_dir()).map_err(files_at(&work))
    }

    fn write_settings(&self, data: &Path, me: &str) -> Result<(), PrepareError> {
        let users = self
            .run_as
            .iter()
            .map(|user| user.0.as_str())
            .chain([me])
            .filter(|name| !name.is_empty());
        let ident: String = users.map(|user| format!("self \"{user}\" all\n")).collect();
        for (name, text) in [
            ("arena.conf", settings_text(&self.sockets)),
            ("pg_hba.conf", "local all all peer map=self\n".to_owned()),
            ("pg_ident.conf", ident),
        ] {
            let path = data.join(name);
            fs::write(&path, text).map_err(files_at(&path))?;
        }
        Ok(())
    }

    fn private_folder(&self, folder: &Path) -> Result<(), PrepareError> {
        fs::create_dir_all(folder)
            .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
            .map_err(files_at(folder))?;
        let Some(OsUser(user)) = &self.run_as else {
            return Ok(());
        };
        let mut chown = Command::new("chown");
        chown.arg("--").arg(format!("{user}:")).arg(folder);
        finished("chown", chown.output()).map(drop)
    }

    /// Runs a program as the server's user and waits for it.
    fn run(
        &self,
        name: &'static str,
        invocation: Invocation,
        input: &str,
    ) -> Result<Output, PrepareError> {
        let started = self
            .wrapped(invocation)
            .command()
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let output = started.and_then(|mut child| {
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes())?;
            }
            child.wait_with_output()
        });
        finished(name, output)
    }

    fn wrapped(&self, invocation: Invocation) -> Invocation {
        let Some(OsUser(user)) = &self.run_as else {
            return invocation;
        };
        // setpriv becomes the program, so the server stays a direct child; a change of user clears the
        // signal that a child gets when its parent dies, so it is set again.
        let mut args: Vec<OsString> = vec![
            "--reuid".into(),
            user.into(),
            "--regid".into(),
            user_group(user).into(),
        ];
        args.extend(
            [
                "--clear-groups",
                "--inh-caps=-all",
                "--pdeathsig",
                "KILL",
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

/// The settings that differ from PostgreSQL's own, with the reason where it is not obvious.
fn settings_text(sockets: &Path) -> String {
    let sockets = sockets.display().to_string().replace('\'', "''");
    format!(
        "# Written by Arena at every start; changes are lost.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
shared_preload_libraries = 'pg_cron,pg_documentdb_core,pg_documentdb'
cron.database_name = 'postgres'
cron.use_background_workers = on # else TTL indexes never expire anything
cron.log_run = off
documentdb.localhost_connection_string = 'host={sockets}' # else the first insert fails
documentdb.useFileBasedPersistedCursors = on # a cursor is not bound to a connection
documentdb.defaultCursorExpiryTimeLimitSeconds = 600
documentdb_core.enableCollation = on
documentdb.enablePrimaryKeyCursorScan = off # documents without a sort come in the order of insertion
enable_seqscan = off # an index shows in explain on small data too
timezone = 'GMT'
log_timezone = 'GMT'
max_connections = 100
wal_level = minimal
max_wal_senders = 0
shared_buffers = 64MB
jit = off
"
    )
}

fn files_at(path: &Path) -> impl Fn(io::Error) -> PrepareError + use<> {
    let path = path.to_path_buf();
    move |source| PrepareError::Files {
        path: path.clone(),
        source,
    }
}

fn remove_if_there(path: &Path) -> Result<(), PrepareError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files_at(path)(error)),
        _ => Ok(()),
    }
}

fn finished(program: &'static str, output: io::Result<Output>) -> Result<Output, PrepareError> {
    let output = output.map_err(|source| PrepareError::Program {
        program,
        output: source.to_string(),
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(5)..].join("; ");
    Err(PrepareError::Program {
        program,
        output: end,
    })
}

/// The name that PostgreSQL's peer authentication will see for this process.
fn this_user() -> Result<String, PrepareError> {
    let output = finished("id", Command::new("id").arg("-un").output())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn user_group(user: &str) -> String {
    let output = Command::new("id").args(["-g", "--", user]).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
